"""The tables that both methods of minimal filtering fill alike."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property, reduce
from itertools import product
from math import prod
from operator import and_, xor

import numpy as np
from numpy.typing import NDArray

from polyphase.engine.cover import Table
from polyphase.engine.filtering import Signed, combinations
from polyphase.engine.kernels import gather
from polyphase.engine.kernels import minimal as kernel
from polyphase.engine.kernels.cells import OUTSIDE
from polyphase.engine.minimal import MinimalTiling, Section, forms_of
from polyphase.engine.pack import Offsets, Panel
from polyphase.engine.tables import Tables, tap_number
from polyphase.engine.tiling import Corner

# cells that a phase really has along each tabled axis, for each combination of outputs
Limits = tuple[tuple[int, ...], ...]
# for each product of an axis the taps that it adds up
Sums = tuple[tuple[Signed, ...], ...]


class MinimalTables(Tables):
    """Products, row tiles and packed planes of a tiling."""

    tiling: MinimalTiling

    @property
    @abstractmethod
    def plane_size(self) -> int:
        """Tile elements from one plane to the next."""

    @property
    @abstractmethod
    def planes_per_form(self) -> int:
        """Planes for each combination of forms of the tabled axes."""

    @abstractmethod
    def lines(self, valid: int, along: Sequence[Sums]) -> list[Offsets]:
        """Weights of an input channel for every product, as sums of taps: ``(terms, entries)``.

        ``along`` are the taps along each tabled axis; ``valid`` is the number of output channels.
        """

    @property
    def position_strides(self) -> tuple[int, int, int, int]:
        """Output elements between neighbouring cells."""
        n, *space = super().position_strides
        d, h, w = (s * count for s, count in zip(space, self.tiling.together, strict=True))
        return n, d, h, w

    def output_start(self, number: int) -> int:
        """Output elements from the first position of a cell to a combination of positions."""
        strides = [self.position_strides[1 + axis] // 2 for axis in self.tiling.pairs]
        return sum(stride for i, stride in enumerate(strides) if number >> i & 1)

    @property
    def sections(self) -> list[range]:
        """The row tiles of each section."""
        return self._sections

    def fill_taps(self) -> None:
        """Tile offset and outputs of each combined product, one stretch per section."""
        tiling = self.tiling
        taps: list[tuple[int, int, int]] = []
        self.tap_spans = []
        for section in tiling.sections:
            start = len(taps)
            numbers = {forms: number for number, forms in enumerate(forms_of(section))}
            size = self.planes_per_form * self.plane_size
            each = [
                [(one.form, *self._output_bits(axis, one.outputs)) for one in group.products]
                for axis, group in enumerate(section)
            ]
            for products in product(*each):
                forms, served, less = zip(*products, strict=True)
                outputs = reduce(and_, served)
                taps.append((numbers[forms] * size, outputs, outputs & reduce(xor, less)))
            self.tap_spans.append((start, len(taps)))
        self.taps = np.array(taps, np.int64).reshape(-1, len(kernel.TAP))

    def _output_bits(self, axis: int, outputs: Sequence[Signed]) -> tuple[int, int]:
        """The combinations of outputs that a product along an axis serves, those it is taken from.

        Each is a bit.
        """
        every = range(self.tiling.outputs)
        if axis not in self.tiling.pairs:
            return sum(1 << j for j in every), 0
        i = self.tiling.pairs.index(axis)
        signs = [dict(outputs).get(j >> i & 1, 0) for j in every]
        served = sum(1 << j for j in every if signs[j])
        return served, sum(1 << j for j in every if signs[j] < 0)

    def fill_rows(self, channels: int) -> None:
        """A row tile for each block of ``channels`` and combination of phases of a section.

        Its panel begins with the biases of the channels.
        """
        tiling = self.tiling
        _, apart, *along = self.y_strides
        rows: list[tuple[int, ...]] = []
        # by first output channel, first tap, and the taps along each axis counted from there: where
        # the panel begins; phases of a dilated axis have the same weights
        self.panel_starts: dict[tuple[int, int, tuple[Sums, ...]], int] = {}
        self.limits: list[Limits] = []
        self._limit_numbers: dict[tuple[int, ...], int] = {}
        self._sections = []
        panel = 0
        for (start, stop), section in zip(self.tap_spans, tiling.sections, strict=True):
            begin = len(rows)
            sums = [[_counted_from_first(taps) for taps in group.taps] for group in section]
            for first in range(0, tiling.out_channels, channels):
                valid = min(channels, tiling.out_channels - first)
                for members in product(*(range(len(group.phases)) for group in section)):
                    phases = [g.phases[i] for g, i in zip(section, members, strict=True)]
                    # a phase begins at the output of its number
                    y = first * apart
                    y += sum(p * stride for p, stride in zip(phases, along, strict=False))
                    found = [each[i] for each, i in zip(sums, members, strict=True)]
                    # a last axis that is not tabled counts from 0
                    tap = tap_number(tiling, *[*(tap for tap, _ in found), 0][:3])
                    source = first, tap, tuple(taps for _, taps in found)
                    here = self.panel_starts.setdefault(source, panel)
                    if here == panel:
                        panel += channels + (stop - start) * tiling.in_channels * self.step_weights
                    rows.append((here, y, start, stop, self._limit_number(phases), valid))
            self._sections.append(range(begin, len(rows)))
        self.rows = np.array(rows, np.int64)
        self.panel_size = panel
        self.panel_head = channels

    def _limit_number(self, phases: Sequence[int]) -> int:
        """Number of the limits that a combination of phases has."""
        counts = tuple(self._counts[axis][number] for axis, number in enumerate(phases))
        if counts not in self._limit_numbers:
            self._limit_numbers[counts] = len(self.limits)
            self.limits.append(self._limits_of(counts))
        return self._limit_numbers[counts]

    def _limits_of(self, counts: tuple[int, ...]) -> Limits:
        """Cells along each tabled axis for each combination of outputs, of so many positions."""
        limits = []
        for j in range(self.tiling.outputs):
            cells = list(counts)
            for i, axis in enumerate(self.tiling.pairs):
                cells[axis] = (counts[axis] + 1 - (j >> i & 1)) // 2
            limits.append(tuple(cells))
        return tuple(limits)

    @cached_property
    def _counts(self) -> list[list[int]]:
        """Outputs of each phase of each axis."""
        axes = self.tiling.axes
        return [[phase.count(axis.output_size) for phase in axis.phases] for axis in axes]

    def local(self, limits: Limits, origin: Corner, size: Corner) -> Limits:
        """The limits within a box."""
        return tuple(
            tuple(
                max(0, min(limit - start, extent))
                for limit, start, extent in zip(cells, origin[1:], size[1:], strict=False)
            )
            for cells in limits
        )

    def packing_of(self, origin: Corner, size: Corner) -> tuple[object, int]:
        """Boxes whose rows fall out of the input alike are packed alike, each from its corner."""
        _, _, xd, xh, xw = self.x_strides
        depth, height, width = (
            o * span for o, span in zip(origin[1:], self.tiling.spans, strict=True)
        )
        inside = [self._inside(axis, origin, size).tobytes() for axis in (0, 1)]
        return (size, *inside), depth * xd + height * xh + width * xw

    def _inside(self, axis: int, origin: Corner, size: Corner) -> NDArray[np.bool_]:
        """For each offset of an outer axis, and each cell of a box, whether there is an input."""
        cells = (origin[1 + axis] + np.arange(size[1 + axis])) * self.tiling.spans[axis]
        place = self._offsets[axis][:, None] + cells
        return (place >= 0) & (place < self.tiling.axes[axis].input_size)

    @cached_property
    def _offsets(self) -> list[NDArray[np.int64]]:
        """The offsets at which each outer axis is read."""
        return [
            np.array(sorted({f.first for g in self.tiling.parts[axis] for f in g.forms}), np.int64)
            for axis in (0, 1)
        ]

    def sources(
        self, origin: Corner, size: Corner, section: Section
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each combined form and row of cells: where it is read, and its first cell."""
        n, d, h = (i.ravel() for i in np.meshgrid(*map(np.arange, size[:3]), indexing="ij"))
        xn, _, *strides, _ = self.x_strides
        source = np.broadcast_to(n * xn, (len(self.first[section]), len(n)))
        inside = np.ones(source.shape, bool)
        for axis, index in ((0, d), (1, h)):
            first = self.first[section][:, axis, None]
            source = source + (index * self.tiling.spans[axis] + first) * strides[axis]
            known = np.searchsorted(self._offsets[axis], first)
            inside &= self._inside(axis, origin, size)[known, index]
        cells = ((n * size[1] + d) * size[2] + h) * size[3]
        return np.where(inside, source, OUTSIDE), cells

    @cached_property
    def first(self) -> dict[Section, NDArray[np.int64]]:
        """For each section the first offset of each combined form along each tabled axis."""
        found = {}
        for section in self.tiling.sections:
            first = [[form.first for form in forms] for forms in forms_of(section)]
            found[section] = np.array(first, np.int64).reshape(-1, len(section))
        return found

    def combined(self, section: Section, elements: int) -> Table:
        """Planes that are combined: elements, target, the other one, whether that changes, too."""
        planes = self._combined[section]
        return np.column_stack([np.full(len(planes), elements), planes])

    @cached_property
    def _combined(self) -> dict[Section, Table]:
        """For each section the planes that are combined with others, as :meth:`combined` says.

        A plane begins as the first term of its form. The last axis comes first: then planes of
        another one differ in that one alone.
        """
        each = np.arange(self.planes_per_form)
        found: dict[Section, Table] = {}
        for section in self.tiling.sections:
            forms = forms_of(section)
            numbers = {combined: number for number, combined in enumerate(forms)}
            pairs = [
                (number, numbers[(*combined[:axis], other, *combined[axis + 1 :])], both)
                for axis in reversed(range(len(section)))
                for form, other, both in combinations(section[axis].forms)
                for number, combined in enumerate(forms)
                if combined[axis] == form
            ]
            table = np.array(pairs, np.int64).reshape(-1, 1, 3)
            planes = (table[:, :, :2] * self.planes_per_form + each[:, None]) * self.plane_size
            both = np.broadcast_to(table[:, :, 2:], (*planes.shape[:2], 1))
            found[section] = np.concatenate([planes, both], 2).reshape(-1, 3)
        return found

    def terms(self, *sums: tuple[Signed, ...]) -> NDArray[np.int64]:
        """The taps whose sum is a factor, given those along each axis: what is subtracted last."""
        found = []
        for taps in product(*sums):
            number = tap_number(self.tiling, *(tap for tap, _ in taps))
            less = prod(sign for _, sign in taps) < 0
            found.append(number + gather.SUBTRACTED * less)
        return np.array(sorted(found), np.int64)

    def panels(self) -> Iterator[Panel]:
        """Where the weights of every panel come from."""
        spelled: dict[object, tuple[Offsets, list[Offsets]]] = {}
        for (first, tap, along), start in self.panel_starts.items():
            valid = min(self.panel_head, self.tiling.out_channels - first)
            key = valid, along
            if key not in spelled:
                channels = np.arange(self.panel_head)
                biases = np.where(channels < valid, channels, -1).astype(np.int64)
                spelled[key] = biases, self.lines(valid, along)
            yield Panel(start, first, *spelled[key], tap)


def _counted_from_first(sums: Sums) -> tuple[int, Sums]:
    """The lowest tap, and all of them counted from it."""
    first = min((tap for taps in sums for tap, _ in taps), default=0)
    return first, tuple(tuple((tap - first, sign) for tap, sign in taps) for taps in sums)
