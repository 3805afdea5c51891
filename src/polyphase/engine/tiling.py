"""What all kernel methods decide alike: boxes of positions, how their input is packed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

from polyphase.arithmetic.problem import Problem
from polyphase.engine.cover import Grid
from polyphase.engine.squares import LEAST_ROWS
from polyphase.engine.stencil import stencils
from polyphase.engine.target import Target, cpus

# share of the second-level cache that the packed tile may take
TILE_SHARE = 0.6
# positions that a box should have before the weights are read again for the next one
WIDE_BOX = 96
# a block of input channels makes at least this many products of an output
LEAST_PRODUCTS = 64
# cycles to bring a line from the second-level cache: of the tile, or of weights, read in order
LINE_CYCLES = 2.2
WEIGHT_LINE_CYCLES = 1.5
# cycles to load a pair of channels: unlike a number, it is spread over a vector by itself
PAIR_CYCLES = 0.65
# bytes of an input that the caches do not keep from the layer before
LARGE_INPUT = 2 << 20
# cycles to wait for a line of such an input, more where not all lines of a pixel are read at once,
# and for each time but the first
UNFETCHED_CYCLES = 8
APART_LINE_CYCLES = 13
RUN_CYCLES = 40
# cycles more for a line of weights that comes from beyond the second-level cache
FAR_WEIGHT_CYCLES = 3
# cycles to begin a task
TASK_CYCLES = 400
# share of a fetch that arithmetic does not hide
UNHIDDEN = 0.03
# cycles to pack a vector
PACK_CYCLES = 4
# cycles to bring a weight into a panel with its neighbours, or alone
ENTRY_CYCLES = 3
LONE_CYCLES = 8
# cycles to bring a weight from channels-last memory into the order of the definition
ORDER_CYCLES = 2
# weights that are worth another thread
WEIGHTS_PER_THREAD = 100_000
# cycles to begin packing, however few they are
CALL_CYCLES = 4000
# bytes of sums that may rest in scratch between blocks of channels
RESTING_BYTES = 3 << 19
# weights that serve only so many columns of register tiles are fetched before they are needed
FEW_COLUMNS = 20
# tasks per processor, so that a late thread costs little, and at least this many for all
TASKS_PER_CPU = 4
LEAST_TASKS = 16
# multiply-adds of the smallest task
SMALLEST_TASK = 400_000

Corner = tuple[int, int, int, int]


def tasks() -> int:
    """Tasks that a problem should be divided into; the same for any number of threads."""
    return max(LEAST_TASKS, TASKS_PER_CPU * cpus())


@dataclass(frozen=True, slots=True)
class Packing:
    """Layout of a packed box, in cells: its grid, and what a row, a plane, a channel takes.

    ``row`` is what is written per row; neighbouring rows may share their border of zeros.
    """

    grid: Grid
    row: int
    plane: int
    channel: int


class Costed(Protocol):
    """A choice of a method, with its estimated cycles."""

    @property
    def cycles(self) -> float:
        """Estimated cycles of all cores, also those in which one waits for another."""


class Named(Protocol):
    """What machine code depends on."""

    def name(self, target: Target) -> str:
        """Name of the kernel: type, method, tile, target."""


class Tiling(ABC):
    """Decisions about one problem on one target.

    ``cell_channels`` neighbouring input channels share a cell where the target multiplies pairs of
    them; then ``in_channels`` counts those cells, the last of which may lack a channel.
    """

    # whether the method's kernel can multiply pairs
    shares_cells = False

    def __init__(self, problem: Problem, target: Target, cache_bytes: int) -> None:
        self.problem = problem
        self.target = target
        self.lanes = target.lanes(problem.dtype)
        self.axes = stencils(problem)
        self.compute_size = 8 if problem.dtype == "f64" else 4
        self.groups = problem.groups
        self.group_channels = problem.in_channels // problem.groups
        together = target.together(problem.dtype)
        self.cell_channels = together if self.shares_cells and self.group_channels > 1 else 1
        self.in_channels = -(-self.group_channels // self.cell_channels)
        self.out_channels = problem.out_channels // problem.groups
        self.in_last = lies_last(problem.channels_last, problem.in_channels, problem.input_size)
        self.out_last = lies_last(problem.channels_last, problem.out_channels, problem.output_size)
        self._boxes: dict[tuple[bool, int, int], Corner] = {}
        self._counts: dict[Corner, int] = {}
        # estimates are in the time of two multiply-adds of vectors, in which slower arithmetic lets
        # the rest of a core do more
        self.pace = target.fmas / 2
        self.budget = int(cache_bytes * TILE_SHARE) // self.compute_size

    @cached_property
    def kernel_sizes(self) -> tuple[int, int, int]:
        """Taps along depth, height and width."""
        sizes = [axis.kernel_size for axis in self.problem.geometry.axes]
        depth, height, width = [1] * (3 - len(sizes)) + sizes
        return depth, height, width

    @cached_property
    def whole(self) -> Corner:
        """Images, depth, height and width positions of the entire output."""
        depth, height, width = (axis.positions for axis in self.axes)
        return self.problem.batch, depth, height, width

    @cached_property
    def _most_taps(self) -> int:
        """Most taps of a phase."""
        return prod(max(len(phase.taps) for phase in axis.phases) for axis in self.axes)

    def channels(self, cells: int) -> int:
        """Input channels that so many cells hold, at the most."""
        return min(cells * self.cell_channels, self.group_channels)

    @property
    @abstractmethod
    def choice(self) -> Costed:
        """Register tile, box and what else the method decides, and what that is estimated at."""

    @property
    @abstractmethod
    def kernel_shape(self) -> Named:
        """What the machine code of the choice depends on."""

    @property
    def cycles(self) -> float:
        """Estimated cycles of all cores, also those in which one waits for another."""
        return self.choice.cycles

    @property
    def expansion(self) -> float:
        """Panel elements per weight."""
        return 1.0

    @property
    def side(self) -> int:
        """Neighbouring output channels that lie side by side in a panel."""
        return self.lanes

    @property
    def in_place(self) -> bool:
        """Whether the kernel reads weights and biases as they lie, without panels."""
        return False

    @property
    def weights_last(self) -> bool:
        """Whether weights read as they lie are those of channels-last memory."""
        return False

    @property
    def entry_cycles(self) -> float:
        """Cycles to bring an element into a panel."""
        return ENTRY_CYCLES if self.side >= LEAST_ROWS else LONE_CYCLES

    @property
    def packing_cycles(self) -> float:
        """Estimated cycles of all cores to pack the weights."""
        weights = prod(self.problem.weight_shape)
        cycles = weights * self.expansion * self.entry_cycles
        if self.problem.channels_last and self.problem.rank > 1:
            # they lie as the input does
            cycles += weights * ORDER_CYCLES
        # few weights leave processors idle
        busy = max(1, min(cpus(), weights // WEIGHTS_PER_THREAD))
        return cycles * cpus() / busy * self.pace + CALL_CYCLES

    @property
    def kernel_name(self) -> str:
        """Name of the kernel: type, method, tile, target."""
        return self.kernel_shape.name(self.target)

    @abstractmethod
    def describe(self) -> str:
        """Register tile, box and channels packed at a time, for people."""

    @abstractmethod
    def packing(self, box: Corner, spread: bool) -> Packing:
        """Cells that the input of a box takes."""

    def outer_cells(self, box: Corner) -> tuple[int, int]:
        """Depth and height of a packed box, per residue of the input's stride."""
        depth, height, _ = self.axes
        return (
            box[1] + depth.reach // depth.in_step,
            box[2] + height.reach // height.in_step,
        )

    def box(
        self,
        width: int,
        spread: bool,
        weights: int,
        row_tiles: int,
        parts: int,
    ) -> tuple[Corner, int]:
        """The box to work on and the input channels that are packed at a time.

        ``width`` is the number of positions of a register tile, which meets ``weights`` for each
        channel and tap. A box as large as the cache allows makes the most of each weight that is
        read; if it stays small, or if the weights of a row tile would not stay in the cache from
        one column to the next, there are fewer channels at a time. ``parts`` tasks share the work,
        which in each box is about ``row_tiles`` rows of register tiles.
        """
        depth = self.in_channels
        total, taps = prod(self.whole), self._most_taps
        # pixels are packed a vector of channels at a time
        least = self.lanes if self.in_last else 1
        while depth * self.cell_channels * taps > LEAST_PRODUCTS and depth > least:
            wide = prod(self._largest(width, spread, depth, total)) >= min(WIDE_BOX, total // 2)
            if wide and depth * taps * weights <= self.budget:
                break
            depth = self.half(depth)
        return self.box_of(width, spread, depth, row_tiles, parts), depth

    def box_of(self, width: int, spread: bool, depth: int, row_tiles: int, parts: int) -> Corner:
        """The box for so many input channels at a time."""
        # small enough to share the work
        share = prod(self.whole) * self.groups * row_tiles // parts
        return self._largest(width, spread, depth, max(share, width))

    @cached_property
    def _work(self) -> int:
        """About how many multiply-adds there are."""
        problem = self.problem
        forward = problem.operator == "conv_transpose"
        size = problem.input_size if forward else problem.output_size
        return prod((problem.batch, *size, *problem.weight_shape))

    @property
    def packed_parts(self) -> int:
        """Parts of the work on a box that each pack its input in their own way."""
        return 1

    def tasks_of(self, box: Corner, row_tiles: int) -> int:
        """Tasks that share such a part, which has about so many row tiles."""
        parts = max(1, self.box_count(box) * self.packed_parts)
        return max(1, min(row_tiles, -(-tasks() // parts), self._work // (parts * SMALLEST_TASK)))

    def shared(self, cycles: float, box: Corner, row_tiles: int) -> float:
        """Cycles with those to begin all tasks, and to wait for the last of them."""
        count = self.box_count(box) * self.packed_parts * self.tasks_of(box, row_tiles)
        rounds = -(-count // cpus())
        return (cycles + count * TASK_CYCLES * self.pace) * rounds * cpus() / max(1, count)

    def packings(self, box: Corner, depth: int, row_tiles: int) -> int:
        """How often the input of a box is packed: in each of its tasks.

        What stays in the tile from task to task is packed once in each thread.
        """
        found = self.tasks_of(box, row_tiles)
        return found if depth < self.in_channels else min(found, cpus())

    @cached_property
    def far(self) -> bool:
        """Whether the weights are more than the second-level cache holds."""
        return prod(self.problem.weight_shape) / self.cell_channels * TILE_SHARE > self.budget

    def half(self, depth: int) -> int:
        """Half as many input channels, of pixels in whole vectors."""
        whole = self.lanes if self.in_last else 1
        return -(-depth // (2 * whole)) * whole

    def _largest(self, width: int, spread: bool, depth: int, most: int) -> Corner:
        """The largest box of at most ``most`` positions whose packed input fits the cache."""
        key = (spread, depth, most)
        if key not in self._boxes:
            self._boxes[key] = self._fitting(*key)
        box = self._boxes[key]
        if box[3] == self.whole[3]:
            return box
        # a split row keeps whole register tiles
        return 1, 1, 1, min(max(box[3] // width, 1) * width, self.whole[3])

    def _fitting(self, spread: bool, depth: int, most: int) -> Corner:
        box = [1, 1, 1, 1]
        for axis in (3, 2, 1, 0):
            low, high = 1, self.whole[axis]
            while low < high:
                middle = (low + high + 1) // 2
                box[axis] = middle
                trial = (box[0], box[1], box[2], box[3])
                cells = self.packing(trial, spread).channel
                if cells * self.cell_elements(depth) <= self.budget and prod(trial) <= most:
                    low = middle
                else:
                    high = middle - 1
            extent = self.whole[axis]
            parts = -(-extent // max(low, 1))
            # parts of equal size
            box[axis] = low if axis == 3 else -(-extent // max(parts, 1))
            if parts > 1:
                break
        return box[0], box[1], box[2], box[3]

    def step_cycles(self, fmas: int, loads: int, fetch: float) -> float:
        """Cycles for one input channel of one outer tap: arithmetic, loads, fetches, or latency."""
        others = max(loads / 2, (fmas + loads + 6) / 7, 4.0) * self.pace
        if self.cell_channels > 1:
            others = max(others, loads * PAIR_CYCLES)
        return max(fmas / 2, others, fetch) + UNHIDDEN * fetch

    @cached_property
    def from_memory(self) -> bool:
        """Whether the input lies in memory, not in a cache, when it is read."""
        return prod(self.problem.input_shape) * self.problem.item_size >= LARGE_INPUT

    def pixel_cycles(self, depth: int, fetched: bool = False) -> float:
        """Cycles that a pixel costs because its input lies in memory.

        ``depth`` of its channels are read at a time; ``fetched`` says that they are sent for ahead.
        """
        if not (self.in_last and self.from_memory):
            return 0.0
        runs, each = -(-self.in_channels // depth), 0 if fetched else UNFETCHED_CYCLES
        # all channels where each lane has its own
        lines = self.problem.in_channels // self.groups * self.problem.item_size / 64
        if runs > 1:
            each += APART_LINE_CYCLES
        return (lines * each + (runs - 1) * RUN_CYCLES) * self.pace

    def cell_elements(self, depth: int) -> int:
        """Tile elements of a cell when ``depth`` input channels are packed at a time."""
        return depth

    def boxes(self, box: Corner) -> Iterator[tuple[Corner, Corner]]:
        """Origin and extent of every box, those at the far border cut to size."""
        for n in range(0, self.whole[0], box[0]):
            for d in range(0, self.whole[1], box[1]):
                for h in range(0, self.whole[2], box[2]):
                    for w in range(0, self.whole[3], box[3]):
                        origin = (n, d, h, w)
                        size = [
                            min(b, a - o) for b, a, o in zip(box, self.whole, origin, strict=True)
                        ]
                        yield origin, (size[0], size[1], size[2], size[3])

    def box_count(self, box: Corner) -> int:
        """Number of boxes, over all groups."""
        if box not in self._counts:
            parts = (-(-a // max(b, 1)) for a, b in zip(self.whole, box, strict=True))
            self._counts[box] = prod(parts) * self.groups
        return self._counts[box]


def lies_last(channels_last: bool, channels: int, size: tuple[int, ...]) -> bool:
    """Whether channels count as fastest: one pixel or one channel lies alike in both layouts."""
    return (channels_last and channels > 1) or max(size) == 1


def odd_lines(cells: int) -> int:
    """Cells rounded up to an odd number of cache lines, so that channels spread over the sets."""
    return (-(-cells // 16) | 1) * 16
