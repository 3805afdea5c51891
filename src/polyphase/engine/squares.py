"""Which weights kernel ``transpose`` brings into panels, and where its squares lie.

It takes panels whose entries are neighbouring output channels at one tap, or at a sum of taps, line
by line. Panels of the same channels share their squares, so that each stretch of weights is read
once for all phases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyphase.engine.cover import Table
from polyphase.engine.kernels import transpose
from polyphase.engine.kernels.gather import SUBTRACTED

# squares with fewer rows, or fewer taps side by side, cost more than their entries one by one
LEAST_ROWS = 4
LEAST_COLUMNS = 4

Offsets = NDArray[np.int64]
# some fields of a square
Fields = tuple[int, ...]


class _Shape(NamedTuple):
    """Rows of the squares of some lines, the output channel they begin with, taps of each line.

    ``lines`` are kept so that nothing else takes their identity. ``width`` is the length of a line,
    ``pitch`` that of all lines that lie side by side for an input channel. ``terms`` is the number
    of taps of each line, which lie in ``taps`` one line after the other, its last ``less`` of them
    subtracted; ``summed`` says whether any are added up or serve several lines.
    """

    lines: object
    rows: int
    width: int
    pitch: int
    channel: int
    taps: Offsets
    terms: Offsets
    less: Offsets
    summed: bool


@dataclass
class _Lines:
    """Lines of the same output channels: where those of each panel begin, and their taps."""

    starts: list[int] = field(default_factory=list)
    taps: list[Offsets] = field(default_factory=list)
    terms: list[Offsets] = field(default_factory=list)
    less: list[Offsets] = field(default_factory=list)
    # of each line: its start, what a channel takes before it, and its distance from the start
    _spread: tuple[Offsets, Offsets, Offsets] | None = None

    def places(self, first: int, count: int, width: int, pitch: int) -> Offsets:
        """Where each line is written for ``count`` channels from ``first`` on."""
        if self._spread is None:
            lengths = np.array([len(terms) for terms in self.terms])
            lines, side = np.divmod(np.concatenate([np.arange(n) for n in lengths]), pitch // width)
            starts = np.repeat(np.array(self.starts, np.int64), lengths) + side * width
            self._spread = starts, np.repeat(lengths, lengths) * width, lines * pitch
        starts, before, lines = self._spread
        return starts + before * first + lines * count


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
        self._found: dict[tuple[int, int, int, int, bool], _Lines] = {}

    def take(
        self,
        start: int,
        channel: int,
        first_tap: int,
        lines: Sequence[Offsets] | Offsets,
        side: int = 0,
    ) -> bool:
        """Take over the lines of a panel, which begin at ``start``; false if they are no squares.

        ``channel`` and ``first_tap`` are those from which their offsets count. Each ``side``
        entries of a line are a line of their own.
        """
        if id(lines) not in self._shapes:
            self._shapes[id(lines)] = self._shape(lines, side)
        shape = self._shapes[id(lines)]
        if shape is None:
            return False
        key = (channel + shape.channel, *shape[1:4], shape.summed)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = _Lines()
        found.starts.append(start)
        found.taps.append(shape.taps + first_tap)
        found.terms.append(shape.terms)
        found.less.append(shape.less)
        return True

    def _shape(self, lines: Sequence[Offsets] | Offsets, side: int) -> _Shape | None:
        if len(lines) == 0:
            return None
        pitch = lines[0].shape[-1]
        if isinstance(lines, np.ndarray) or side:
            table = np.asarray(lines).reshape(-1, side or pitch)
            terms = np.ones(len(table), np.int64)
        elif len({line.shape[-1] for line in lines}) == 1:
            tables = [line.reshape(-1, line.shape[-1]) for line in lines]
            table, terms = np.concatenate(tables), np.array([len(part) for part in tables])
        else:
            return None
        if len(terms) < len(table) and self.tap_count > transpose.MOST_SUMMED:
            return None
        subtracted = table >= SUBTRACTED
        less = np.add.reduceat(subtracted[:, 0], np.cumsum(terms) - terms, dtype=np.int64)
        table = np.where(subtracted, table - SUBTRACTED, table)
        rows = int(np.count_nonzero(table[:1] >= 0))
        if rows < LEAST_ROWS or (self.tap_count < LEAST_COLUMNS and not self.joined):
            return None
        first = table[:, :1]
        channels, taps = np.divmod(first[:, 0], self.out_channel)
        regular = (table[:, :rows] == first + np.arange(rows) * self.out_channel).all()
        if not regular or first.min() < 0 or (channels != channels[0]).any():
            return None
        if rows < table.shape[1] and table[:, rows:].max() >= 0:
            return None
        order = np.sort(taps)
        summed = len(terms) < len(taps) or bool((order[1:] == order[:-1]).any())
        if summed and self.tap_count > transpose.MOST_SUMMED:
            return None
        width = table.shape[1]
        return _Shape(lines, rows, width, pitch, int(channels[0]), taps, terms, less, summed)

    def finish(self, blocks: list[tuple[int, int]], groups: list[tuple[int, int]]) -> None:
        """Lay out the tables: input channels come in ``blocks``, the first one and how many.

        ``groups`` are the panel elements and the weights that lie before each group.
        """
        self._places: list[Offsets] = []
        self._lines: list[Table] = []
        self._terms: list[Offsets] = []
        self._lengths = [0, 0, 0]
        known: dict[Any, Fields] = {}
        squares = []
        for (channel, rows, width, pitch, summed), lines in self._found.items():
            taps, terms, less = map(np.concatenate, (lines.taps, lines.terms, lines.less))
            for first, count in blocks:
                there = lines.places(first, count, width, pitch)
                start = int(there[0])
                there -= start
                key = (count, pitch, *(each.tobytes() for each in (taps, terms, less, there)))
                if key not in known and summed:
                    sums = self._sums(taps, terms, less, there)
                    known[key] = 0, self.tap_count, count, pitch, *sums
                elif key not in known:
                    known[key] = *self._columns(taps, there, count, pitch), pitch, 0, 0
                source = first * self.in_channel + channel * self.out_channel
                for lane in range(0, width, self.lanes):
                    here = max(0, min(rows - lane, self.lanes))
                    # where no row is left nothing is read
                    more = lane * self.out_channel if here else 0
                    squares += [
                        (
                            before + start + lane,
                            weights + source + more,
                            here,
                            width - lane,
                            *known[key],
                        )
                        for before, weights in groups
                    ]
        self.table: Table = np.array(squares, np.int64).reshape(-1, len(transpose.SQUARE))
        self.places = _joined(self._places, 1)
        self.lines = _joined(self._lines, len(transpose.LINE))
        self.terms = _joined(self._terms, 1)

    def _columns(self, taps: Offsets, there: Offsets, count: int, pitch: int) -> Fields:
        """Append a place for each column of some squares, -1 where it is not used.

        First place, number of columns, and of input channels that are taken one by one.
        """
        channels = np.arange(count if self.joined else 1)
        table = np.full((len(channels), self.tap_count), -1, np.int64)
        table[:, taps] = there + channels[:, None] * pitch
        # a vector's worth is looked up at a time
        room = np.full(-table.size % self.lanes, -1, np.int64)
        self._places += [table.ravel(), room]
        self._lengths[0] += table.size + room.size
        place = self._lengths[0] - table.size - room.size
        return place, table.size, 1 if self.joined else count

    def _sums(self, taps: Offsets, terms: Offsets, less: Offsets, there: Offsets) -> Fields:
        """Append a line for each sum, and the columns it consists of; the first line and the last.

        Input channels are taken one by one.
        """
        _, lines, length = self._lengths
        stops = length + np.cumsum(terms)
        self._lines.append(np.stack([there, stops - terms, stops - less, stops], 1))
        self._terms.append(taps)
        self._lengths[1:] = lines + len(terms), length + len(taps)
        return lines, lines + len(terms)

    @property
    def elements(self) -> int:
        """Panel elements that the squares write."""
        if not len(self.table):
            return 0
        fields = dict(zip(transpose.SQUARE, self.table.T, strict=True))
        lanes = np.minimum(fields["lanes"], self.lanes)
        lines = fields["line_stop"] - fields["line_start"]
        vectors = np.where(lines > 0, lines, fields["columns"]) * fields["channels"]
        return int((lanes * vectors).sum())

    @property
    def arrays(self) -> list[Table]:
        """All tables."""
        return [self.table, self.places, self.lines, self.terms]

    @cached_property
    def context(self) -> Table:
        """Context of kernel ``transpose``, without the addresses of one call."""
        values = {
            "squares": self.table.ctypes.data,
            "square_count": len(self.table),
            "places": self.places.ctypes.data,
            "lines": self.lines.ctypes.data,
            "terms": self.terms.ctypes.data,
            "row_stride": self.out_channel,
            "channel_stride": self.in_channel,
        }
        return np.array([values.get(name, 0) for name in transpose.CONTEXT], np.int64)


def _joined(tables: list[Table], width: int) -> Table:
    """One table, of at least a line."""
    return np.concatenate([*(table.ravel() for table in tables), np.zeros(width, np.int64)])
