"""Method ``taps``: vectors run along the taps of an output, which lie side by side in the weights.

Where a convolution has long lines of taps, so have its input and its weights: both are read as they
lie, a vector of each at a time, and nothing has to be packed but the input of a box, its borders
zero, ``[channel][cell]``. A register tile holds some output channels by some positions, a vector of
partial sums for each; lanes are added up when all lines are done.
"""

from dataclasses import dataclass
from functools import partial

from llvmlite import ir

from polyphase.engine.emit import I32, Record
from polyphase.engine.kernels.driver import CLASS, PACK_ROW, Frame
from polyphase.engine.target import Target

# ``channel`` is the first output channel, of which ``valid`` exist
ROW = "weights y tap_start tap_stop class channel valid".split()
# where a line of taps begins in the tile, and among the weights of an input channel
TAP = "tile weights".split()
# where the taps of a position begin in the tile; ``valid`` tells positions from their repetition
PLACE = "tile y valid".split()
# longer lines are gone through in a loop
MOST_UNROLLED = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """What the machine code depends on.

    A register tile has ``channels`` output channels by ``positions``. Lines are ``line`` taps long.
    ``in_last`` and ``out_last`` are how input and output lie in memory.
    """

    dtype: str
    channels: int
    positions: int
    line: int
    in_last: bool
    out_last: bool

    @property
    def sums(self) -> int:
        """Vectors of a register tile."""
        return self.channels * self.positions

    def name(self, target: Target) -> str:
        """Kernel name: type, method, tile, target."""
        last = ("_in" if self.in_last else "") + ("_cl" if self.out_last else "")
        tile = f"{self.channels}x{self.positions}x{self.line}"
        return f"{self.dtype}_taps_{tile}{last}_{target.name}"


def build(shape: Shape, target: Target) -> str:
    """IR of the kernel."""
    assert shape.sums + shape.positions < target.registers, shape
    assert shape.line > 0, shape
    return Taps(shape, target.lanes(shape.dtype)).build()


class Taps(Frame):
    """Builder of the method."""

    more_context = ("y_channel", "w_row", "w_channel", "own_rows")
    more_tables = ()

    def __init__(self, shape: Shape, lanes: int) -> None:
        super().__init__(shape.dtype, lanes)
        self.shape = shape
        # whole vectors of partial sums, as many as transposing them takes
        self.groups = -(-shape.sums // lanes)
        # and one more, for vectors of channels that begin with the last of them
        self.totals = self.e.slot(ir.VectorType(self.kind, lanes), self.groups + 1)

    # packing

    def pack(self, task: Record, tile: ir.Value, start: ir.Value, count: ir.Value) -> None:
        """The input of a box, its borders zero."""
        e, c = self.e, self.context
        x = e.at(c["x"], e.add(task["x"], e.mul(start, c["x_channel"])), self.storage)
        step = self.lanes if self.shape.in_last else 1
        with e.loop(0, count, step) as channels:
            source = e.at(x, e.mul(channels.index, c["x_channel"]), self.storage)
            target = e.at(tile, e.mul(channels.index, c["tile_channel"]), self.kind)
            # 1 where each channel has a list of its own, one after another; 0 where they share one
            number = e.mul(e.add(start, channels.index), c["own_rows"])
            skipped = e.mul(number, e.builder.sub(task["pack_stop"], task["pack_start"]))
            rows_of = [e.add(task[name], skipped) for name in ("pack_start", "pack_stop")]
            with e.loop(*rows_of) as rows:
                row = e.record(c["pack_rows"], rows.index, PACK_ROW)
                line = self.packed_line(task, source, row)
                out = e.at(target, row["target"], self.kind)
                if self.shape.in_last:
                    self._pack_squares(line, out, e.builder.sub(count, channels.index))
                else:
                    self.pack_line(line, out)

    def _pack_squares(self, line: Record, out: ir.Value, left: ir.Value) -> None:
        """One row of some channels, a vector of cells at a time."""
        e = self.e
        with e.loop(0, self.context["tile_width"], self.lanes) as blocks:
            cells = [e.add(blocks.index, lane) for lane in range(self.lanes)]
            self.pack_square(line, cells, left, out, blocks.index)

    # arithmetic

    def block(
        self, task: Record, tile: ir.Value, first: ir.Value, count: ir.Value, last: ir.Value
    ) -> None:
        """Every register tile of a task, over one block of input channels.

        Each block begins anew and is added to those before it: that keeps chains of sums short.
        """
        e, b, c = self.e, self.e.builder, self.context
        size = self.shape.sums * self.lanes
        fresh = b.icmp_signed("==", first, e.const(0))
        y = e.at(c["y"], task["y"], self.storage)
        weights = e.at(c["weights"], e.mul(first, c["w_channel"]), self.storage)
        resting = e.at(tile, c["tile_size"], self.kind)
        with e.loop(task["row_start"], task["row_stop"], carried=[resting]) as rows:
            row = e.record(c["rows"], rows.index, ROW)
            span = e.record(c["classes"], e.add(task["class_base"], row["class"]), CLASS)
            factors = e.at(weights, row["weights"], self.storage)
            lines = []
            for i in range(self.shape.channels):
                # in place of a channel that does not exist the first one is read
                exists = b.icmp_signed("<", e.const(i), row["valid"])
                apart = b.select(exists, c["w_row"], e.const(0))
                lines.append(e.at(factors, e.mul(apart, i), self.storage))
            with e.loop(span["start"], span["stop"], carried=rows.values) as columns:
                here = columns.values[0]
                places = e.mul(columns.index, self.shape.positions)
                # in the last column, so that it is not forgotten until it is read
                closing = b.icmp_signed("==", e.add(columns.index, 1), span["stop"])
                apart = e.mul(c["w_row"], self.shape.channels)
                self.ahead = b.select(closing, apart, e.const(0))
                sums = self._multiply(row, lines, places, tile, count)
                sums = e.either(fresh, partial(list, sums), partial(self._added, sums, here))
                with b.if_else(last) as (done, more):
                    with done:
                        self._store(row, places, sums, y)
                    with more:
                        for i, value in enumerate(sums):
                            e.store_vector(value, here, i * self.lanes)
                columns.carry([e.at(here, size, self.kind)])
            rows.carry(columns.results)

    def _added(self, sums: list[ir.Value], here: ir.Value) -> list[ir.Value]:
        """Sums, and those of the blocks before."""
        e = self.e
        return [
            e.builder.fadd(e.load_vector(here, i * self.lanes, self.kind), value)
            for i, value in enumerate(sums)
        ]

    def _multiply(
        self, row: Record, lines: list[ir.Value], places: ir.Value, tile: ir.Value, count: ir.Value
    ) -> list[ir.Value]:
        """The partial sums of a register tile over some input channels."""
        e, c, shape = self.e, self.context, self.shape
        inputs = []
        for i in range(shape.positions):
            place = e.record(c["columns"], e.add(places, i), PLACE)
            inputs.append(e.at(tile, place["tile"], self.kind))
        zero = ir.Constant(ir.VectorType(self.kind, self.lanes), None)
        with e.loop(row["tap_start"], row["tap_stop"], carried=[zero] * shape.sums) as taps:
            tap = e.record(c["taps"], taps.index, TAP)
            start = [tap["weights"], tap["tile"], *taps.values]
            with e.loop(0, count, carried=start) as channels:
                a, x, *sums = channels.values
                sums = self._line(lines, inputs, a, x, sums)
                following = e.add(a, c["w_channel"]), e.add(x, c["tile_channel"])
                channels.carry([*following, *sums])
            taps.carry(channels.results[2:])
        return taps.results

    def _line(
        self,
        lines: list[ir.Value],
        inputs: list[ir.Value],
        a: ir.Value,
        x: ir.Value,
        sums: list[ir.Value],
    ) -> list[ir.Value]:
        """One line of taps of one input channel."""
        e, shape = self.e, self.shape
        whole, rest = divmod(shape.line, self.lanes)
        if whole > MOST_UNROLLED:
            with e.loop(0, whole * self.lanes, self.lanes, carried=sums) as vectors:
                places = e.add(a, vectors.index), e.add(x, vectors.index)
                vectors.carry(self._step(lines, inputs, *places, vectors.values))
            sums = vectors.results
        else:
            for v in range(0, whole * self.lanes, self.lanes):
                sums = self._step(lines, inputs, e.add(a, v), e.add(x, v), sums)
        if rest:
            v, mask = whole * self.lanes, e.lanes_within(0, e.const(rest))
            sums = self._step(lines, inputs, e.add(a, v), e.add(x, v), sums, mask)
        return sums

    def _step(
        self,
        lines: list[ir.Value],
        inputs: list[ir.Value],
        a: ir.Value,
        x: ir.Value,
        sums: list[ir.Value],
        mask: ir.Value | None = None,
    ) -> list[ir.Value]:
        """One vector of taps: all channels, all positions."""
        e = self.e
        values = [e.load_vector(line, x, self.kind, mask) for line in inputs]
        found = []
        for i, line in enumerate(lines):
            e.prefetch(line, e.add(a, self.ahead), self.storage)
            factor = e.widen(e.load_vector(line, a, self.storage, mask), self.kind)
            for j, value in enumerate(values):
                found.append(e.fma(factor, value, sums[i * len(values) + j]))
        return found

    # storing

    def _store(self, row: Record, places: ir.Value, sums: list[ir.Value], y: ir.Value) -> None:
        """Add up the lanes of every sum, and the bias of its channel; write what is valid."""
        shape = self.shape
        if shape.out_last:
            count = shape.positions
            self._total([sum_ for first in range(count) for sum_ in sums[first::count]])
            self._store_pixels(row, places, y)
        else:
            self._total(sums)
            self._store_channels(row, places, y)

    def _total(self, sums: list[ir.Value]) -> None:
        """Add up the lanes of every sum, a vector of totals at a time."""
        e, b = self.e, self.e.builder
        zero = ir.Constant(sums[0].type, None)
        for group in range(self.groups):
            some = sums[group * self.lanes : (group + 1) * self.lanes]
            parts = e.deinterleave([*some, *[zero] * (self.lanes - len(some))])
            while len(parts) > 1:
                parts = [b.fadd(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
            e.store_vector(parts[0], self.totals, group * self.lanes)

    def _store_pixels(self, row: Record, places: ir.Value, y: ir.Value) -> None:
        """Totals of channels that lie side by side."""
        e, b, c, shape = self.e, self.e.builder, self.context, self.shape
        out = e.at(y, row["y"], self.storage)
        parts = range(0, shape.channels, self.lanes)
        masks = [e.lanes_within(first, row["valid"]) for first in parts]
        biases = [
            e.widen(e.load_vector(c["biases"], at, self.storage, mask), self.kind)
            for first, mask in zip(parts, masks, strict=True)
            for at in [e.add(row["channel"], first)]
        ]
        for i in range(shape.positions):
            place = e.record(c["columns"], e.add(places, i), PLACE)
            with e.when(b.icmp_signed("!=", place["valid"], e.const(0))):
                for first, mask, bias in zip(parts, masks, biases, strict=True):
                    value = e.load_vector(self.totals, i * shape.channels + first, self.kind)
                    stored = e.narrow(b.fadd(value, bias), self.storage)
                    e.store_vector(stored, out, e.add(place["y"], first), mask)

    def _store_channels(self, row: Record, places: ir.Value, y: ir.Value) -> None:
        """Totals one by one."""
        e, b, c, shape = self.e, self.e.builder, self.context, self.shape
        with e.loop(0, row["valid"]) as channels:
            number = e.add(row["channel"], channels.index)
            bias = e.widen_scalar(e.load(c["biases"], number, self.storage), self.kind)
            out = e.at(y, e.add(row["y"], e.mul(channels.index, c["y_channel"])), self.storage)
            with e.loop(0, shape.positions) as positions:
                place = e.record(c["columns"], e.add(places, positions.index), PLACE)
                at = e.add(e.mul(channels.index, shape.positions), positions.index)
                value = b.fadd(e.load(self.totals, at, self.kind), bias)
                with e.when(b.icmp_signed("!=", place["valid"], e.const(0))):
                    stored = e.narrow(e.splat(value), self.storage)
                    e.store(b.extract_element(stored, ir.Constant(I32, 0)), out, place["y"])
