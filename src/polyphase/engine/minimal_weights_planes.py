"""How method ``minimal_weights`` lays out one side of a box, and the steps that this goes through."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import numpy as np

from polyphase.engine.minimal_weights_axis import Step
from polyphase.engine.weights_reach import Places
from polyphase.engine.weights_sizes import Corner


class Planes:
    """How one side of a box lies in a panel: planes of each axis, one whole plane after the other.

    ``cells`` are those of images, depth, height and width; behind each row is one cell more, for what
    no tap uses. Distances are in elements.
    """

    def __init__(self, planes: Sequence[int], cells: Corner, pitch: int, lanes: int) -> None:
        self.planes = planes
        images, depth, height, width = cells
        row = (width + 1) * pitch
        self.spare = width * pitch
        self.weights = (depth * height * row, height * row, row, pitch)
        # steps go through whole vectors
        self.size = -(-images * self.weights[0] // lanes) * lanes
        self.strides = tuple(self.size * prod(planes[axis + 1 :]) for axis in range(3))
        self.elements = self.size * prod(planes)

    def offsets(self, axis: int, plane: Places, cell: Places) -> Places:
        """Where cells of an axis lie, -1 for those of no plane."""
        places = plane * self.strides[axis] + cell * self.weights[1 + axis]
        return np.where(plane < 0, -1, places)

    def steps(
        self,
        axes: Sequence[list[Step]],
        raw: Sequence[Sequence[int]],
        apart: Sequence[int],
        lanes: int,
    ) -> Iterator[list[int]]:
        """Lines of the table of steps: axis by axis, ``raw`` are those that planes begin as."""
        for axis in (2, 1, 0):
            others = [raw[a] if a < axis else range(self.planes[a]) for a in range(3)]
            others[axis] = [0]
            for base in product(*others):
                at = sum(b * s for b, s in zip(base, self.strides, strict=True))
                for target, *terms in axes[axis]:
                    shifts = [t.shift * apart[axis] * self.weights[1 + axis] for t in terms]
                    reads = [
                        at + t.plane * self.strides[axis] + shift
                        for t, shift in zip(terms, shifts, strict=True)
                    ]
                    count = -(-(self.size - max(shifts)) // lanes) * lanes
                    factors = [int(2 * t.factor) for t in terms]
                    yield [at + target * self.strides[axis], *reads, count, *factors]
