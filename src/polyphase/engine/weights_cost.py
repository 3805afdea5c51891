"""Estimates for method ``weights``, in cycles of one core; they only have to rank the choices."""

from dataclasses import dataclass
from math import log2

from polyphase.engine.kernels.weights_context import Shape

# what the last cache that cores share is thought to hold
NEAR_BYTES = 8 << 20


@dataclass(frozen=True)
class Costs:
    """What single steps take with vectors of ``lanes`` elements of ``item`` bytes.

    ``budget`` is the number of elements that are kept in the second-level cache.
    """

    lanes: int
    item: int
    budget: int

    def step(self, shape: Shape) -> float:
        """One position of a register tile: arithmetic, loads, or latency."""
        loads = shape.tile_rows + shape.tile_vectors + 1
        # inputs come from the second-level cache, which delivers less than a vector a cycle
        streamed = shape.tile_vectors * 1.5
        return max(shape.sums / 2, loads / 2, streamed, (shape.sums + loads + 4) / 6, 4.0)

    def squares(self, cells: int, line: int, channels: int) -> float:
        """Cells in lines of this length, transposed in squares: shuffles, loads and stores."""
        lanes = self.lanes
        square = lanes * (log2(lanes) + 2) + 12
        squares = cells / line * -(-line // lanes) * -(-channels // lanes)
        return squares * square + cells * channels * 0.3

    def turned(self, cells: int, line: int, channels: int, parted: bool) -> float:
        """Channels of each cell, transposed; each part of a pixel is waited for."""
        arriving = -(-channels * self.item // 64) * (12 if parted else 5)
        return self.squares(cells, line, channels) + cells * arriving

    def lines(self, cells: int, channels: int) -> float:
        """Cells copied as they are."""
        return channels * cells / self.lanes * 3

    def pixels(self, cells: int, blocks: int, pitch: int, channels: int) -> float:
        """Some blocks of the channels of each cell; parts of pixels take longer to arrive."""
        together = min(blocks * pitch, channels)
        lines = -(-together * self.item // 64)
        vectors = blocks * -(-pitch // self.lanes)
        return cells * (vectors * 2.5 + lines * 5 + (20 if together < channels else 0))

    def carried(self, elements: float) -> float:
        """A vector of sums brought from where this many elements rest, or there."""
        size = self.lanes * self.item / 64
        if elements < self.budget // 2:
            return 1.5 * size
        return (4.0 if elements * self.item < NEAR_BYTES else 10.0) * size


@dataclass(frozen=True)
class Work:
    """A register tile and a box over the whole problem, before it is divided into tasks.

    ``fixed`` are the cycles of arithmetic and delivery, ``sums`` the vectors of sums. ``block``,
    ``x_panel`` and ``y_panel`` are the elements of one block of sums and of what it is made from,
    ``x_streamed`` and ``y_streamed`` the cycles that panels cost which come from beyond the
    second-level cache.
    """

    costs: Costs
    boxes: int
    sums: int
    fixed: float
    block: int
    x_panel: int
    y_panel: int
    x_streamed: float
    y_streamed: float
    ahead: bool

    def cycles(
        self, packing: float, x_blocks: int, y_blocks: int, parts: int, chunks: int
    ) -> float:
        """Everything, with this many blocks packed at a time, in ``parts`` tasks for each chunk."""
        costs = self.costs
        streaming = 0.0
        if x_blocks * self.x_panel + y_blocks * self.y_panel > costs.budget:
            streaming += self.x_streamed
        if self.y_panel > costs.budget:
            streaming += self.y_streamed
        # what a task packs first has to be waited for
        waiting = 0.5 + 0.5 * chunks / self.boxes if self.ahead else 1.0
        elements = self.sums * costs.lanes
        # sums that rest go to and fro, as far as their number drives them
        resting = 2 * costs.carried(self.block)
        if self.boxes > 1:
            resting = 2 * (self.boxes - chunks) * costs.carried(elements / parts)
            resting += 2 * chunks * costs.carried(elements * chunks)
        return self.fixed + streaming + packing * waiting + self.sums * resting
