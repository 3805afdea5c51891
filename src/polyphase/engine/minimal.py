"""Tiling of method ``minimal``: how many positions share their products, and what is in registers.

Where a phase has two taps side by side, two neighbouring positions take three products instead of
four (see ``filtering``); so a cell of the method is one position of an axis, or two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from polyphase.arithmetic.problem import Problem
from polyphase.engine.cover import Grid
from polyphase.engine.filtering import Form, Group, groups
from polyphase.engine.kernels import minimal as kernel
from polyphase.engine.stencil import Stencil, stencils
from polyphase.engine.target import Target
from polyphase.engine.tiling import LINE_CYCLES, Corner, Packing, Tiling, odd_lines, tasks

Together = tuple[int, int, int]

# blocks of fewer input channels would spend their time on adding to the totals
LEAST_DEPTH = 32
# vectors of totals that stay in the first-level cache beside what a product reads
MOST_TOTALS = 320
MOST_VECTORS = 4
# products along the last axis are unrolled: no longer window than this
LONGEST_WINDOW = 8
# cycles to add a vector to a total, to open and store a total; to read and to make a vector of a
# packed row, to take it from another
ADD_CYCLES = 2.0
TOTAL_CYCLES = 5.0
LOAD_CYCLES = 2.0
FORM_CYCLES = 1.5
LESS_CYCLES = 1.5
# cycles more for a line of weights that no column of the box has read before
FAR_LINE_CYCLES = 2.0


@dataclass(frozen=True)
class Choice:
    """A register tile, a box, and the input channels packed at a time, with estimated cycles."""

    box: Corner
    depth: int
    channels: int
    vectors: int
    cycles: float


class MinimalTiling(Tiling):
    """All that the method decides about one problem once ``together`` is settled."""

    def __init__(
        self, problem: Problem, target: Target, cache_bytes: int, together: Together
    ) -> None:
        super().__init__(problem, target, cache_bytes)
        self.together = together
        self.parts = tuple(
            groups(axis.phases, count) for axis, count in zip(self.axes, together, strict=True)
        )
        self.choice = min(self._choices(), key=lambda choice: choice.cycles)

    @property
    def whole(self) -> Corner:
        """Images, depth, height and width of the output in cells."""
        depth, height, width = (
            -(-axis.positions // count)
            for axis, count in zip(self.axes, self.together, strict=True)
        )
        return self.problem.batch, depth, height, width

    @property
    def cycles(self) -> float:
        """Estimated cycles of one core for the whole problem."""
        return self.choice.cycles

    @property
    def kernel_name(self) -> str:
        """Name of the kernel: type, method, tile, target."""
        return self.kernel_shape.name(self.target)

    def describe(self) -> str:
        """Register tile, box and channels packed at a time, for people."""
        choice = self.choice
        return (
            f"{choice.channels} channels x {choice.vectors} vectors of {self.lanes}, cells of "
            f"{'x'.join(map(str, self.together[3 - self.problem.rank :]))} positions, boxes of "
            f"{'x'.join(map(str, choice.box))} cells, {choice.depth} channels at a time"
        )

    @property
    def row_tiles(self) -> int:
        """Rows of register tiles that every box goes through, four channels each."""
        outer = self.axes[0].out_step * self.axes[1].out_step
        return outer * -(-self.out_channels // 4)

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

    @property
    def first_offset(self) -> int:
        """The first input offset that any plane reads along the last axis."""
        return min((offset for form in self.forms for offset in form.offsets), default=0)

    @cached_property
    def steps(self) -> tuple[tuple[kernel.Step, Group, int], ...]:
        """The products of the last axis, with their group and their number in it."""
        found = []
        for group in self.parts[2]:
            for number, one in enumerate(group.products):
                negative = one.form not in self.forms
                form = one.form.opposite if negative else one.form
                plane = self.forms.index(form) if form else 0
                step = kernel.Step(plane, group.phases, one.outputs, negative)
                found.append((step, group, number))
        return tuple(found)

    # the outer axes

    @property
    def outer(self) -> list[tuple[Group, Group]]:
        """Groups of phases of depth and height that share a packed input."""
        return list(product(self.parts[0], self.parts[1]))

    @property
    def pairs(self) -> list[int]:
        """The outer axes whose cells are two positions."""
        return [axis for axis in (0, 1) if self.together[axis] == 2]

    @property
    def planes(self) -> int:
        """Planes of a packed channel."""
        return len(self.forms) * max(len(d.forms) * len(h.forms) for d, h in self.outer)

    def packing(self, box: Corner, spread: bool = False) -> Packing:
        """Cells that the input of a box takes: no plane has a border.

        The channels of a plane lie side by side, since a product goes through them.
        """
        plane = odd_lines(prod(box) + self.lanes)
        return Packing(Grid(box, box), box[3], plane, self.planes * plane)

    # choosing

    @cached_property
    def kernel_shape(self) -> kernel.Shape:
        """What the machine code of the choice depends on."""
        first = self.first_offset
        return kernel.Shape(
            dtype=self.problem.dtype,
            channels=self.choice.channels,
            vectors=self.choice.vectors,
            phases=self.axes[2].out_step,
            together=self.together[2],
            steps=tuple(step for step, _, _ in self.steps),
            forms=tuple(
                (form.plus - first, None if form.minus is None else form.minus - first)
                for form in self.forms
            ),
            pairs=len(self.pairs),
            row_lanes=min(self.lanes, 1 << (self.choice.box[3] - 1).bit_length()),
        )

    def _choices(self) -> Iterator[Choice]:
        widest = max((len(step.phases) for step, _, _ in self.steps), default=1)
        for vectors in range(1, MOST_VECTORS + 1):
            most = (self.target.registers - 1 - vectors) // (widest * vectors)
            if most < 1:
                break
            blocks = -(-self.out_channels // most)
            channels = -(-self.out_channels // blocks)
            totals = (1 << len(self.pairs)) * channels * vectors
            totals *= self.axes[2].out_step * self.together[2]
            if totals > MOST_TOTALS and channels > 1:
                channels = max(1, channels * MOST_TOTALS // totals)
            depth = self.in_channels
            while True:
                yield self._choice(channels, vectors, depth)
                if depth <= LEAST_DEPTH:
                    break
                depth = -(-depth // 2)

    def _choice(self, channels: int, vectors: int, depth: int) -> Choice:
        share = prod(self.whole) * self.groups * self.row_tiles // tasks()
        width = vectors * self.lanes
        box = self._largest(width, False, depth, max(share, width))
        columns = -(-prod(box) // width)
        pieces = sum(
            -(-min(depth, self.in_channels - first) // kernel.LONGEST_CHAIN)
            for first in range(0, self.in_channels, depth)
        )
        blocks = -(-self.out_channels // channels)
        tile, first, packed = 0.0, 0.0, 0.0
        lines = -(-box[3] // self.lanes) * prod(box[:3]) * self.in_channels
        reads = max((form.plus - self.first_offset for form in self.forms), default=0) + 1
        weave = self.axes[2].out_step * self.together[2]
        for depths, heights in self.outer:
            outer = list(product(depths.products, heights.products))
            phases = len(depths.phases) * len(heights.phases)
            multiply = len(outer) * sum(
                self._step_cycles(channels * len(step.phases), vectors) * self.in_channels
                for step, _, _ in self.steps
            )
            far = len(outer) * self.in_channels * FAR_LINE_CYCLES / 16
            far *= sum(channels * len(step.phases) for step, _, _ in self.steps)
            spread = sum(len(d.outputs) * len(h.outputs) for d, h in outer)
            add = (
                pieces
                * spread
                * sum(
                    channels * len(step.phases) * vectors * len(step.outputs) * ADD_CYCLES
                    for step, _, _ in self.steps
                )
            )
            store = (1 << len(self.pairs)) * channels * weave * vectors * TOTAL_CYCLES
            tile += phases * blocks * (multiply + add + store)
            first += phases * blocks * far
            made = len(depths.forms) * len(heights.forms)
            less = 2 * made - sum(f.minus is None for f in depths.forms) * len(heights.forms)
            less -= sum(f.minus is None for f in heights.forms) * len(depths.forms)
            packed += lines * made * (reads * LOAD_CYCLES + len(self.forms) * FORM_CYCLES)
            dense = prod(box) / self.lanes * self.in_channels
            packed += dense * less * len(self.forms) * LESS_CYCLES
        cycles = self.box_count(box) * (columns * tile + first + packed)
        return Choice(box, depth, channels, vectors, cycles)

    def _step_cycles(self, rows: int, vectors: int) -> float:
        """Cycles for one input channel of one product."""
        fmas, loads = rows * vectors, rows + vectors
        return max(fmas / 2, loads / 2, vectors * LINE_CYCLES, (fmas + loads + 4) / 7, 4.0)


def paired(axis: Stencil) -> bool:
    """Whether two positions of an axis can share products."""
    return axis.positions > 1 and any(
        len(one.outputs) > 1 for group in groups(axis.phases, 2) for one in group.products
    )


def tiling(problem: Problem, target: Target, cache_bytes: int) -> MinimalTiling:
    """The quickest tiling over all ways to take positions together."""
    ways = [(1, 2) if paired(axis) else (1,) for axis in stencils(problem)]
    found = [
        MinimalTiling(problem, target, cache_bytes, (d, h, w))
        for d, h, w in product(*ways)
        if max(d, h, w) > 1
    ]
    return min(found, key=lambda one: one.cycles)
