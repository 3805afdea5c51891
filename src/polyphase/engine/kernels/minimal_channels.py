"""Method ``minimal_channels``: minimal filtering, vectors along channels, inputs broadcast.

A cell stands for one or two neighbouring positions of each axis. The input of a box of cells is
packed into planes of pixels, one per combination of forms that the products of the axes read. Each
product is then a matrix product over the input channels, held in registers; where it ends, it is
added to the totals of the register tile, which lie in the first-level cache.
"""

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from polyphase.engine.emit import Record
from polyphase.engine.kernels.channels import PLACE
from polyphase.engine.kernels.minimal import NOTHING, WEIGHTS_AHEAD, Minimal
from polyphase.engine.target import Target

# a row of pixels from column ``first`` of the input on, or ``source`` elements of a plane that is
# combined with another one
PACK = "source target other both first".split()
# a line of places for each combination of outputs
COLUMN = "tile places".split()
# input channels that are added one after another before their sum joins the totals
LONGEST_CHAIN = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """What the machine code depends on.

    A register tile has ``positions`` cells, ``cell`` tile elements apart, by ``vectors`` of output
    channels. A cell is ``span`` inputs wide and ``outputs`` positions of all axes.
    """

    dtype: str
    positions: int
    cell: int
    vectors: int
    span: int
    outputs: int

    @property
    def totals(self) -> int:
        """Vectors of a register tile's totals."""
        return self.outputs * self.positions * self.vectors

    def name(self, target: Target) -> str:
        """Kernel name: type, method, tile, target."""
        tile = f"{self.positions}x{self.vectors}"
        return f"{self.dtype}_minimal_channels_{tile}_{self.outputs}_{target.name}"


def build(shape: Shape, target: Target) -> str:
    """IR of the kernel."""
    assert (shape.positions + 1) * shape.vectors < target.registers, shape
    assert shape.outputs in (1, 2, 4, 8), shape
    return MinimalChannels(shape, target.lanes(shape.dtype)).build()


class MinimalChannels(Minimal):
    """Builder of the method."""

    more_context = ("places", "rest_step")
    more_tables = ("places",)

    def __init__(self, shape: Shape, lanes: int) -> None:
        self.width = shape.vectors * lanes
        super().__init__(
            shape.dtype,
            lanes,
            shape.outputs,
            self.width,
            self.width,
            lines=shape.outputs * shape.positions,
            steps=1,
        )
        self.shape = shape

    def pack(self, task: Record, tile: ir.Value, start: ir.Value, count: ir.Value) -> None:
        """Every form of the input of a box, with zeros beyond the borders.

        First the pixels of every plane, then the planes whose forms have two terms.
        """
        e, b, c = self.e, self.e.builder, self.context
        x = e.at(c["x"], e.add(task["x"], e.mul(start, c["x_channel"])), self.storage)
        with e.loop(task["pack_start"], task["pack_stop"]) as rows:
            row = self.e.record(c["pack_rows"], rows.index, PACK)
            out = e.at(tile, row["target"], self.kind)
            plain = b.icmp_signed("==", row["other"], e.const(NOTHING))
            with b.if_else(plain) as (raw, combined):
                with raw:
                    self._pack_pixels(self.packed_line(task, x, row), row["first"], out, count)
                with combined:
                    self.combine(tile, row)

    def _pack_pixels(self, line: Record, first: ir.Value, out: ir.Value, count: ir.Value) -> None:
        """One row of pixels with all their channels."""
        e, b, c, span = self.e, self.e.builder, self.context, self.shape.span

        def cell(place: ir.Value) -> ir.Value:
            """The first one at ``place`` or beyond, of those ``span`` apart; none before 0."""
            past = e.add(b.sub(place, first), span - 1)
            past = b.select(b.icmp_signed("<", past, e.const(0)), e.const(0), past)
            return b.udiv(past, e.const(span))

        source = e.at(line["line"], e.mul(first, c["x_width"]), self.storage)
        inside = cell(line["low"]), cell(e.add(line["low"], line["count"]))
        self.pack_pixels(source, e.mul(c["x_width"], span), inside, out, self.shape.cell, count)

    def column(self, index: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where the inputs of a column begin in the tile, and its first line of places."""
        column = self.e.record(self.context["columns"], index, COLUMN)
        return column["tile"], column["places"]

    def open(self, panel: ir.Value, totals: ir.Value) -> None:
        """The totals before the first product: the bias of each channel."""
        e, shape = self.e, self.shape
        bias = [e.load_vector(panel, v * self.lanes, self.kind) for v in range(shape.vectors)]
        with e.loop(0, shape.outputs * shape.positions) as places:
            line = e.at(totals, e.mul(places.index, self.width), self.kind)
            for v, value in enumerate(bias):
                e.store_vector(value, line, v * self.lanes)

    def multiply(
        self,
        tap: Record,
        weights: ir.Value,
        source: ir.Value,
        count: ir.Value,
        totals: ir.Value,
        fetch: Callable[[], None],
    ) -> None:
        """Add the one product of a tap to the totals."""
        e, b, shape = self.e, self.e.builder, self.shape
        zero = ir.Constant(ir.VectorType(self.kind, self.lanes), None)
        fetch()
        with e.loop(0, count, LONGEST_CHAIN, carried=[weights, source]) as pieces:
            left, most = b.sub(count, pieces.index), e.const(LONGEST_CHAIN)
            length = b.select(b.icmp_signed("<", left, most), left, most)
            start = [*pieces.values, *[zero] * (shape.positions * shape.vectors)]
            with e.loop(0, length, carried=start) as channels:
                a, x, *sums = channels.values
                self._step(a, x, sums)
                channels.carry([e.at(a, self.width, self.kind), e.at(x, 1, self.kind), *sums])
            self._add(channels.results[2:], tap, totals)
            pieces.carry(channels.results[:2])

    def _step(self, a: ir.Value, x: ir.Value, sums: list[ir.Value]) -> None:
        """One input channel of one product: every cell, all vectors; in place."""
        e, count = self.e, self.shape.vectors
        for v in range(count):
            e.prefetch(a, WEIGHTS_AHEAD + v * self.lanes, self.kind)
        weights = [e.load_vector(a, v * self.lanes, self.kind) for v in range(count)]
        for i in range(self.shape.positions):
            factor = e.splat(e.load(x, i * self.shape.cell, self.kind))
            for v, value in enumerate(weights):
                sums[i * count + v] = e.fma(factor, value, sums[i * count + v])

    def _add(self, sums: list[ir.Value], tap: Record, totals: ir.Value) -> None:
        """Add sums to the totals of every combination that a tap serves."""
        e = self.e
        with self.served(tap, totals, len(sums) * self.lanes) as (here, sign):
            factor = e.splat(sign)
            for i, value in enumerate(sums):
                before = e.load_vector(here, i * self.lanes, self.kind)
                e.store_vector(e.fma(value, factor, before), here, i * self.lanes)

    def fetch_line(self, first: ir.Value, y: ir.Value, line: ir.Value) -> None:
        """The channels of a place."""
        e = self.e
        place = e.record(self.context["places"], e.add(first, line), PLACE)
        for at in range(0, self.width, self.lanes):
            e.prefetch(y, e.add(place["y"], at), self.storage, write=True)

    def store(self, row: Record, first: ir.Value, totals: ir.Value, y: ir.Value) -> None:
        """Write the channels of each place that is an output."""
        e, b, c, shape = self.e, self.e.builder, self.context, self.shape
        valid = row["valid"]
        whole = b.icmp_signed("==", valid, e.const(self.width))
        with e.loop(0, shape.outputs * shape.positions) as places:
            place = self.e.record(c["places"], e.add(first, places.index), PLACE)
            used = b.icmp_signed("!=", place["limit"], e.const(0))
            line = e.at(totals, e.mul(places.index, self.width), self.kind)
            out = e.at(y, place["y"], self.storage)
            with e.when(used), b.if_else(whole) as (direct, partial):
                for block, all_lanes in ((direct, True), (partial, False)):
                    with block:
                        for v in range(shape.vectors):
                            at = v * self.lanes
                            value = e.narrow(e.load_vector(line, at, self.kind), self.storage)
                            mask = None if all_lanes else e.lanes_within(at, valid)
                            e.store_vector(value, out, at, mask)
