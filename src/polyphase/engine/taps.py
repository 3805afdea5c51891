"""Tiling of method ``taps``: register tiles of output channels by positions, lanes along taps."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from polyphase.arithmetic.phases import Phase
from polyphase.arithmetic.problem import Problem
from polyphase.engine.cover import Grid
from polyphase.engine.kernels import taps as kernel
from polyphase.engine.kernels.driver import LONGEST_CHAIN
from polyphase.engine.lines import in_lines, lie_in_lines
from polyphase.engine.stencil import Stencil, stencils
from polyphase.engine.target import Target
from polyphase.engine.tiling import (
    LINE_CYCLES,
    PACK_CYCLES,
    UNFETCHED_CYCLES,
    Corner,
    Packing,
    Tiling,
    odd_lines,
    tasks,
)

# channels or positions of a register tile, at the most
MOST_SIDE = 8
# cycles that a vector of taps takes beside its products, and a line of an input channel: more where
# the next one lies in another row of the input, which nothing fetches ahead
STEP_CYCLES = 0.5
LINE_BEGIN_CYCLES = 1.5
ROW_BEGIN_CYCLES = 8.0
# cycles to add a vector of sums to those of the blocks before and to set it aside
REST_CYCLES = 2.0
# cycles to add up the lanes of a vector of sums, to store that alone, and with its neighbours
SUM_CYCLES = 3.0
ALONE_CYCLES = 10.0
PIXEL_CYCLES = 4.0
# cycles more for a line of weights that comes from beyond the second-level cache
FAR_LINE_CYCLES = 5.0
# cycles to begin a row of the input, and to pack a vector of it if channels must be transposed
ROW_CYCLES = 12.0
SQUARE_CYCLES = 6.0


@dataclass(frozen=True)
class Choice:
    """A register tile, a box, and the input channels packed at a time, with estimated cycles."""

    box: Corner
    depth: int
    channels: int
    positions: int
    cycles: float


class TapsTiling(Tiling):
    """All that the method decides about one problem on one target.

    Its problem is the one that the method reads in memory, as :func:`read` returns it. If weights
    lie channels-last, then all taps of an output lie in lines one after another: the rows of taps
    are then what input channels are elsewhere, and each meets the output's rows in its own input
    rows. ``outer`` has the axes that these belong to.
    """

    def __init__(self, problem: Problem, target: Target, cache_bytes: int) -> None:
        super().__init__(read(problem), target, cache_bytes)
        self._weights_last = lie_in_lines(problem)
        self.outer = self.axes[:2]
        if self._weights_last:
            # what the base class takes for input channels
            depth, height = map(_row_by_row, self.outer)
            self.axes = depth, height, self.axes[2]
            self.in_channels = prod(self.kernel_sizes[:2])

    @property
    def outer_offsets(self) -> list[range]:
        """Where the first position meets each tap of depth and of height, those beyond it too."""
        axes = self.problem.geometry.axes[:-1]
        offsets = [
            range(-axis.begin, axis.kernel_size * axis.dilation - axis.begin, axis.dilation)
            for axis in axes
        ]
        return [range(1)] * (2 - len(offsets)) + offsets

    @cached_property
    def choice(self) -> Choice:
        """The quickest."""
        return min(self._choices(), key=lambda choice: choice.cycles)

    @property
    def in_place(self) -> bool:
        """Weights are read as they lie."""
        return True

    @property
    def weights_last(self) -> bool:
        """Weights lie as the input does, where there is such memory for them."""
        return self._weights_last

    @property
    def packing_cycles(self) -> float:
        """None: nothing is packed."""
        return 0.0

    @cached_property
    def line(self) -> int:
        """Taps of a line."""
        return taps_in_line(self.problem)

    @property
    def vectors(self) -> int:
        """Vectors of a line."""
        return -(-self.line // self.lanes)

    @property
    def lines(self) -> int:
        """Lines of taps of an input channel."""
        return prod(len(axis.phases[0].taps) for axis in self.axes) // self.line

    @cached_property
    def kernel_shape(self) -> kernel.Shape:
        """What the machine code of the choice depends on."""
        choice = self.choice
        return kernel.Shape(
            self.problem.dtype,
            choice.channels,
            choice.positions,
            self.line,
            self.in_last,
            self.out_last,
        )

    def describe(self) -> str:
        """Register tile, box and channels packed at a time, for people."""
        choice = self.choice
        what = "rows of taps" if self.weights_last else "channels"
        return (
            f"{choice.channels} channels x {choice.positions} positions, lines of {self.line}, "
            f"boxes of {'x'.join(map(str, choice.box))}, {choice.depth} {what} at a time"
        )

    def packing(self, box: Corner, spread: bool = False) -> Packing:
        """Cells that the input of a box takes; a position is ``in_step`` cells wide."""
        width = self.axes[2]
        row = box[3] + width.reach // width.in_step
        grid = Grid(box, (box[0], *self.outer_cells(box), row))
        plane = prod(grid.packed)
        cells = self.axes[0].in_step * self.axes[1].in_step * plane * width.in_step
        # what is written a vector at a time may begin in the last cell
        return Packing(grid, row * width.in_step, plane, odd_lines(cells + self.lanes))

    def _choices(self) -> Iterator[Choice]:
        registers = self.target.registers
        # an outer axis may meet no input, and then there are no lines
        longest = max(1, LONGEST_CHAIN // max(1, self.lines * self.vectors))
        for channels in range(1, MOST_SIDE + 1):
            rows = -(-self.out_channels // channels)
            share = prod(self.whole) * rows // tasks()
            boxes: dict[Corner, int] = {}
            for halvings in range(self.in_channels.bit_length()):
                depth = min(-(-self.in_channels >> halvings), longest)
                if self.in_last:
                    # pixels are packed a vector of channels at a time
                    depth = -(-depth // self.lanes) * self.lanes
                box = self._even(self._largest(1, False, depth, max(share, 1)))
                boxes.setdefault(box, depth)
            for positions in range(1, MOST_SIDE + 1):
                if (channels + 1) * positions < registers - 1:
                    for box, depth in boxes.items():
                        yield self._choice(channels, positions, box, depth)

    def _even(self, box: Corner) -> Corner:
        """About the same box, but rows are split into equal parts."""
        parts = -(-self.whole[3] // box[3])
        return *box[:3], -(-self.whole[3] // parts)

    def _choice(self, channels: int, positions: int, box: Corner, depth: int) -> Choice:
        problem = self.problem
        rows = -(-self.out_channels // channels)
        columns = -(-prod(box) // positions)
        sums = channels * positions
        # positions side by side share inputs
        step_in = self.axes[2].in_step
        fresh = min(1.0, ((positions - 1) * step_in + self.line) / (positions * self.line))
        fetch = (positions * fresh + channels) * LINE_CYCLES * self.pace
        step = self.step_cycles(sums, channels + positions, fetch)
        in_rows = self.lines > 1 or self.weights_last
        begin = ROW_BEGIN_CYCLES if in_rows else LINE_BEGIN_CYCLES
        in_line = self.vectors * (step + STEP_CYCLES) + begin
        each = self.lines * self.in_channels * in_line
        blocks = -(-self.in_channels // depth)
        store = sums * (SUM_CYCLES + (blocks - 1) * REST_CYCLES)
        store += positions * PIXEL_CYCLES if self.out_last else sums * ALONE_CYCLES
        packing = self.packing(box)
        residues = self.axes[0].in_step * self.axes[1].in_step
        rows_packed = prod(packing.grid.packed[:3]) * residues * self.in_channels
        each_row = -(-packing.row // self.lanes)
        if self.in_last:
            packed = rows_packed * each_row * SQUARE_CYCLES
        else:
            packed = rows_packed * (ROW_CYCLES + each_row * PACK_CYCLES)
        packed *= self.packings(box, depth, rows)
        weights = self.out_channels * self.in_channels * self.lines * self.line
        far = weights * self.compute_size / 64 * FAR_LINE_CYCLES
        cycles = self.box_count(box) * (columns * rows * (each + store) + packed + far)
        if problem.channels_last and self.from_memory:
            input_lines = prod(problem.input_shape) * problem.item_size / 64
            cycles += input_lines * UNFETCHED_CYCLES * self.pace
        return Choice(box, depth, channels, positions, self.shared(cycles, box, rows))


def read(problem: Problem) -> Problem:
    """The problem that the method reads in memory: in lines where weights lie in such."""
    return in_lines(problem) if lie_in_lines(problem) else problem


def _row_by_row(axis: Stencil) -> Stencil:
    """An outer axis as one row of taps meets it: an input for every output."""
    return Stencil(1, 1, (Phase(0, 1, range(1), range(1)),), axis.output_size, axis.output_size)


def taps_in_line(problem: Problem) -> int:
    """Taps of an output that lie side by side: those along the last axis."""
    return len(stencils(problem)[2].phases[0].taps)
