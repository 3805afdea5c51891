"""Tiling of method ``minimal_channels``: minimal filtering where memory is channels-last."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from polyphase.arithmetic.problem import Problem
from polyphase.engine.cover import Grid
from polyphase.engine.kernels import minimal_channels as kernel
from polyphase.engine.minimal import (
    ADD_CYCLES,
    COLUMN_CYCLES,
    FRESH_WEIGHT_CYCLES,
    LESS_CYCLES,
    MOST_TOTALS,
    PRODUCT_CYCLES,
    TOTAL_CYCLES,
    MinimalTiling,
    Section,
    quickest,
)
from polyphase.engine.target import Target
from polyphase.engine.tiling import (
    LINE_CYCLES,
    WEIGHT_LINE_CYCLES,
    Corner,
    Packing,
)

MOST_VECTORS = 4
# cycles to pack a vector of a pixel
PACK_CYCLES = 2.5


@dataclass(frozen=True)
class Choice:
    """A register tile, a box, and the input channels packed at a time, with estimated cycles."""

    box: Corner
    depth: int
    positions: int
    vectors: int
    cycles: float


class MinimalChannelsTiling(MinimalTiling):
    """All that the method decides about one problem on one target."""

    @cached_property
    def choice(self) -> Choice:
        """The quickest."""
        return min(self._choices(), key=lambda choice: choice.cycles)

    @cached_property
    def kernel_shape(self) -> kernel.Shape:
        """What the machine code of the choice depends on."""
        return kernel.Shape(
            dtype=self.problem.dtype,
            positions=self.choice.positions,
            cell=self.cell_elements(self.choice.depth),
            vectors=self.choice.vectors,
            span=self.spans[2],
            outputs=self.outputs,
        )

    def describe(self) -> str:
        """Register tile, box and channels packed at a time, for people."""
        choice = self.choice
        return (
            f"{choice.positions} cells of {self.cell_text} x {choice.vectors} vectors of "
            f"{self.lanes}, boxes of {'x'.join(map(str, choice.box))}, "
            f"{choice.depth} channels at a time"
        )

    @property
    def row_tiles(self) -> int:
        """About how many rows of register tiles every box goes through: of two vectors each."""
        phases = prod(axis.out_step for axis in self.axes)
        return phases * -(-self.out_channels // (2 * self.lanes))

    @cached_property
    def sections(self) -> list[Section]:
        """Groups of phases of all axes that share a packed input."""
        return list(product(*self.parts))

    @cached_property
    def planes(self) -> int:
        """Planes of a packed box."""
        return max(work.forms for work in self.work)

    def cell_elements(self, depth: int) -> int:
        """Tile elements of a pixel: whole lines, an odd number of them.

        Pixels a power of two apart would push each other out of the first-level cache.
        """
        lines = -(-depth // self.lanes)
        return (lines | 1) * self.lanes

    def packing(self, box: Corner, spread: bool = False) -> Packing:
        """Cells that the input of a box takes: no plane has a border."""
        plane = prod(box)
        return Packing(Grid(box, box), box[3], plane, self.planes * plane)

    # choosing

    @cached_property
    def products(self) -> int:
        """Products of a cell, of all phases."""
        return sum(work.phases * work.products for work in self.work)

    def _choices(self) -> Iterator[Choice]:
        widest = min(MOST_VECTORS, -(-self.out_channels // self.lanes))
        for vectors in range(1, widest + 1):
            most = (self.target.registers - 1) // vectors - 1
            most = max(1, min(most, MOST_TOTALS // (self.outputs * vectors)))
            for positions in sorted({max(1, 3 * most // 4), max(1, most - 1), most}):
                for box, depth in self.boxes_of(positions):
                    yield self._choice(box, positions, vectors, depth)

    def _choice(self, box: Corner, positions: int, vectors: int, depth: int) -> Choice:
        columns = -(-prod(box) // positions)
        pieces = self.pieces(depth, kernel.LONGEST_CHAIN)
        blocks = -(-self.out_channels // (vectors * self.lanes))
        sums = positions * vectors
        tile, first, packed = 0.0, 0.0, 0.0
        fetch = positions / self.lanes * LINE_CYCLES
        fetch += vectors * WEIGHT_LINE_CYCLES * self.pace
        step = self.step_cycles(sums, positions + vectors, fetch)
        lines = prod(box) * self.in_channels / self.lanes
        far = self.lanes * self.compute_size / 64 * FRESH_WEIGHT_CYCLES
        for work in self.work:
            rows = work.phases * blocks
            multiply = work.products * self.in_channels * step
            begin = COLUMN_CYCLES + pieces * work.products * PRODUCT_CYCLES
            add = (
                2 * pieces - 1
            ) * work.added * sums * ADD_CYCLES + self.outputs * sums * TOTAL_CYCLES
            tile += rows * (multiply + begin + add)
            first += rows * work.products * self.in_channels * vectors * far
            packed += lines * (work.forms * PACK_CYCLES + work.combined * LESS_CYCLES)
        pixels = prod(box) * prod(self.spans)
        packed += pixels * self.pixel_cycles(depth)
        rows = blocks * max(work.phases for work in self.work)
        packed *= self.packings(box, depth, rows)
        cycles = self.box_count(box) * (columns * tile + first + packed)
        return Choice(box, depth, positions, vectors, self.shared(cycles, box, rows))


def tiling(problem: Problem, target: Target, cache_bytes: int) -> MinimalChannelsTiling:
    """The quickest tiling over all ways to take positions together."""
    return quickest(MinimalChannelsTiling, problem, target, cache_bytes)
