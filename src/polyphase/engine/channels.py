"""Tiling of method ``channels``: register tiles of positions by vectors of adjacent outputs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from math import gcd, prod

from polyphase.arithmetic.phases import Phase
from polyphase.arithmetic.problem import Problem
from polyphase.engine.cover import Grid, Pattern
from polyphase.engine.kernels import channels as kernel
from polyphase.engine.target import Target, cpus
from polyphase.engine.tiling import (
    FAR_WEIGHT_CYCLES,
    FEW_COLUMNS,
    LINE_CYCLES,
    PACK_CYCLES,
    WEIGHT_LINE_CYCLES,
    Corner,
    Packing,
    Tiling,
    odd_lines,
    tasks,
)

# phases of the last axis fill vectors only if they leave few lanes empty
LEAST_FILL = 0.75
# cycles to scatter one vector
SCATTER_CYCLES = 28
# the same where the channels fall on few sets of the first-level cache
CROWDED_CYCLES = 250
# cycles to write some of a pixel's channels, the others much later: memory likes longer runs
APART_CYCLES = 11
# cycles to bring a line of a box that outgrows the second-level cache
FAR_LINE_CYCLES = 14
CACHE_SETS = 64
CACHE_WAYS = 8
# a register tile has at most this many vectors of adjacent outputs
MOST_VECTORS = 4
# positions that lie apart form groups where a tile of neighbours computes so many times too much
LEAST_WASTE = 1.1
# groups of a register tile, each with an address of its own
MOST_GROUPS = 8

Phases = tuple[tuple[Phase, ...], tuple[Phase, ...], tuple[Phase, ...]]


@dataclass(frozen=True)
class Choice:
    """A way to cover the output: box, block of channels, register tile, estimated cycles."""

    box: Corner
    depth: int
    pattern: Pattern
    vectors: int
    columns: int
    cycles: float


class ChannelsTiling(Tiling):
    """All that the method decides about one problem on one target."""

    shares_cells = True

    def __init__(self, problem: Problem, target: Target, cache_bytes: int) -> None:
        super().__init__(problem, target, cache_bytes)
        self._packings: dict[tuple[Corner, int], tuple[Packing, float]] = {}
        # channels that do not meet are lanes that do not meet: one group serves them all
        self.lanewise = (
            self.in_last
            and self.out_last
            and self.groups > 1
            and self.group_channels == self.out_channels == 1
        )
        if self.lanewise:
            self.groups, self.out_channels = 1, problem.out_channels

    @cached_property
    def choice(self) -> Choice:
        """The quickest."""
        return min(self._choices(), key=lambda choice: choice.cycles)

    @cached_property
    def scattered(self) -> bool:
        """Whether the lanes are output channels that lie apart in memory."""
        if self.out_last or self.one_position:
            return False
        return self._fill(self.axes[2].out_step) < LEAST_FILL

    @cached_property
    def kinds(self) -> list[Phases]:
        """Phases of each axis in a stretch, the outputs of one position that share row tiles."""
        depth, height, width = (axis.phases for axis in self.axes)
        if self.one_position and not self.out_last:
            return [(depth, height, width)]
        if self.out_last or self.scattered:
            return [((d,), (h,), (w,)) for d, h, w in product(depth, height, width)]
        return [((d,), (h,), width) for d, h in product(depth, height)]

    @cached_property
    def channel_sets(self) -> list[range]:
        """Output channels in a stretch; every set is combined with every kind, kinds fastest.

        Within a stretch the phases of the last axis vary fastest, the channels slowest.
        """
        together = self.out_last or self.scattered or self.one_position
        if together:
            return [range(self.out_channels)]
        return [range(c, c + 1) for c in range(self.out_channels)]

    @property
    def one_position(self) -> bool:
        """Whether a single position makes an entire image, so that all of it lies side by side."""
        return all(axis.out_step == axis.output_size for axis in self.axes)

    def _fill(self, count: int) -> float:
        """Share of the lanes that carry something when ``count`` outputs fill vectors."""
        return count / (-(-count // self.lanes) * self.lanes)

    @cached_property
    def mixed(self) -> bool:
        """Whether lanes of one vector differ in the inputs that they meet."""
        if self.one_position and not self.out_last:
            return any(_differ(axis.phases) for axis in self.axes)
        # channels of one phase never do
        width = self.choice.vectors * self.lanes
        along = [phases[2] for phases in self.kinds]
        return any(_differ(p[i : i + width]) for p in along for i in range(0, len(p), width))

    @property
    def adjacent(self) -> int:
        """Number of outputs in a stretch."""
        return len(self.channel_sets[0]) * prod(len(part) for part in self.kinds[0])

    @property
    def stretch_count(self) -> int:
        """Number of stretches."""
        return len(self.kinds) * len(self.channel_sets)

    @property
    def pixel(self) -> int:
        """Tile elements of a pixel: all packed channels where they are adjacent in memory."""
        return self.cell_elements(self.choice.depth) if self.in_last else 1

    def cell_elements(self, depth: int) -> int:
        """Tile elements of a cell: all channels where each lane has its own, and some to spare.

        Positions near a power of two apart would push each other out of the first-level cache.
        """
        elements = self.problem.in_channels if self.lanewise else depth
        apart = self.axes[2].in_step * self.compute_size
        spares = (0, self.lanes, 1) if self.in_last else (0,)
        positions = self.target.registers
        found = (elements + spare for spare in spares)
        return next((n for n in found if _spread(n * apart, positions)), elements)

    @cached_property
    def kernel_shape(self) -> kernel.Shape:
        """What the machine code of the choice depends on."""
        step = self.pixel * self.axes[2].in_step
        return kernel.Shape(
            dtype=self.problem.dtype,
            cells=tuple(i * step for i in range(self.choice.pattern.width)),
            vectors=self.choice.vectors,
            cell=self.pixel,
            channels_last=self.in_last,
            fetch_weights=self.choice.columns <= FEW_COLUMNS,
            fetch_input=self._fetches(self.choice.box, self.choice.depth),
            scattered=self.scattered,
            lanewise=self.lanewise,
            paired=self.cell_channels > 1,
            mixed=self.mixed,
            groups=self.choice.pattern.groups,
        )

    def _fetches(self, box: Corner, depth: int) -> bool:
        """Whether the input comes from memory, that of a box lies together, and it is the larger.

        Where it is the output, that is what takes the time.
        """
        whole = box[3] == self.whole[3] and depth == self.in_channels
        together = whole and self.in_last and self.groups == 1
        return together and self.problem.operator == "conv" and self.from_memory

    def describe(self) -> str:
        """Register tile, box and channels packed at a time, for people."""
        choice = self.choice
        return (
            f"{choice.pattern.size} positions x {choice.vectors} vectors of {self.lanes}, boxes of "
            f"{'x'.join(map(str, choice.box))} positions, "
            f"{self.channels(choice.depth)} channels at a time"
        )

    @property
    def row_tiles(self) -> int:
        """About how many rows of register tiles every box goes through: of two vectors each."""
        return self.stretch_count * -(-self.adjacent // (2 * self.lanes))

    def packing(self, box: Corner, spread: bool = False) -> Packing:
        """Cells that the input of a box takes; a position is ``in_step`` cells wide."""
        width = self.axes[2]
        row = box[3] + width.reach // width.in_step
        shared = 0
        if width.in_step == 1 and box[3] == width.positions:
            first, last = width.offsets[0], width.offsets[-1]
            shared = max(min(-first, last, row - (width.input_size - first)), 0)
        grid = Grid(box, (box[0], *self.outer_cells(box), row - shared))
        # rows of whole vectors reach into the next plane; rows of pixels are packed in their order
        plane = prod(grid.packed) + shared + (0 if self.in_last else self.lanes)
        residues = self.axes[0].in_step * self.axes[1].in_step
        cells = residues * plane * width.in_step
        return Packing(
            grid, row * width.in_step, plane, cells if self.in_last else odd_lines(cells)
        )

    def panels_per_stretch(self, vectors: int) -> int:
        """Row tiles that cover one stretch."""
        return -(-self.adjacent // (vectors * self.lanes))

    def _taps(self, vectors: int) -> int:
        """Outer taps over all row tiles: each goes through those that any of its lanes has."""
        if self.out_last or self.scattered:
            # every phase by itself
            counts = [sum(len(phase.offsets) for phase in axis.phases) for axis in self.axes]
            return prod(counts) * self.panels_per_stretch(vectors)
        width = vectors * self.lanes
        total = 0
        for depth, height, along in self.kinds:
            parts = [along[i : i + width] for i in range(0, len(along), width)]
            if self.one_position or len(along) == 1:
                parts = [along] * self.panels_per_stretch(vectors)
            total += _distinct(depth) * _distinct(height) * sum(map(_distinct, parts))
        return total * len(self.channel_sets)

    def _scatter_cycles(self, vectors: int) -> int:
        """Cycles to scatter a vector: planes a power of two apart push each other out of cache."""
        lines, rest = divmod(
            prod(axis.output_size for axis in self.axes) * self.problem.item_size, 64
        )
        sets = CACHE_SETS if rest else CACHE_SETS // gcd(CACHE_SETS, lines)
        crowded = vectors * self.lanes > sets * CACHE_WAYS
        return CROWDED_CYCLES if crowded else SCATTER_CYCLES

    def _choices(self) -> Iterator[Choice]:
        most = min(MOST_VECTORS, -(-self.adjacent // self.lanes))
        # where each box fetches its weights from afar, fewer boxes may be worth an idle processor
        parts = (tasks(), cpus()) if self.far else (tasks(),)
        for vectors in range(1, most + 1):
            taps = self._taps(vectors)
            largest = (self.target.registers - 1) // vectors - 1
            # a short row of the output makes a small tile of its own
            row = min(self.whole[3], largest)
            for positions in sorted({row, *range(max(1, largest // 2), largest + 1)}):
                ways = (way for n in parts for way in self._ways(positions, vectors, n))
                for box, depth in dict.fromkeys(ways):
                    yield self._choice(positions, vectors, taps, box, depth)

    def _ways(self, positions: int, vectors: int, parts: int) -> Iterator[tuple[Corner, int]]:
        """A wide box; and those of longer runs of channels, which memory likes."""
        rows = self.row_tiles
        box, least = self.box(positions, False, vectors * self.lanes, rows, parts)
        yield box, least
        panels = self.panels_per_stretch(vectors) * self.stretch_count
        if self.packings(box, least, panels) > 1:
            # smaller ones that no two tasks pack
            yield self.box_of(positions, False, least, 1, parts), least
        depth = self.in_channels
        while self.in_last and self.from_memory and depth > least:
            yield self.box_of(positions, False, depth, rows, parts), depth
            depth = self.half(depth)

    def _choice(self, positions: int, vectors: int, taps: int, box: Corner, depth: int) -> Choice:
        packing, packed = self._packed(box, depth)
        pattern, columns = self._pattern(positions, packing.grid)
        panels = self.panels_per_stretch(vectors) * self.stretch_count
        fmas = positions * vectors
        loads = vectors + (fmas if self.lanewise else positions)
        lines = positions / self.lanes
        if not self.in_last:
            lines = min(lines * self.axes[2].in_step + 1, positions)
        tile = packing.channel * self.cell_elements(depth)
        line_cycles = LINE_CYCLES if tile <= self.budget else FAR_LINE_CYCLES
        fetch = lines * line_cycles + vectors * WEIGHT_LINE_CYCLES * self.pace
        step = self.step_cycles(fmas, loads, fetch)
        store = fmas * (self._scatter_cycles(vectors) if self.scattered else 2)
        if self.out_last and panels > self.stretch_count:
            store += positions * APART_CYCLES
        arithmetic = columns * (taps * (step * self.in_channels + 6) + panels * store)
        boxes = self.box_count(box)
        cycles = boxes * (arithmetic + packed * self.packings(box, depth, panels))
        if self.far:
            lines = taps * self.in_channels * vectors * self.lanes * self.compute_size / 64
            cycles += boxes * lines * FAR_WEIGHT_CYCLES
        cycles = self.shared(cycles, box, panels)
        return Choice(box, depth, pattern, vectors, columns, cycles)

    def _packed(self, box: Corner, depth: int) -> tuple[Packing, float]:
        """How a box is packed, and in how many cycles."""
        if (box, depth) not in self._packings:
            packing = self.packing(box)
            vectors = packing.channel * self.cell_elements(self.in_channels) / self.lanes
            cycles = vectors * PACK_CYCLES
            cycles += packing.channel * self.pixel_cycles(depth, self._fetches(box, depth))
            self._packings[box, depth] = packing, cycles
        return self._packings[box, depth]

    def _pattern(self, positions: int, grid: Grid) -> tuple[Pattern, int]:
        """The pattern of so many positions that needs the fewest columns, and their number."""
        plain = Pattern(1, positions, 0)
        columns = plain.count(grid)
        if columns * positions <= LEAST_WASTE * prod(grid.size):
            return plain, columns
        sn, _, sh, _ = grid.strides
        # images side by side must each be a single run of positions
        single = grid.size[0] > 1 and len(grid.runs[0]) <= grid.size[0]
        found = [(columns, 1, plain)]
        for groups in range(2, min(positions, MOST_GROUPS) + 1):
            if positions % groups == 0:
                width = positions // groups
                strides = [sh] * (grid.size[2] > 1) + [sn] * single
                patterns = [Pattern(groups, width, stride) for stride in strides]
                found += [(pattern.count(grid), groups, pattern) for pattern in patterns]
        columns, _, pattern = min(found, key=lambda entry: entry[:2])
        return pattern, columns


@cache
def _spread(apart: int, count: int) -> bool:
    """Whether the first-level cache holds places that lie so many bytes apart all at once."""
    lines = {i * apart // 64 for i in range(count)}
    return max(Counter(line % CACHE_SETS for line in lines).values()) <= CACHE_WAYS


def _differ(phases: tuple[Phase, ...]) -> bool:
    return len({tuple(phase.offsets) for phase in phases}) > 1


def _distinct(phases: tuple[Phase, ...]) -> int:
    """Distinct input offsets of some phases of one axis."""
    return len({offset for phase in phases for offset in phase.offsets})
