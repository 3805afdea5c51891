"""Tables of method ``taps``: its tiling spelled out for the kernel."""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from polyphase.engine.cover import Table
from polyphase.engine.kernels import taps as kernel
from polyphase.engine.kernels.cells import OUTSIDE
from polyphase.engine.pack import Panel, Strides
from polyphase.engine.stencil import Stencil
from polyphase.engine.tables import Tables, tap_number
from polyphase.engine.taps import TapsTiling
from polyphase.engine.tiling import Corner


class TapsTables(Tables):
    """The tables of one tiling."""

    more_context = kernel.Taps.more_context
    tiling: TapsTiling

    def __init__(self, tiling: TapsTiling) -> None:
        choice = tiling.choice
        super().__init__(tiling, choice.box, choice.depth, False, 1)
        self.shape = tiling.kernel_shape
        more = {}
        if tiling.weights_last:
            w_channel = tiling.kernel_sizes[2]
            w_row = tiling.in_channels * w_channel
            # rows of taps read the same pixels, each in other rows
            more = {"x_channel": 0, "own_rows": 1}
        else:
            strides = Strides.of(tiling)
            w_channel, w_row = strides.in_channel, strides.out_channel
        # there is one group, and no panel
        self.panel_size = 0
        self._fill_taps()
        channels = choice.channels
        firsts = np.arange(0, tiling.out_channels, channels)
        self.rows = np.stack(
            [
                firsts * w_row,
                firsts * self.y_strides[1],
                np.zeros_like(firsts),
                np.full_like(firsts, len(self.taps)),
                np.zeros_like(firsts),
                firsts,
                np.minimum(tiling.out_channels - firsts, channels),
            ],
            1,
        ).astype(np.int64)
        self.fill_tasks()
        self.columns = self.joined("columns", len(kernel.PLACE))
        self.finish(
            self.packing.channel * self._packed_channels,
            self.shape.sums * tiling.lanes,
            y_channel=self.y_strides[1],
            w_row=w_row,
            w_channel=w_channel,
            **more,
        )

    @property
    def _packed_channels(self) -> int:
        """Channels that are packed at a time: whole vectors of them where they are transposed."""
        lanes = self.tiling.lanes if self.tiling.in_last else 1
        return -(-self.depth // lanes) * lanes

    @property
    def planes(self) -> int:
        """Residues of the last axis lie side by side, so one plane holds them all."""
        return 1

    @property
    def cell(self) -> int:
        """A position is as many cells wide as the input's stride."""
        return self.tiling.axes[2].in_step

    @property
    def row_height(self) -> int:
        """Sums of a position in a row tile: vectors of them."""
        return self.shape.channels * self.tiling.lanes

    @property
    def step_weights(self) -> int:
        """Weights that one line of an input channel has in a row tile."""
        return self.shape.channels * self.tiling.line

    def _fill_taps(self) -> None:
        """Where every line of taps begins in the tile, and among the weights of a channel."""
        tiling = self.tiling
        depth, height, along = (axis.phases[0] for axis in tiling.axes)
        lines = [
            (self.outer_offset(d, h) * self.cell, tap_number(tiling, tap_d, tap_h, along.taps[0]))
            for d, tap_d in zip(depth.offsets, depth.taps, strict=True)
            for h, tap_h in zip(height.offsets, height.taps, strict=True)
        ]
        self.taps = np.array(lines, np.int64).reshape(-1, len(kernel.TAP))

    @property
    def row_lists(self) -> int:
        """Where rows of taps are packed like channels, each has its own rows of the input."""
        return self.tiling.in_channels if self.tiling.weights_last else 1

    @property
    def axes_read(self) -> tuple[Stencil, Stencil, Stencil]:
        """The axes along which the input of a box lies, also where rows of taps are channels."""
        return *self.tiling.outer, self.tiling.axes[2]

    def met(self, axis: int, origin: Corner) -> tuple[int, int]:
        """Which places of an outer axis, from the corner of a box on, it reads and are inputs."""
        if not self.tiling.weights_last:
            return super().met(axis, origin)
        along = self.tiling.outer[axis]
        corner = origin[1 + axis] * along.in_step
        places = self._row_places(axis, self.box[1 + axis])
        first, last = int(places.min()), int(places.max())
        return max(-corner, first), min(along.input_size - corner, last + 1)

    def packed_rows(self, origin: Corner, size: Corner, section: range) -> Table:
        """Source and target of every packed row of a box, targets ascending in each list."""
        if not self.tiling.weights_last:
            return super().packed_rows(origin, size, section)
        xn, _, xd, xh, xw = self.x_strides
        sn, sd, sh, _ = self.packing.grid.strides
        inside: Any = True
        source: Any = self.tiling.axes[2].offsets[0] * xw
        # rows of taps along depth and height, then the box: images, depth, height
        for number, stride in enumerate((xd, xh)):
            places = self._row_places(number, size[1 + number])
            shape = [1] * 5
            shape[number], shape[3 + number] = places.shape
            places = places.reshape(shape)
            first, stop = self.met(number, origin)
            inside = inside & (places >= first) & (places < stop)
            source = source + places * stride
        images = np.arange(size[0]).reshape(1, 1, -1, 1, 1)
        source = source + images * xn
        depth, height = (np.arange(n) for n in size[1:3])
        target = images * sn + depth.reshape(1, 1, 1, -1, 1) * sd + height * sh
        target = np.broadcast_to(target * self.cell, source.shape)
        table = [np.where(inside, source, OUTSIDE).ravel(), target.ravel()]
        return np.stack(table, 1).astype(np.int64)

    def _row_places(self, number: int, count: int) -> Table:
        """Per tap of an outer axis, where so many positions meet it, from the first one's input."""
        axis = self.tiling.outer[number]
        taps = self.tiling.outer_offsets[number]
        return np.array(taps)[:, None] + axis.in_step * np.arange(count)

    def class_spans(self, origin: Corner, size: Corner) -> list[tuple[int, int]]:
        """The columns of a box: so many positions each, the last one repeated."""
        span = self.known("columns", size)
        if span is None:
            span = self._places(size)
        count = self.shape.positions
        return [(span[0] // count, span[1] // count)]

    def _places(self, size: Corner) -> tuple[int, int]:
        count = self.shape.positions
        total = prod(size)
        index = np.arange(-(-total // count) * count)
        valid = index < total
        rest = np.minimum(index, total - 1)
        tile, y = np.zeros_like(rest), np.zeros_like(rest)
        strides = self.packing.grid.strides
        for i in range(4):
            place, rest = np.divmod(rest, prod(size[i + 1 :]))
            tile += place * strides[i] * self.cell
            y += place * self.position_strides[i]
        start, stop = self.append("columns", size, np.stack([tile, y, valid], 1).astype(np.int64))
        return start, stop

    def panels(self) -> Iterator[Panel]:
        """None: weights are read as they lie."""
        return iter(())
