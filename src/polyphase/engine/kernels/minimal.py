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

# where a packed row is no plane that is taken from another one
NOTHING = -1
ROW = "weights y tap_start tap_stop class valid".split()
TAP = "tile outputs".split()
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
        outputs: ir.Value,
        weights: ir.Value,
        source: ir.Value,
        count: ir.Value,
        totals: ir.Value,
        fetch: Callable[[], None],
    ) -> None:
        """Add the products of a tap, over ``count`` input channels, to the totals in fixed order.

        ``outputs`` has a bit for each combination that they serve. Each begins with ``fetch``.
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
                    self.multiply(tap["outputs"], factors, plane, count, here, fetch)
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
    def served(self, outputs: ir.Value, totals: ir.Value, each: int) -> Iterator[ir.Value]:
        """The totals of each combination that ``outputs`` has a bit for, ``each`` apart."""
        e, b = self.e, self.e.builder
        with e.loop(0, self.outputs) as outer:
            bit = b.and_(b.lshr(outputs, outer.index), e.const(1))
            with e.when(b.icmp_signed("!=", bit, e.const(0))):
                yield e.at(totals, e.mul(outer.index, each), self.kind)

    def subtract(self, out: ir.Value, less: ir.Value, count: ir.Value) -> None:
        """Take ``count`` elements of one plane from those of another, in place."""
        e = self.e
        with e.loop(0, count, self.lanes) as cells:
            value = e.load_vector(out, cells.index, self.kind)
            other = e.load_vector(less, cells.index, self.kind)
            e.store_vector(e.builder.fsub(value, other), out, cells.index)
