"""Method ``channels``: vectors run along the outputs of one position, inputs are broadcast.

Those outputs are the output channels, or the phases of the last axis where the stride is long, or
both where the whole input is one pixel. Where they lie side by side in memory they are stored as
vectors; channels of channels-first memory are scattered one by one, which pays where many products
make one output. The input of a box is packed once into a tile per thread with its borders zero,
``[cell][channel]`` or ``[channel][cell]`` after its own layout. A register tile holds some
positions, at constant distances in the tile, or some groups of such, by some vectors.
"""

from dataclasses import dataclass
from itertools import product

from llvmlite import ir

from polyphase.engine.emit import I32, I64, Record
from polyphase.engine.kernels.driver import PACK_ROW, Driver
from polyphase.engine.target import Target

ROW = "weights y tap_start tap_stop class first".split()
COLUMN = "tile places".split()
PLACE = "y limit".split()


@dataclass(frozen=True, slots=True)
class Shape:
    """What the machine code depends on.

    ``cells`` are the tile offsets of the positions of a register tile, of which it has ``groups``
    at a distance that comes in through the context; ``cell`` is the distance of pixels in the tile.
    ``channels_last`` is how the input lies in memory; then the channels of a pixel are adjacent,
    else their distance comes in through the context. ``scattered`` says that lanes are output
    channels which lie apart. With ``lanewise`` each lane is a channel that meets its own input
    alone. With ``mixed`` not every lane has a tap wherever another has one; what such a lane would
    multiply by zero is left out, for it might be infinite. With ``fetch_weights`` the weights of a
    row tile are fetched during the one before, with ``fetch_input`` the input of a later box. Where
    ``paired``, a cell of the tile and a weight are those of two channels.
    """

    dtype: str
    cells: tuple[int, ...]
    vectors: int
    cell: int
    channels_last: bool
    scattered: bool
    lanewise: bool = False
    mixed: bool = False
    fetch_weights: bool = False
    fetch_input: bool = False
    groups: int = 1
    paired: bool = False

    @property
    def positions(self) -> int:
        """Positions of a register tile."""
        return len(self.cells) * self.groups

    def name(self, target: Target) -> str:
        """Kernel name: type, method, tile, target."""
        last = "_cl" if self.channels_last else ""
        last += "_scattered" * self.scattered + "_lanewise" * self.lanewise + "_mixed" * self.mixed
        last += "_paired" * self.paired
        tile = f"{self.groups}x{len(self.cells)}" if self.groups > 1 else f"{len(self.cells)}"
        return f"{self.dtype}_channels_{tile}x{self.vectors}{last}_{target.name}"


def build(shape: Shape, target: Target) -> str:
    """IR of the kernel."""
    assert shape.positions * shape.vectors + shape.vectors < target.registers, shape
    assert shape.channels_last or shape.cell == 1, shape
    return Channels(shape, target.lanes(shape.dtype)).build()


class Channels(Driver):
    """Builder of the method."""

    row_fields = ROW
    column_fields = COLUMN
    more_context = ("places", "lane_bits", "y_channel", "x_channels", "tile_group")
    more_tables = ("places", "lane_bits")

    def __init__(self, shape: Shape, lanes: int) -> None:
        width = shape.vectors * lanes
        sums = shape.positions * shape.vectors
        super().__init__(
            shape.dtype,
            lanes,
            sums,
            width,
            width,
            chain_step=1,
            paired=shape.paired,
            fetch_weights=shape.fetch_weights,
            fetch_input=shape.fetch_input,
        )
        self.shape = shape

    def pack(self, task: Record, tile: ir.Value, start: ir.Value, count: ir.Value) -> None:
        """The input of a box, its borders zero."""
        e, c = self.e, self.context
        x = e.at(c["x"], e.add(task["x"], e.mul(start, c["x_channel"])), self.storage)
        if self.shape.channels_last:
            every = c["x_channels"] if self.shape.lanewise else count
            self.begin_cells(start)
            self._pack_rows(task, x, tile, every)
            return
        with e.loop(0, count) as channels:
            self.begin_cells(e.add(start, channels.index))
            source = e.at(x, e.mul(channels.index, c["x_channel"]), self.storage)
            target = e.at(tile, e.mul(channels.index, c["tile_channel"]), self.kind)
            self._pack_rows(task, source, target, count)

    def _pack_rows(self, task: Record, x: ir.Value, tile: ir.Value, count: ir.Value) -> None:
        e, c = self.e, self.context
        with e.loop(task["pack_start"], task["pack_stop"]) as rows:
            row = self.e.record(c["pack_rows"], rows.index, PACK_ROW)
            line = self.packed_line(task, x, row)
            out = e.at(tile, row["target"], self.kind)
            if self.shape.channels_last:
                self._pack_pixels(line, out, count)
            else:
                self.pack_line(line, out)

    def _pack_pixels(self, line: Record, out: ir.Value, count: ir.Value) -> None:
        """One row of pixels with all their channels."""
        stop = self.e.add(line["low"], line["count"])
        inside = line["low"], stop
        self.pack_pixels(line["line"], self.context["x_width"], inside, out, self.shape.cell, count)

    def biases(self, panel: ir.Value) -> list[ir.Value]:
        """A panel begins with one bias per lane."""
        e = self.e
        bias = [e.load_vector(panel, v * self.lanes, self.kind) for v in range(self.shape.vectors)]
        return bias * self.shape.positions

    def next_input(self, b: ir.Value) -> ir.Value:
        """The next channel is the next element, or lies one tile channel on."""
        step = 1 if self.shape.channels_last else self.context["tile_channel"]
        return self.e.at(b, step, self.kind)

    def open_tap(self, index: ir.Value) -> None:
        """Find out which lanes have this tap."""
        if self.shape.mixed:
            bits = self.e.load(self.context["lane_bits"], index, I64)
            vectors = range(self.shape.vectors)
            self.having = [self.e.lanes_of_bits(bits, v * self.lanes) for v in vectors]

    def step(self, a: ir.Value, b: ir.Value, sums: list[ir.Value]) -> None:
        """One input channel of one tap: every position, all vectors; in place."""
        e, count = self.e, self.shape.vectors
        weights = [e.load_vector(a, v * self.lanes, self.kind) for v in range(count)]
        groups = [
            e.at(b, e.mul(self.context["tile_group"], group), self.kind) if group else b
            for group in range(self.shape.groups)
        ]
        for i, (group, cell) in enumerate(product(groups, self.shape.cells)):
            if not self.shape.lanewise:
                splat = e.splat(e.load(group, cell, self.kind))
            for v, value in enumerate(weights):
                if self.shape.lanewise:
                    factor = e.load_vector(group, cell + v * self.lanes, self.kind)
                else:
                    factor = splat
                before = sums[i * count + v]
                after = self.added(factor, value, before)
                if self.shape.mixed:
                    after = e.builder.select(self.having[v], after, before)
                sums[i * count + v] = after

    def fetch_output(self, row: Record, column: Record, y: ir.Value) -> None:
        """Every position's elements, where they lie side by side."""
        e, c, shape = self.e, self.context, self.shape
        if shape.scattered:
            return
        with e.loop(0, shape.positions) as places:
            place = e.record(c["places"], e.add(column["places"], places.index), PLACE)
            for at in range(0, shape.vectors * self.lanes, self.lanes):
                e.prefetch(y, e.add(place["y"], at), self.storage, write=True)

    def store(
        self, row: Record, column: Record, sums: list[ir.Value], y: ir.Value, spill: ir.Value
    ) -> None:
        """Write each position's elements, as far as its limit goes."""
        if self.shape.scattered:
            self._store_each(row, column, sums, y, spill)
            return
        count = self.shape.vectors
        for i in range(self.shape.positions):
            values = [self.stored(v) for v in sums[i * count : (i + 1) * count]]
            self._store_place(row, column, self.e.const(i), values, y, spill)

    def _store_each(
        self, row: Record, column: Record, sums: list[ir.Value], y: ir.Value, spill: ir.Value
    ) -> None:
        """The same by way of memory: writing lane by lane takes too much code to repeat it."""
        e, count = self.e, self.shape.vectors
        for i, value in enumerate(sums):
            e.store_vector(self.stored(value), spill, i * self.lanes)
        with e.loop(0, self.shape.positions) as places:
            first = e.mul(places.index, count * self.lanes)
            values = [
                e.load_vector(spill, e.add(first, v * self.lanes), self.storage)
                for v in range(count)
            ]
            self._store_place(
                row, column, places.index, values, y, e.at(spill, first, self.storage)
            )

    def _store_place(
        self,
        row: Record,
        column: Record,
        i: ir.Value,
        values: list[ir.Value],
        y: ir.Value,
        spill: ir.Value,
    ) -> None:
        """The elements of one position."""
        e, c = self.e, self.context
        place = self.e.record(c["places"], e.add(column["places"], i), PLACE)
        left = e.builder.sub(place["limit"], row["first"])
        out = e.at(y, place["y"], self.storage)
        whole = e.builder.icmp_signed(">=", left, e.const(len(values) * self.lanes))
        with e.builder.if_else(whole) as (direct, partial):
            with direct:
                if self.shape.scattered:
                    self._scatter(values, out)
                else:
                    self._store_adjacent(values, out, None)
            with partial, e.when(e.builder.icmp_signed(">", left, e.const(0))):
                if self.shape.scattered:
                    self._scatter_some(out, left, spill)
                else:
                    self._store_adjacent(values, out, left)

    def _store_adjacent(self, values: list[ir.Value], out: ir.Value, left: ir.Value | None) -> None:
        """Whole vectors, or the first ``left`` elements of them."""
        e = self.e
        for v, value in enumerate(values):
            mask = None if left is None else e.lanes_within(v * self.lanes, left)
            e.store_vector(value, out, v * self.lanes, mask)

    def _scatter(self, values: list[ir.Value], out: ir.Value) -> None:
        """Every element into its channel."""
        e, apart = self.e, self.context["y_channel"]
        for value in values:
            for lane in range(self.lanes):
                e.store(e.builder.extract_element(value, ir.Constant(I32, lane)), out)
                out = e.at(out, apart, self.storage)

    def _scatter_some(self, out: ir.Value, left: ir.Value, spill: ir.Value) -> None:
        """The first ``left`` elements, which lie in the spill."""
        e, apart = self.e, self.context["y_channel"]
        with e.loop(0, left) as lanes:
            value = e.load(spill, lanes.index, self.storage)
            e.store(value, out, e.mul(lanes.index, apart))
