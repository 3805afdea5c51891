"""Tables of method ``taps``: its tiling spelled out for the kernel."""

from collections.abc import Iterator
from math import prod

import numpy as np

from polyphase.engine.kernels import taps as kernel
from polyphase.engine.pack import Panel, Strides
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
        strides = Strides.of(tiling)
        # there is one group, and no panel
        self.panel_size = 0
        self._fill_taps()
        channels = choice.channels
        firsts = np.arange(0, tiling.out_channels, channels)
        self.rows = np.stack(
            [
                firsts * strides.out_channel,
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
            w_row=strides.out_channel,
            w_channel=strides.in_channel,
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
        """Outputs of a position in a row tile."""
        return self.shape.channels

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
