"""Tiling of method ``minimal_positions``: minimal filtering where memory is channels-first."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from polyphase.arithmetic.problem import Problem
from polyphase.engine.cover import Grid
from polyphase.engine.filtering import Form, Group
from polyphase.engine.kernels import minimal_positions as kernel
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
from polyphase.engine.tiling import LINE_CYCLES, Corner, Packing, odd_lines

MOST_VECTORS = 4
# cycles to read and to make a vector of a packed row
LOAD_CYCLES = 2.0
FORM_CYCLES = 1.5


@dataclass(frozen=True)
class Choice:
    """A register tile, a box, and the input channels packed at a time, with estimated cycles."""

    box: Corner
    depth: int
    channels: int
    vectors: int
    cycles: float


class MinimalPositionsTiling(MinimalTiling):
    """All that the method decides about one problem on one target."""

    @cached_property
    def choice(self) -> Choice:
        """The quickest."""
        return min(self._choices(), key=lambda choice: choice.cycles)

    @property
    def side(self) -> int:
        """Neighbouring output channels that lie side by side in a panel."""
        return self.choice.channels

    def describe(self) -> str:
        """Register tile, box and channels packed at a time, for people."""
        choice = self.choice
        return (
            f"{choice.channels} channels x {choice.vectors} vectors of {self.lanes}, cells of "
            f"{self.cell_text}, boxes of {'x'.join(map(str, choice.box))}, "
            f"{choice.depth} channels at a time"
        )

    @property
    def row_tiles(self) -> int:
        """About how many rows of register tiles every box goes through: of four channels each."""
        outer = self.axes[0].out_step * self.axes[1].out_step
        return outer * -(-self.out_channels // 4)

    @cached_property
    def sections(self) -> list[Section]:
        """Groups of phases of depth and height that share a packed input."""
        return list(product(self.parts[0], self.parts[1]))

    # the last axis

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """What the planes hold along the last axis; of two that differ in sign, the first."""
        found: dict[Form, None] = {}
        for group in self.parts[2]:
            for form in group.forms:
                if form.opposite not in found:
                    found[form] = None
        return tuple(found)

    @cached_property
    def first_offset(self) -> int:
        """The first input offset that any plane reads along the last axis."""
        return min((offset for form in self.forms for offset in form.offsets), default=0)

    @cached_property
    def served(self) -> tuple[Group, ...]:
        """The groups of phases of the last axis, in the order in which products serve them."""
        return tuple(sorted(self.parts[2], key=lambda group: len(group.phases)))

    def plane_of(self, form: Form) -> tuple[int, bool]:
        """The plane that holds a form of the last axis, and whether with the other sign."""
        if form in self.forms:
            return self.forms.index(form), False
        return self.forms.index(form.opposite), True

    @cached_property
    def steps(self) -> tuple[tuple[int, int], ...]:
        """How many phases the products of the last axis serve, and how many products do."""
        found: dict[int, int] = {}
        for group in self.served:
            if group.products:
                count = len(group.phases)
                found[count] = found.get(count, 0) + len(group.products)
        return tuple(found.items())

    @cached_property
    def planes(self) -> int:
        """Planes of a packed channel."""
        return len(self.forms) * max(work.forms for work in self.work)

    def packing(self, box: Corner, spread: bool = False) -> Packing:
        """Cells that the input of a box takes: no plane has a border.

        The channels of a plane lie side by side, since a product goes through them.
        """
        plane = odd_lines(prod(box) + self.lanes)
        return Packing(Grid(box, box), box[3], plane, self.planes * plane)

    # choosing

    @cached_property
    def products(self) -> int:
        """Products of a cell, of all phases."""
        along = sum(served * count for served, count in self.steps)
        return along * sum(work.phases * work.products for work in self.work)

    @cached_property
    def kernel_shape(self) -> kernel.Shape:
        """What the machine code of the choice depends on."""
        first = self.first_offset
        return kernel.Shape(
            dtype=self.problem.dtype,
            channels=self.choice.channels,
            vectors=self.choice.vectors,
            phases=tuple(phase for group in self.served for phase in group.phases),
            together=self.together[2],
            span=self.spans[2],
            steps=self.steps,
            forms=tuple(
                tuple((offset - first, factor) for offset, factor in form.terms)
                for form in self.forms
            ),
            outputs=self.outputs,
            row_lanes=min(self.lanes, 1 << (self.choice.box[3] - 1).bit_length()),
        )

    def _choices(self) -> Iterator[Choice]:
        widest = max((served for served, _ in self.steps), default=1)
        for vectors in range(1, MOST_VECTORS + 1):
            most = (self.target.registers - 1 - vectors) // (widest * vectors)
            if most < 1:
                break
            blocks = -(-self.out_channels // most)
            channels = -(-self.out_channels // blocks)
            totals = self.outputs * channels * vectors
            totals *= self.axes[2].out_step * self.together[2]
            if totals > MOST_TOTALS and channels > 1:
                channels = max(1, channels * MOST_TOTALS // totals)
            for box, depth in self.boxes_of(vectors * self.lanes):
                yield self._choice(box, channels, vectors, depth)

    def _choice(self, box: Corner, channels: int, vectors: int, depth: int) -> Choice:
        width = vectors * self.lanes
        columns = -(-prod(box) // width)
        pieces = self.pieces(depth, kernel.LONGEST_CHAIN)
        blocks = -(-self.out_channels // channels)
        tile, first, packed = 0.0, 0.0, 0.0
        lines = -(-box[3] // self.lanes) * prod(box[:3]) * self.in_channels
        reads = max((form.first - self.first_offset for form in self.forms), default=0) + 1
        weave = self.axes[2].out_step * self.together[2]
        rows = channels * sum(served * count for served, count in self.steps)
        steps = sum(count for _, count in self.steps)
        step_cycles = sum(
            count * self.step_cycles(rows * vectors, rows + vectors, vectors * LINE_CYCLES)
            for rows, count in ((channels * served, count) for served, count in self.steps)
        )
        dense = prod(box) / self.lanes * self.in_channels
        for work in self.work:
            multiply = work.products * self.in_channels * step_cycles
            begin = COLUMN_CYCLES + pieces * work.products * steps * PRODUCT_CYCLES
            add = (2 * pieces - 1) * work.added * rows * vectors * ADD_CYCLES
            store = self.outputs * channels * weave * vectors * TOTAL_CYCLES
            tile += work.phases * blocks * (multiply + begin + add + store)
            far = work.products * self.in_channels * rows / 16 * FRESH_WEIGHT_CYCLES
            first += work.phases * blocks * far
            packed += lines * work.forms * (reads * LOAD_CYCLES + len(self.forms) * FORM_CYCLES)
            packed += dense * work.combined * len(self.forms) * LESS_CYCLES
        tiles = blocks * max(work.phases for work in self.work)
        packed *= self.packings(box, depth, tiles)
        cycles = self.box_count(box) * (columns * tile + first + packed)
        return Choice(box, depth, channels, vectors, self.shared(cycles, box, tiles))


def tiling(problem: Problem, target: Target, cache_bytes: int) -> MinimalPositionsTiling:
    """The quickest tiling over all ways to take positions together."""
    return quickest(MinimalPositionsTiling, problem, target, cache_bytes)
