"""Method ``positions``: vectors run along output positions, weights are broadcast.

The input of a box of positions is packed once into a tile per thread, ``[channel][position]``, with
its borders zero, converted to the accumulator type and freed of the input's stride. Each register
tile then holds ``channels * interleave`` rows by ``groups * vectors`` vectors: it reads the tile at
one constant offset per tap. The ``interleave`` rows of a channel are the phases of the last axis;
they are woven together in registers, so that every store is contiguous.

Everything that depends on sizes comes in through tables, so one compiled kernel serves every size.
"""

from dataclasses import dataclass

from llvmlite import ir

from polyphase.engine.emit import Record
from polyphase.engine.kernels.driver import PACK_ROW, Driver
from polyphase.engine.target import Target

ROW = "weights y tap_start tap_stop class valid".split()
COLUMN = "tile y whole segment_start segment_stop".split()
SEGMENT = "source y count".split()
# the input is fetched this many channels before it is packed: a channel's part is too short for the
# processor to see where it leads
CHANNELS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """What the machine code depends on.

    ``slots`` is the window along the last axis: for each distinct input offset, the plane of the
    tile and the shift in it where the input is found, and the rows of the interleave that have a
    tap there. The tile has a plane for each residue of the input's stride, or one for each shift
    in ``spread``. ``channels_last`` is how the input lies in memory. With ``fetch_weights`` the
    weights of a row tile are fetched during the one before. Where ``paired``, a cell of the tile
    and a weight are those of two channels.
    """

    dtype: str
    channels: int
    interleave: int
    groups: int
    vectors: int
    slots: tuple[tuple[int, int, tuple[int, ...]], ...]
    in_step: int = 1
    spread: tuple[int, ...] = ()
    channels_last: bool = False
    fetch_weights: bool = False
    paired: bool = False

    @property
    def rows(self) -> int:
        """Rows of the register tile."""
        return self.channels * self.interleave

    @property
    def columns(self) -> int:
        """Vectors of the register tile."""
        return self.groups * self.vectors

    @property
    def step_weights(self) -> int:
        """Weights that one input channel of one outer tap meets."""
        return self.channels * sum(len(rows) for _, _, rows in self.slots)

    @property
    def chain_step(self) -> int:
        """Most products that one step adds to a sum."""
        rows = [row for _, _, rows in self.slots for row in rows]
        return max((rows.count(row) for row in set(rows)), default=1)

    def name(self, target: Target) -> str:
        """Kernel name: type, method, tile, target."""
        step = f"_s{self.in_step}" if self.in_step > 1 else ""
        last = "_cl" * self.channels_last + "_paired" * self.paired
        tile = f"{self.channels}x{self.interleave}x{self.groups}x{self.vectors}"
        return f"{self.dtype}_positions_{tile}{step}{last}_{target.name}"


def build(shape: Shape, target: Target) -> str:
    """IR of the kernel."""
    assert shape.rows * shape.columns + shape.columns < target.registers, shape
    assert all(0 <= row < shape.interleave for _, _, rows in shape.slots for row in rows), shape
    return Positions(shape, target.lanes(shape.dtype)).build()


class Positions(Driver):
    """Builder of the method."""

    row_fields = ROW
    column_fields = COLUMN
    more_context = ("segments", "tile_plane", "tile_group", "y_channel", "y_group")
    more_tables = ("segments",)

    def __init__(self, shape: Shape, lanes: int) -> None:
        super().__init__(
            shape.dtype,
            lanes,
            shape.rows * shape.columns,
            shape.rows,
            shape.step_weights,
            chain_step=shape.chain_step,
            fetch_weights=shape.fetch_weights,
            paired=shape.paired,
        )
        self.shape = shape

    # packing

    def pack(self, task: Record, tile: ir.Value, start: ir.Value, count: ir.Value) -> None:
        """The input of a box, its borders zero."""
        e, c = self.e, self.context
        x = e.at(c["x"], e.add(task["x"], e.mul(start, c["x_channel"])), self.storage)
        step = self.lanes if self.shape.channels_last else 1
        with e.loop(0, count, step) as channels:
            self.begin_cells(e.add(start, channels.index))
            source = e.at(x, e.mul(channels.index, c["x_channel"]), self.storage)
            target = e.at(tile, e.mul(channels.index, c["tile_channel"]), self.kind)
            with e.loop(task["pack_start"], task["pack_stop"]) as rows:
                row = self.e.record(c["pack_rows"], rows.index, PACK_ROW)
                line = self.packed_line(task, source, row)
                out = e.at(target, row["target"], self.kind)
                ahead = e.mul(c["x_channel"], CHANNELS_AHEAD)
                with e.loop(0, c["tile_width"], self.lanes) as blocks:
                    for part in range(self.shape.in_step if not self.shape.channels_last else 0):
                        place = e.add(e.mul(blocks.index, self.shape.in_step), part * self.lanes)
                        e.prefetch(line["line"], e.add(ahead, place), self.storage)
                    if self.shape.channels_last:
                        left = e.builder.sub(count, channels.index)
                        self._pack_transposed(line, out, blocks.index, left)
                    else:
                        self._pack_block(line, out, blocks.index)

    def _pack_block(self, line: Record, out: ir.Value, at: ir.Value) -> None:
        """One vector of each residue of a tile row, freed of the input's stride."""
        e, step = self.e, self.shape.in_step
        for plane, shift in enumerate(self.shape.spread):
            vector = self.cells(line, e.add(at, shift))
            place = e.add(at, e.mul(self.context["tile_plane"], plane) if plane else 0)
            e.store_vector(vector, out, place)
        if self.shape.spread:
            return
        starts = [e.add(e.mul(at, step), part * self.lanes) for part in range(step)]
        vectors = [self.cells(line, start) for start in starts]
        for residue, vector in enumerate(e.deinterleave(vectors)):
            plane = e.add(at, e.mul(self.context["tile_plane"], residue) if residue else 0)
            e.store_vector(vector, out, plane)

    def _pack_transposed(self, line: Record, out: ir.Value, at: ir.Value, left: ir.Value) -> None:
        """A square of channels and positions, for each residue or shift."""
        e, step = self.e, self.shape.in_step
        for plane, shift in enumerate(self.shape.spread or range(step)):
            places = [e.add(e.mul(e.add(at, lane), step), shift) for lane in range(self.lanes)]
            first = e.add(at, e.mul(self.context["tile_plane"], plane) if plane else 0)
            self.pack_square(line, places, left, out, first)

    # arithmetic

    def biases(self, panel: ir.Value) -> list[ir.Value]:
        """A panel begins with the bias of each row."""
        e, shape = self.e, self.shape
        return [
            bias
            for i in range(shape.rows)
            for bias in [e.splat(e.load(panel, i, self.kind))] * shape.columns
        ]

    def next_input(self, b: ir.Value) -> ir.Value:
        """Channels lie one tile channel apart."""
        return self.e.at(b, self.context["tile_channel"], self.kind)

    def step(self, a: ir.Value, b: ir.Value, sums: list[ir.Value]) -> None:
        """One input channel: every tap of the last axis, all rows, all vectors; in place."""
        e, shape = self.e, self.shape
        weight = 0
        for plane, shift, rows in shape.slots:
            inputs = []
            for group in range(shape.groups):
                line = b
                if plane:
                    line = e.at(line, e.mul(self.context["tile_plane"], plane), self.kind)
                if group:
                    line = e.at(line, e.mul(self.context["tile_group"], group), self.kind)
                inputs += [
                    e.load_vector(line, shift + v * self.lanes, self.kind)
                    for v in range(shape.vectors)
                ]
            for r in rows:
                for channel in range(shape.channels):
                    factor = e.splat(e.load(a, weight, self.kind))
                    weight += 1
                    first = (channel * shape.interleave + r) * shape.columns
                    for v, value in enumerate(inputs):
                        sums[first + v] = self.added(factor, value, sums[first + v])

    # storing

    def fetch_output(self, row: Record, column: Record, y: ir.Value) -> None:
        """Every channel's outputs, as if they lay in one row."""
        e, c, shape = self.e, self.context, self.shape
        y = e.at(y, column["y"], self.storage)
        with e.loop(0, row["valid"]) as channels:
            line = e.at(y, e.mul(c["y_channel"], channels.index), self.storage)
            for group in range(shape.groups):
                start = e.at(line, e.mul(c["y_group"], group), self.storage) if group else line
                for part in range(shape.vectors * shape.interleave):
                    e.prefetch(start, part * self.lanes, self.storage, write=True)

    def store(
        self, row: Record, column: Record, sums: list[ir.Value], y: ir.Value, spill: ir.Value
    ) -> None:
        """Weave the phases of the last axis together and write what is valid."""
        e, c, shape = self.e, self.context, self.shape
        run = shape.columns * shape.interleave * self.lanes
        y = e.at(y, column["y"], self.storage)
        whole = e.builder.and_(
            e.builder.icmp_signed("!=", column["whole"], e.const(0)),
            e.builder.icmp_signed("==", row["valid"], e.const(shape.channels)),
        )
        with e.builder.if_else(whole) as (direct, indirect):
            with direct:
                for channel in range(shape.channels):
                    for v in range(shape.columns):
                        group, vector = divmod(v, shape.vectors)
                        line = e.at(
                            y, e.mul(c["y_channel"], channel) if channel else 0, self.storage
                        )
                        if group:
                            line = e.at(line, e.mul(c["y_group"], group), self.storage)
                        for part, value in enumerate(self._woven(sums, channel, v)):
                            at = (vector * shape.interleave + part) * self.lanes
                            e.store_vector(self.stored(value), line, at)
            with indirect:
                for channel in range(shape.channels):
                    for v in range(shape.columns):
                        for part, value in enumerate(self._woven(sums, channel, v)):
                            at = channel * run + (v * shape.interleave + part) * self.lanes
                            e.store_vector(self.stored(value), spill, at)
                self._copy_segments(row, column, y, spill, run)

    def _woven(self, sums: list[ir.Value], channel: int, v: int) -> list[ir.Value]:
        first = channel * self.shape.interleave
        return self.e.interleave(
            [sums[(first + r) * self.shape.columns + v] for r in range(self.shape.interleave)]
        )

    def _copy_segments(
        self,
        row: Record,
        column: Record,
        y: ir.Value,
        spill: ir.Value,
        run: int,
    ) -> None:
        """The valid pieces of a tile that crosses a border or a row end, from the spill."""
        e, c = self.e, self.context
        with e.loop(0, row["valid"]) as channels:
            line = e.at(y, e.mul(channels.index, c["y_channel"]), self.storage)
            source = e.at(spill, e.mul(channels.index, run), self.storage)
            with e.loop(column["segment_start"], column["segment_stop"]) as segments:
                segment = self.e.record(c["segments"], segments.index, SEGMENT)
                start = e.at(source, segment["source"], self.storage)
                out = e.at(line, segment["y"], self.storage)
                self.copy(start, out, segment["count"])
