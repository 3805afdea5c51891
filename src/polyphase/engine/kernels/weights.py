"""Method ``weights``: the gradient of the weights, as register tiles summed over positions.

A task goes through boxes of input positions. It packs the input of a box, then one block of output
channels after the other; each register tile is summed over a list of positions, which pairs a place
in the packed input with one in the packed output. Four kinds differ in what fills a vector:

- ``outputs``: output channels, with input channels broadcast,
- ``inputs``: input channels, with output channels (of one or more taps) broadcast,
- ``taps``: taps of the last axis, neighbours in the output, with input channels broadcast,
- ``groups``: channels of a depthwise problem, multiplied lane by lane.

Sums of a box rest in memory until the last box, or the last chunk of boxes, has been added; then
they are brought into the order of the weights.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

from llvmlite import ir

from polyphase.engine.emit import I8, I32, I64, POINTER, STORAGE, Record
from polyphase.engine.kernels import panels, weights_delivery
from polyphase.engine.kernels.weights_context import (
    BOX,
    DELIVERY,
    TASK,
    Function,
    Shape,
)
from polyphase.engine.target import Target


def build(shape: Shape, target: Target) -> str:
    """IR of the kernel."""
    assert (
        shape.sums + shape.tile_vectors < target.registers
        or shape.tile_vectors == shape.tile_rows == 1
    ), shape
    return Weights(shape, target.lanes(shape.dtype)).build()


class Packed(NamedTuple):
    """A box of a task, and where its panels lie, and the cells that only some methods need."""

    task: Record
    box: Record
    x: ir.Value
    y: ir.Value
    cells: ir.Value

    def panels(self, side: str) -> ir.Value:
        """Where the panels of a side begin."""
        return self.x if side == "x" else self.y


class Ahead:
    """Fetches memory that is needed later, one cache line for each position that is summed.

    Two lists of offsets are gone through in turn. What follows a list in its table is 0, so that
    going on too far does no harm.
    """

    def __init__(self, e: Function, storage: ir.Type) -> None:
        self.e = e
        self.storage = storage
        self.state = [[e.slot(I64) for _ in range(3)] for _ in range(2)]
        for line in self.state:
            for slot in line:
                e.builder.store(e.const(0), slot)

    def begin(self, lists: list[tuple[ir.Value, ir.Value, ir.Value]]) -> None:
        """Take up two lists: what their offsets count from, start and stop."""
        b = self.e.builder
        for slots, (origin, start, stop) in zip(self.state, lists, strict=True):
            values = b.ptrtoint(origin, I64), start, stop
            for slot, value in zip(slots, values, strict=True):
                b.store(value, slot)

    def fetching(self, tile: Record) -> Callable[[ir.Value], None]:
        """Get ready for a register tile; what is returned fetches one line for a position."""
        e, b = self.e, self.e.builder
        first, second = ([b.load(slot, typ=I64) for slot in slots] for slots in self.state)
        done = b.icmp_signed(">=", first[1], first[2])
        origin, start, stop = (b.select(done, s, f) for f, s in zip(first, second, strict=True))
        after = e.least(e.add(start, b.sub(tile["stop"], tile["start"])), e.greatest(start, stop))
        for slot, value in zip(self.state[0], (origin, after, stop), strict=True):
            b.store(value, slot)
        with e.when(done):
            b.store(e.const(0), self.state[1][2])
        line = e.at(e.c["ahead"], b.sub(start, tile["start"]), I32)
        base = b.inttoptr(origin, POINTER)

        def fetch(position: ir.Value) -> None:
            offset = b.sext(e.load(line, position, I32), I64)
            e.prefetch(base, offset, self.storage)

        return fetch


class Weights:
    """Builder of the method."""

    # what a register tile is described by besides its list and its taps
    tile_place: Sequence[str] = ()

    def __init__(self, shape: Shape, lanes: int) -> None:
        self.shape = shape
        self.lanes = lanes
        self.storage = STORAGE[shape.dtype]
        self.kind = ir.DoubleType() if shape.dtype == "f64" else ir.FloatType()
        self.tile_size = shape.sums * lanes
        taps = (f"tap{i}" for i in range(shape.taps))
        self.tile_fields = ["start", "stop", *self.tile_place, *taps]

    def build(self) -> str:
        """IR text of the kernel."""
        self.module = ir.Module("kernel")
        self.functions()
        e = self.e = Function(self.module, "run", [], self.lanes)
        self.ahead = Ahead(e, self.storage)
        computing = e.builder.icmp_signed("==", e.c["phase"], e.const(0))
        with e.builder.if_else(computing) as (compute, deliver):
            with compute:
                self._tasks("task_count", self._task)
            with deliver:
                self._tasks("delivery_count", self._delivery)
        e.finish()
        return str(self.module)

    def functions(self) -> None:
        """The functions that the kernel calls."""
        shape, lanes = self.shape, self.lanes
        self.pitch = {"x": shape.x_pitch(lanes), "y": shape.y_pitch(lanes)}
        self.pack = {}
        for side, pitch in self.pitch.items():
            spaced = side == "y" and shape.spaced
            pixel = shape.y_pixel if spaced else 0
            panel = panels.Panel(shape.dtype, pitch, spaced, shape.last(side), pixel, shape.images)
            self.pack[side] = panels.function(self.module, f"pack_{side}", panel, lanes)
        self.deliver = weights_delivery.function(self.module, shape, lanes)

    def _tasks(self, count: str, body: Callable[[ir.Value, ir.Value], None]) -> None:
        """Take numbers until none is left."""
        e = self.e
        ticket = e.take(e.counter("ticket"))
        scratch = e.at(e.c["scratch"], e.mul(ticket, e.c["scratch_size"]), I8)
        with e.taken(e.counter("next"), e.c[count]) as index:
            body(index, scratch)

    # summing

    def _task(self, index: ir.Value, scratch: ir.Value) -> None:
        e, c = self.e, self.e.c
        task = e.record(c["tasks"], index, TASK)
        x_panels, y_panels = scratch, e.at(scratch, c["x_size"], self.kind)
        cells = e.at(y_panels, c["y_size"], self.kind)
        # blocks of a chunk that is alone count from the first one of the task
        first = e.add(e.mul(task["y_start"], c["rest_y"]), e.mul(task["x_start"], c["rest_x"]))
        rest = e.builder.select(
            e.builder.icmp_signed("!=", c["local"], e.const(0)),
            e.at(scratch, e.builder.sub(c["rest_local"], first), self.kind),
            e.at(c["rests"], task["rest"], self.kind),
        )
        with e.loop(task["box_start"], task["box_stop"]) as boxes:
            box = e.record(c["boxes"], boxes.index, BOX)
            fresh = e.builder.icmp_signed("==", boxes.index, task["box_start"])
            ends = e.builder.icmp_signed("==", e.add(boxes.index, 1), task["box_stop"])
            final = e.builder.and_(ends, e.builder.icmp_signed("==", c["chunks"], e.const(1)))
            packed = Packed(task, box, x_panels, y_panels, cells)
            self.fill("x", packed, task["x_start"], task["x_stop"])
            with e.loop(task["y_start"], task["y_stop"], c["y_group"]) as groups:
                stop = e.least(e.add(groups.index, c["y_group"]), task["y_stop"])
                if self.shape.ahead:
                    self._look_ahead(task, box, boxes.index, stop)
                self.fill("y", packed, groups.index, stop)
                with e.loop(groups.index, stop, carried=[y_panels]) as y_blocks:
                    y = y_blocks.index
                    paired = self.shape.kind == "groups"
                    partners = (y, e.add(y, 1)) if paired else (task["x_start"], task["x_stop"])
                    with e.loop(*partners) as x_blocks:
                        x = x_blocks.index
                        place = e.add(e.mul(y, c["rest_y"]), e.mul(x, c["rest_x"]))
                        block = e.at(rest, place, self.kind)
                        panel = e.mul(e.builder.sub(x, task["x_start"]), c["x_panel"])
                        sides = e.at(x_panels, panel, self.kind), y_blocks.values[0]
                        self._block(box, *sides, block, fresh)
                        with e.when(ends):
                            self.finish(block)
                        with e.when(final):
                            self._call_deliver(task, block, x, y)
                    y_blocks.carry([e.at(y_blocks.values[0], c["y_panel"], self.kind)])

    def _block(
        self, box: Record, x: ir.Value, y: ir.Value, block: ir.Value, fresh: ir.Value
    ) -> None:
        """Every register tile of a block, over one box."""
        e = self.e
        with e.loop(box["tile_start"], box["tile_stop"], carried=[block]) as tiles:
            tile = e.record(e.c["tiles"], tiles.index, self.tile_fields)
            for i in range(self.shape.sums):
                e.prefetch(tiles.values[0], i * self.lanes, self.kind)
            self._rest(self._sums(tile, x, y), tiles.values[0], fresh)
            tiles.carry([e.at(tiles.values[0], self.tile_size, self.kind)])

    def fill(self, side: str, packed: Packed, start: ir.Value, stop: ir.Value) -> None:
        """Some blocks of one side of a box into their panels."""
        c = self.e.c
        spacing = c["x_panel"] if side == "x" else c["y_spacing"]
        if side == "y":
            self.clear(packed.box["y_clear"], packed.y, c["y_size"])
        self.pack_cells(side, packed, packed.panels(side), start, stop, spacing)

    def finish(self, block: ir.Value) -> None:
        """What becomes of a block of sums when its last box has been added."""

    def origin(self, x: ir.Value, tile: Record) -> ir.Value:
        """Where the inputs of a register tile are found in a panel."""
        return x

    def clear(self, wanted: ir.Value, packed: ir.Value, size: ir.Value) -> None:
        """Zero where a box reaches beyond the output, or a group of positions beyond the input."""
        e = self.e
        with e.when(e.builder.icmp_signed("!=", wanted, e.const(0))):
            zero = ir.Constant(ir.VectorType(self.kind, self.lanes), None)
            with e.loop(0, size, self.lanes) as cells:
                e.store_vector(zero, packed, cells.index)

    def pack_cells(
        self,
        side: str,
        packed: Packed,
        target: ir.Value,
        start: ir.Value,
        stop: ir.Value,
        spacing: ir.Value,
    ) -> None:
        """Some blocks of channels of one side of a box, ``spacing`` apart."""
        e, c = self.e, self.e.c
        task, box = packed.task, packed.box
        first = e.mul(start, c[f"{side}_block"])
        everything = c["in_channels" if side == "x" else "out_channels"]
        end = e.least(e.mul(stop, c[f"{side}_block"]), everything)
        origin = self._origin(side, task, box, start)
        e.builder.call(
            self.pack[side],
            [
                origin,
                target,
                e.builder.sub(end, first),
                e.const(self.pitch[side]),
                c["lines"],
                box[f"{side}_line_start"],
                box[f"{side}_line_stop"],
                box[f"{side}_count"],
                e.at(c["places"], box[f"{side}_place"], I64),
                c[f"{side}_channel"],
                c[f"{side}_pixel"],
                c[f"{side}_pair"],
                spacing,
            ],
        )

    def _origin(self, side: str, task: Record, box: Record, block: ir.Value) -> ir.Value:
        """Where a block of channels of one side of a box begins in memory."""
        e, c = self.e, self.e.c
        step = e.const(1) if self.shape.last(side) else c[f"{side}_channel"]
        first = e.mul(e.mul(block, c[f"{side}_block"]), step)
        return e.at(c[side], e.add(e.add(task[side], box[side]), first), self.storage)

    def _look_ahead(self, task: Record, box: Record, number: ir.Value, stop: ir.Value) -> None:
        """Have fetched what is packed next: another group of this box, or another box."""
        e = self.e
        another = e.builder.icmp_signed("<", stop, task["y_stop"])
        last = e.builder.icmp_signed("==", e.add(number, 1), task["box_stop"])
        following = e.builder.select(e.builder.or_(another, last), number, e.add(number, 1))
        then = e.record(e.c["boxes"], following, BOX)
        group = e.builder.select(another, stop, task["y_start"])
        nothing = e.builder.and_(last, e.builder.not_(another))
        self.ahead.begin(
            [
                (
                    self._origin(side, task, then, first),
                    then[f"{side}_ahead_start"],
                    e.builder.select(idle, e.const(0), then[f"{side}_ahead_stop"]),
                )
                for side, first, idle in (
                    ("x", task["x_start"], e.builder.or_(nothing, another)),
                    ("y", group, nothing),
                )
            ]
        )

    def _sums(self, tile: Record, x: ir.Value, y: ir.Value) -> list[ir.Value]:
        """A register tile over its list of positions."""
        e, shape, lanes = self.e, self.shape, self.lanes
        lists = e.c["lists"]
        outputs = [e.at(y, tile[f"tap{i}"], self.kind) for i in range(shape.taps)]
        x = self.origin(x, tile)
        fetch = self.ahead.fetching(tile) if shape.ahead else None
        zero = ir.Constant(ir.VectorType(self.kind, lanes), None)
        added = e.add_pairs if shape.images > 1 else e.fma
        with e.loop(tile["start"], tile["stop"], carried=[zero] * shape.sums) as positions:
            if fetch:
                fetch(positions.index)
            # both offsets in one load: loads are what narrow tiles wait for
            pair = e.load(lists, positions.index, I64)
            at_x = e.builder.and_(pair, e.const(0xFFFFFFFF))
            at_y = e.builder.lshr(pair, e.const(32))
            inputs = [e.at(x, at_x, self.kind)]
            reached = [e.at(output, at_y, self.kind) for output in outputs]
            wide, narrow = (inputs, reached) if shape.kind == "inputs" else (reached, inputs)
            vectors = [
                e.load_vector(line, v * lanes, self.kind)
                for line in wide
                for v in range(shape.vectors)
            ]
            sums = list(positions.values)
            for number, (line, row) in enumerate(product(narrow, range(shape.rows))):
                if shape.kind == "groups":
                    factor = e.load_vector(line, row, self.kind)
                else:
                    factor = e.splat(e.load(line, row, self.kind))
                for v, vector in enumerate(vectors):
                    at = number * len(vectors) + v
                    sums[at] = added(factor, vector, sums[at])
            positions.carry(sums)
        return positions.results

    def _rest(self, sums: list[ir.Value], where: ir.Value, fresh: ir.Value) -> None:
        """Add a tile to what rests of it, in the order of the boxes."""
        e = self.e
        with e.builder.if_else(fresh) as (begin, proceed):
            with begin:
                for i, value in enumerate(sums):
                    e.store_vector(value, where, i * self.lanes)
            with proceed:
                for i, value in enumerate(sums):
                    before = e.load_vector(where, i * self.lanes, self.kind)
                    e.store_vector(e.builder.fadd(before, value), where, i * self.lanes)

    # delivering

    def _call_deliver(
        self, task: Record, block: ir.Value, x_block: ir.Value, y_block: ir.Value
    ) -> None:
        e, c = self.e, self.e.c
        first_x, first_y = e.mul(x_block, c["x_block"]), e.mul(y_block, c["y_block"])
        place = e.add(task["w"], e.mul(first_x, c["w_input"]))
        if self.shape.kind != "groups":
            last = e.builder.icmp_signed("!=", c["w_last"], e.const(0))
            apart = e.builder.select(last, e.const(1), c["taps"])
            place = e.add(place, e.mul(first_y, apart))
        e.builder.call(
            self.deliver,
            [
                e.arguments["context"],
                block,
                e.at(c["w"], place, self.storage),
                e.least(e.builder.sub(c["in_channels"], first_x), c["x_block"]),
                e.least(e.builder.sub(c["out_channels"], first_y), c["y_block"]),
            ],
        )

    def _delivery(self, index: ir.Value, scratch: ir.Value) -> None:
        """One block of weights, from all chunks."""
        e, c = self.e, self.e.c
        line = e.record(c["deliveries"], index, DELIVERY)
        block = e.at(c["rests"], line["rest"], self.kind)
        self._call_deliver(line, block, line["x_block"], line["y_block"])
