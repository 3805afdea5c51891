"""The gradient of the bias, on addresses: the sum of every output channel."""

import struct
from functools import lru_cache
from math import prod

import numpy as np

from polyphase.arithmetic.problem import Problem
from polyphase.engine import jit, memory, threads
from polyphase.engine.kernels import sums as kernel
from polyphase.engine.methods import FLOATS
from polyphase.engine.run import Contexts
from polyphase.engine.target import Target, current

# elements of a channel that one part sums; more would lose digits
LONGEST_PART = 1 << 12
# pixels that one part sums, all channels together
MOST_PIXELS = 64
# vectors of adjacent channels that are summed at a time, at the most
MOST_ADJACENT = 4
# elements that are worth waking another thread for
ELEMENTS_PER_THREAD = 100_000

# what changes from call to call stands at the head of the context
_CALL = struct.Struct("5q")
assert kernel.CONTEXT[:5] == "y b parts phase next".split()


class BiasOperation:
    """The compiled sum over images and positions of a problem's output."""

    def __init__(self, problem: Problem, target: Target) -> None:
        batch, channels, *size = problem.output_shape
        positions = prod(size)
        last = problem.channels_last or positions == 1
        tasks = _pixels(batch * positions, channels) if last else _lines(batch, channels, positions)
        self._tasks = np.array(tasks, np.int64).reshape(-1, len(kernel.TASK))
        parts = len(tasks) if last else len(tasks) // channels
        values = {
            "tasks": self._tasks.ctypes.data,
            "task_count": len(tasks),
            "part_count": parts,
            "channels": channels,
            "pixel": channels,
        }
        self._contexts = Contexts(np.array([values.get(n, 0) for n in kernel.CONTEXT], np.int64))
        self._part_bytes = parts * channels * 8
        self._most_threads = max(
            1, min(len(tasks), prod(problem.output_shape) // ELEMENTS_PER_THREAD)
        )
        adjacent = 0
        if last:
            vectors = max(channels // target.lanes(problem.dtype), 1)
            adjacent = min(MOST_ADJACENT, 1 << vectors.bit_length() - 1)
        self._code = _code(kernel.Shape(problem.dtype, adjacent), target)

    def run(self, y: int, b: int) -> None:
        """Sum the contiguous array at ``y``, in the layout of the problem, into ``b``."""
        count = self._most_threads
        if count > 1:
            count = min(count, threads.get_num_threads())
        buffer = memory.scratch.borrow(self._part_bytes)
        values, context = self._contexts.borrow()
        for phase, team in ((0, count), (1, 1)):
            _CALL.pack_into(values, 0, y, b, buffer.address, phase, 0)
            threads.run(self._code.call, self._code.address, context, team)
        self._contexts.give_back((values, context))
        memory.scratch.give_back(buffer)


def _pixels(pixels: int, channels: int) -> list[tuple[int, ...]]:
    """Tasks of an array ``(pixels, channels)``: one part each."""
    return [
        (first * channels, part * channels, 1, 0, min(MOST_PIXELS, pixels - first))
        for part, first in enumerate(range(0, pixels, MOST_PIXELS))
    ]


def _lines(batch: int, channels: int, positions: int) -> list[tuple[int, ...]]:
    """Tasks of an array ``(batch, channels, positions)``: a part of one channel each."""
    image = channels * positions
    together = max(LONGEST_PART // max(positions, 1), 1)
    pieces = [
        (n * image + first, min(together, batch - n), min(LONGEST_PART, positions - first))
        for n in range(0, batch, together)
        for first in range(0, positions, LONGEST_PART)
    ]
    tasks = [
        (start + channel * positions, part * channels + channel, lines, image, count)
        for part, (start, lines, count) in enumerate(pieces)
        for channel in range(channels)
    ]
    # in the order of memory
    return sorted(tasks)


@lru_cache(maxsize=16)
def _code(shape: kernel.Shape, target: Target) -> jit.Code:
    return jit.load(f"sums {shape!r}", target, lambda: kernel.build(shape, target))


@lru_cache(maxsize=1024)
def bias_operation(problem: Problem) -> BiasOperation | None:
    """The compiled sum of a problem's output; ``None`` where NumPy computes it."""
    target = current()
    if problem.dtype not in FLOATS or (problem.dtype == "f16" and not target.halves):
        return None
    return BiasOperation(problem, target)
