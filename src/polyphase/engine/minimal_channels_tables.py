"""Tables and weight panels of method ``minimal_channels``: its tiling spelled out."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from polyphase.engine.cover import Table
from polyphase.engine.kernels import driver
from polyphase.engine.kernels import minimal_channels as kernel
from polyphase.engine.kernels.minimal_positions import NOTHING
from polyphase.engine.minimal import Section, forms_of
from polyphase.engine.minimal_channels import MinimalChannelsTiling
from polyphase.engine.minimal_tables import MinimalTables
from polyphase.engine.pack import Offsets, Strides
from polyphase.engine.tables import tap_number
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
        """Packed lines say themselves where they begin."""
        return 0

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
            apart = sum(s for k, s in enumerate(self.output_strides) if j >> k & 1)
            places.append(np.stack([y + apart, valid], 2))
            used.append(valid.any(1))
        kept = np.any(used, 0)
        # (columns, outputs, cells, fields)
        table = np.stack(places, 1)[kept].astype(np.int64)
        start = self.append("places", None, table.reshape(-1, 2))[0]
        first = start + np.arange(len(table)) * self.shape.outputs * count
        columns = np.stack([bases[kept] * self.cell, first], 1).astype(np.int64)
        return self.append("columns", (size, limits), columns)

    def packed_rows(self, origin: Corner, size: Corner, section: range) -> Table:
        """Every packed row of a box, then the planes taken from others."""
        tiling = self.tiling
        groups = tiling.sections[self.sections.index(section)]
        xn, _, xd, xh, _ = self.x_strides
        n, d, h = (i.ravel() for i in np.meshgrid(*map(np.arange, size[:3]), indexing="ij"))
        cells = ((n * size[1] + d) * size[2] + h) * size[3]
        tables = [np.zeros((0, len(kernel.PACK)), np.int64)]
        for number, forms in enumerate(forms_of(groups)):
            source, inside = n * xn, np.ones(len(n), bool)
            for axis, index, stride in ((0, d, xd), (1, h, xh)):
                place = (origin[1 + axis] + index) * tiling.together[axis] + forms[axis].plus
                inside = inside & (place >= 0) & (place < tiling.axes[axis].input_size)
                source = source + place * stride
            target = cells * self.cell + number * self.plane_size
            nothing = np.full(len(n), NOTHING)
            first = np.full(len(n), origin[3] * tiling.together[2] + forms[2].plus)
            source = np.where(inside, source, driver.OUTSIDE)
            tables.append(np.stack([source, target, nothing, first], 1))
        differences = self.differences(groups, prod(size) * self.cell)
        # those begin at no column
        tables += [np.pad(table, ((0, 0), (0, 1))) for table in differences]
        return np.concatenate(tables)

    def lines(self, valid: int, section: Section, members: Sequence[int]) -> list[Offsets]:
        """Weights of an input channel for every product, as sums of taps: ``(terms, entries)``."""
        channels = np.arange(self.panel_head)
        apart = np.where(channels < valid, channels * Strides.of(self.tiling).out_channel, -1)
        lines = []
        for along in product(*(g.taps[i] for g, i in zip(section, members, strict=True))):
            terms = [tap_number(self.tiling, *taps) for taps in product(*along)]
            table = np.array(terms, np.int64)[:, None] + apart
            lines.append(np.where(apart < 0, -1, table))
        return lines
