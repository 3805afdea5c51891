"""Tables and weight panels of method ``positions``: its tiling spelled out for the kernel."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.phases import Phase
from polyphase.engine.cover import Grid, Output, column_tables
from polyphase.engine.kernels import positions as kernel
from polyphase.engine.pack import Panel, Strides
from polyphase.engine.positions import PositionsTiling
from polyphase.engine.tables import Tables, tap_number
from polyphase.engine.tiling import Corner


class PositionsTables(Tables):
    """The tables of one tiling."""

    more_context = kernel.Positions.more_context
    tiling: PositionsTiling

    def __init__(self, tiling: PositionsTiling) -> None:
        choice = tiling.choice
        self.outer = list(product(tiling.axes[0].phases, tiling.axes[1].phases))
        super().__init__(tiling, choice.box, choice.depth, choice.spread, len(self.outer))
        self.choice = choice
        self.shape = tiling.kernel_shape
        self.blocks = 1 if tiling.out_last else -(-tiling.out_channels // choice.channels)
        self.limits = sorted({self._limit(pair) for pair in self.outer})
        self._fill_taps()
        self._fill_rows()
        self.fill_tasks()
        self.columns = self.joined("columns", len(kernel.COLUMN))
        # a register tile may read past the last plane, but never past this
        reach = (choice.pattern.groups - 1) * choice.pattern.stride + choice.pattern.width
        channels = self.depth + (tiling.lanes if tiling.in_last else 0)
        self.finish(
            channels * self.packing.channel + reach + self.packing.row + tiling.lanes,
            self.shape.rows * self.shape.columns * tiling.lanes,
            segments=self.joined("segments", len(kernel.SEGMENT)),
            tile_plane=self.packing.plane,
            tile_group=choice.pattern.stride,
            y_channel=self.y_strides[1],
            y_group=self._y_group,
        )

    @property
    def planes(self) -> int:
        """Planes of the tile per pair of outer residues."""
        return self.tiling.planes(self.spread)

    @property
    def cell(self) -> int:
        """A channel's cells lie side by side."""
        return 1

    @property
    def row_height(self) -> int:
        """Rows of the register tile."""
        return self.shape.rows

    @property
    def step_weights(self) -> int:
        """Weights that one input channel of one outer tap meets in a row tile."""
        return self.shape.step_weights

    @property
    def _y_group(self) -> int:
        pattern = self.choice.pattern
        if pattern.groups == 1:
            return 0
        return self.position_strides[self.packing.grid.strides.index(pattern.stride)]

    def _limit(self, pair: tuple[Phase, Phase]) -> tuple[int, int]:
        """Positions of depth and height that an outer phase really has."""
        depth, height, _ = self.tiling.axes
        return pair[0].count(depth.output_size), pair[1].count(height.output_size)

    def _fill_taps(self) -> None:
        """Tile offsets of the outer taps, one stretch per outer phase."""
        tiling, plane_size = self.tiling, self.packing.plane
        offsets: list[int] = []
        self.tap_spans = []
        slot = tiling.slots[0][0]
        home, home_shift = tiling.plane(slot, self.spread)
        for pair in self.outer:
            start = len(offsets)
            for d, h, w, _ in tiling.outer_taps(*pair):
                plane, shift = tiling.plane(slot + w, self.spread)
                along = (plane - home) * plane_size + shift - home_shift
                offsets.append(self.outer_offset(d, h) + along)
            self.tap_spans.append((start, len(offsets)))
        self.taps = np.array(offsets, np.int64)

    def _fill_rows(self) -> None:
        tiling, shape = self.tiling, self.shape
        _, channel, yd, yh, _ = self.y_strides
        rows = []
        panel = 0
        for block in range(self.blocks):
            first = block * shape.channels
            valid = 1 if tiling.out_last else min(shape.channels, tiling.out_channels - first)
            for (start, stop), pair in zip(self.tap_spans, self.outer, strict=True):
                y = first * channel + pair[0].start * yd + pair[1].start * yh
                rows.append((panel, y, start, stop, self.limits.index(self._limit(pair)), valid))
                panel += shape.rows + (stop - start) * tiling.in_channels * shape.step_weights
        self.rows = np.array(rows, np.int64)
        self.panel_size = panel

    def class_spans(self, origin: Corner, size: Corner) -> list[tuple[int, int]]:
        """Columns of a box for each pair of limits."""
        tiling = self.tiling
        width = tiling.axes[2]
        left = min(width.output_size - origin[3] * width.out_step, size[3] * width.out_step)
        output = Output(self.position_strides, tiling.weave, left * tiling.per_phase, self._y_group)
        spans = []
        for limit in self.limits:
            local = (
                max(0, min(limit[0] - origin[1], size[1])),
                max(0, min(limit[1] - origin[2], size[2])),
            )
            key = (size, local, left)
            span = self.known("columns", key)
            if span is None:
                grid = Grid(size, self.packing.grid.packed)
                columns, segments = column_tables(grid, self.choice.pattern, local, output)
                columns[:, 3:] += self.append("segments", key, segments)[0]
                span = self.append("columns", key, columns)
            spans.append(span)
        return spans

    def panels(self) -> Iterator[Panel]:
        """Where the weights of every row tile come from."""
        tiling, shape = self.tiling, self.shape
        strides = Strides.of(tiling)
        entries = [
            (offset, phase, lane if tiling.out_last else c)
            for offset, phases in tiling.slots
            for phase in phases
            for lane in range(tiling.per_phase)
            for c in range(shape.channels)
        ]
        within = np.array([channel for *_, channel in entries], np.int64)
        # neighbouring channels of one phase, or its lanes
        side = tiling.per_phase if tiling.out_last else shape.channels
        rows = np.arange(shape.rows)
        rows = rows % tiling.per_phase if tiling.out_last else rows // shape.interleave
        rows = rows.astype(np.int64)
        chosen = [self._tap_indices(pair, entries) for pair in self.outer]
        spelled = {}
        for block in range(self.blocks):
            first = block * shape.channels
            left = min(tiling.out_channels - first, shape.channels)
            if left not in spelled:
                inside = tiling.out_last | (within < left)
                spelled[left] = (
                    np.where(tiling.out_last | (rows < left), rows, -1),
                    [np.where(inside, t + within * strides.out_channel, -1) for t in chosen],
                )
            biases, offsets = spelled[left]
            for number, taps in enumerate(offsets):
                row = block * len(self.outer) + number
                yield Panel(int(self.rows[row, 0]), first, biases, taps, side=side)

    def _tap_indices(
        self, pair: tuple[Phase, Phase], entries: list[tuple[int, int, int]]
    ) -> NDArray[np.int64]:
        """Tap of every entry at every line of an outer phase's tap table."""
        tiling = self.tiling
        lines = np.array([step for *_, step in tiling.outer_taps(*pair)], np.int64)
        pairs = np.array(list(product(pair[0].taps, pair[1].taps)), np.int64).reshape(-1, 2)
        d, h = np.repeat(pairs, len(lines) // max(len(pairs), 1), axis=0).T
        along = np.zeros((len(lines), len(entries)), np.int64)
        for i, (offset, number, _) in enumerate(entries):
            phase = tiling.axes[2].phases[number]
            if tiling.unrolled:
                along[:, i] = phase.taps[phase.offsets.index(offset)]
            else:
                along[:, i] = np.array(phase.taps, np.int64)[lines]
        table: NDArray[np.int64] = tap_number(tiling, d[:, None], h[:, None], along)
        return table
