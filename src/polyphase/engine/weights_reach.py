"""How the taps of one axis lead from a run of input positions to outputs, and where those are kept.

Position ``i`` and tap ``t`` meet at output ``s*i + c(t)`` with ``c(t) = d*t - a``. A box keeps the
outputs that its positions reach in cells: sorted by residue of the stride, so that neighbouring
positions read neighbouring cells, or in their natural order. Either way the cell is a sum of a
multiple of the position and a number that belongs to the tap.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.axis import Axis

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Reach:
    """One axis of a problem on concrete sizes; ``natural`` says how cells are ordered."""

    axis: Axis
    size: int
    output_size: int
    natural: bool = False

    @cached_property
    def starts(self) -> list[int]:
        """``c(t)`` of every tap."""
        return [self.axis.dilation * t - self.axis.begin for t in range(self.axis.kernel_size)]

    @cached_property
    def live(self) -> list[int]:
        """Taps that lead from some position into the output; all in natural order."""
        taps = range(self.axis.kernel_size)
        return [t for t in taps if self.natural or len(self.window(t, 0, self.size))]

    def window(self, tap: int, first: int, length: int) -> range:
        """Positions of a run, counted from ``first``, whose outputs at a tap exist."""
        s, start = self.axis.stride, self.starts[tap]
        low = max(-(start // s) - first, 0)
        high = min((self.output_size - 1 - start) // s + 1 - first, length)
        return range(low, max(low, high))

    def windows(self, first: int, length: int) -> list[range]:
        """The windows of a run at all taps."""
        return [self.window(tap, first, length) for tap in range(self.axis.kernel_size)]

    def window_count(self, length: int) -> int:
        """Number of different windows, over all runs of this length and all taps."""
        if length not in self._window_counts:
            runs = range(0, self.size, length)
            windows = {
                self.window(tap, first, min(length, self.size - first))
                for first in runs
                for tap in self.live
            }
            self._window_counts[length] = len(windows)
        return self._window_counts[length]

    @cached_property
    def _window_counts(self) -> dict[int, int]:
        return {}

    @cached_property
    def residues(self) -> list[int]:
        """Residues of the stride that occur."""
        return sorted({self.starts[t] % self.axis.stride for t in self.live})

    @cached_property
    def _bounds(self) -> tuple[int, int]:
        """Least and greatest ``c(t)``."""
        starts = [self.starts[t] for t in self.live]
        return min(starts), max(starts)

    @property
    def step(self) -> int:
        """Cells between neighbouring positions."""
        return self.axis.stride if self.natural else 1

    def cells(self, length: int) -> int:
        """Cells that a run of positions takes."""
        low, high = self._bounds
        if self.natural:
            return self.axis.stride * (length - 1) + high - low + 1
        return len(self.residues) * self._row(length)

    def _row(self, length: int) -> int:
        """Cells of one residue."""
        low, high = self._bounds
        return length + high // self.axis.stride - low // self.axis.stride

    def cell(self, tap: int, length: int) -> int:
        """Cell at which a run's first position meets a tap."""
        low, _ = self._bounds
        start, s = self.starts[tap], self.axis.stride
        if self.natural:
            return start - low
        return self.residues.index(start % s) * self._row(length) + start // s - low // s

    def span(self, first: int, length: int, room: int = 0) -> tuple[int, Places, bool]:
        """What a run reads: its first output, the cell of each from there on, whether it lacks any.

        A cell of -1 belongs to a residue that no tap uses. Cells are those of a run of ``room``
        positions, if that is more.
        """
        low, high = self._bounds
        s = self.axis.stride
        origin = s * first
        start = max(origin + low, 0)
        stop = max(min(origin + s * (length - 1) + high + 1, self.output_size), start)
        lacks = start > origin + low or stop < origin + s * (length - 1) + high + 1
        places = np.arange(start, stop) - origin
        if self.natural:
            return start, places - low, lacks
        residues = np.array(self.residues)
        rows = np.searchsorted(residues, places % s) % len(residues)
        cells = rows * self._row(max(length, room)) + places // s - low // s
        return start, np.where(residues[rows] == places % s, cells, -1), lacks
