"""Method ``minimal_positions``: minimal filtering, vectors along positions, weights broadcast.

A cell stands for one or two neighbouring positions of each axis. The input of a box of cells is
packed into planes, one per form that the products of the axes read: forms of the outer axes combine
whole rows, forms of the last axis the elements of a row. Each product is then a matrix product over
the input channels, held in registers; where it ends, it is added to the totals of the register
tile, which lie in the first-level cache. When all products are done, the totals are woven together
and stored.

Products differ in where they read and where they go, which a table says, not in their code; so
there is one loop for all of the last axis that serve equally many phases.
"""

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from polyphase.engine.emit import I64, Record
from polyphase.engine.kernels.minimal import NOTHING, WEIGHTS_AHEAD, Minimal
from polyphase.engine.kernels.positions import SEGMENT
from polyphase.engine.target import Target

# a row of the input, or ``source`` elements of a plane that is combined with another one
PACK = "source target other both".split()
# a product of the last axis: tile elements to its plane, weights of a channel in those before, and
# elements to its totals; where it goes, and what it begins with; ``sign`` is -1 where the plane
# holds the form of the other sign, or 1
STEP = "plane weights total goes begins sign".split()
# where a product goes: to the totals, or, since it serves two positions, it is kept for both; or it
# is added to what is kept for the first one, and subtracted for the second
TO_TOTALS, KEPT, KEPT_APART = range(3)
# what it begins with, if not with nothing: what is kept for the first position, or for the second
FIRST_KEPT, SECOND_KEPT = 1, 2
# and for each combination of outer outputs where it goes, whether it is whole, its segments if not
COLUMN = ["tile"]
STORED = "y whole segment_start segment_stop".split()
# input channels that are added one after another before their sum joins the totals; with what
# serves two positions a sum has twice as many products
LONGEST_CHAIN = 128
# the input is fetched this many channels before it is packed
CHANNELS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """What the machine code depends on.

    A register tile has ``channels`` output channels by ``vectors`` of cells. ``phases`` and
    ``together`` are those of the last axis, its phases in the order in which products serve them.
    ``steps`` says how many phases its products serve, and how many do, in their order. ``forms``
    are what the planes hold: elements ``span*cell + offset``, counted from the first that any form
    reads, and the factor of each. ``outputs`` combinations of outer positions are in a cell. Rows
    are packed ``row_lanes`` cells at a time, a power of two.
    """

    dtype: str
    channels: int
    vectors: int
    phases: tuple[int, ...]
    together: int
    span: int
    steps: tuple[tuple[int, int], ...]
    forms: tuple[tuple[tuple[int, float], ...], ...]
    outputs: int
    row_lanes: int

    @property
    def weave(self) -> int:
        """Neighbouring outputs of the last axis that belong to a cell."""
        return len(self.phases) * self.together

    @property
    def totals(self) -> int:
        """Vectors of a register tile's totals."""
        return self.outputs * self.channels * self.weave * self.vectors

    @property
    def step_weights(self) -> int:
        """Weights that one input channel of one outer product meets."""
        return self.channels * sum(served * count for served, count in self.steps)

    @property
    def most_sums(self) -> int:
        """Vectors of sums that are in registers at once."""
        return self.channels * self.vectors * max((served for served, _ in self.steps), default=1)

    def name(self, target: Target) -> str:
        """Kernel name: type, method, tile, target."""
        tile = f"{self.channels}x{self.weave}x{self.vectors}"
        return f"{self.dtype}_minimal_positions_{tile}_{self.outputs}_{target.name}"


def build(shape: Shape, target: Target) -> str:
    """IR of the kernel."""
    assert shape.most_sums + shape.vectors < target.registers, shape
    assert shape.together in (1, 2), shape
    assert shape.outputs in (1, 2, 4), shape
    assert 0 < shape.row_lanes <= target.lanes(shape.dtype), shape
    return MinimalPositions(shape, target.lanes(shape.dtype)).build()


class MinimalPositions(Minimal):
    """Builder of the method."""

    more_context = ("segments", "steps", "tile_plane", "y_channel", "rest_step")
    more_tables = ("segments", "steps")

    def __init__(self, shape: Shape, lanes: int) -> None:
        self.column_size = len(COLUMN) + len(STORED) * shape.outputs
        super().__init__(
            shape.dtype,
            lanes,
            shape.outputs,
            shape.channels,
            shape.step_weights,
            lines=shape.outputs * shape.channels,
            steps=sum(number for _, number in shape.steps),
        )
        self.shape = shape
        # what serves two positions, for each of them
        self.kept = self.e.slot(ir.VectorType(self.kind, lanes), 2 * shape.most_sums)
        # a channel of a register tile, woven
        self.spill = self.e.slot(ir.VectorType(self.storage, lanes), shape.weave * shape.vectors)

    # packing

    def pack(self, task: Record, tile: ir.Value, start: ir.Value, count: ir.Value) -> None:
        """Every form of the input of a box, with zeros beyond the borders.

        First the rows of every plane, then the planes whose forms have two terms on outer axes.
        """
        e, c = self.e, self.context
        x = e.at(c["x"], e.add(task["x"], e.mul(start, c["x_channel"])), self.storage)
        with e.loop(0, count) as channels:
            source = e.at(x, e.mul(channels.index, c["x_channel"]), self.storage)
            target = e.at(tile, e.mul(channels.index, c["tile_channel"]), self.kind)
            with e.loop(task["pack_start"], task["pack_stop"]) as rows:
                row = self.e.record(c["pack_rows"], rows.index, PACK)
                out = e.at(target, row["target"], self.kind)
                plain = e.builder.icmp_signed("==", row["other"], e.const(NOTHING))
                with e.builder.if_else(plain) as (raw, combined):
                    with raw:
                        line = self.packed_line(task, source, row)
                        with e.loop(0, c["tile_width"], self.shape.row_lanes) as blocks:
                            self._pack_cells(line, out, blocks.index)
                    with combined:
                        self.combine(target, row)

    def _pack_cells(self, line: Record, out: ir.Value, at: ir.Value) -> None:
        """Some cells of a row, for each plane."""
        e, b, span, lanes = self.e, self.e.builder, self.shape.span, self.lanes
        read = [offset for form in self.shape.forms for offset, _ in form]
        # inputs of the cells that are left; where they are few, not every vector has some
        left = e.mul(b.sub(self.context["tile_width"], at), span)
        used = [part for part in range(span) if part * lanes < self.shape.row_lanes * span]
        zero = ir.Constant(ir.VectorType(self.kind, lanes), None)
        start = e.mul(at, span)
        for part in used:
            ahead = e.mul(self.context["x_channel"], CHANNELS_AHEAD)
            e.prefetch(line["line"], e.add(e.add(ahead, start), part * lanes), self.storage)
        raw: list[ir.Value] = []
        for first in range(0, max(read, default=-1) + 1, span):
            vectors = [self._positions(line, e.add(start, first))]
            for part in used[1:]:
                place = e.add(start, first + part * lanes)
                some = b.icmp_signed(">", left, e.const(part * lanes))
                load = lambda p=place: [self._positions(line, p)]  # noqa: E731
                vectors += e.either(some, load, lambda: [zero])
            raw += e.deinterleave(vectors + [zero] * (span - len(vectors)))
        for plane, form in enumerate(self.shape.forms):
            value = self._formed([(raw[offset], factor) for offset, factor in form])
            target = e.add(at, e.mul(self.context["tile_plane"], plane))
            e.store(e.first_lanes(value, self.shape.row_lanes), out, target)

    def _formed(self, terms: list[tuple[ir.Value, float]]) -> ir.Value:
        """The value of a form; halves are taken first, for their sum is finite."""
        b = self.e.builder

        def scaled(value: ir.Value, factor: float) -> ir.Value:
            if abs(factor) == 1:
                return value
            return b.fmul(value, self.e.splat(ir.Constant(self.kind, abs(factor))))

        (first, sign), *more = terms
        found = scaled(first, sign)
        for value, factor in more:
            found = (b.fadd if factor > 0 else b.fsub)(found, scaled(value, factor))
        return found

    def _positions(self, line: Record, first: ir.Value) -> ir.Value:
        """A vector of neighbouring inputs."""
        e = self.e
        mask = e.lanes_within(e.builder.sub(first, line["low"]), line["count"])
        return e.widen(e.load_vector(line["line"], first, self.storage, mask), self.kind)

    # arithmetic

    def column(self, index: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where the inputs of a column begin in the tile, and a line for each outer output."""
        column = self.e.at(self.context["columns"], self.e.mul(index, self.column_size), I64)
        return self.e.load(column, 0, I64), self.e.at(column, len(COLUMN), I64)

    def open(self, panel: ir.Value, totals: ir.Value) -> None:
        """The totals before the first product: the bias of each channel."""
        e, shape = self.e, self.shape
        size = shape.weave * shape.vectors
        with e.loop(0, shape.channels) as channels:
            bias = e.splat(e.load(panel, channels.index, self.kind))
            for j in range(shape.outputs):
                place = e.add(channels.index, j * shape.channels)
                line = e.at(totals, e.mul(place, size * self.lanes), self.kind)
                for v in range(size):
                    e.store_vector(bias, line, v * self.lanes)

    def multiply(
        self,
        tap: Record,
        weights: ir.Value,
        source: ir.Value,
        count: ir.Value,
        totals: ir.Value,
        fetch: Callable[[], None],
    ) -> None:
        """Add the products of the last axis at a tap to the totals, in their order."""
        e, c, b, shape = self.e, self.context, self.e.builder, self.shape
        with e.loop(0, count, LONGEST_CHAIN) as pieces:
            left, most = b.sub(count, pieces.index), e.const(LONGEST_CHAIN)
            length = b.select(b.icmp_signed("<", left, most), left, most)
            piece = e.at(source, e.mul(c["tile_channel"], pieces.index), self.kind)
            first = 0
            for served, number in shape.steps:
                with e.loop(first, first + number) as steps:
                    fetch()
                    step = self.e.record(c["steps"], steps.index, STEP)
                    skipped = e.mul(pieces.index, shape.channels * served)
                    skipped = e.add(e.mul(count, step["weights"]), skipped)
                    factors = e.at(weights, skipped, self.kind)
                    plane = e.at(piece, step["plane"], self.kind)
                    sums = self._product(step, served, factors, plane, length)
                    here = e.at(totals, step["total"], self.kind)
                    self._deliver(step, served, sums, tap, here)
                first += number

    def _product(
        self, step: Record, served: int, weights: ir.Value, plane: ir.Value, count: ir.Value
    ) -> list[ir.Value]:
        """One matrix product over some input channels, for each of the phases ``served``.

        Where the plane holds the form of the other sign, so do the sums.
        """
        e, shape = self.e, self.shape
        width = shape.channels * served
        places = range(0, width * shape.vectors * self.lanes, self.lanes)
        zero = ir.Constant(ir.VectorType(self.kind, self.lanes), None)
        sign = self._sign(step)
        second = e.builder.icmp_signed("==", step["begins"], e.const(SECOND_KEPT))
        begin = e.at(self.kept, e.builder.select(second, self._apart, e.const(0)), self.kind)
        sums = e.either(
            e.builder.icmp_signed("!=", step["begins"], e.const(0)),
            lambda: [e.builder.fmul(e.load_vector(begin, i, self.kind), sign) for i in places],
            lambda: [zero] * len(places),
        )
        with e.loop(0, count, carried=[weights, plane, *sums]) as channels:
            a, x, *sums = channels.values
            inputs = [e.load_vector(x, v * self.lanes, self.kind) for v in range(shape.vectors)]
            e.prefetch(a, WEIGHTS_AHEAD, self.kind)
            for i in range(width):
                factor = e.splat(e.load(a, i, self.kind))
                for v, value in enumerate(inputs):
                    at = i * shape.vectors + v
                    sums[at] = e.fma(factor, value, sums[at])
            x = e.at(x, self.context["tile_channel"], self.kind)
            channels.carry([e.at(a, width, self.kind), x, *sums])
        return channels.results[2:]

    def _deliver(
        self, step: Record, served: int, sums: list[ir.Value], tap: Record, totals: ir.Value
    ) -> None:
        """Keep sums, or add them to the totals of each outer output that the tap serves.

        ``totals`` are those of the first phase and the position that the product serves.
        """
        e, b, shape = self.e, self.e.builder, self.shape
        each = shape.channels * shape.weave * shape.vectors * self.lanes
        sign = self._sign(step)
        with b.if_else(b.icmp_signed("==", step["goes"], e.const(TO_TOTALS))) as (added, kept):
            with added, self.served(tap, totals, each) as (here, outer_sign):
                factor = b.fmul(sign, e.splat(outer_sign))
                for i, value in enumerate(sums):
                    channel, rest = divmod(i, served * shape.vectors)
                    at = (channel * shape.weave * shape.vectors + rest) * self.lanes
                    before = e.load_vector(here, at, self.kind)
                    e.store_vector(e.fma(value, factor, before), here, at)
            with kept:
                self._keep(step, sums, sign)

    def _keep(self, step: Record, sums: list[ir.Value], sign: ir.Value) -> None:
        """Keep sums for two positions, or add them to what is kept, and subtract them."""
        e, b = self.e, self.e.builder
        second = e.at(self.kept, self._apart, self.kind)
        with b.if_else(b.icmp_signed("==", step["goes"], e.const(KEPT))) as (fresh, apart):
            for block, before in ((fresh, False), (apart, True)):
                with block:
                    for i, value in enumerate(sums):
                        at = i * self.lanes
                        if before:
                            first = e.load_vector(self.kept, at, self.kind)
                            value = b.fmul(value, sign)
                            e.store_vector(b.fadd(first, value), self.kept, at)
                            e.store_vector(b.fsub(first, value), second, at)
                        else:
                            e.store_vector(value, self.kept, at)

    @property
    def _apart(self) -> ir.Value:
        """Elements from what is kept for the first position to what is for the second."""
        return self.e.const(self.shape.most_sums * self.lanes)

    def _sign(self, step: Record) -> ir.Value:
        """The sign of a product in every lane: multiplying by it is exact."""
        return self.e.splat(self.e.builder.sitofp(step["sign"], self.kind))

    # storing

    def fetch_line(self, stored: ir.Value, y: ir.Value, line: ir.Value) -> None:
        """The outputs of a channel, as if they lay in one row."""
        e, b, shape = self.e, self.e.builder, self.shape
        part = e.record(stored, b.udiv(line, e.const(shape.channels)), STORED)
        channel = b.urem(line, e.const(shape.channels))
        place = e.add(part["y"], e.mul(channel, self.context["y_channel"]))
        for at in range(0, shape.weave * shape.vectors * self.lanes, self.lanes):
            e.prefetch(y, e.add(place, at), self.storage, write=True)

    def store(self, row: Record, stored: ir.Value, totals: ir.Value, y: ir.Value) -> None:
        """Weave phases and positions of the last axis together and write what is valid."""
        e, b, shape = self.e, self.e.builder, self.shape
        size = shape.weave * shape.vectors * self.lanes
        with e.loop(0, shape.outputs) as outer:
            part = self.e.record(stored, outer.index, STORED)
            whole = b.icmp_signed("!=", part["whole"], e.const(0))
            some = b.icmp_signed("<", part["segment_start"], part["segment_stop"])
            place = e.at(y, part["y"], self.storage)
            with e.when(b.or_(whole, some)), e.loop(0, row["valid"]) as channels:
                line = e.at(place, e.mul(channels.index, self.context["y_channel"]), self.storage)
                first = e.add(channels.index, e.mul(outer.index, shape.channels))
                target = b.select(whole, line, e.at(self.spill, e.const(0), self.storage))
                self._weave(e.at(totals, e.mul(first, size), self.kind), target)
                with e.when(b.not_(whole)):
                    self._copy_segments(part, line)

    def _weave(self, sums: ir.Value, out: ir.Value) -> None:
        """The totals of a channel in the order of the output."""
        e, shape = self.e, self.shape
        phases = range(len(shape.phases))
        # totals lie in the order in which products serve the phases
        places = [
            position * len(phases) + shape.phases.index(phase)
            for position in range(shape.together)
            for phase in phases
        ]
        for v in range(shape.vectors):
            vectors = [
                e.load_vector(sums, (i * shape.vectors + v) * self.lanes, self.kind) for i in places
            ]
            for part, value in enumerate(e.interleave(vectors)):
                at = (v * shape.weave + part) * self.lanes
                e.store_vector(e.narrow(value, self.storage), out, at)

    def _copy_segments(self, part: Record, line: ir.Value) -> None:
        """The valid pieces of a channel's outputs, from the spill."""
        e = self.e
        with e.loop(part["segment_start"], part["segment_stop"]) as segments:
            segment = self.e.record(self.context["segments"], segments.index, SEGMENT)
            source = e.at(self.spill, segment["source"], self.storage)
            self.copy(source, e.at(line, segment["y"], self.storage), segment["count"])
