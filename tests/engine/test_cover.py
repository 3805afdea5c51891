"""Register tiles over a box: no position is left out, and there are as many as the plan counts."""

from itertools import pairwise, product

import pytest

from polyphase.engine.cover import Grid, Pattern

SIZES = [(1, 1, 1, 1), (1, 1, 1, 9), (1, 1, 3, 4), (1, 2, 3, 4), (3, 1, 1, 5), (3, 2, 2, 3)]
# cells that a packed axis is longer than the box
BORDERS = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 3), (2, 1, 2)]


GRIDS = [
    Grid(size, (size[0], *(n + more for n, more in zip(size[1:], border, strict=True))))
    for size, border in product(SIZES, BORDERS)
]


def positions(grid):
    """The cells of all positions, by the definition."""
    places = product(*map(range, grid.size))
    return [sum(i * s for i, s in zip(p, grid.strides, strict=True)) for p in places]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.size}-{g.packed}")
def test_stretches_are_whole(grid):
    starts, length = grid.runs
    cells = [cell for start in starts for cell in range(start, start + length)]
    assert cells == positions(grid)
    # and as long as they can be
    assert all(start + length < after for start, after in pairwise(starts))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.size}-{g.packed}")
def test_every_position_is_in_a_tile(grid):
    patterns = [Pattern(1, width, 0) for width in (1, 2, 3, 4, 7, 16)]
    if grid.size[2] > 1:
        patterns += [Pattern(2, width, grid.strides[2]) for width in (1, 2, 3, 8)]
    if grid.size[0] > 1 and len(grid.runs[0]) <= grid.size[0]:
        patterns += [Pattern(2, width, grid.strides[0]) for width in (1, 2, 8)]
    for pattern in patterns:
        bases = pattern.bases(grid)
        assert pattern.count(grid) == len(bases), pattern
        covered = [
            base + group * pattern.stride + cell
            for base in bases
            for group in range(pattern.groups)
            for cell in range(pattern.width)
        ]
        wanted = positions(grid)
        assert set(wanted) <= set(covered), pattern
        # rows side by side may run into each other
        if pattern.groups == 1:
            assert len(covered) == len(set(covered)), pattern
