"""The boxes of method ``weights``: which lines they pack, and which positions their tiles sum over.

Boxes that differ only in where they begin share all their tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import NamedTuple, Protocol

import numpy as np

from polyphase.engine.cover import Table
from polyphase.engine.kernels.weights_context import BOX
from polyphase.engine.weights_reach import Places
from polyphase.engine.weights_sizes import Corner
from polyphase.engine.weights_tiling import WeightsTiling

Span = tuple[int, int]


class Lines:
    """A table under construction."""

    def __init__(self, width: int) -> None:
        self._parts: list[Table] = [np.zeros((0, width), np.int64)]
        self._length = 0

    def add(self, lines: Table) -> Span:
        """Append a stretch; its first line and the one after its last."""
        start = self._length
        self._length += len(lines)
        self._parts.append(lines)
        return start, self._length

    def joined(self) -> Table:
        """The whole table."""
        return np.concatenate(self._parts)


class Reached(Protocol):
    """What an axis tells of its runs."""

    def span(self, first: int, length: int) -> tuple[int, Places, bool]:
        """First output, where each from there on is kept, whether any is lacking."""

    def windows(self, first: int, length: int) -> list[range]:
        """The positions that meet an output, by tap."""


@dataclass(frozen=True)
class Run:
    """A box along one axis; ``number`` is the same for runs that differ only in where they begin.

    ``start`` is the first output it reads, ``cells`` where each from there on is kept, ``windows``
    are the positions that meet an output at each tap.
    """

    number: int
    start: int
    cells: Places
    lacks: bool
    windows: list[range]


class _Runs:
    """All runs of one axis."""

    def __init__(self, reach: Reached) -> None:
        self._reach = reach
        self._known: dict[Span, Run] = {}
        self._numbers: dict[object, int] = {}

    def find(self, first: int, length: int) -> Run:
        """The run of this many positions from ``first`` on."""
        if (first, length) not in self._known:
            start, cells, lacks = self._reach.span(first, length)
            windows = self._reach.windows(first, length)
            key = (length, cells.tobytes(), tuple(windows))
            number = self._numbers.setdefault(key, len(self._numbers))
            self._known[first, length] = Run(number, start, cells, lacks, windows)
        return self._known[first, length]


@dataclass(frozen=True)
class Side:
    """How one operand lies in memory and in its panel.

    ``strides`` are elements between images, planes, rows and pixels, ``channel`` those between
    channels; ``packed`` channels are packed at a time. Where two images share a cell, they are
    ``pair`` elements apart.
    """

    strides: Corner
    channel: int
    pitch: int
    packed: int
    last: bool
    spaced: bool
    pair: int


class Pack(NamedTuple):
    """One side of a box: fields of its line in the table, what to fetch, distances of its cells."""

    fields: tuple[int, int, int, int]
    ahead: Span
    weights: Corner


class Boxes:
    """The table of boxes and those that it points into."""

    def __init__(self, tiling: WeightsTiling, x: Side, y: Side) -> None:
        self.tiling = tiling
        self.tile = tiling.choice.tile
        self.shape = self.tile.shape
        self.reaches = tiling.reaches(self.shape)
        self.x, self.y = x, y
        self.lines, self.places = Lines(2), Lines(1)
        self.tiles, self.lists = Lines(2 + self.shape.filtered + self.shape.taps), Lines(2)
        self.ahead = Lines(1)
        self._order_taps()
        self._runs = [_Runs(axis) for axis in self._axes()]
        self._classes: dict[object, tuple[int, ...]] = {}
        self._known_lists: dict[object, Span] = {}
        boxes = [self._box(*box) for box in tiling.boxes(tiling.choice.box)]
        found = np.array(boxes, np.int64).reshape(len(boxes), -1)
        # the last fields are those of sums
        self.table = np.pad(found, ((0, 0), (0, len(BOX) - found.shape[1])))

    def _axes(self) -> Sequence[Reached]:
        """The axes along which boxes are runs."""
        return self.reaches

    def _order_taps(self) -> None:
        """Taps, or stretches of taps, in the order of their register tiles: the dead ones last.

        ``self.entries`` are ``(channel, d, h, w)``; ``self.slots`` says where each one is.
        """
        kernels = [axis.kernel_size for axis in self.tiling.axes]
        channels = range(self.tile.y_block if self.shape.spaced else 1)
        depth, height = range(kernels[0]), range(kernels[1])
        width = range(0, kernels[2], self.shape.stretch(self.tiling.lanes))
        self.entries = np.array(list(product(channels, depth, height, width)), np.int64)
        alive = np.ones(len(self.entries), bool)
        for axis, reach in enumerate(self.reaches):
            alive &= np.isin(self.entries[:, 1 + axis], reach.live)
        self.slots = np.zeros(len(self.entries), np.int64)
        self.slots[alive] = np.arange(alive.sum())
        taps = self.shape.taps
        self.live_tiles = -(-int(alive.sum()) // taps)
        self.slots[~alive] = self.live_tiles * taps + np.arange((~alive).sum())
        self.tile_count = -(-int(self.slots.max() + 1) // taps)

    def _box(self, origin: Corner, size: Corner) -> tuple[int, ...]:
        """One line of the table."""
        runs = [
            known.find(first, length)
            for known, first, length in zip(self._runs, origin[1:], size[1:], strict=True)
        ]
        key = (size, *(run.number for run in runs))
        if key not in self._classes:
            self._classes[key] = self._class(size, runs)
        starts = (origin[0], *(run.start for run in runs))
        x = sum(o * s for o, s in zip(origin, self.x.strides, strict=True))
        y = sum(o * s for o, s in zip(starts, self.y.strides, strict=True))
        return x, y, *self._classes[key]

    def _class(self, size: Corner, runs: list[Run]) -> tuple[int, ...]:
        """All that boxes which differ only in where they begin have in common."""
        x = self._pack(self.x, [np.arange(n) for n in size], size)
        cells = [np.arange(size[0]), *(run.cells for run in runs)]
        y = self._pack(self.y, cells, self._extents(size))
        clear = not self.tile.exact and any(run.lacks for run in runs)
        tiles = self._tiles(size, runs, x.weights, y.weights)
        return *x.fields, *y.fields, False, clear, *tiles, *x.ahead, *y.ahead

    def _extents(self, size: Corner) -> Corner:
        """Cells of the output of a box, by axis."""
        depth, height, width = (
            reach.cells(n) for reach, n in zip(self.reaches, size[1:], strict=True)
        )
        return size[0], depth, height, width

    def _pack(self, side: Side, cells: list[Places], extents: Corner) -> Pack:
        """One side of a box: ``cells`` by axis, -1 for what no tap uses.

        Behind each line is one cell more, for what no tap uses: a vector's worth of cells is
        written at a time.
        """
        axis = self._line_axis(side, cells)
        whole = prod(extents[axis:])
        room = whole if side.spaced else whole + 1
        inner = [prod(extents[a + 1 :]) for a in range(axis, 4)]
        outer = [prod(extents[a + 1 : axis]) * room for a in range(axis)]
        n, d, h, w = (weight * side.pitch for weight in outer + inner)
        weights = n, d, h, w
        offsets = [np.where(c < 0, c, c * weight) for c, weight in zip(cells, weights, strict=True)]
        return Pack(*self._lines(side, offsets, axis, whole * side.pitch), weights)

    def _line_axis(self, side: Side, cells: list[Places]) -> int:
        """The axis from which on all that is packed lies side by side in memory, as one line."""
        axis, count = 3, len(cells[3])
        while axis > 0 and not side.spaced and count * side.strides[3] == side.strides[axis - 1]:
            axis -= 1
            count *= len(cells[axis])
        return axis

    def _lines(
        self, side: Side, offsets: list[Places], axis: int, spare: int
    ) -> tuple[tuple[int, int, int, int], Span]:
        """The lines of one side of a box and what to fetch: ``offsets`` in its panel by axis.

        What no tap uses, at -1, goes to the ``spare`` cell of a line.
        """
        line, used = np.zeros(1, np.int64), np.ones(1, bool)
        for there in offsets[axis:]:
            line = np.add.outer(line, there).ravel()
            used = np.logical_and.outer(used, there >= 0).ravel()
        source, target = np.zeros(1, np.int64), np.zeros(1, np.int64)
        for stride, there in zip(side.strides, offsets[:axis], strict=False):
            kept = np.flatnonzero(there >= 0)
            source = np.add.outer(source, kept * stride).ravel()
            target = np.add.outer(target, there[kept]).ravel()
        count = len(line)
        if side.spaced and count:
            target = target + line[0]
        stretch = self.lines.add(np.stack([source, target], 1))
        places = np.full(-(-count // self.tiling.lanes) * self.tiling.lanes, spare)
        places[:count][used] = line[used]
        place, _ = self.places.add(places[:, None])
        return (*stretch, count, place), self._ahead(side, source, count)

    def _ahead(self, side: Side, sources: Places, count: int) -> Span:
        """Offsets of the cache lines that hold one side of a box, for all channels of a pack."""
        if not self.shape.ahead:
            return 0, 0
        line = 64 // self.tiling.problem.item_size
        pixel = side.strides[3]
        across = np.zeros(1, np.int64)
        if not side.last:
            along = np.arange(0, count, line)
            across = np.arange(side.packed) * side.channel
        elif side.packed == pixel:
            along = np.arange(0, count * pixel, line)
        else:
            along = np.add.outer(np.arange(count) * pixel, np.arange(0, side.packed, line)).ravel()
        if self.shape.images > 1:
            sources = np.concatenate([sources, sources + side.pair])
        offsets = np.add.outer(np.add.outer(across, sources), along).reshape(-1, 1)
        # what is read beyond the list is 0
        padding = np.zeros((prod(self.tiling.choice.box), 1), np.int64)
        start, stop = self.ahead.add(np.concatenate([offsets, padding]))
        return start, stop - len(padding)

    def _tiles(self, size: Corner, runs: list[Run], x: Corner, y: Corner) -> Span:
        """Register tiles of a box, each with its list of positions; ``x`` and ``y`` are weights."""
        taps = self.shape.taps
        offsets = self.entries[:, 0] * self.tiling.y_cells(self.shape, self.tiling.choice.box)
        for axis, reach in enumerate(self.reaches):
            cells = np.zeros(reach.axis.kernel_size, np.int64)
            cells[reach.live] = [reach.cell(tap, size[1 + axis]) for tap in reach.live]
            offsets = offsets + cells[self.entries[:, 1 + axis]] * y[1 + axis]
        table = np.zeros((self.tile_count, 2 + taps), np.int64)
        tile, slot = np.divmod(self.slots, taps)
        table[tile, 2 + slot] = offsets
        if self.tile.exact:
            for number, (_, *entry) in zip(tile.tolist(), self.entries.tolist(), strict=True):
                if number < self.live_tiles:
                    chosen = [run.windows[tap] for run, tap in zip(runs, entry, strict=True)]
                    table[number, :2] = self._list([range(size[0]), *chosen], x, y)
        else:
            table[: self.live_tiles, :2] = self._list([range(n) for n in size], x, y)
        return self.tiles.add(table)

    def _list(self, chosen: list[range], x: Corner, y: Corner) -> Span:
        """The list of some positions of a box: their places in the packed input and output."""
        key = (*chosen, x, y)
        if key not in self._known_lists:
            steps = (1, *(reach.step for reach in self.reaches))
            at_x, at_y = np.zeros(1, np.int64), np.zeros(1, np.int64)
            for axis, window in enumerate(chosen):
                index = np.array(window, np.int64)
                at_x = np.add.outer(at_x, index * x[axis]).ravel()
                at_y = np.add.outer(at_y, index * steps[axis] * y[axis]).ravel()
            self._known_lists[key] = self.lists.add(np.stack([at_x, at_y], 1))
        return self._known_lists[key]
