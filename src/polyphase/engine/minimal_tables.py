"""Tables and weight panels of method ``minimal``: its tiling spelled out for the kernel."""

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np

from polyphase.engine.cover import Grid, Output, Pattern, Table, column_tables
from polyphase.engine.filtering import Form, Group
from polyphase.engine.kernels import driver
from polyphase.engine.kernels import minimal as kernel
from polyphase.engine.minimal import MinimalTiling
from polyphase.engine.pack import Offsets, Panel, Strides
from polyphase.engine.tables import Tables, tap_number
from polyphase.engine.tiling import Corner, odd_lines

# cells of depth and height that a phase really has, for each combination of outer outputs
Limits = tuple[tuple[int, int], ...]


class MinimalTables(Tables):
    """The tables of one tiling."""

    more_context = kernel.Minimal.more_context
    tiling: MinimalTiling

    def __init__(self, tiling: MinimalTiling) -> None:
        choice = tiling.choice
        super().__init__(tiling, choice.box, choice.depth, False, 1)
        self.choice = choice
        self.shape = tiling.kernel_shape
        self.pattern = Pattern(1, choice.vectors * tiling.lanes, 0)
        self.blocks = -(-tiling.out_channels // choice.channels)
        self._fill_taps()
        self._fill_rows()
        self.fill_tasks()
        width = len(kernel.COLUMN) + len(kernel.STORED) * self.shape.outputs
        self.columns = self.joined("columns", width)
        totals = self.shape.totals * tiling.lanes
        outer = [self.position_strides[1 + axis] // 2 for axis in tiling.pairs]
        self.finish(
            # a register tile may read past the last plane, but never past this
            tiling.planes * self.plane_size + self.pattern.width + tiling.lanes,
            totals,
            segments=self.joined("segments", 3),
            tile_plane=self.plane_size,
            tile_channel=self.packing.plane,
            y_channel=self.y_strides[1],
            rest_step=totals if self.depth < tiling.in_channels else 0,
            **{f"y_outer{i}": stride for i, stride in enumerate(outer)},
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

    @property
    def position_strides(self) -> tuple[int, int, int, int]:
        """Output elements between neighbouring cells."""
        n, *space = super().position_strides
        d, h, w = (s * count for s, count in zip(space, self.tiling.together, strict=True))
        return n, d, h, w

    @property
    def sections(self) -> list[range]:
        """The row tiles of each pair of outer groups."""
        return self._sections

    def line_start(self, column: int) -> int:
        """Where along the last axis the packed lines of a box begin that starts at ``column``."""
        return column * self.tiling.together[2] + self.tiling.first_offset

    def _fill_taps(self) -> None:
        """Tile offset and outer outputs of each outer product, one stretch per pair of groups."""
        tiling = self.tiling
        taps: list[tuple[int, int]] = []
        self.tap_spans = []
        for depths, heights in tiling.outer:
            start = len(taps)
            forms = list(product(depths.forms, heights.forms))
            for pair in product(depths.products, heights.products):
                plane = forms.index((pair[0].form, pair[1].form)) * len(tiling.forms)
                bits = sum(
                    1 << j
                    for j in range(self.shape.outputs)
                    if all(j >> i & 1 in pair[axis].outputs for i, axis in enumerate(tiling.pairs))
                )
                taps.append((plane * self.plane_size, bits))
            self.tap_spans.append((start, len(taps)))
        self.taps = np.array(taps, np.int64).reshape(-1, len(kernel.TAP))

    def _fill_rows(self) -> None:
        """A row tile for each block of channels and pair of outer phases, groups outermost."""
        tiling, shape = self.tiling, self.shape
        _, channel, yd, yh, _ = self.y_strides
        rows: list[tuple[int, ...]] = []
        self.row_sources: list[tuple[int, Group, int, Group, int]] = []
        self.limits: list[Limits] = []
        self._sections = []
        panel = 0
        for (start, stop), (depths, heights) in zip(self.tap_spans, tiling.outer, strict=True):
            begin = len(rows)
            for block in range(self.blocks):
                first = block * shape.channels
                valid = min(shape.channels, tiling.out_channels - first)
                for i, j in product(range(len(depths.phases)), range(len(heights.phases))):
                    d, h = depths.phases[i], heights.phases[j]
                    # a phase begins at the output of its number
                    y = first * channel + d * yd + h * yh
                    limit = self._limit_number(d, h)
                    rows.append((panel, y, start, stop, limit, valid))
                    self.row_sources.append((first, depths, i, heights, j))
                    panel += shape.channels
                    panel += (stop - start) * tiling.in_channels * shape.step_weights
            self._sections.append(range(begin, len(rows)))
        self.rows = np.array(rows, np.int64)
        self.panel_size = panel

    def _limit_number(self, d: int, h: int) -> int:
        """Number of the limits that a pair of outer phases has."""
        tiling = self.tiling
        counts = [
            tiling.axes[axis].phases[number].count(tiling.axes[axis].output_size)
            for axis, number in enumerate((d, h))
        ]
        limits = []
        for j in range(self.shape.outputs):
            cells = list(counts)
            for i, axis in enumerate(tiling.pairs):
                cells[axis] = (counts[axis] + 1 - (j >> i & 1)) // 2
            limits.append((cells[0], cells[1]))
        found = tuple(limits)
        if found not in self.limits:
            self.limits.append(found)
        return self.limits.index(found)

    def class_spans(self, origin: Corner, size: Corner) -> list[tuple[int, int]]:
        """Columns of a box for each of the limits."""
        tiling = self.tiling
        weave = self.shape.weave
        left = min(tiling.axes[2].output_size - origin[3] * weave, size[3] * weave)
        spans = []
        for limits in self.limits:
            local = tuple(
                (max(0, min(d - origin[1], size[1])), max(0, min(h - origin[2], size[2])))
                for d, h in limits
            )
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
        used = np.zeros(len(bases), bool)
        output = Output(self.position_strides, self.shape.weave, left, 0)
        for j, limit in enumerate(limits):
            columns, segments = column_tables(grid, self.pattern, limit, output)
            columns[:, head + 1 :] += self.append("segments", (size, limit, left), segments)[0]
            at = np.searchsorted(bases, columns[:, 0])
            used[at] = True
            table[at, :head] = columns[:, :head]
            table[at, head + j * stored : head + (j + 1) * stored] = columns[:, head:]
        return table[used]

    def packed_rows(self, origin: Corner, size: Corner, section: range) -> Table:
        """Source and target of every packed row of a box, then the planes taken from others."""
        tiling = self.tiling
        depths, heights = tiling.outer[self._sections.index(section)]
        xn, _, xd, xh, xw = self.x_strides
        n, d, h = (i.ravel() for i in np.meshgrid(*map(np.arange, size[:3]), indexing="ij"))
        along = n * xn + self.line_start(origin[3]) * xw
        cells = ((n * size[1] + d) * size[2] + h) * size[3]
        forms = list(product(depths.forms, heights.forms))
        tables = [np.zeros((0, len(kernel.PACK)), np.int64)]
        for number, pair in enumerate(forms):
            source, inside = along, np.ones(len(n), bool)
            for axis, index, stride in ((0, d, xd), (1, h, xh)):
                place = (origin[1 + axis] + index) * tiling.together[axis] + pair[axis].plus
                inside = inside & (place >= 0) & (place < tiling.axes[axis].input_size)
                source = source + place * stride
            target = cells + number * len(tiling.forms) * self.plane_size
            nothing = np.full(len(n), kernel.NOTHING)
            tables.append(np.stack([np.where(inside, source, driver.OUTSIDE), target, nothing], 1))
        # rows of height first: then planes of depth differ in depth alone
        for axis in (1, 0):
            for number, pair in enumerate(forms):
                minus = pair[axis].minus
                if minus is not None:
                    plain = (pair[0], Form(minus)) if axis == 1 else (Form(minus), pair[1])
                    tables.append(self._less(prod(size), number, forms.index(plain)))
        return np.concatenate(tables)

    def _less(self, cells: int, outer: int, other: int) -> Table:
        """Every plane of one form of the outer axes, less that of another."""
        planes = np.arange(len(self.tiling.forms))
        target, less = (
            (number * len(planes) + planes) * self.plane_size for number in (outer, other)
        )
        return np.stack([np.full(len(planes), cells), target, less], 1)

    def panels(self) -> Iterator[Panel]:
        """Where the weights of every row tile come from."""
        shape = self.shape
        spelled: dict[object, tuple[Offsets, list[Offsets]]] = {}
        for row, (first, depths, i, heights, j) in enumerate(self.row_sources):
            valid = int(self.rows[row, -1])
            key = (valid, depths.phases[i], heights.phases[j])
            if key not in spelled:
                channels = np.arange(shape.channels)
                biases = np.where(channels < valid, channels, -1).astype(np.int64)
                spelled[key] = biases, self._lines(valid, depths, i, heights, j)
            yield Panel(int(self.rows[row, 0]), first, *spelled[key])

    def _lines(self, valid: int, depths: Group, i: int, heights: Group, j: int) -> list[Offsets]:
        """Weights of an input channel for every product, as sums of taps: ``(terms, entries)``."""
        apart = Strides.of(self.tiling).out_channel
        channels = np.arange(self.shape.channels)
        lines = []
        for d, h in product(depths.taps[i], heights.taps[j]):
            for step, group, number in self.tiling.steps:
                along = [group.taps[k][number] for k in range(len(step.phases))]
                terms = [
                    [tap_number(self.tiling, *taps) for taps in product(d, h, w)] for w in along
                ]
                # (terms, channels, phases)
                table = np.array(terms, np.int64).T[:, None, :] + (channels * apart)[None, :, None]
                table = np.where((channels < valid)[None, :, None], table, -1)
                lines.append(np.ascontiguousarray(table.reshape(len(terms[0]), -1)))
        return lines
