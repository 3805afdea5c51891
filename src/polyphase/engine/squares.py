"""Which weights kernel ``transpose`` brings into panels, and where its squares lie.

It takes panels whose entries are neighbouring output channels at one tap, line by line. Panels of
the same channels share their squares, so that each stretch of weights is read once for all phases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyphase.engine.cover import Table
from polyphase.engine.kernels import transpose

# squares with fewer rows, or fewer taps side by side, cost more than their entries one by one
LEAST_ROWS = 4
LEAST_COLUMNS = 4

Offsets = NDArray[np.int64]


class _Shape(NamedTuple):
    """Rows of the squares of some lines, the output channel they begin with, a tap for each line.

    ``lines`` are kept so that nothing else takes their identity.
    """

    lines: object
    rows: int
    channel: int
    taps: Offsets


@dataclass
class _Lines:
    """Lines of the same output channels: where those of each panel begin, and their taps."""

    starts: list[int] = field(default_factory=list)
    taps: list[Offsets] = field(default_factory=list)

    def places(self, first: int, count: int, width: int) -> tuple[Offsets, Offsets]:
        """All taps, and where each is written for ``count`` channels from ``first`` on."""
        lengths = np.array([len(taps) for taps in self.taps])
        lines = np.concatenate([np.arange(n) for n in lengths])
        before = np.repeat(np.array(self.starts) + lengths * first * width, lengths)
        return np.concatenate(self.taps), before + lines * count * width


class Squares:
    """The squares of all panels of a recipe."""

    def __init__(self, in_channel: int, out_channel: int, tap_count: int, lanes: int) -> None:
        """Elements between the weights of neighbouring channels, the number of taps, of lanes."""
        self.in_channel = in_channel
        self.out_channel = out_channel
        self.tap_count = tap_count
        self.lanes = lanes
        # whether all taps of all input channels lie side by side, or those of one alone
        self.joined = in_channel == tap_count
        self._shapes: dict[int, _Shape | None] = {}
        self._found: dict[tuple[int, int, int], _Lines] = {}

    def take(self, start: int, channel: int, lines: Sequence[Offsets] | Offsets) -> bool:
        """Take over the lines of a panel, which begin at ``start``; false if they are no squares.

        ``channel`` is the output channel from which their offsets count.
        """
        if id(lines) not in self._shapes:
            self._shapes[id(lines)] = self._shape(lines)
        shape = self._shapes[id(lines)]
        if shape is None:
            return False
        key = (channel + shape.channel, shape.rows, len(lines[0]))
        found = self._found.setdefault(key, _Lines())
        found.starts.append(start)
        found.taps.append(shape.taps)
        return True

    def _shape(self, lines: Sequence[Offsets] | Offsets) -> _Shape | None:
        if not isinstance(lines, np.ndarray) or lines.ndim != 2 or not lines.size:
            return None
        rows = int((lines[0] >= 0).sum())
        if rows < LEAST_ROWS or (self.tap_count < LEAST_COLUMNS and not self.joined):
            return None
        channels, taps = np.divmod(lines[:, 0], self.out_channel)
        expected = lines[:, :1] + np.arange(rows) * self.out_channel
        same = (channels == channels[0]).all() and (lines[:, :rows] == expected).all()
        if not same or (lines[:, 0] < 0).any() or (lines[:, rows:] >= 0).any():
            return None
        return _Shape(lines, rows, int(channels[0]), taps)

    def finish(self, blocks: list[tuple[int, int]], groups: list[tuple[int, int]]) -> None:
        """Lay out the tables: input channels come in ``blocks``, the first one and how many.

        ``groups`` are the panel elements and the weights that lie before each group.
        """
        self._places: list[Offsets] = []
        self._length = 0
        known: dict[Any, int] = {}
        squares = []
        for (channel, rows, width), lines in self._found.items():
            for first, count in blocks:
                taps, there = lines.places(first, count, width)
                start = int(there[0])
                there -= start
                key = (count, width, taps.tobytes(), there.tobytes())
                if key not in known:
                    known[key] = self._place(taps, there, count, width)
                columns, channels = self.tap_count, count
                if self.joined:
                    columns, channels = columns * count, 1
                source = first * self.in_channel + channel * self.out_channel
                for lane in range(0, width, self.lanes):
                    here = max(0, min(rows - lane, self.lanes))
                    # where no row is left nothing is read
                    more = lane * self.out_channel if here else 0
                    shape = (here, width - lane, known[key], columns, channels, width)
                    squares += [
                        (before + start + lane, weights + source + more, *shape)
                        for before, weights in groups
                    ]
        self.table: Table = np.array(squares, np.int64).reshape(-1, len(transpose.SQUARE))
        self.places: Table = np.concatenate([*self._places, np.zeros(1, np.int64)])

    def _place(self, taps: Offsets, there: Offsets, count: int, width: int) -> int:
        """Append a place for each column of some squares, -1 where it is not used."""
        channels = np.arange(count if self.joined else 1)
        table = np.full((len(channels), self.tap_count), -1, np.int64)
        table[:, taps] = there + channels[:, None] * width
        # a vector's worth is looked up at a time
        room = np.full(-table.size % self.lanes, -1, np.int64)
        self._places += [table.ravel(), room]
        self._length += table.size + room.size
        return self._length - table.size - room.size

    @property
    def elements(self) -> int:
        """Panel elements that the squares write."""
        if not len(self.table):
            return 0
        fields = dict(zip(transpose.SQUARE, self.table.T, strict=True))
        lanes = np.minimum(fields["lanes"], self.lanes)
        return int((lanes * fields["columns"] * fields["channels"]).sum())

    @cached_property
    def context(self) -> Table:
        """Context of kernel ``transpose``, without the addresses of one call."""
        values = {
            "squares": self.table.ctypes.data,
            "square_count": len(self.table),
            "places": self.places.ctypes.data,
            "row_stride": self.out_channel,
            "channel_stride": self.in_channel,
        }
        return np.array([values.get(name, 0) for name in transpose.CONTEXT], np.int64)
