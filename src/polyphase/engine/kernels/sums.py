"""Kernel ``sums``: the sum of every channel over images and positions, for the bias' gradient.

First each task sums a stretch of positions in the accumulator type; then, with ``phase`` 1, the
partial sums of each channel are added in their order, in float64.
"""

from dataclasses import dataclass

from llvmlite import ir

from polyphase.engine.emit import I64, POINTER, STORAGE, Emitter, Record
from polyphase.engine.target import Target

CONTEXT = "y b parts phase next tasks task_count part_count channels".split()
# of pixels, ``lines`` is how many elements each has that are summed, and ``step`` their distance
TASK = "y part lines step count".split()
# vectors in flight: enough to hide the latency of an addition
VECTORS = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """What the machine code depends on.

    ``adjacent`` is the number of vectors of channels that a pixel offers at a time, a power of two;
    0 where channels come first.
    """

    dtype: str
    adjacent: int


def build(shape: Shape, target: Target) -> str:
    """IR of the kernel."""
    return _Sums(shape, target.lanes(shape.dtype)).build()


class _Sums:
    def __init__(self, shape: Shape, lanes: int) -> None:
        self.shape = shape
        self.lanes = lanes
        self.storage = STORAGE[shape.dtype]
        self.kind = ir.DoubleType() if shape.dtype == "f64" else ir.FloatType()
        self.zero = ir.Constant(ir.VectorType(self.kind, lanes), None)
        self.e = e = Emitter(ir.Module("sums"), "run", ["context*"], lanes)
        self.c = {name: e.load(e.arguments["context"], i, I64) for i, name in enumerate(CONTEXT)}
        for name in ("y", "b", "parts", "tasks"):
            self.c[name] = e.builder.inttoptr(self.c[name], POINTER)

    def build(self) -> str:
        """IR text of the kernel."""
        e, c = self.e, self.c
        summing = e.builder.icmp_signed("==", c["phase"], e.const(0))
        with e.builder.if_else(summing) as (first, second):
            with first:
                self._tasks()
            with second:
                self._totals()
        e.finish()
        return str(e.module)

    def _tasks(self) -> None:
        """Take tasks until none is left."""
        e, c = self.e, self.c
        counter = e.at(e.arguments["context"], CONTEXT.index("next"), I64)
        with e.taken(counter, c["task_count"]) as index:
            task = e.record(c["tasks"], index, TASK)
            y = e.at(c["y"], task["y"], self.storage)
            part = e.at(c["parts"], task["part"], self.kind)
            if self.shape.adjacent:
                self._pixels(y, part, task)
            else:
                self._lines(y, part, task)

    def _loaded(self, line: ir.Value, at: ir.Value | int, mask: ir.Value | None = None) -> ir.Value:
        return self.e.widen(self.e.load_vector(line, at, self.storage, mask), self.kind)

    def _lines(self, y: ir.Value, part: ir.Value, task: Record) -> None:
        """One channel: ``lines`` stretches of ``count`` elements, ``step`` apart."""
        e = self.e
        stride = VECTORS * self.lanes
        whole = e.builder.and_(task["count"], e.const(-stride))
        with e.loop(0, task["lines"], carried=[self.zero] * VECTORS) as lines:
            line = e.at(y, e.mul(lines.index, task["step"]), self.storage)
            with e.loop(0, whole, stride, carried=lines.values) as blocks:
                start = e.at(line, blocks.index, self.storage)
                blocks.carry(
                    [
                        e.builder.fadd(value, self._loaded(start, i * self.lanes))
                        for i, value in enumerate(blocks.values)
                    ]
                )
            with e.loop(whole, task["count"], self.lanes, carried=blocks.results) as rest:
                mask = e.lanes_within(rest.index, task["count"])
                added = e.builder.fadd(rest.values[0], self._loaded(line, rest.index, mask))
                # the youngest takes the place of the oldest
                rest.carry([*rest.values[1:], added])
            lines.carry(rest.results)
        total = self._pairwise(lines.results)
        lanes = [e.builder.extract_element(total, ir.Constant(ir.IntType(32), i))
                 for i in range(self.lanes)]  # fmt: skip
        e.store(self._pairwise(lanes), part)

    def _pixels(self, y: ir.Value, part: ir.Value, task: Record) -> None:
        """All channels of some pixels."""
        e, channels = self.e, task["lines"]
        adjacent = self.shape.adjacent
        stride = adjacent * self.lanes
        whole = e.builder.and_(channels, e.const(-stride))
        with e.loop(0, whole, stride) as blocks:
            self._columns(y, part, task, blocks.index, adjacent, None)
        with e.loop(whole, channels, self.lanes) as blocks:
            mask = e.lanes_within(blocks.index, channels)
            self._columns(y, part, task, blocks.index, 1, mask)

    def _columns(
        self,
        y: ir.Value,
        part: ir.Value,
        task: Record,
        first: ir.Value,
        vectors: int,
        mask: ir.Value | None,
    ) -> None:
        """Some adjacent channels, several pixels at a time."""
        e, pixel, count = self.e, task["step"], task["count"]
        together = VECTORS // vectors
        whole = e.builder.and_(count, e.const(-together))

        def added(values: list[ir.Value], index: ir.Value, pixels: int) -> list[ir.Value]:
            sums = []
            for i in range(pixels):
                line = e.at(y, e.add(e.mul(e.add(index, i), pixel), first), self.storage)
                sums += [
                    e.builder.fadd(values[i * vectors + v],
                                   self._loaded(line, v * self.lanes, mask))
                    for v in range(vectors)
                ]  # fmt: skip
            return sums + values[len(sums) :]

        with e.loop(0, whole, together, carried=[self.zero] * VECTORS) as pixels:
            pixels.carry(added(pixels.values, pixels.index, together))
        with e.loop(whole, count, carried=pixels.results) as rest:
            rest.carry(added(rest.values, rest.index, 1))
        for v in range(vectors):
            total = self._pairwise(rest.results[v::vectors])
            e.store_vector(total, part, e.add(first, v * self.lanes), mask)

    def _pairwise(self, values: list[ir.Value]) -> ir.Value:
        """The sum of all, as a tree."""
        while len(values) > 1:
            values = [
                self.e.builder.fadd(a, b) for a, b in zip(values[::2], values[1::2], strict=True)
            ]
        return values[0]

    def _totals(self) -> None:
        """Every channel's parts in their order, ``channels`` elements apart."""
        e, c = self.e, self.c
        wide = ir.VectorType(ir.DoubleType(), self.lanes)
        with e.loop(0, c["channels"], self.lanes) as blocks:
            mask = e.lanes_within(blocks.index, c["channels"])
            with e.loop(0, c["part_count"], carried=[ir.Constant(wide, None)]) as parts:
                at = e.add(e.mul(parts.index, c["channels"]), blocks.index)
                vector = e.load_vector(c["parts"], at, self.kind, mask)
                if self.kind != ir.DoubleType():
                    vector = e.builder.fpext(vector, wide)
                parts.carry([e.builder.fadd(parts.values[0], vector)])
            total = parts.results[0]
            if self.kind != ir.DoubleType():
                total = e.builder.fptrunc(total, self.zero.type)
            e.store_vector(e.narrow(total, self.storage), c["b"], blocks.index, mask)
