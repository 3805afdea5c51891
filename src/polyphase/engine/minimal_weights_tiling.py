"""Tiling of method ``minimal_weights``: that of ``weights``, with positions taken in groups."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from polyphase.arithmetic.problem import Problem
from polyphase.engine.kernels.weights_context import Shape
from polyphase.engine.minimal_weights_axis import GroupedAxis, grouped
from polyphase.engine.minimal_weights_planes import Planes
from polyphase.engine.target import Target
from polyphase.engine.weights_sizes import Corner, Sizes, Tile
from polyphase.engine.weights_tiling import WeightsTiling

# cycles of a vector that goes through a step
STEP_CYCLES = 2.5


def axes_of(problem: Problem, target: Target) -> tuple[GroupedAxis, ...]:
    """The three axes of a problem in the groups that take the fewest products."""
    return tuple(grouped(reach) for reach in Sizes(problem, target).sorted_reaches)


class MinimalWeightsTiling(WeightsTiling):
    """All that the method decides about one problem on one target."""

    def __init__(self, problem: Problem, target: Target, cache_bytes: int) -> None:
        self.grouped = axes_of(problem, target)
        super().__init__(problem, target, cache_bytes)

    def describe(self) -> str:
        """Register tile, groups, box and division of the sum, for people."""
        groups = "x".join(str(axis.positions) for axis in self.grouped[-self.problem.rank :])
        return f"{super().describe()}, positions in groups of {groups}"

    def register_tiles(self) -> Iterator[Tile]:
        """Register tiles that fit the registers: one product each."""
        for tile in super().register_tiles():
            shape = tile.shape
            if shape.kind in ("outputs", "inputs") and shape.taps == 1 and not shape.spaced:
                yield replace(tile, shape=replace(shape, filtered=True), exact=False)

    def tiles(self, tile: Tile) -> int:
        """Register tiles of a block of weights."""
        return prod(len(axis.products) for axis in self.grouped)

    def steps(self, tile: Tile) -> float:
        """Register tiles that a position takes part in, groups at the border made full."""
        return prod(axis.work for axis in self.grouped)

    def x_planes(self, shape: Shape, box: Corner) -> Planes:
        """How the input of a box is packed."""
        cells = [axis.x_cells(n) for axis, n in zip(self.grouped, box[1:], strict=True)]
        planes = [axis.x_planes for axis in self.grouped]
        return Planes(planes, (box[0], *cells), shape.x_pitch(self.lanes), self.lanes)

    def y_planes(self, shape: Shape, box: Corner) -> Planes:
        """How the output of a box is packed."""
        cells = [axis.y_cells(n) for axis, n in zip(self.grouped, box[1:], strict=True)]
        planes = [axis.y_planes for axis in self.grouped]
        return Planes(planes, (box[0], *cells), shape.y_pitch(self.lanes), self.lanes)

    def x_elements(self, tile: Tile, box: Corner) -> int:
        """Elements of a packed block of input channels."""
        return self.x_planes(tile.shape, box).elements

    def y_elements(self, tile: Tile, box: Corner) -> int:
        """Elements of a packed block of output channels."""
        return self.y_planes(tile.shape, box).elements

    def _box(self, positions: int) -> Corner:
        """A box of about this many positions, whole groups of them."""
        n, *box = super()._box(positions)
        d, h, w = (
            min(-(-length // axis.group) * axis.group, axis.reach.size)
            for axis, length in zip(self.grouped, box, strict=True)
        )
        return n, d, h, w

    def _pack_x(self, tile: Tile, box: Corner, blocks: int) -> float:
        through = self._through(self.x_planes(tile.shape, box), "x") * blocks
        return super()._pack_x(tile, box, blocks) + through

    def _pack_y(self, tile: Tile, box: Corner, blocks: int) -> float:
        through = self._through(self.y_planes(tile.shape, box), "y") * blocks
        return super()._pack_y(tile, box, blocks) + through

    def _through(self, planes: Planes, side: str) -> float:
        """The steps of a block of channels, in cycles."""
        count = 0
        for number in range(3):
            others = 1
            for a, axis in enumerate(self.grouped):
                if a < number:
                    others *= axis.positions if side == "x" else len(axis.y_raw)
                elif a > number:
                    others *= axis.x_planes if side == "x" else axis.y_planes
            axis = self.grouped[number]
            count += others * len(axis.x_steps if side == "x" else axis.y_steps)
        return count * planes.size / self.lanes * STEP_CYCLES
