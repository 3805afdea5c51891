"""Tiling of method ``weights``: what fills a vector, register tile, boxes, who sums what.

The sum over positions is cut into boxes and the boxes into chunks by the problem and the processor
alone, never by the number of threads, so that every sum has one order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from math import prod

from polyphase.arithmetic.problem import Problem
from polyphase.engine.kernels.weights_context import Shape
from polyphase.engine.target import Target
from polyphase.engine.weights_cost import Costs, Work
from polyphase.engine.weights_reach import Reach
from polyphase.engine.weights_sizes import Corner, Sizes, Tile

# share of the second-level cache that a packed box may take
CACHE_SHARE = 0.6
# times that a packed range of input channels may exceed it
MOST_STREAMED = 4
# positions of a box; longer boxes bring the sums to memory less often
BOX_POSITIONS = (64, 128, 256, 512, 1024, 2048)
# register tiles whose surroundings are looked at
PROMISING = 6
# vectors of a register tile along its wide side
MOST_VECTORS = 4
# taps of a register tile, each with an address of its own
MOST_TAPS = 4
# output channels that are broadcast one by one, at the most
MOST_SPACED = 4
# pairs of places that the lists of one problem may hold, for all borders
LONGEST_LISTS = 1 << 19
# no task is smaller than this many multiply-adds
SMALLEST_TASK = 400_000
# more tasks than this serve nobody
MOST_TASKS = 64
# elements of sums that the chunks may hold together
MOST_RESTS = 1 << 22


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to sum: register tile, box, blocks of channels per task, chunks of boxes.

    ``y_group`` blocks of output channels are packed at a time.
    """

    tile: Tile
    box: Corner
    x_range: int
    y_range: int
    y_group: int
    chunks: int
    tasks: int
    cycles: float


class WeightsTiling(Sizes):
    """All that the method decides about one problem on one target."""

    shares_cells = True

    def __init__(self, problem: Problem, target: Target, cache_bytes: int) -> None:
        super().__init__(problem, target)
        self.budget = int(cache_bytes * CACHE_SHARE) // self.item
        self.costs = Costs(self.lanes, self.item, self.budget)
        choice = min(self._choices(), key=self._score, default=None)
        # where no box stays near a cache, the smallest one is taken, by any number of tasks
        self.choice = choice or min(self._choices(crowded=True), key=self._score)

    @property
    def cycles(self) -> float:
        """Estimated cycles of one core for the whole problem."""
        return self.choice.cycles

    @property
    def weights_last(self) -> bool:
        """Whether weights come in channels-last memory alone."""
        return False

    @property
    def packing_cycles(self) -> float:
        """Both operands are new in every call: nothing is packed ahead."""
        return 0.0

    @property
    def kernel_shape(self) -> Shape:
        """What the machine code of the choice depends on."""
        return self.choice.tile.shape

    @property
    def kernel_name(self) -> str:
        """Name of the kernel: type, method, tile, target."""
        return self.kernel_shape.name(self.target)

    def describe(self) -> str:
        """Register tile, box and division of the sum, for people."""
        choice, shape = self.choice, self.choice.tile.shape
        return (
            f"{shape.tile_rows} rows x {shape.tile_vectors} vectors of {self.lanes} along "
            f"{shape.kind}, boxes of {'x'.join(map(str, choice.box))} positions, "
            f"{choice.chunks} chunks of the sum"
        )

    # register tiles

    def register_tiles(self) -> Iterator[Tile]:
        """Register tiles that fit the registers."""
        if self.depthwise:
            for taps in range(1, min(self._most_rows(1) // 2, self.tap_count) + 1):
                yield self._tile("groups", taps, 1, 1, self.lanes)
            return
        width = self.axes[2]
        for vectors in range(1, MOST_VECTORS + 1):
            if vectors <= -(-self.out_channels // self.lanes):
                for taps in range(1, min(MOST_VECTORS // vectors, self.tap_count) + 1):
                    rows = _even(self.in_channels, self._most_rows(vectors * taps))
                    yield self._tile("outputs", taps, rows, vectors, vectors * self.lanes)
            most = self._most_rows(vectors)
            if vectors <= -(-self.in_channels // self.lanes):
                yield self._tile("inputs", 1, _even(self.out_channels, most), vectors)
                if self.out_channels <= MOST_SPACED:
                    for parts in range(1, 4):
                        rows = -(-width.kernel_size // parts) if width.dilation == 1 else 1
                        taps = min(most // rows, MOST_TAPS)
                        if taps:
                            block = self.out_channels
                            yield self._tile("inputs", taps, rows, vectors, block, spaced=True)
            if width.dilation == 1 and width.kernel_size > 1:
                rows = _even(self.in_channels, most)
                for block in (1, 2, 4, 8, 16):
                    if block <= self.out_channels:
                        yield self._tile("taps", vectors, rows, 1, block, spaced=True)

    def _tile(
        self,
        kind: str,
        taps: int,
        rows: int,
        vectors: int,
        y_block: int = 0,
        spaced: bool = False,
    ) -> Tile:
        few = spaced and self.out_channels <= MOST_SPACED and self.groups == 1
        shape = Shape(
            self.problem.dtype,
            kind,
            taps,
            rows,
            vectors,
            spaced,
            self.x_last,
            self.y_last,
            self.out_channels if few and self.y_last and y_block == self.out_channels else 0,
            self.far,
            images=self.cell_images,
        )
        return Tile(shape, y_block or rows, exact=not spaced and taps == 1)

    def _most_rows(self, vectors: int) -> int:
        """Rows of the largest register tile that is this many vectors wide."""
        return (self.target.registers - 1) // vectors - 1

    def _arithmetic(self, tile: Tile) -> float:
        """Cycles of all register tiles, for one position."""
        blocks = self.groups * self.blocks(tile)
        return blocks * self.tiles_met(tile) * self.costs.step(tile.shape)

    def tiles_met(self, tile: Tile) -> float:
        """Register tiles of a block of weights that a position takes part in."""
        return self.tiles(tile) * (self._exact_share if tile.exact else 1.0)

    @cached_property
    def _exact_share(self) -> float:
        """Share of (position, tap) pairs that reach the output."""
        share = 1.0
        for reach in self._reaches[0]:
            pairs = sum(len(reach.window(tap, 0, reach.size)) for tap in reach.live)
            share *= pairs / (len(reach.live) * reach.size)
        return share

    # choosing

    def _choices(self, crowded: bool = False) -> Iterator[Choice]:
        tiles = sorted(self.register_tiles(), key=self._quick)
        for tile in tiles[:PROMISING]:
            for positions in BOX_POSITIONS[:1] if crowded else BOX_POSITIONS:
                yield from self._divided(tile, self._box(positions), crowded)
                if positions >= prod(self.positions):
                    break

    def _quick(self, tile: Tile) -> float:
        """Arithmetic and the packing of outputs, for one position."""
        box = self._box(256)
        packing = self.groups * self.y_blocks(tile) * self._pack_y(tile, box, 1)
        return self._arithmetic(tile) + packing / prod(box)

    def _box(self, positions: int) -> Corner:
        """A box of about this many positions, whole rows and whole images first."""
        box = [1, 1, 1, 1]
        left = positions
        for axis in (3, 2, 1, 0):
            extent = self.positions[axis]
            parts = -(-extent // max(left, 1))
            box[axis] = -(-extent // parts)
            left //= box[axis]
        return box[0], box[1], box[2], box[3]

    def _work(self, tile: Tile, box: Corner) -> Work:
        """A register tile and a box size over the whole problem."""
        boxes = prod(-(-a // b) for a, b in zip(self.positions, box, strict=True))
        blocks = self.groups * self.blocks(tile)
        tiles = blocks * self.tiles(tile)
        vectors = tile.shape.sums
        # a register tile takes a while to begin and to end
        arithmetic = prod(self.positions) * self._arithmetic(tile)
        arithmetic += boxes * tiles * (60 + 2 * vectors)
        x_panel = self.x_elements(tile, box)
        steps = prod(self.positions) * self.tiles_met(tile)
        return Work(
            self.costs,
            boxes,
            tiles * vectors,
            arithmetic + self.groups * self._deliver(tile),
            self.block_elements(tile),
            x_panel,
            self.y_elements(tile, box),
            x_streamed=boxes * blocks * x_panel / self.lanes * 2,
            y_streamed=blocks * steps * tile.shape.tile_vectors * 1.5,
            ahead=tile.shape.ahead,
        )

    def _divided(self, tile: Tile, box: Corner, crowded: bool) -> Iterator[Choice]:
        """Ways to share the work of a box size out; if ``crowded``, those beyond limits as well."""
        if tile.exact and self._list_length(tile, box) > LONGEST_LISTS:
            tile = replace(tile, exact=False)
        work, paired = self._work(tile, box), self.depthwise
        if not (crowded or self._stays_near(work)):
            return
        x_blocks, y_blocks = self.x_blocks(tile), self.y_blocks(tile)
        pack_x = work.boxes * self.groups * self._pack_x(tile, box, x_blocks)
        most_x = MOST_STREAMED * self.budget // work.x_panel
        for y_group in self._groups(tile):
            pack_y = self._pack_y(tile, box, y_group) * y_blocks / y_group
            pack_y *= work.boxes * self.groups
            most_y = 1 if y_group * work.y_panel > self.budget else y_group
            for x_parts, y_parts in product(
                _halves(x_blocks), [1] if paired else _halves(y_blocks)
            ):
                x_range, y_range = -(-x_blocks // x_parts), -(-y_blocks // y_parts)
                parts = self.groups * x_parts * y_parts
                if x_range > max(most_x, 1) or y_group > min(most_y, y_range):
                    continue
                if parts > max(MOST_TASKS, self.groups) and not crowded:
                    continue
                # each range of one side packs all that it needs of the other
                packing = pack_x * y_parts + pack_y * (1 if paired else x_parts)
                for chunks in _halves(work.boxes):
                    tasks = parts * chunks
                    rests = work.sums * self.lanes * chunks
                    if chunks > 1 and (rests > MOST_RESTS or tasks > MOST_TASKS):
                        break
                    cycles = work.cycles(packing, x_range, y_group, parts, chunks)
                    yield Choice(tile, box, x_range, y_range, y_group, chunks, tasks, cycles)

    def _stays_near(self, work: Work) -> bool:
        """Whether what a register tile reads comes from a cache."""
        return True

    def _groups(self, tile: Tile) -> list[int]:
        """Numbers of blocks of output channels worth packing at a time."""
        if self.depthwise or not self.y_last:
            return [1]
        return sorted({1, *(-(-n // tile.y_block) for n in (16, 32, 64, self.out_channels))})

    @cached_property
    def _useful_tasks(self) -> int:
        """Tasks beyond which each would be too small."""
        work = prod(self.positions) * self.tap_count
        return work * self.in_channels * self.problem.out_channels // SMALLEST_TASK

    def _score(self, choice: Choice) -> float:
        """Cycles, and what the last task to end is waited for."""
        useful = self._useful_tasks
        return choice.cycles * (1 + 1.5 / min(choice.tasks, useful) if useful > 1 else 1)

    def _list_length(self, tile: Tile, box: Corner) -> int:
        """Upper bound of all pairs in the lists of exact positions."""
        reaches = zip(self.reaches(tile.shape), box[1:], strict=True)
        return prod(box) * prod(reach.window_count(length) for reach, length in reaches)

    # packing, in cycles for a box, and delivering

    def _deliver(self, tile: Tile) -> float:
        """All blocks of weights of a group."""
        kind, taps = tile.shape.kind, self.tap_count
        if kind == "taps":
            return self.in_channels * self.out_channels * self.entries(tile.shape)[0] * 4
        if kind == "outputs":
            return self.in_channels * self.costs.squares(taps, taps, self.out_channels)
        together = taps * (tile.y_block if kind == "inputs" else 1)
        blocks = self.y_blocks(tile) if kind == "inputs" else 1
        return blocks * self.costs.squares(together, together, self.in_channels)

    def _pack_x(self, tile: Tile, box: Corner, blocks: int) -> float:
        """Some blocks of input channels."""
        pitch = tile.shape.x_pitch(self.lanes)
        if self.x_last:
            return self.costs.pixels(prod(box), blocks, pitch, self.in_channels)
        return blocks * self.costs.squares(prod(box), box[3], pitch)

    def _pack_y(self, tile: Tile, box: Corner, blocks: int) -> float:
        """Some blocks of output channels."""
        cells = self.y_cells(tile.shape, box)
        line = box[3] * self.axes[2].stride
        if tile.shape.spaced:
            channels = min(blocks * tile.y_block, self.out_channels)
            if self.y_last and not tile.shape.y_pixel:
                parted = channels < self.out_channels
                return self.costs.turned(cells, line, channels, parted)
            return self.costs.lines(cells, channels)
        pitch = tile.shape.y_pitch(self.lanes)
        if self.y_last:
            return self.costs.pixels(cells, blocks, pitch, self.out_channels)
        return blocks * self.costs.squares(cells, line, pitch)


def reached(problem: Problem) -> bool:
    """Whether any tap leads from an input to an output."""
    return problem.batch > 0 and all(
        Reach(axis, n, o).live
        for axis, n, o in zip(
            problem.geometry.axes, problem.input_size, problem.output_size, strict=True
        )
    )


def _even(count: int, most: int) -> int:
    """The size of equal parts of at most ``most``."""
    parts = -(-count // most)
    return -(-count // parts)


@cache
def _halves(count: int) -> list[int]:
    """1, 2, 4, ... parts, up to one for each."""
    return [1 << i for i in range((count - 1).bit_length())] + [count]
