"""Tables of method ``weights``: its tiling spelled out for the kernel."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from polyphase.engine.cover import Table
from polyphase.engine.kernels.weights_context import CONTEXT, DELIVERY
from polyphase.engine.weights_boxes import Boxes, Side, Span
from polyphase.engine.weights_tiling import WeightsTiling


class WeightsTables:
    """Every table of one tiling, and the context that points to them.

    ``context`` lacks what belongs to one call: addresses and the phase.
    """

    def __init__(self, tiling: WeightsTiling) -> None:
        self.tiling = tiling
        self.choice = choice = tiling.choice
        self.tile = tile = choice.tile
        self.shape = tile.shape
        self.paired = self.shape.kind == "groups"
        self.x_blocks, self.y_blocks = tiling.x_blocks(tile), tiling.y_blocks(tile)
        self.width = self.shape.tile_vectors * tiling.lanes
        self.tile_size = self.shape.tile_rows * self.width
        self.block_size = tiling.block_elements(tile)
        pitch = self.shape.x_pitch(tiling.lanes)
        packed = min(choice.x_range * pitch, tiling.in_channels)
        self.x = self._side(tiling.problem.input_shape, pitch, packed, tiling.x_last, False)
        pitch = self.shape.y_pitch(tiling.lanes)
        packed = min(choice.y_group * tile.y_block, tiling.out_channels)
        shape, spaced = tiling.problem.output_shape, self.shape.spaced
        steps = [axis.stride for axis in tiling.axes]
        self.y = self._side(shape, pitch, packed, tiling.y_last, spaced, steps)
        self.boxes = self._make_boxes()
        self._fill_tasks()
        self._finish()

    def _side(
        self,
        shape: tuple[int, ...],
        pitch: int,
        packed: int,
        last: bool,
        spaced: bool,
        steps: Sequence[int] = (1, 1, 1),
    ) -> Side:
        """An operand in memory; it has ``steps`` elements for each position along an axis."""
        _, channels, *space = shape
        depth, height, width = [1] * (3 - len(space)) + space
        pixel, channel = (channels, 1) if last else (1, depth * height * width)
        row = width * pixel
        plane = height * row
        image = pair = depth * height * width * channels
        halved = self.tiling.halved
        if halved is None:
            image *= self.tiling.cell_images
        else:
            half = self.tiling.input_size[halved] * steps[halved]
            pair = (plane, row, pixel)[halved] * half
        return Side((image, plane, row, pixel), channel, pitch, packed, last, spaced, pair)

    @property
    def multiply_adds(self) -> int:
        """Upper bound of the work."""
        tiling = self.tiling
        total = prod(tiling.positions) * tiling.tap_count * tiling.in_channels
        return total * tiling.problem.out_channels

    def _make_boxes(self) -> Boxes:
        return Boxes(self.tiling, self.x, self.y)

    def _panels(self) -> tuple[int, int, int]:
        """Elements of a panel of either side, and those from one output channel to the next."""
        tiling, choice = self.tiling, self.choice
        line = 64 // tiling.item
        # each line may be followed by a cell that no tap uses, and a vector may read on
        lines = prod(choice.box[:3]) * self.x.pitch
        x_panel = rounded(tiling.x_elements(self.tile, choice.box) + lines, line)
        y_panel = tiling.y_elements(self.tile, choice.box)
        if self.shape.spaced:
            return x_panel, y_panel, y_panel // self.tile.y_block
        row = self.boxes.reaches[2].cells(choice.box[3])
        y_panel = rounded(y_panel + y_panel // row, line)
        return x_panel, y_panel, y_panel

    def _extra(self) -> int:
        """Elements of scratch besides panels."""
        return 0

    def _more(self) -> dict[str, int | Table]:
        """What else the context holds."""
        return {}

    def _fill_tasks(self) -> None:
        """Tasks and deliveries. Chunks come slowest, so that blocks of one chunk run together."""
        choice, tiling, size = self.choice, self.tiling, self.block_size
        boxes = len(self.boxes.table)
        each = -(-boxes // choice.chunks)
        self.chunks = -(-boxes // each)
        per_group = tiling.blocks(self.tile) * size
        self.chunk_size = tiling.groups * per_group
        # a chunk that is alone needs no sums but those of the tasks that run
        self.local = self.chunks == 1
        across = choice.x_range if self.local else self.x_blocks
        self.x_step, self.y_step = size, 0 if self.paired else size * across
        self.local_size = size * across * (1 if self.paired else choice.y_range)
        if self.local and each == 1:
            # and of one box, no sums but those of a block
            self.x_step = self.y_step = 0
            self.local_size = size
        weights = tiling.in_channels * tiling.out_channels * tiling.tap_count
        tasks, deliveries = [], []
        for chunk, group in product(range(self.chunks), range(tiling.groups)):
            rest = 0 if self.local else (chunk * tiling.groups + group) * per_group
            head = (
                group * tiling.in_channels * self.x.channel,
                group * tiling.out_channels * self.y.channel,
                group * weights,
                rest,
            )
            span = (chunk * each, min(boxes, (chunk + 1) * each))
            for x_range in _parts(self.x_blocks, choice.x_range):
                y_ranges = [x_range] if self.paired else _parts(self.y_blocks, choice.y_range)
                tasks += [(*head, *x_range, *y_range, *span) for y_range in y_ranges]
            if chunk == 0 and self.chunks > 1:
                deliveries += [
                    (rest + x * self.x_step + y * self.y_step, group * weights, x, y)
                    for x in range(self.x_blocks)
                    for y in ([x] if self.paired else range(self.y_blocks))
                ]
        self.tasks = np.array(tasks, np.int64)
        self.deliveries = np.array(deliveries, np.int64).reshape(-1, len(DELIVERY))

    def _sources(self) -> Table:
        """Where the entries of a row of weights lie in a block."""
        lanes, shape, entries = self.tiling.lanes, self.shape, self.boxes.entries
        tile, slot = np.divmod(self.boxes.slots, shape.taps)
        first = tile * self.tile_size
        taps = self.tiling.axes[2].kernel_size
        if shape.kind == "taps":
            counts = np.minimum(taps - entries[:, 3], lanes)
            target = np.concatenate([[0], np.cumsum(counts)[:-1]])
            channel, tap = np.divmod(target, self.tiling.tap_count)
            last = tap * self.tiling.out_channels + channel
            return np.stack([first + slot * lanes, counts, target, last], 1)
        if shape.kind != "inputs":
            source = first + slot * shape.vectors * lanes
        else:
            rows = np.arange(shape.rows)
            lines = (first + slot * shape.rows * self.width)[:, None] + rows * self.width
            # spaced rows are neighbouring taps, of which the last stretch has fewer
            fewer = entries[:, 3:] + rows < taps
            source = lines[fewer] if shape.spaced else lines.T
        return np.concatenate([source.ravel(), np.zeros(lanes, np.int64)])

    def _finish(self) -> None:
        """Lay out scratch and fill the context."""
        tiling, choice, item = self.tiling, self.choice, self.tiling.item
        line = 64 // item
        x_panel, y_panel, spacing = self._panels()
        beyond = self.width
        x_size = choice.x_range * x_panel
        y_size = rounded(choice.y_group * y_panel + beyond, line)
        packed = rounded(self._extra(), line)
        scratch = x_size + y_size + packed + (self.local_size if self.local else 0)
        self.scratch_bytes = rounded(scratch * item, 4096)
        self.rest_elements = 0 if self.local else self.chunks * self.chunk_size
        taps = tiling.tap_count
        values: dict[str, int | Table] = {
            "tasks": self.tasks,
            "task_count": len(self.tasks),
            "deliveries": self.deliveries,
            "delivery_count": len(self.deliveries),
            "boxes": self.boxes.table,
            "lines": self.boxes.lines.joined(),
            "places": self.boxes.places.joined(),
            "tiles": self.boxes.tiles.joined(),
            "lists": self.boxes.lists.joined().astype(np.int32),
            "ahead": self.boxes.ahead.joined().astype(np.int32),
            "sources": self._sources(),
            "rest_local": x_size + y_size + packed,
            **self._more(),
            "scratch_size": self.scratch_bytes,
            "x_size": x_size,
            "y_size": y_size,
            "x_panel": x_panel,
            "y_panel": y_panel,
            "y_group": choice.y_group,
            "rest_x": self.x_step,
            "rest_y": self.y_step,
            "chunks": self.chunks,
            "chunk_size": self.chunk_size,
            "local": int(self.local),
            "x_block": self.x.pitch,
            "y_block": self.tile.y_block,
            "in_channels": tiling.in_channels,
            "out_channels": tiling.out_channels,
            "x_channel": self.x.channel,
            "x_pixel": self.x.strides[3],
            "x_pair": self.x.pair,
            "y_channel": self.y.channel,
            "y_pixel": self.y.strides[3],
            "y_pair": self.y.pair,
            "y_spacing": spacing,
            "w_input": taps * (1 if self.paired else tiling.out_channels),
            "taps": taps,
            "stretches": tiling.entries(self.shape)[0],
        }
        # the arrays must live as long as their addresses
        self.arrays = {name: v for name, v in values.items() if not isinstance(v, int)}
        plain = {k: v if isinstance(v, int) else v.ctypes.data for k, v in values.items()}
        self.context = np.array([plain.get(name, 0) for name in CONTEXT], np.int64)


def rounded(value: int, step: int) -> int:
    """The next multiple of ``step``."""
    return -(-value // step) * step


def _parts(count: int, size: int) -> list[Span]:
    """Stretches of ``size``, the last one cut."""
    return [(first, min(count, first + size)) for first in range(0, count, size)]
