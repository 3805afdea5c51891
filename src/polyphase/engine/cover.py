"""How register tiles cover a box of output positions, and where their results go.

A box is packed as rows of ``pitch`` cells; a position's cell is its index in that packing. A
register tile covers ``groups`` runs of ``width`` cells, ``stride`` cells apart. Cells that are no
position (borders between rows) are computed and thrown away, so the pattern with fewest tiles wins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grid:
    """Extent of a box in images, depth, height and width, and the cells that its packing takes."""

    size: tuple[int, int, int, int]
    packed: tuple[int, int, int, int]

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Cells between neighbours along images, depth, height and width."""
        _, depth, height, width = self.packed
        return depth * height * width, height * width, width, 1

    @property
    def runs(self) -> tuple[list[int], int]:
        """Where each stretch of positions without a gap starts, and how long all of them are.

        They are alike because no axis is packed shorter than it is.
        """
        length = self.size[3]
        outer = list(zip(self.size, self.strides, strict=True))[:3]
        while outer and (outer[-1][0] == 1 or outer[-1][1] == length):
            length *= outer.pop()[0]
        starts = [0]
        for count, stride in outer:
            starts = [start + i * stride for start in starts for i in range(count)]
        return starts, length


@dataclass(frozen=True, slots=True)
class Pattern:
    """Cells that one register tile covers."""

    groups: int
    width: int
    stride: int

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.groups * self.width

    def count(self, grid: Grid) -> int:
        """Number of tiles: as many as there are bases, without listing them."""
        if self.groups == 1:
            return _flat_count(grid, self.width)
        images, depth, height, width = grid.size
        if self.stride == grid.strides[2] and height > 1:
            return images * depth * -(-height // self.groups) * -(-width // self.width)
        return -(-images // self.groups) * -(-depth * height * width // self.width)

    def bases(self, grid: Grid) -> list[int]:
        """First cell of every tile, so that each position is covered exactly once."""
        if self.groups == 1:
            return list(chain.from_iterable(_flat(grid, self.width)))
        images, depth, height, width = grid.size
        sn, sd, sh, _ = grid.strides
        if self.stride == sh and height > 1:
            return [
                n * sn + d * sd + h * sh + w
                for n in range(images)
                for d in range(depth)
                for h in range(0, height, self.groups)
                for w in range(0, width, self.width)
            ]
        # whole images side by side: each must be a single run
        return [
            n * sn + cell
            for n in range(0, images, self.groups)
            for cell in range(0, depth * height * width, self.width)
        ]


def _flat(grid: Grid, width: int) -> Iterator[range]:
    """First cells of the tiles of each stretch; the last tile of one may reach into the next."""
    starts, length = grid.runs
    covered = 0
    for start in starts:
        bases = range(max(start, covered), start + length, width)
        covered = bases[-1] + width if bases else covered
        yield bases


def _flat_count(grid: Grid, width: int) -> int:
    """The number of those tiles."""
    starts, length = grid.runs
    each = -(-length // width)
    if len(starts) == 1 or starts[1] - starts[0] >= each * width:
        return len(starts) * each
    total = covered = 0
    for start in starts:
        first = covered if covered > start else start
        tiles = -((first - start - length) // width)
        if tiles > 0:
            total += tiles
            covered = first + tiles * width
    return total


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go: elements between neighbouring positions and between groups of a tile.

    Each position owns ``per_position`` contiguous elements, cut off where the row ends.
    """

    strides: tuple[int, int, int, int]
    per_position: int
    row_elements: int
    group: int


def column_tables(
    grid: Grid,
    pattern: Pattern,
    limits: tuple[int, int],
    output: Output,
) -> tuple[Table, Table]:
    """Columns ``(tile, y, whole, segment_start, segment_stop)``, segments ``(source, y, count)``.

    ``limits`` are the positions of depth and height that the phase at hand really has. Segments are
    the contiguous valid pieces of a column; a whole column can be stored without looking at them.
    """
    bases = np.array(pattern.bases(grid), np.int64)
    lane = np.arange(pattern.width, dtype=np.int64)
    group = np.arange(pattern.groups, dtype=np.int64) * pattern.stride
    cell = bases[:, None, None] + group[None, :, None] + lane
    place = []
    rest = cell
    for stride in grid.strides:
        index, rest = np.divmod(rest, stride)
        place.append(index)
    stop = (grid.size[0], limits[0], limits[1], grid.size[3])
    valid = np.ones(cell.shape, bool)
    for index, bound in zip(place, stop, strict=True):
        valid &= index < bound
    y = np.zeros_like(cell)
    for index, stride in zip(place, output.strides, strict=True):
        y += index * stride
    left = output.row_elements - place[3] * output.strides[3]
    count = np.where(valid, np.minimum(left, output.per_position), 0)
    begins = valid.copy()
    # a position cut short by the row end is never followed by its neighbour
    follows = (count[..., :-1] == output.per_position) & (
        y[..., 1:] == y[..., :-1] + output.per_position
    )
    begins[..., 1:] &= ~follows
    y_group = y[:, :, 0] - y[:, :1, 0]
    regular = (y_group == np.arange(pattern.groups) * output.group).all(1)
    whole = regular & (count == output.per_position).all((1, 2))
    whole &= begins.sum((1, 2)) == pattern.groups
    used = valid.any((1, 2))
    kept = np.flatnonzero(used)
    origin = y[:, 0, 0]
    owner, run, first = np.nonzero(begins)
    source = (run * pattern.width + first) * output.per_position
    # a segment is as long as the valid elements up to the next beginning
    flat_start = np.flatnonzero(begins)
    totals = np.concatenate([[0], np.cumsum(count)])
    length = totals[np.append(flat_start[1:], begins.size)] - totals[flat_start]
    segments = np.stack([source, y[begins] - origin[owner], length], 1)
    starts = np.searchsorted(owner, kept)
    stops = np.searchsorted(owner, kept, "right")
    columns = np.stack([bases[kept], origin[kept], whole[kept], starts, stops], 1)
    return columns.astype(np.int64), segments.astype(np.int64)
