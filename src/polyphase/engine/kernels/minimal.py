"""What both kernels of minimal filtering share: register tiles whose totals lie in memory.

The totals begin with the biases. Each product is a matrix product over the input channels, held in
registers; where it ends, it is added to the totals of the outputs that it serves. When all products
are done, the totals are stored.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir

from polyphase.engine.emit import I64, Record
from polyphase.engine.kernels.driver import CLASS, Frame

# where a packed row is no plane that is combined with another one
NOTHING = -1
ROW = "weights y tap_start tap_stop class valid".split()
# ``outputs`` has a bit for each combination of outputs that a product serves, ``less`` has one for
# those that it is taken from
TAP = "tile outputs less".split()
# weights are read in one long line; they are fetched so many elements before
WEIGHTS_AHEAD = 512


class Minimal(Frame):
    """Rows and columns of register tiles, and how totals are found."""

    def __init__(
        self,
        dtype: str,
        lanes: int,
        outputs: int,
        panel_head: int,
        step_weights: int,
        *,
        lines: int,
        steps: int,
    ) -> None:
        """``panel_head`` biases a panel, ``step_weights`` for a channel and combined product.

        ``outputs`` combinations of positions of the tabled axes are in a cell. The outputs of a
        register tile are ``lines`` in memory; for each line of the table of taps, and each piece
        of a long sum, it takes ``steps`` products.
        """
        super().__init__(dtype, lanes)
        self.outputs = outputs
        self.lines = lines
        self.steps = steps
        # lines of outputs that were fetched
        self.fetched = self.e.slot(I64)
        self.panel_head = panel_head
        self.step_weights = step_weights

    @abstractmethod
    def column(self, index: ir.Value) -> tuple[ir.Value, Any]:
        """Where the inputs of a column begin in the tile, and what tells where its outputs go."""

    @abstractmethod
    def open(self, panel: ir.Value, totals: ir.Value) -> None:
        """The totals before the first product: the bias of each channel."""

    @abstractmethod
    def multiply(
        self,
        tap: Record,
        weights: ir.Value,
        source: ir.Value,
        count: ir.Value,
        totals: ir.Value,
        fetch: Callable[[], None],
    ) -> None:
        """Add the products of a tap, over ``count`` input channels, to the totals in fixed order.

        Each begins with ``fetch``.
        """

    @abstractmethod
    def fetch_line(self, places: Any, y: ir.Value, line: ir.Value) -> None:
        """Bring a line of the output that the totals will be stored in into cache."""

    @abstractmethod
    def store(self, row: Record, places: Any, totals: ir.Value, y: ir.Value) -> None:
        """Write the totals that are outputs."""

    def block(
        self, task: Record, tile: ir.Value, first: ir.Value, count: ir.Value, last: ir.Value
    ) -> None:
        """Every register tile of a task: one product after another."""
        e, b, c = self.e, self.e.builder, self.context
        fresh = b.icmp_signed("==", first, e.const(0))
        y = e.at(c["y"], task["y"], self.storage)
        panels = e.at(c["weights"], task["weights"], self.kind)
        totals = e.at(tile, c["tile_size"], self.kind)
        with e.loop(task["row_start"], task["row_stop"], carried=[totals]) as rows:
            row = e.record(c["rows"], rows.index, ROW)
            span = e.record(c["classes"], e.add(task["class_base"], row["class"]), CLASS)
            panel = e.at(panels, row["weights"], self.kind)
            taps = b.sub(row["tap_stop"], row["tap_start"])
            skipped = e.mul(e.mul(first, taps), self.step_weights)
            weights = e.at(panel, e.add(skipped, self.panel_head), self.kind)
            y_row = e.at(y, row["y"], self.storage)
            with e.loop(span["start"], span["stop"], carried=rows.values) as columns:
                begin, places = self.column(columns.index)
                here = columns.values[0]
                with e.when(fresh):
                    self.open(panel, here)
                # where nothing is stored, nothing is left to be fetched
                b.store(b.select(last, e.const(0), e.const(self.lines)), self.fetched)
                fetch = partial(self._fetch_output, places, y_row, taps)
                source = e.at(tile, begin, self.kind)
                with e.loop(row["tap_start"], row["tap_stop"], carried=[weights]) as each:
                    tap, factors = e.record(c["taps"], each.index, TAP), each.values[0]
                    plane = e.at(source, tap["tile"], self.kind)
                    self.multiply(tap, factors, plane, count, here, fetch)
                    each.carry([e.at(factors, e.mul(count, self.step_weights), self.kind)])
                with e.when(last):
                    self.store(row, places, here, y_row)
                columns.carry([e.at(here, c["rest_step"], self.kind)])
            rows.carry(columns.results)

    def _fetch_output(self, places: Any, y: ir.Value, taps: ir.Value) -> None:
        """Fetch some lines of the output: all at once, they would hold up what is read."""
        e, b = self.e, self.e.builder
        start = b.load(self.fetched, typ=I64)
        some = e.add(b.udiv(e.const(self.lines), e.mul(taps, self.steps)), 1)
        stop = e.add(start, some)
        stop = b.select(b.icmp_signed("<", stop, e.const(self.lines)), stop, e.const(self.lines))
        with e.loop(start, stop) as lines:
            self.fetch_line(places, y, lines.index)
        b.store(stop, self.fetched)

    @contextmanager
    def served(
        self, tap: Record, totals: ir.Value, each: int
    ) -> Iterator[tuple[ir.Value, ir.Value]]:
        """The totals of each combination that a tap serves, ``each`` apart, and its sign there."""
        e, b = self.e, self.e.builder
        with e.loop(0, self.outputs) as outer:
            used, less = (
                b.icmp_signed("!=", b.and_(b.lshr(tap[name], outer.index), e.const(1)), e.const(0))
                for name in ("outputs", "less")
            )
            with e.when(used):
                one = ir.Constant(self.kind, 1.0)
                sign = b.select(less, ir.Constant(self.kind, -1.0), one)
                yield e.at(totals, e.mul(outer.index, each), self.kind), sign

    def combine(self, tile: ir.Value, row: Record) -> None:
        """Take from a plane another one; or make of both half their sum and half their difference.

        That is the other one less the first.
        """
        e, b = self.e, self.e.builder
        out, other = e.at(tile, row["target"], self.kind), e.at(tile, row["other"], self.kind)
        half = e.splat(ir.Constant(self.kind, 0.5))
        with b.if_else(b.icmp_signed("!=", row["both"], e.const(0))) as (both, one):
            for block, halved in ((both, True), (one, False)):
                with block, e.loop(0, row["source"], self.lanes) as cells:
                    x = e.load_vector(out, cells.index, self.kind)
                    y = e.load_vector(other, cells.index, self.kind)
                    if halved:
                        # halves first: their sum is finite where the inputs are
                        x, y = b.fmul(x, half), b.fmul(y, half)
                        e.store_vector(b.fadd(x, y), out, cells.index)
                        e.store_vector(b.fsub(y, x), other, cells.index)
                    else:
                        e.store_vector(b.fsub(x, y), out, cells.index)
