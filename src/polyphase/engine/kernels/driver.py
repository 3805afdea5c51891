"""The driver that every kernel shares: tasks, blocks of input channels, rows and columns of tiles.

A kernel is one function ``run(context)`` that any number of threads call with the same context;
each takes tasks from a common counter until none is left. What a task computes depends on the task
alone, so results do not depend on the number of threads.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from llvmlite import ir

from polyphase.arithmetic.problem import ITEM_SIZES
from polyphase.engine.emit import I8, I64, POINTER, STORAGE, Emitter, Record
from polyphase.engine.kernels.cells import Cells
from polyphase.engine.kernels.input_ahead import InputAhead

# slots of the context, an array of 64-bit integers; the tables are arrays of such integers too
CONTEXT = (
    "x y weights biases scratch next ticket tasks task_count scratch_size pack_rows classes "
    "columns rows taps channels depth x_channel x_count x_width tile_channel tile_width tile_size"
).split()
TABLES = (
    "x",
    "y",
    "weights",
    "biases",
    "scratch",
    "tasks",
    "pack_rows",
    "classes",
    "columns",
    "rows",
    "taps",
)
# ``ahead`` is where the input of a later box begins, ``ahead_lines`` what is fetched of it per tap
TASK = (
    "x y weights box pack_start pack_stop low high class_base ahead ahead_lines row_start row_stop"
).split()
PACK_ROW = "source target".split()
CLASS = "start stop".split()
# products that are added one after another before the sum is set aside
LONGEST_CHAIN = 256
# channels after which the length of the chain is looked at
PIECE = 128


class Frame(Cells, ABC):
    """Tasks and their packed input; subclasses pack it and compute what a task asks for."""

    # what else the context holds
    more_context: Sequence[str]
    more_tables: Sequence[str]

    def __init__(self, dtype: str, lanes: int, paired: bool = False) -> None:
        """Where ``paired``, two channels of 16 bits share a cell of the tile."""
        self.lanes = lanes
        self.paired = paired
        self.module = ir.Module("kernel")
        self.e = Emitter(self.module, "run", ["context*"], lanes)
        self.storage = STORAGE[dtype]
        self.kind = ir.DoubleType() if dtype == "f64" else ir.FloatType()
        self.slots = [*CONTEXT, *self.more_context]
        self.context = {
            name: self.e.load(self.e.arguments["context"], slot, I64)
            for slot, name in enumerate(self.slots)
            if name not in ("next", "ticket")
        }
        for name in (*TABLES, *self.more_tables):
            self.context[name] = self.e.builder.inttoptr(self.context[name], POINTER)

    @abstractmethod
    def pack(self, task: Record, tile: ir.Value, start: ir.Value, count: ir.Value) -> None:
        """Bring ``count`` channels of the input of a box, from ``start``, into the tile."""

    @abstractmethod
    def block(
        self, task: Record, tile: ir.Value, first: ir.Value, count: ir.Value, last: ir.Value
    ) -> None:
        """Every register tile of a task, over one block of input channels.

        Between blocks the sums rest in scratch, in the order in which the tiles come.
        """

    def build(self) -> str:
        """IR text of the kernel."""
        e, c = self.e, self.context
        tile = e.at(c["scratch"], e.mul(e.take(self._counter("ticket")), c["scratch_size"]), I8)
        packed = e.slot(I64)
        e.builder.store(e.const(-1), packed)
        with e.taken(self._counter("next"), c["task_count"]) as index:
            task = e.record(c["tasks"], index, TASK)
            with e.loop(0, c["channels"], c["depth"]) as blocks:
                left = e.builder.sub(c["channels"], blocks.index)
                last = e.builder.icmp_signed("<=", left, c["depth"])
                count = e.builder.select(last, left, c["depth"])
                # a box that one block holds stays packed for the next task
                key = e.add(e.mul(task["box"], c["channels"]), blocks.index)
                with e.when(e.builder.icmp_signed("!=", key, e.builder.load(packed, typ=I64))):
                    self.pack(task, tile, blocks.index, count)
                    e.builder.store(key, packed)
                self.block(task, tile, blocks.index, count, last)
        e.finish()
        return str(self.module)

    def _counter(self, name: str) -> ir.Value:
        """Where a counter lies that all threads share."""
        return self.e.at(self.e.arguments["context"], self.slots.index(name), I64)

    def copy(self, source: ir.Value, target: ir.Value, count: ir.Value) -> None:
        """``count`` stored elements from one place to another."""
        e = self.e
        whole = e.builder.and_(count, e.const(-self.lanes))
        with e.loop(0, whole, self.lanes) as blocks:
            vector = e.load_vector(source, blocks.index, self.storage)
            e.store_vector(vector, target, blocks.index)
        rest = e.builder.sub(count, whole)
        with e.when(e.builder.icmp_signed(">", rest, e.const(0))):
            mask = e.lanes_within(0, rest)
            last = e.load_vector(source, whole, self.storage, mask)
            e.store_vector(last, target, whole, mask)


class Driver(Frame):
    """Rows and columns of register tiles that go through outer taps and input channels."""

    # fields of a row and of a column
    row_fields: Sequence[str]
    column_fields: Sequence[str]

    def __init__(
        self,
        dtype: str,
        lanes: int,
        sums: int,
        panel_head: int,
        weights: int,
        *,
        chain_step: int,
        fetch_weights: bool,
        fetch_input: bool = False,
        paired: bool = False,
    ) -> None:
        """``sums`` vectors a tile, ``panel_head`` biases a panel, ``weights`` a channel and tap.

        ``chain_step`` cells are multiplied and added to a sum in one step.
        """
        super().__init__(dtype, lanes, paired)
        self.fetch_weights = fetch_weights
        size = ITEM_SIZES[dtype]
        self.ahead = InputAhead(self.e, self.storage, size) if fetch_input else None
        self.chain_step = chain_step * (1 + paired)
        self.sums = sums
        self.panel_head = panel_head
        self.step_weights = weights
        self.aside = self.e.slot(ir.VectorType(self.kind, lanes), sums)

    @abstractmethod
    def biases(self, panel: ir.Value) -> list[ir.Value]:
        """The sums before the first product."""

    def open_tap(self, index: ir.Value) -> None:
        """Whatever the steps of an outer tap need, given its line in the tap table."""

    @abstractmethod
    def step(self, a: ir.Value, b: ir.Value, sums: list[ir.Value]) -> None:
        """Add one input channel of one outer tap to the sums, in place."""

    def added(self, a: ir.Value, b: ir.Value, total: ir.Value) -> ir.Value:
        """``total`` and the product of two cells, or of both channels of a pair."""
        return self.e.add_pairs(a, b, total) if self.paired else self.e.fma(a, b, total)

    def stored(self, value: ir.Value) -> ir.Value:
        """A vector of sums as elements of the output."""
        return self.e.narrow_pairs(value) if self.paired else self.e.narrow(value, self.storage)

    @abstractmethod
    def next_input(self, b: ir.Value) -> ir.Value:
        """Where the next input channel lies in the tile."""

    @abstractmethod
    def fetch_output(self, row: Record, column: Record, y: ir.Value) -> None:
        """Bring the lines of the output that a register tile will be stored in into cache."""

    @abstractmethod
    def store(
        self, row: Record, column: Record, sums: list[ir.Value], y: ir.Value, spill: ir.Value
    ) -> None:
        """Bring a finished register tile into the output; ``spill`` has room for the tile."""

    def block(
        self, task: Record, tile: ir.Value, first: ir.Value, count: ir.Value, last: ir.Value
    ) -> None:
        """Every register tile of a task: its sums stay in registers through a whole block."""
        e, c = self.e, self.context
        spill = e.at(tile, c["tile_size"], self.kind)
        size = self.sums * self.lanes
        fresh = e.builder.icmp_signed("==", first, e.const(0))
        y = e.at(c["y"], task["y"], self.storage)
        if self.ahead:
            self.ahead.begin(task)
        panels = e.at(c["weights"], task["weights"], self.kind)
        resting = e.at(spill, size, self.kind)
        with e.loop(task["row_start"], task["row_stop"], carried=[resting]) as rows:
            row = e.record(c["rows"], rows.index, self.row_fields)
            span = e.record(c["classes"], e.add(task["class_base"], row["class"]), CLASS)
            panel = e.at(panels, row["weights"], self.kind)
            taps = e.builder.sub(row["tap_stop"], row["tap_start"])
            skipped = e.mul(e.mul(first, taps), self.step_weights)
            weights = e.at(panel, e.add(skipped, self.panel_head), self.kind)
            products = e.mul(e.mul(c["channels"], taps), self.step_weights)
            following = e.add(products, self.panel_head)
            y_row = e.at(y, row["y"], self.storage)
            with e.loop(span["start"], span["stop"], carried=rows.values) as columns:
                column = e.record(c["columns"], columns.index, self.column_fields)
                here = columns.values[0]
                sums = e.either(fresh, lambda: self.biases(panel), lambda: self._rested(here))
                # once is enough: later columns fetch what they read anyway
                once = e.builder.icmp_signed("==", columns.index, span["start"])
                ahead = e.builder.select(once, following, e.const(0))
                with e.when(last):
                    self.fetch_output(row, column, y_row)
                sums = self._multiply(row, column, weights, ahead, tile, count, sums)
                with e.builder.if_else(last) as (done, more):
                    with done:
                        self.store(row, column, sums, y_row, spill)
                    with more:
                        for i, value in enumerate(sums):
                            e.store_vector(value, here, i * self.lanes)
                columns.carry([e.at(here, size, self.kind)])
            rows.carry(columns.results)

    def _multiply(
        self,
        row: Record,
        column: Record,
        weights: ir.Value,
        ahead: ir.Value,
        tile: ir.Value,
        count: ir.Value,
        sums: list[ir.Value],
    ) -> list[ir.Value]:
        """Add all taps and channels of a block to a register tile, in a fixed order.

        Meanwhile, where asked for, the weights of the next row tile, ``ahead`` elements on, come
        into cache.
        """
        e, c, b = self.e, self.context, self.e.builder
        base = e.at(tile, column["tile"], self.kind)
        zero = e.const(0)
        # chain: products since the sums were last set aside; aside: whether they ever were
        with e.loop(
            row["tap_start"], row["tap_stop"], carried=[weights, zero, zero, *sums]
        ) as taps:
            source = e.at(base, e.load(c["taps"], taps.index, I64), self.kind)
            self.open_tap(taps.index)
            if self.ahead:
                self.ahead.fetch(c["x"])
            with e.loop(0, count, PIECE, carried=[source, *taps.values]) as pieces:
                left = b.sub(count, pieces.index)
                length = b.select(b.icmp_signed("<", left, e.const(PIECE)), left, e.const(PIECE))
                where, factors, chain, aside, *current = pieces.values
                with e.loop(0, length, carried=[where, factors, *current]) as channels:
                    x, w, *running = channels.values
                    for line in range(
                        0, self.step_weights if self.fetch_weights else 0, self.lanes
                    ):
                        e.prefetch(w, e.add(ahead, line), self.kind)
                    self.step(w, x, running)
                    next_weights = e.at(w, self.step_weights, self.kind)
                    channels.carry([self.next_input(x), next_weights, *running])
                where, factors, *current = channels.results
                chain = e.add(chain, length)
                pieces.carry([where, factors, *self._set_aside(chain, aside, current)])
            taps.carry(pieces.results[1:])
        _, _, aside, *sums = taps.results
        return e.either(
            b.icmp_signed("!=", aside, zero),
            lambda: [b.fadd(value, kept) for value, kept in zip(sums, self._kept(), strict=True)],
            lambda: sums,
        )

    def _set_aside(self, chain: ir.Value, aside: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """Chain, whether sums lie aside, and the sums: set aside and begun anew where long.

        A long chain of additions loses digits; the sum of some shorter ones loses few.
        """
        e, b = self.e, self.e.builder
        zero = ir.Constant(sums[0].type, None)

        def move() -> list[ir.Value]:
            def add() -> list[ir.Value]:
                return [b.fadd(v, kept) for v, kept in zip(sums, self._kept(), strict=True)]

            first = b.icmp_signed("==", aside, e.const(0))
            for i, value in enumerate(e.either(first, lambda: sums, add)):
                e.store_vector(value, self.aside, i * self.lanes)
            return [e.const(0), e.const(1), *[zero] * self.sums]

        limit = b.icmp_signed(">=", chain, e.const(max(1, LONGEST_CHAIN // self.chain_step)))
        return e.either(limit, move, lambda: [chain, aside, *sums])

    def _kept(self) -> list[ir.Value]:
        return [self.e.load_vector(self.aside, i * self.lanes, self.kind) for i in range(self.sums)]

    def _rested(self, where: ir.Value) -> list[ir.Value]:
        return [self.e.load_vector(where, i * self.lanes, self.kind) for i in range(self.sums)]
