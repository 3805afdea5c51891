"""Input that is fetched while the box before it is computed, a few lines with every outer tap.

Large inputs come from memory, and packing waits for them; arithmetic in between does not.
"""

from llvmlite import ir

from polyphase.engine.emit import I64, Emitter, Record

LINE_BYTES = 64


class InputAhead:
    """Lines of the input, gone through one after another."""

    def __init__(self, e: Emitter, storage: ir.Type, item_size: int) -> None:
        self.e = e
        self.storage = storage
        self.line = LINE_BYTES // item_size
        self.place = e.slot(I64)

    def begin(self, task: Record) -> None:
        """Take up what follows a task."""
        self.lines = task["ahead_lines"]
        self.e.builder.store(task["ahead"], self.place)

    def fetch(self, x: ir.Value) -> None:
        """The next few lines of the input ``x``."""
        e, b = self.e, self.e.builder
        place = b.load(self.place, typ=I64)
        with e.loop(0, self.lines, carried=[place]) as lines:
            (place,) = lines.values
            e.prefetch(x, place, self.storage)
            lines.carry([e.add(place, self.line)])
        b.store(lines.results[0], self.place)
