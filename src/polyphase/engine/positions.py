"""Tiling of method ``positions``: register tiles of output channels by vectors of positions."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import gcd, prod

from polyphase.arithmetic.phases import Phase
from polyphase.arithmetic.problem import Problem
from polyphase.engine.cover import Grid, Pattern
from polyphase.engine.kernels import positions as kernel
from polyphase.engine.target import Target
from polyphase.engine.tiling import (
    FAR_WEIGHT_CYCLES,
    FEW_COLUMNS,
    LINE_CYCLES,
    PACK_CYCLES,
    Corner,
    Packing,
    Tiling,
    odd_lines,
    tasks,
)

# a window of more offsets than this goes through the tap table instead of being unrolled
LONGEST_WINDOW = 10
# unless its phases have different numbers of taps: the table would lead some of them astray
LONGEST_UNEVEN_WINDOW = 24
# a register tile has at most this many columns; more would only lengthen the code
MOST_COLUMNS = 8
# cycles to store a vector, to spill it first, and to copy a piece of what was spilled
STORE_CYCLES = 2
SPILL_CYCLES = 2
PIECE_CYCLES = 4


@dataclass(frozen=True)
class Choice:
    """A way to cover the output: packing, box, register tile, and its estimated cycles.

    With ``spread`` the tile holds a shifted copy of each row for every offset of the last axis, so
    that rows need no border and short ones fill whole vectors.
    """

    spread: bool
    box: Corner
    depth: int
    channels: int
    pattern: Pattern
    vectors: int
    columns: int
    cycles: float


class PositionsTiling(Tiling):
    """All that the method decides about one problem on one target."""

    shares_cells = True

    def __init__(self, problem: Problem, target: Target, cache_bytes: int) -> None:
        super().__init__(problem, target, cache_bytes)
        # elements of the innermost output axis that belong to one phase
        self.per_phase = self.out_channels if self.out_last else 1
        self.weave = self.axes[2].out_step * self.per_phase

    @cached_property
    def choice(self) -> Choice:
        """The quickest."""
        return min(self._choices(), key=lambda choice: choice.cycles)

    @cached_property
    def kernel_shape(self) -> kernel.Shape:
        """What the machine code of the choice depends on."""
        choice, offsets = self.choice, self.axes[2].offsets
        slots = tuple(
            (
                *self.plane(offset, choice.spread),
                tuple(p * self.per_phase + c for p in phases for c in range(self.per_phase)),
            )
            for offset, phases in self.slots
        )
        return kernel.Shape(
            dtype=self.problem.dtype,
            channels=choice.channels,
            interleave=self.weave,
            groups=choice.pattern.groups,
            vectors=choice.vectors,
            slots=slots,
            in_step=self.axes[2].in_step,
            spread=tuple(o - offsets[0] for o in offsets) if choice.spread else (),
            channels_last=self.in_last,
            fetch_weights=self.choice.columns <= FEW_COLUMNS,
            paired=self.cell_channels > 1,
        )

    @property
    def side(self) -> int:
        """Neighbouring output channels that lie side by side in a panel."""
        return self.per_phase if self.out_last else self.choice.channels

    def describe(self) -> str:
        """Register tile, box and channels packed at a time, for people."""
        choice = self.choice
        rows, columns = choice.channels * self.weave, choice.pattern.groups * choice.vectors
        return (
            f"{rows} rows x {columns} vectors of {self.lanes}, boxes of "
            f"{'x'.join(map(str, choice.box))} positions, "
            f"{self.channels(choice.depth)} channels at a time"
        )

    # the window of the last axis

    @cached_property
    def unrolled(self) -> bool:
        """Whether the window of the last axis is part of the code; otherwise of the tap table."""
        width = self.axes[2]
        longest = LONGEST_WINDOW if width.even else LONGEST_UNEVEN_WINDOW
        return width.out_step > 1 and len(width.offsets) <= longest

    @cached_property
    def slots(self) -> list[tuple[int, list[int]]]:
        """What one inner step reads: an input offset, and the phases of the last axis that use it.

        Through the tap table the step reads the first offset of each phase, and the table moves on.
        """
        width = self.axes[2]
        found: dict[int, list[int]] = {}
        for number, phase in enumerate(width.phases):
            for offset in phase.offsets if self.unrolled else phase.offsets[:1]:
                found.setdefault(offset, []).append(number)
        return sorted(found.items()) or [(0, [])]

    def outer_taps(self, depth: Phase, height: Phase) -> Iterator[tuple[int, int, int, int]]:
        """The tap table of an outer phase: offsets (d, h, w), and the step along the width."""
        width = self.axes[2]
        longest = max(width.phases, key=lambda phase: len(phase.taps))
        steps = [0] if self.unrolled else [o - longest.offsets[0] for o in longest.offsets]
        for d, h in product(depth.offsets, height.offsets):
            for j, w in enumerate(steps):
                yield d, h, w, j

    # packing

    def planes(self, spread: bool) -> int:
        """Copies of a row that the tile holds: one per offset, or one per residue of the stride."""
        return len(self.axes[2].offsets) if spread else self.axes[2].in_step

    def plane(self, offset: int, spread: bool) -> tuple[int, int]:
        """Plane and shift at which an input offset of the last axis is found."""
        offsets = self.axes[2].offsets
        if spread:
            return offsets.index(offset), 0
        shift, plane = divmod(offset - offsets[0], self.axes[2].in_step)
        return plane, shift

    def packing(self, box: Corner, spread: bool) -> Packing:
        """Cells that the input of a box takes."""
        width = self.axes[2]
        shared = 0
        row = box[3]
        if not spread:
            row += width.reach // width.in_step
            if width.in_step == 1 and box[3] == width.positions:
                # the zeros right of one row serve as the zeros left of the next
                first, last = width.offsets[0], width.offsets[-1]
                shared = max(min(-first, last, row - (width.input_size - first)), 0)
        grid = Grid(box, (box[0], *self.outer_cells(box), row - shared))
        plane = -(-(prod(grid.packed) + shared + self.lanes) // self.lanes) * self.lanes
        residues = self.axes[0].in_step * self.axes[1].in_step
        return Packing(grid, row, plane, odd_lines(residues * self.planes(spread) * plane))

    # choosing

    def _choices(self) -> Iterator[Choice]:
        spreads = [False]
        if self.axes[2].in_step == 1 and 1 < len(self.axes[2].offsets) <= LONGEST_WINDOW:
            spreads += [True] if self.unrolled or len(self.slots) == 1 else []
        for channels, vectors in self._register_tiles():
            for spread in spreads:
                for groups in range(1, vectors + 1):
                    if vectors % groups == 0:
                        yield from self._covers(channels, vectors // groups, groups, spread)

    def _blocks(self, channels: int) -> int:
        return 1 if self.out_last else -(-self.out_channels // channels)

    def _register_tiles(self) -> list[tuple[int, int]]:
        """Channels and vectors of the promising register tiles, the most productive first."""
        found = []
        for channels in range(1, (1 if self.out_last else self.out_channels) + 1):
            vectors = min(MOST_COLUMNS, (self.target.registers - 1) // (channels * self.weave + 1))
            if vectors < 1:
                break
            for count in {vectors, max(vectors - 1, 1)}:
                step = self._step_cycles(channels, count, (count + 1) * len(self.slots))
                found.append((step * self._blocks(channels) / count, channels, count))
        best = min(found)[0]
        return [(c, v) for cycles, c, v in sorted(found) if cycles < 1.3 * best][:6]

    def _step_cycles(self, channels: int, vectors: int, lines: int) -> float:
        """Cycles for one input channel of one outer tap: arithmetic, loads, input, or latency."""
        weights = channels * self.per_phase * sum(len(phases) for _, phases in self.slots)
        fmas = weights * vectors
        loads = weights + vectors * len(self.slots)
        return self.step_cycles(fmas, loads, lines * LINE_CYCLES)

    def _lines(self, pattern: Pattern, packing: Packing, spread: bool) -> int:
        """Cache lines of input that one step reads: one more per run where runs lie askew.

        Offsets that are found in the same plane are found in the same lines.
        """
        vectors = pattern.width // self.lanes
        _, _, row, _ = packing.grid.strides
        places = [self.plane(offset, spread) for offset, _ in self.slots]
        moved = any(shift for _, shift in places)
        rows = self.axes[1].reach > 0 or packing.grid.size[2] > 1 or pattern.groups > 1
        whole = packing.grid.size[3] == row and not self.axes[1].reach and pattern.groups == 1
        askew = moved or (rows and row % self.lanes != 0 and not whole)
        return len({plane for plane, _ in places}) * pattern.groups * (vectors + askew)

    def _spilled(self, pattern: Pattern, grid: Grid) -> tuple[float, float]:
        """About which share of the tiles has gaps in its outputs, and their pieces between gaps."""
        images, _, height, length = grid.size
        width, groups, pitch = pattern.width, pattern.groups, grid.strides[2]
        if groups > 1 and height > 1 and pattern.stride == pitch:
            whole = (
                (height // groups) / -(-height // groups) * (length // width) / -(-length // width)
            )
            return 1 - whole, groups
        if self.axes[0].out_step == self.axes[1].out_step == 1:
            starts, length = grid.runs
            pitch = starts[1] if len(starts) > 1 else length
        # tiles begin at all multiples of this from the beginning of a run
        apart = gcd(width, pitch)
        whole = max(0, (length - width) // apart + 1) * apart / pitch
        whole *= (images // groups) / -(-images // groups)
        return 1 - whole, groups * (width / length + 1)

    @property
    def _outer_phases(self) -> int:
        """Phases of depth and height, combined."""
        return len(self.axes[0].phases) * len(self.axes[1].phases)

    @cached_property
    def _outer_tap_count(self) -> int:
        """Lines of all tap tables."""
        outer = product(self.axes[0].phases, self.axes[1].phases)
        return sum(sum(1 for _ in self.outer_taps(*pair)) for pair in outer)

    def _covers(self, channels: int, vectors: int, groups: int, spread: bool) -> Iterator[Choice]:
        width = vectors * self.lanes
        per_step = channels * self.per_phase * sum(len(phases) for _, phases in self.slots)
        rows = self._outer_phases * self._blocks(channels)
        box, depth = self.box(width * groups, spread, per_step, rows, tasks())
        found = [box]
        if self.packings(box, depth, rows) > 1:
            # smaller ones that no two tasks pack
            found.append(self.box_of(width * groups, spread, depth, 1, tasks()))
        for each in dict.fromkeys(found):
            yield from self._covers_of(each, depth, channels, vectors, groups, spread)

    def _covers_of(
        self, box: Corner, depth: int, channels: int, vectors: int, groups: int, spread: bool
    ) -> Iterator[Choice]:
        """Patterns for a box."""
        width = vectors * self.lanes
        rows = self._outer_phases * self._blocks(channels)
        packing = self.packing(box, spread)
        sn, _, sh, _ = packing.grid.strides
        patterns = [Pattern(1, width, 0)]
        if groups > 1:
            patterns = [Pattern(groups, width, sh)] if box[2] > 1 else []
            # side by side only where an image is a single run of positions
            if box[0] > 1 and len(packing.grid.runs[0]) <= box[0]:
                patterns.append(Pattern(groups, width, sn))
        taps = self._outer_tap_count
        packed = self._packed_cycles(packing, depth, spread) * self.packings(box, depth, rows)
        weights = prod(self.problem.weight_shape) / self.cell_channels / self.groups
        weight_lines = weights * self.compute_size / 64
        far = weight_lines * FAR_WEIGHT_CYCLES if self.far else 0.0
        for pattern in patterns:
            columns = pattern.count(packing.grid)
            lines = self._lines(pattern, packing, spread)
            step = self._step_cycles(channels, vectors * groups, lines)
            vector_count = self.weave * vectors * groups
            spilled, pieces = self._spilled(pattern, packing.grid)
            store: float = vector_count * STORE_CYCLES
            store += spilled * (vector_count * SPILL_CYCLES + pieces * PIECE_CYCLES)
            tiles = columns * self._blocks(channels)
            arithmetic = (
                taps * (step * self.in_channels + 6) + channels * self._outer_phases * store
            )
            cycles = self.box_count(box) * (tiles * arithmetic + packed + far)
            cycles = self.shared(cycles, box, rows)
            yield Choice(spread, box, depth, channels, pattern, vectors, columns, cycles)

    def _packed_cycles(self, packing: Packing, depth: int, spread: bool) -> float:
        """Cycles to pack a box once."""
        if self.in_last:
            vectors = packing.channel / self.lanes
        else:
            rows = prod(packing.grid.packed[:3]) * self.axes[0].in_step * self.axes[1].in_step
            vectors = rows * self.planes(spread) * -(-packing.row // self.lanes)
        packed = vectors * self.in_channels * PACK_CYCLES
        # a row that is packed once for each offset is read once from memory
        pixels = packing.channel / (self.planes(spread) if spread else 1)
        return packed + pixels * self.pixel_cycles(depth)
