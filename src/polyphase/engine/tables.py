"""The tables that tell a kernel what to do: packed rows, taps, tasks; the parts methods share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from polyphase.engine.ahead import fetched
from polyphase.engine.cover import Table
from polyphase.engine.kernels import driver
from polyphase.engine.kernels.cells import OUTSIDE
from polyphase.engine.pack import Panel, Recipe
from polyphase.engine.stencil import Stencil
from polyphase.engine.tiling import (
    RESTING_BYTES,
    SMALLEST_TASK,
    Corner,
    Packing,
    Tiling,
    tasks,
)

Strides = tuple[int, int, int, int, int]
# fields of a task while which no later input is fetched
NOTHING_AHEAD = (0, 0)


class Tables(ABC):
    """Every table of one tiling, and the context that points to them.

    ``context`` lacks what belongs to one call: the addresses of input, output, weights and scratch.
    Subclasses fill ``rows``, ``columns`` and what else their kernel reads.
    """

    more_context: tuple[str, ...]
    rows: Table
    columns: Table
    taps: Table
    panel_size: int

    def __init__(
        self, tiling: Tiling, box: Corner, depth: int, spread: bool, rows_per_block: int
    ) -> None:
        """``rows_per_block`` row tiles belong together and are not divided between tasks."""
        self.tiling = tiling
        self.depth = depth
        self.spread = spread
        self.box = box
        self.rows_per_block = rows_per_block
        self.packing: Packing = tiling.packing(box, spread)
        problem = tiling.problem
        self.x_strides = _strides(problem.input_shape, tiling.in_last)
        self.y_strides = _strides(problem.output_shape, tiling.out_last)
        self._stretches: dict[Any, tuple[int, int]] = {}
        self._lists: dict[str, list[Table]] = {"pack_rows": [], "columns": []}
        self._lengths: dict[str, int] = {}
        self.classes = np.zeros((0, 2), np.int64)

    @property
    @abstractmethod
    def planes(self) -> int:
        """Planes of the tile per pair of outer residues."""

    @property
    def position_strides(self) -> tuple[int, int, int, int]:
        """Output elements between neighbouring positions: images, depth, height, width."""
        n, _, d, h, w = self.y_strides
        depth, height, width = self.tiling.axes
        return n, depth.out_step * d, height.out_step * h, width.out_step * w

    @abstractmethod
    def panels(self) -> Iterator[Panel]:
        """Where the weights of every row tile come from."""

    @abstractmethod
    def class_spans(self, origin: Corner, size: Corner) -> list[tuple[int, int]]:
        """Columns of a box for each class of row tiles."""

    def append(self, name: str, key: object, table: Table) -> tuple[int, int]:
        """Add a stretch of lines to a table; ``key`` finds it again."""
        start = self._lengths.get(name, 0)
        self._lengths[name] = start + len(table)
        self._lists.setdefault(name, []).append(table)
        self._stretches[name, key] = (start, start + len(table))
        return start, start + len(table)

    def known(self, name: str, key: object) -> tuple[int, int] | None:
        """The stretch that was added under this key."""
        return self._stretches.get((name, key))

    def joined(self, name: str, width: int) -> Table:
        """The whole table."""
        tables = self._lists.get(name)
        return np.concatenate(tables) if tables else np.zeros((0, width), np.int64)

    def fill_tasks(self) -> None:
        """One task per box, group and chunk of row tiles, with all that its box needs."""
        tiling = self.tiling
        groups = tiling.groups
        xn, xc, *_ = self.x_strides
        _, yc, *_ = self.y_strides
        place_strides = self.position_strides
        lines: list[tuple[int, ...]] = []
        classes: list[tuple[int, int]] = []
        # where the columns of a box begin, how it is packed, from where: alike in all images
        spots: dict[object, tuple[int, object, int]] = {}
        sections = [(section, list(self._chunks(section))) for section in self.sections]
        for number, (origin, size) in enumerate(tiling.boxes(self.box)):
            spot = (origin[1:], size)
            if spot not in spots:
                spots[spot] = (len(classes), *self.packing_of(origin, size))
                classes += self.class_spans(origin, size)
            base, key, start = spots[spot]
            first = self.line_start(origin[3])
            place = sum(o * s for o, s in zip(origin, place_strides, strict=True))
            for part, (section, chunks) in enumerate(sections):
                rows = self.known("pack_rows", (part, key))
                if rows is None:
                    packed = self.packed_rows(origin, size, section)
                    rows = self.append("pack_rows", (part, key), packed)
                rows = rows[0], rows[0] + (rows[1] - rows[0]) // self.row_lists
                for group in range(groups):
                    lines += [
                        (
                            origin[0] * xn + group * tiling.group_channels * xc + start,
                            place + group * tiling.out_channels * yc,
                            group * self.panel_size,
                            (number * len(sections) + part) * groups + group,
                            *rows,
                            -first,
                            tiling.axes[2].input_size - first,
                            base,
                            *NOTHING_AHEAD,
                            *chunk,
                        )
                        for chunk in chunks
                    ]
        self.tasks = np.array(lines, np.int64).reshape(-1, len(driver.TASK))
        self.classes = np.array(classes, np.int64).reshape(-1, 2)
        if self.fetches_input:
            first = driver.TASK.index("ahead")
            self.tasks[:, first : first + len(NOTHING_AHEAD)] = fetched(
                self.tasks,
                self.classes,
                self.rows,
                self.joined("pack_rows", len(driver.PACK_ROW)),
                self.x_strides[4],
                tiling.problem.item_size,
            )

    @property
    def fetches_input(self) -> bool:
        """Whether the kernel fetches the input of later boxes."""
        return False

    @property
    def row_lists(self) -> int:
        """Lists of packed rows that a box has; the tasks know where the first of them lies."""
        return 1

    @property
    def sections(self) -> list[range]:
        """The row tiles that share a packed input."""
        return [range(len(self.rows))]

    @property
    def axes_read(self) -> tuple[Stencil, Stencil, Stencil]:
        """The axes along which the input of a box lies."""
        return self.tiling.axes

    def packing_of(self, origin: Corner, size: Corner) -> tuple[object, int]:
        """What the packed rows of a box depend on, and the input element they count from.

        Boxes whose rows fall out of the input alike are packed alike, each from its corner.
        """
        axes, strides = self.axes_read, self.x_strides[2:]
        corner = [o * axis.in_step for o, axis in zip(origin[1:], axes, strict=True)]
        start = sum(place * stride for place, stride in zip(corner, strides, strict=True))
        return (size, self.met(0, origin), self.met(1, origin)), start

    def met(self, axis: int, origin: Corner) -> tuple[int, int]:
        """Which places of an outer axis, from the corner of a box on, it reads and are inputs."""
        along = self.tiling.axes[axis]
        corner, first = origin[1 + axis] * along.in_step, along.offsets[0]
        count = along.in_step * self.packing.grid.packed[1 + axis]
        return max(-corner, first), min(along.input_size - corner, first + count)

    def line_start(self, column: int) -> int:
        """Where along the last axis the packed lines of a box begin that starts at ``column``."""
        width = self.tiling.axes[2]
        return column * width.in_step + width.offsets[0]

    def _chunks(self, section: range) -> Iterator[tuple[int, int]]:
        """Row tiles split so that there are enough tasks, in steps of whole blocks."""
        tiling = self.tiling
        blocks = -(-len(section) // self.rows_per_block)
        boxes = max(tiling.box_count(self.box) * len(self.sections), 1)
        work = self.multiply_adds // boxes
        wanted = min(-(-tasks() // boxes), max(work // SMALLEST_TASK, 1))
        if self.depth < tiling.in_channels:
            resting = prod(self.box) * len(section) * self.row_height * tiling.compute_size
            wanted = max(wanted, -(-resting // RESTING_BYTES))
        step = -(-blocks // min(wanted, blocks)) * self.rows_per_block
        for start in range(section.start, section.stop, step):
            yield start, min(start + step, section.stop)

    @property
    @abstractmethod
    def row_height(self) -> int:
        """Output values that one row tile makes of a position."""

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that the kernel performs, those on cropped positions included."""
        taps = int((self.rows[:, 3] - self.rows[:, 2]).sum())
        positions = prod(self.tiling.whole)
        channels = self.tiling.groups * self.tiling.in_channels
        return positions * taps * self.step_weights * channels

    @property
    @abstractmethod
    def step_weights(self) -> int:
        """Weights that one input channel of one outer tap meets in a row tile."""

    def packed_rows(self, origin: Corner, size: Corner, section: range) -> Table:
        """Source and target of every packed row of a box, targets ascending."""
        packing, axes = self.packing, self.tiling.axes
        _, depth, height, _ = packing.grid.packed
        sn, sd, sh, _ = packing.grid.strides
        xn, _, xd, xh, xw = self.x_strides
        steps = (axes[0].in_step, axes[1].in_step)
        rd, rh, n, d, h = np.meshgrid(
            *map(np.arange, (*steps, size[0], depth, height)), indexing="ij"
        )
        inside = np.ones(n.shape, bool)
        source = n * xn + axes[2].offsets[0] * xw
        for number, index, residue, stride in ((0, d, rd, xd), (1, h, rh, xh)):
            axis, (first, stop) = axes[number], self.met(number, origin)
            place = axis.in_step * index + residue + axis.offsets[0]
            inside &= (place >= first) & (place < stop)
            source = source + place * stride
        target = (rd * steps[1] + rh) * self.planes * packing.plane + n * sn + d * sd + h * sh
        target = target * self.cell
        table = [np.where(inside, source, OUTSIDE).ravel(), target.ravel()]
        return np.stack(table, 1).astype(np.int64)

    @property
    @abstractmethod
    def cell(self) -> int:
        """Tile elements between neighbouring cells."""

    def outer_offset(self, d: int, h: int) -> int:
        """Cells from a position to the plane and row of an outer tap."""
        depth, height, _ = self.tiling.axes
        _, sd, sh, _ = self.packing.grid.strides
        down, row_d = divmod(d - depth.offsets[0], depth.in_step)
        across, row_h = divmod(h - height.offsets[0], height.in_step)
        plane = (row_d * height.in_step + row_h) * self.planes
        return plane * self.packing.plane + down * sd + across * sh

    def finish(self, tile_elements: int, register_tile: int, **more: int | Table) -> None:
        """Lay out scratch and fill the context."""
        tiling = self.tiling
        # register tiles that rest behind the tile begin with a cache line
        tile_elements = -(-tile_elements // 16) * 16
        tiles = 1
        if self.depth < tiling.in_channels:
            spans = self.classes[:, 1] - self.classes[:, 0]
            rows = self.tasks[:, -1] - self.tasks[:, -2]
            tiles += int(spans.max(initial=0) * rows.max(initial=0))
        scratch = (tile_elements + tiles * register_tile) * tiling.compute_size
        self.scratch_bytes = -(-scratch // 4096) * 4096
        values: dict[str, int | Table] = {
            "tasks": self.tasks,
            "task_count": len(self.tasks),
            "pack_rows": self.joined("pack_rows", len(driver.PACK_ROW)),
            "classes": self.classes,
            "rows": self.rows,
            "columns": self.columns,
            "taps": self.taps,
            "channels": tiling.in_channels,
            "depth": self.depth,
            "scratch_size": self.scratch_bytes,
            "x_channel": self.x_strides[1] * tiling.cell_channels,
            "x_count": tiling.group_channels,
            "x_width": self.x_strides[4],
            "tile_channel": self.packing.channel,
            "tile_width": self.packing.row,
            "tile_size": tile_elements,
            **more,
        }
        # how panels are filled, unless weights are read as they lie
        self.recipe: Recipe | None = None
        if not tiling.in_place:
            self.recipe = Recipe(tiling, self.panels(), self.panel_size, self.depth)
        # the arrays must live as long as their addresses
        self.arrays = {k: v for k, v in values.items() if not isinstance(v, int)}
        slots = (*driver.CONTEXT, *self.more_context)
        plain = {k: v if isinstance(v, int) else v.ctypes.data for k, v in values.items()}
        self.context = np.array([plain.get(name, 0) for name in slots], np.int64)


def tap_number(tiling: Tiling, d: Any, h: Any, w: Any) -> Any:
    """Index of a tap among all taps of the kernel."""
    _, height, width = tiling.kernel_sizes
    return (d * height + h) * width + w


def _strides(shape: tuple[int, ...], channels_last: bool) -> Strides:
    """Elements between neighbours along batch, channels, depth, height and width."""
    _, channels, *space = shape
    depth, height, width = [1] * (3 - len(space)) + space
    area = depth * height * width
    if channels_last:
        return area * channels, 1, height * width * channels, width * channels, channels
    return channels * area, area, height * width, width, 1
