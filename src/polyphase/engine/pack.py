"""Weights in the order in which a kernel reads them: one panel per row tile.

A panel holds the biases of its row tile, then its weights by block of input channels, outer tap,
channel, entry. The recipe is a list of runs that kernel ``gather`` follows, and one of squares for
kernel ``transpose``. Where two channels share a cell, these make panels of twice the length, with
every channel by itself, of which kernel ``pairs`` makes the panels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyphase.engine.cover import Table
from polyphase.engine.kernels import gather
from polyphase.engine.kernels import pairs as pairs_kernel
from polyphase.engine.squares import Squares
from polyphase.engine.tiling import Tiling

# elements of panels that are worth a second kernel
LEAST_SQUARES = 1 << 14

Offsets = NDArray[np.int64]


class Panel(NamedTuple):
    """One row tile's weights: where they go, and where its entries come from.

    ``channel`` is the first output channel. ``biases`` are output channels counted from there, one
    per bias of the panel; ``taps`` has a line per outer tap with the offset of each entry from the
    weight of an input channel and ``channel`` at tap ``first_tap``. Negative means 0. A line of two
    axes, ``(terms, entries)``, stands for sums; the last terms may be subtracted, which adds
    ``gather.SUBTRACTED`` to them. Each ``side`` entries of a line are neighbouring channels at one
    tap, or all are. Panels that are alike share these objects, which is how a recipe knows them
    again.
    """

    target: int
    channel: int
    biases: Offsets
    taps: Sequence[Offsets] | Offsets
    first_tap: int = 0
    side: int = 0


@dataclass(frozen=True)
class Strides:
    """Weight elements between neighbours: groups, input channels, output channels, taps."""

    group: int
    in_channel: int
    out_channel: int

    @classmethod
    def of(cls, tiling: Tiling) -> "Strides":
        """Strides of the contiguous weight array of a problem's operator."""
        taps = tap_count(tiling)
        cin, cout = tiling.group_channels, tiling.out_channels
        if tiling.problem.operator == "conv":
            return cls(cin * cout * taps, taps, cin * taps)
        return cls(cin * cout * taps, cout * taps, taps)


class Recipe:
    """How to fill the panels of all groups."""

    def __init__(self, tiling: Tiling, panels: Iterator[Panel], size: int, depth: int) -> None:
        """``size`` elements of panels per group; channels come in blocks of ``depth`` cells."""
        self.groups = tiling.groups
        self.together = tiling.cell_channels
        self.size = size * self.together
        self.strides = Strides.of(tiling)
        cin, cout = tiling.group_channels, tiling.out_channels
        self._entries: list[Offsets] = []
        self._length = 0
        found: dict[tuple[int, int], Table] = {}
        places: list[tuple[int, int, int]] = []
        tables: list[Table] = []
        depth *= self.together
        blocks = [(first, min(depth, cin - first)) for first in range(0, cin, depth)]
        apart = self.strides.in_channel, self.strides.out_channel
        self.squares = Squares(*apart, tap_count(tiling), tiling.lanes)
        # a channel that lacks its partner is followed by zeros, which only runs can write
        worth = self.elements >= LEAST_SQUARES and cin % self.together == 0
        cells = -(-cin // self.together)
        pairs: list[tuple[int, ...]] = []
        for panel in panels:
            key = id(panel.biases), id(panel.taps)
            start = self.together * (panel.target + len(panel.biases))
            place = start, panel.channel, panel.first_tap
            taken = worth and self.squares.take(*place, panel.taps, panel.side)
            if key not in found:
                found[key] = self._runs(panel.biases, [] if taken else panel.taps, blocks)
            tables.append(found[key])
            places.append((self.together * panel.target, panel.channel, panel.first_tap))
            if self.together > 1:
                width = panel.taps[0].shape[-1] if len(panel.taps) else 0
                pairs.append((panel.target, len(panel.biases), len(panel.taps) * cells, width))
        groups = range(self.groups)
        lines = [(place + g * size, *rest) for g in groups for place, *rest in pairs]
        self.pairs: Table = np.array(lines, np.int64).reshape(-1, len(pairs_kernel.RUN))
        self.squares.finish(blocks, [(g * self.size, g * self.strides.group) for g in groups])
        # the runs of every panel, moved to where it lies, and the same again for each group
        runs = np.concatenate(tables)
        target, channel, tap = np.repeat(places, [len(table) for table in tables], axis=0).T
        of_bias = runs[:, gather.RUN.index("from_bias")] == 1
        runs[:, 0] += target
        runs[:, 1] += np.where(of_bias, channel, channel * self.strides.out_channel + tap)
        every = np.repeat(runs[None], self.groups, axis=0)
        group = np.arange(self.groups)[:, None]
        every[:, :, 0] += group * self.size
        every[:, :, 1] += group * np.where(of_bias, cout, self.strides.group)
        self.runs: Table = every.reshape(-1, len(gather.RUN))
        self.entries: Table = np.concatenate([*self._entries, np.zeros(1, np.int64)])

    def _runs(
        self,
        biases: Offsets,
        lines: Sequence[Offsets] | Offsets,
        blocks: Sequence[tuple[int, int]],
    ) -> Table:
        """The runs of a panel at the head of all panels, whose first output channel is 0."""
        of_bias, *of_taps = [self._place(line) for line in (biases, *lines)]
        runs = [(0, 0, *of_bias, 1, 1)]
        target = self.together * len(biases)
        for first, count in blocks:
            for place in of_taps:
                runs.append((target, first * self.strides.in_channel, *place, count, 0))
                target += place[1] * count
                if count % self.together:
                    nothing = self._place(np.full(place[1], -1, np.int64))
                    runs.append((target, 0, *nothing, 1, 0))
                    target += place[1]
        return np.array(runs, np.int64)

    def _place(self, line: Offsets) -> tuple[int, int, int, int]:
        """Append a line of entries; where it begins, how many they are, of how many terms.

        And how many lie side by side, if all others are 0.
        """
        self._entries.append(line.ravel())
        start = self._length
        self._length += line.size
        if line.ndim > 1:
            return start, line.shape[1], line.shape[0], 0
        count = int((line >= 0).sum())
        adjacent = count > 0 <= line[0] and (line[:count] == line[0] + np.arange(count)).all()
        return start, len(line), 1, count if adjacent else 0

    @property
    def elements(self) -> int:
        """Elements of the panels of all groups, every channel by itself."""
        return self.groups * self.size

    @property
    def arrays(self) -> list[Table]:
        """All tables, which say how panels are filled."""
        return [self.runs, self.entries, *self.squares.arrays, self.pairs]

    @cached_property
    def context(self) -> Table:
        """Context of kernel ``gather``, without the addresses of one call."""
        values = {
            "runs": self.runs.ctypes.data,
            "run_count": len(self.runs),
            "entries": self.entries.ctypes.data,
            "channel_stride": self.strides.in_channel,
        }
        return np.array([values.get(name, 0) for name in gather.CONTEXT], np.int64)

    @cached_property
    def pairs_context(self) -> Table:
        """Context of kernel ``pairs``, without the addresses of one call."""
        values = {"runs": self.pairs.ctypes.data, "run_count": len(self.pairs)}
        return np.array([values.get(name, 0) for name in pairs_kernel.CONTEXT], np.int64)


def tap_count(tiling: Tiling) -> int:
    """Taps of the kernel."""
    return prod(tiling.kernel_sizes)
