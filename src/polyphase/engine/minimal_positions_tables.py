"""Tables and weight panels of method ``minimal_positions``: its tiling spelled out."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from polyphase.engine.cover import Grid, Output, Pattern, Table, column_tables
from polyphase.engine.kernels import minimal_positions as kernel
from polyphase.engine.kernels.cells import OUTSIDE
from polyphase.engine.kernels.minimal import NOTHING
from polyphase.engine.minimal_positions import MinimalPositionsTiling
from polyphase.engine.minimal_tables import Limits, MinimalTables, Sums
from polyphase.engine.pack import Offsets, Strides
from polyphase.engine.tiling import Corner, odd_lines


class MinimalPositionsTables(MinimalTables):
    """The tables of one tiling."""

    more_context = kernel.MinimalPositions.more_context
    tiling: MinimalPositionsTiling

    def __init__(self, tiling: MinimalPositionsTiling) -> None:
        choice = tiling.choice
        super().__init__(tiling, choice.box, choice.depth, False, 1)
        self.shape = tiling.kernel_shape
        self.pattern = Pattern(1, choice.vectors * tiling.lanes, 0)
        self.fill_taps()
        self.fill_rows(choice.channels)
        self.fill_tasks()
        width = len(kernel.COLUMN) + len(kernel.STORED) * tiling.outputs
        self.columns = self.joined("columns", width)
        totals = self.shape.totals * tiling.lanes
        self.finish(
            # a register tile may read past the last plane, but never past this
            tiling.planes * self.plane_size + self.pattern.width + tiling.lanes,
            totals,
            segments=self.joined("segments", 3),
            steps=self._steps(),
            tile_plane=self.plane_size,
            tile_channel=self.packing.plane,
            y_channel=self.y_strides[1],
            rest_step=totals if self.depth < tiling.in_channels else 0,
        )

    @property
    def planes(self) -> int:
        """Planes of a packed channel."""
        return self.tiling.planes

    @property
    def plane_size(self) -> int:
        """Cells of a plane: those of all channels packed at a time.

        An odd number of lines, for a channel of all planes is written at once.
        """
        return odd_lines(self.depth * self.packing.plane)

    @property
    def planes_per_form(self) -> int:
        """Forms of the last axis, which the kernel knows."""
        return len(self.tiling.forms)

    @property
    def cell(self) -> int:
        """A channel's cells lie side by side."""
        return 1

    @property
    def row_height(self) -> int:
        """Output values that one row tile makes of a cell."""
        return self.shape.outputs * self.shape.channels * self.shape.weave

    @property
    def step_weights(self) -> int:
        """Weights that one input channel of one outer product meets in a row tile."""
        return self.shape.step_weights

    def _steps(self) -> Table:
        """The products of the last axis, in the order in which their weights lie."""
        tiling, shape = self.tiling, self.shape
        steps: list[tuple[int, ...]] = []
        weights, first = 0, 0
        for group in tiling.served:
            # what serves both positions begins the next two
            kept: list[int] = []
            for one in group.products:
                plane, negative = tiling.plane_of(one.form)
                (position, _), *others = one.outputs
                total = (position * len(shape.phases) + first) * shape.vectors * tiling.lanes
                goes, begins = kernel.TO_TOTALS, 0
                if not others:
                    begins = kept.pop(0) if kept else 0
                elif kept:
                    goes, kept = kernel.KEPT_APART, [kernel.FIRST_KEPT, kernel.SECOND_KEPT]
                else:
                    goes, kept = kernel.KEPT, [kernel.FIRST_KEPT] * 2
                sign = -1 if negative else 1
                steps.append((plane * self.plane_size, weights, total, goes, begins, sign))
                weights += shape.channels * len(group.phases)
            first += len(group.phases)
        return np.array(steps, np.int64).reshape(-1, len(kernel.STEP))

    def line_start(self, column: int) -> int:
        """Where along the last axis the packed lines of a box begin that starts at ``column``."""
        return column * self.tiling.spans[2] + self.tiling.first_offset

    def class_spans(self, origin: Corner, size: Corner) -> list[tuple[int, int]]:
        """Columns of a box for each of the limits."""
        weave = self.shape.weave
        left = min(self.tiling.axes[2].output_size - origin[3] * weave, size[3] * weave)
        spans = []
        for limits in self.limits:
            local = self.local(limits, origin, size)
            key = (size, local, left)
            span = self.known("columns", key)
            if span is None:
                span = self.append("columns", key, self._columns(size, local, left))
            spans.append(span)
        return spans

    def _columns(self, size: Corner, limits: Limits, left: int) -> Table:
        """The columns of a box: for each outer output, what of them is valid."""
        grid = Grid(size, size)
        bases = np.array(self.pattern.bases(grid), np.int64)
        head, stored = len(kernel.COLUMN), len(kernel.STORED)
        table = np.zeros((len(bases), head + stored * len(limits)), np.int64)
        table[:, 0] = bases
        used = np.zeros(len(bases), bool)
        output = Output(self.position_strides, self.shape.weave, left, 0)
        for j, (depth, height) in enumerate(limits):
            columns, segments = column_tables(grid, self.pattern, (depth, height), output)
            columns[:, 3:] += self.append("segments", None, segments)[0]
            columns[:, 1] += self.output_start(j)
            at = np.searchsorted(bases, columns[:, 0])
            used[at] = True
            table[at, head + j * stored : head + (j + 1) * stored] = columns[:, 1:]
        return table[used]

    def packed_rows(self, origin: Corner, size: Corner, section: range) -> Table:
        """Source and target of every packed row of a box, then the planes that are combined."""
        groups = self.tiling.sections[self.sections.index(section)]
        source, cells = self.sources(origin, size, groups)
        if not source.size:
            return np.zeros((0, len(kernel.PACK)), np.int64)
        forms = np.arange(len(source))[:, None] * self.planes_per_form * self.plane_size
        start = np.where(source == OUTSIDE, 0, self.tiling.first_offset * self.x_strides[4])
        nothing = np.full((source.size, 2), NOTHING)
        rows = np.column_stack([(source + start).ravel(), (forms + cells).ravel(), nothing])
        return np.concatenate([rows, self.combined(groups, prod(size))])

    def lines(self, valid: int, along: Sequence[Sums]) -> list[Offsets]:
        """Weights of an input channel for every product, as sums of taps: ``(terms, entries)``."""
        apart = Strides.of(self.tiling).out_channel
        channels = np.arange(self.shape.channels)
        lines = []
        for d, h in product(*along):
            for group in self.tiling.served:
                # for each product the taps of every phase
                for served in zip(*group.taps, strict=True):
                    terms = np.stack([self.terms(d, h, w) for w in served], 1)
                    # (terms, channels, phases)
                    table = terms[:, None] + (channels * apart)[:, None]
                    table = np.where((channels < valid)[:, None], table, -1)
                    lines.append(np.ascontiguousarray(table.reshape(len(terms), -1)))
        return lines
