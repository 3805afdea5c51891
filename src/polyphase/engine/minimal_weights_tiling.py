"""Tiling of method ``minimal_weights``: that of ``weights``, with positions taken in groups."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, product
from math import prod

from polyphase.arithmetic.problem import Problem
from polyphase.engine.kernels.weights_context import Sum, Sums
from polyphase.engine.minimal_weights_axis import GroupedAxis, grouped
from polyphase.engine.target import Target
from polyphase.engine.weights_cost import Work
from polyphase.engine.weights_sizes import Corner, Sizes, Tile
from polyphase.engine.weights_tiling import MOST_STREAMED, WeightsTiling

# cycles of a vector that is read or written while sums of one side are made: most come from the
# second-level cache
SUM_CYCLES = 4.8
# more products gain little, and the code of their sums takes seconds to compile
MOST_PRODUCTS = 400


@lru_cache(maxsize=16)
def axes_of(problem: Problem, target: Target) -> tuple[GroupedAxis, GroupedAxis, GroupedAxis]:
    """The three axes of a problem, in the groups that take the fewest products.

    Where groups of three positions would make too many, each with a sum of its own, in pairs.
    """
    reaches = Sizes(problem, target).sorted_reaches
    for most in (3, 2):
        depth, height, width = (grouped(reach, most) for reach in reaches)
        if prod(len(axis.products) for axis in (depth, height, width)) <= MOST_PRODUCTS:
            break
    return depth, height, width


class MinimalWeightsTiling(WeightsTiling):
    """All that the method decides about one problem on one target."""

    # sums of bfloat16 are none
    shares_cells = False

    def __init__(self, problem: Problem, target: Target, cache_bytes: int) -> None:
        self.grouped = axes_of(problem, target)
        self.x_sums = _sums(axis.x_sums for axis in self.grouped)
        self.phases = list(product(*(axis.phases for axis in self.grouped)))
        self.y_sums = [_sums(phase.sums for phase in phases) for phases in self.phases]
        self.x_count = prod(map(len, self.x_sums))
        # the first sum of each phase, and behind them the number of all
        counts = (prod(map(len, sums)) for sums in self.y_sums)
        *self.y_starts, self.y_count = accumulate(counts, initial=0)
        super().__init__(problem, target, cache_bytes)

    def describe(self) -> str:
        """Register tile, groups, box and division of the sum, for people."""
        groups = "x".join(str(axis.positions) for axis in self.grouped[-self.problem.rank :])
        return f"{super().describe()}, positions in groups of {groups}"

    def register_tiles(self) -> Iterator[Tile]:
        """Register tiles that fit the registers: one product each."""
        kinds = tuple(dict.fromkeys(self.y_sums))
        for tile in super().register_tiles():
            shape = tile.shape
            if shape.kind in ("outputs", "inputs") and shape.taps == 1 and not shape.spaced:
                shape = replace(shape, x_sums=self.x_sums, y_sums=kinds)
                yield replace(tile, shape=shape, exact=False)

    def tiles(self, tile: Tile) -> int:
        """Register tiles of a block of weights."""
        return prod(len(axis.products) for axis in self.grouped)

    def tiles_met(self, tile: Tile) -> float:
        """Register tiles that a position takes part in, groups at the border made full."""
        return prod(axis.work for axis in self.grouped)

    def groups_of(self, box: Corner) -> int:
        """Groups of positions of a box."""
        return box[0] * prod(axis.count(n) for axis, n in zip(self.grouped, box[1:], strict=True))

    def full(self, box: Corner) -> Corner:
        """A box whose last groups are made full."""
        d, h, w = (axis.full(n) for axis, n in zip(self.grouped, box[1:], strict=True))
        return box[0], d, h, w

    def plane(self, groups: int, pitch: int) -> int:
        """Elements of one sum, in all groups: vectors may reach beyond the last channel."""
        return (-(-groups * pitch // self.lanes) + 1) * self.lanes

    def x_elements(self, tile: Tile, box: Corner) -> int:
        """Elements of the sums of a block of input channels."""
        return self.x_count * self.plane(self.groups_of(box), tile.shape.x_pitch(self.lanes))

    def y_elements(self, tile: Tile, box: Corner) -> int:
        """Elements of the sums of a block of output channels."""
        return self.y_count * self.plane(self.groups_of(box), tile.shape.y_pitch(self.lanes))

    def _box(self, positions: int) -> Corner:
        """A box of about this many positions, whole groups of them, as much of a row as may be."""
        box = [1, *(min(axis.group, axis.reach.size) for axis in self.grouped)]
        left = max(positions // prod(box), 1)
        for axis in (3, 2, 1, 0):
            groups = -(-self.positions[axis] // box[axis])
            together = -(-groups // -(-groups // left))
            box[axis] = min(box[axis] * together, self.positions[axis])
            left = max(left // together, 1)
        return box[0], box[1], box[2], box[3]

    def _stays_near(self, work: Work) -> bool:
        """Whether the sums of a block of both sides do: they are several times its cells."""
        return work.x_panel + work.y_panel <= MOST_STREAMED * self.budget

    def _pack_x(self, tile: Tile, box: Corner, blocks: int) -> float:
        vectors = -(-tile.shape.x_pitch(self.lanes) // self.lanes)
        summed = self._summing(box, blocks * vectors, [self.x_sums])
        return super()._pack_x(tile, box, blocks) + summed

    def _pack_y(self, tile: Tile, box: Corner, blocks: int) -> float:
        vectors = -(-tile.shape.y_pitch(self.lanes) // self.lanes)
        summed = self._summing(box, blocks * vectors, self.y_sums)
        return super()._pack_y(tile, box, blocks) + summed

    def _summing(self, box: Corner, vectors: int, sums: list[Sums]) -> float:
        """Cycles that the sums of so many vectors of a cell take, next to those of arithmetic."""
        pace = self.target.fmas / 2
        return self.groups_of(box) * vectors * _moved(sums) * SUM_CYCLES * pace


def _sums(axes: Iterator[list[Sum]]) -> Sums:
    depth, height, width = map(tuple, axes)
    return depth, height, width


def _moved(sums: list[Sums]) -> int:
    """Vectors that are read and written for a group."""
    return sum(
        prod(len({o for s in axis for o, _ in s}) for axis in kind) + prod(map(len, kind))
        for kind in sums
    )
