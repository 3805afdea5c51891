"""Sizes of method ``weights``: what a problem's blocks, boxes and register tiles amount to."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.problem import Problem
from polyphase.engine.kernels.weights_context import Shape
from polyphase.engine.target import Target
from polyphase.engine.weights_reach import Reach

# operands larger than this are fetched while sums are made
FAR_BYTES = 2 << 20

Corner = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Tile:
    """A register tile and the output channels of its blocks.

    With ``exact`` each tap has its own list of the positions that reach the output; otherwise all
    share one, and what they read beyond the output is zero.
    """

    shape: Shape
    y_block: int
    exact: bool


class Sizes:
    """A problem on a target, and what depends on a register tile and a box besides.

    ``cell_images`` images share a cell, where the target multiplies pairs; then they are counted in
    pairs. The halves of a single image may be such a pair: then an axis counts half its positions,
    and ``halved`` is its number.
    """

    # whether the method's kernel can multiply pairs
    shares_cells = False

    def __init__(self, problem: Problem, target: Target) -> None:
        self.problem = problem
        self.target = target
        self.lanes = target.lanes(problem.dtype)
        self.item = 8 if problem.dtype == "f64" else 4
        self.depthwise = problem.groups > 1 and (
            problem.in_channels == problem.out_channels == problem.groups
        )
        # a depthwise problem is one group whose channels meet lane by lane
        self.groups = 1 if self.depthwise else problem.groups
        self.in_channels = problem.in_channels // self.groups
        self.out_channels = problem.out_channels // self.groups
        self.x_last = _last(problem, problem.input_shape)
        self.y_last = _last(problem, problem.output_shape)
        missing = 3 - problem.rank
        self.far = problem.bytes > FAR_BYTES
        self.axes = (Axis(1),) * missing + problem.geometry.axes
        self.input_size = (1,) * missing + problem.input_size
        self.output_size = (1,) * missing + problem.output_size
        self.images, self.cell_images = problem.batch, 1
        self.halved: int | None = None
        if self.shares_cells and not self.depthwise and target.together(problem.dtype) > 1:
            self._pair()

    def _pair(self) -> None:
        """Images in pairs; or the halves of a single one, if nothing is cropped between them."""
        if self.images % 2 == 0:
            self.images, self.cell_images = self.images // 2, 2
        elif self.images == 1:
            axes = zip(self.axes, self.input_size, self.output_size, strict=True)
            splitting = [number for number, axis in enumerate(axes) if _falls_apart(*axis)]
            if splitting:
                self.halved, self.cell_images = splitting[0], 2
                half = self.input_size[self.halved] // 2
                self.input_size = _less(self.input_size, self.halved, half)
                stride = self.axes[self.halved].stride
                self.output_size = _less(self.output_size, self.halved, half * stride)

    @property
    def positions(self) -> Corner:
        """Images, depth, height and width of the input, as they are counted."""
        depth, height, width = self.input_size
        return self.images, depth, height, width

    @cached_property
    def tap_count(self) -> int:
        """Taps of the kernel."""
        return prod(axis.kernel_size for axis in self.axes)

    @property
    def sorted_reaches(self) -> tuple[Reach, Reach, Reach]:
        """The three axes, outputs sorted by residue of the stride."""
        return self._reaches[0]

    @cached_property
    def _reaches(self) -> tuple[tuple[Reach, Reach, Reach], ...]:
        depth, height, width = (
            Reach(*axis) for axis in zip(self.axes, self.input_size, self.output_size, strict=True)
        )
        return (depth, height, width), (depth, height, replace(width, natural=True))

    def reaches(self, shape: Shape) -> tuple[Reach, Reach, Reach]:
        """The three axes; the last stays in natural order where output channels are spaced."""
        return self._reaches[shape.spaced]

    def entries(self, shape: Shape) -> tuple[int, int]:
        """Taps of an output channel, or stretches of taps: all, and those that reach the output."""
        width = -(-self.axes[2].kernel_size // shape.stretch(self.lanes))
        everything = self.tap_count // self.axes[2].kernel_size * width
        depth, height, live = (len(reach.live) for reach in self.reaches(shape))
        return everything, depth * height * (width if shape.spaced else live)

    def x_blocks(self, tile: Tile) -> int:
        """Blocks of input channels of a group."""
        return -(-self.in_channels // tile.shape.x_pitch(self.lanes))

    def y_blocks(self, tile: Tile) -> int:
        """Blocks of output channels of a group."""
        return -(-self.out_channels // tile.y_block)

    def blocks(self, tile: Tile) -> int:
        """Blocks of weights of a group."""
        return self.x_blocks(tile) * (1 if self.depthwise else self.y_blocks(tile))

    def tiles(self, tile: Tile) -> int:
        """Register tiles of a block of weights."""
        each = tile.y_block if tile.shape.spaced else 1
        everything, live = self.entries(tile.shape)
        taps = tile.shape.taps
        return -(-live * each // taps) + -(-(everything - live) * each // taps)

    def y_cells(self, shape: Shape, box: Corner) -> int:
        """Cells that the output of a box takes."""
        reaches = self.reaches(shape)
        return box[0] * prod(r.cells(n) for r, n in zip(reaches, box[1:], strict=True))

    def y_elements(self, tile: Tile, box: Corner) -> int:
        """Elements of a packed block of output channels."""
        channels = tile.y_block if tile.shape.spaced else tile.shape.y_pitch(self.lanes)
        return self.y_cells(tile.shape, box) * channels

    def x_elements(self, tile: Tile, box: Corner) -> int:
        """Elements of a packed block of input channels."""
        return prod(box) * tile.shape.x_pitch(self.lanes)

    def block_elements(self, tile: Tile) -> int:
        """Sums of a block of weights."""
        return self.tiles(tile) * tile.shape.sums * self.lanes

    def boxes(self, box: Corner) -> Iterator[tuple[Corner, Corner]]:
        """Origin and extent of every box, those at the far border cut to size."""
        whole = self.positions
        for origin in product(*(range(0, a, b) for a, b in zip(whole, box, strict=True))):
            size = [min(b, a - o) for b, a, o in zip(box, whole, origin, strict=True)]
            n, d, h, w = origin
            yield (n, d, h, w), (size[0], size[1], size[2], size[3])


def _falls_apart(axis: Axis, size: int, output_size: int) -> bool:
    """Whether the outputs of both halves of an axis lie in halves, each complete."""
    reach = axis.dilation * (axis.kernel_size - 1) + 1
    complete = axis.begin == 0 and (size - 1) * axis.stride + reach <= output_size
    return size % 2 == 0 and reach <= axis.stride and complete


def _less(sizes: tuple[int, ...], axis: int, amount: int) -> tuple[int, ...]:
    """The sizes with one that is smaller by so much."""
    return (*sizes[:axis], sizes[axis] - amount, *sizes[axis + 1 :])


def _last(problem: Problem, shape: tuple[int, ...]) -> bool:
    """Whether channels vary fastest; one channel, or one pixel, lies the same both ways."""
    return shape[1] > 1 and (problem.channels_last or max(shape[2:]) == 1)
