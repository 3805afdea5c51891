"""Tables and weight panels of method ``minimal_channels``: its tiling spelled out."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from polyphase.engine.cover import Table
from polyphase.engine.kernels import minimal_channels as kernel
from polyphase.engine.kernels.minimal import NOTHING
from polyphase.engine.minimal_channels import MinimalChannelsTiling
from polyphase.engine.minimal_tables import MinimalTables, Sums
from polyphase.engine.pack import Offsets, Strides
from polyphase.engine.tiling import Corner


class MinimalChannelsTables(MinimalTables):
    """The tables of one tiling."""

    more_context = kernel.MinimalChannels.more_context
    tiling: MinimalChannelsTiling

    def __init__(self, tiling: MinimalChannelsTiling) -> None:
        choice = tiling.choice
        super().__init__(tiling, choice.box, choice.depth, False, 1)
        self.shape = tiling.kernel_shape
        self.fill_taps()
        self.fill_rows(choice.vectors * tiling.lanes)
        self.fill_tasks()
        self.columns = self.joined("columns", len(kernel.COLUMN))
        totals = self.shape.totals * tiling.lanes
        self.finish(
            # a register tile may read past the last plane, but never past this
            (tiling.planes * self.packing.plane + choice.positions) * self.cell + tiling.lanes,
            totals,
            places=self.joined("places", 2),
            rest_step=totals if self.depth < tiling.in_channels else 0,
        )

    @property
    def planes(self) -> int:
        """Planes of a packed box."""
        return self.tiling.planes

    @property
    def plane_size(self) -> int:
        """Tile elements of a plane."""
        return self.packing.plane * self.cell

    @property
    def planes_per_form(self) -> int:
        """All axes are tabled."""
        return 1

    @property
    def cell(self) -> int:
        """A pixel's channels lie side by side."""
        return self.tiling.cell_elements(self.depth)

    @property
    def row_height(self) -> int:
        """Output values that one row tile makes of a cell."""
        return self.shape.outputs * self.step_weights

    @property
    def step_weights(self) -> int:
        """Weights that one input channel of one product meets in a row tile."""
        return self.shape.vectors * self.tiling.lanes

    def line_start(self, column: int) -> int:
        """Where along the last axis the pixels of a box begin that starts at ``column``."""
        return column * self.tiling.spans[2]

    def class_spans(self, origin: Corner, size: Corner) -> list[tuple[int, int]]:
        """Columns of a box for each of the limits."""
        spans = []
        for limits in self.limits:
            local = self.local(limits, origin, size)
            span = self.known("columns", (size, local))
            if span is None:
                span = self._columns(size, local)
            spans.append(span)
        return spans

    def _columns(self, size: Corner, limits: tuple[tuple[int, ...], ...]) -> tuple[int, int]:
        """The columns of a box, and for each combination of outputs where their cells go."""
        count = self.shape.positions
        bases = np.arange(0, prod(size), count)
        rest = bases[:, None] + np.arange(count)
        strides = (prod(size[1:]), prod(size[2:]), size[3], 1)
        index = []
        for stride in strides:
            place, rest = np.divmod(rest, stride)
            index.append(place)
        y = sum(i * s for i, s in zip(index, self.position_strides, strict=True))
        places, used = [], []
        for j, limit in enumerate(limits):
            valid = index[0] < size[0]
            for i, bound in zip(index[1:], limit, strict=True):
                valid = valid & (i < bound)
            places.append(np.stack([y + self.output_start(j), valid], 2))
            used.append(valid.any(1))
        kept = np.any(used, 0)
        # (columns, outputs, cells, fields)
        table = np.stack(places, 1)[kept].astype(np.int64)
        start = self.append("places", None, table.reshape(-1, 2))[0]
        first = start + np.arange(len(table)) * self.shape.outputs * count
        columns = np.stack([bases[kept] * self.cell, first], 1).astype(np.int64)
        return self.append("columns", (size, limits), columns)

    def packed_rows(self, origin: Corner, size: Corner, section: range) -> Table:
        """Every packed row of a box, then the planes that are combined."""
        groups = self.tiling.sections[self.sections.index(section)]
        source, cells = self.sources(origin, size, groups)
        planes = np.arange(len(source))[:, None] * self.plane_size
        nothing = np.full((source.size, 2), NOTHING)
        first = np.broadcast_to(self.first[groups][:, 2, None], source.shape).ravel()
        target = (planes + cells * self.cell).ravel()
        rows = np.column_stack([source.ravel(), target, nothing, first])
        # planes are combined whole, from no column on
        combined = self.combined(groups, prod(size) * self.cell)
        combined = np.column_stack([combined, np.zeros(len(combined), np.int64)])
        return np.concatenate([rows, combined])

    def lines(self, valid: int, along: Sequence[Sums]) -> list[Offsets]:
        """Weights of an input channel for every product, as sums of taps: ``(terms, entries)``."""
        channels = np.arange(self.panel_head)
        apart = np.where(channels < valid, channels * Strides.of(self.tiling).out_channel, -1)
        return [
            np.where(apart < 0, -1, self.terms(*sums)[:, None] + apart) for sums in product(*along)
        ]
