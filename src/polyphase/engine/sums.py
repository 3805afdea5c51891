"""The gradient of the bias, on addresses: the sum of every output channel."""

import struct
from functools import lru_cache
from math import gcd, prod

import numpy as np

from polyphase.arithmetic.problem import Problem
from polyphase.engine import jit, memory, threads
from polyphase.engine.kernels import sums as kernel
from polyphase.engine.methods import FLOATS
from polyphase.engine.run import Contexts
from polyphase.engine.target import Target, current

# elements that one part sums, of one channel or of some pixels: more would lose digits
PART_ELEMENTS = 1 << 14
# pixels of a part, at the most
MOST_PIXELS = 256
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
        lanes = target.lanes(problem.dtype)
        if last:
            tasks, parts, width = _pixels(batch * positions, channels, lanes)
        else:
            tasks = _lines(batch, channels, positions)
            parts, width = len(tasks) // channels, 0
        self._tasks = np.array(tasks, np.int64).reshape(-1, len(kernel.TASK))
        values = {
            "tasks": self._tasks.ctypes.data,
            "task_count": len(tasks),
            "part_count": parts,
            "channels": channels,
        }
        self._contexts = Contexts(np.array([values.get(n, 0) for n in kernel.CONTEXT], np.int64))
        self._part_bytes = parts * channels * 8
        self._most_threads = max(
            1, min(len(tasks), prod(problem.output_shape) // ELEMENTS_PER_THREAD)
        )
        adjacent = 0
        if last:
            vectors = max(width // lanes, 1)
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


def _pixels(pixels: int, channels: int, lanes: int) -> tuple[list[tuple[int, ...]], int, int]:
    """Tasks of an array ``(pixels, channels)``, the parts they make, and elements of a wide pixel.

    Where channels leave lanes of vectors empty, so many pixels are taken for one that none is: its
    sums are those of as many parts.
    """
    together = lanes // gcd(channels, lanes)
    if together > pixels:
        together = 1
    width = together * channels
    tasks: list[tuple[int, ...]] = []
    part = 0
    most = min(max(PART_ELEMENTS // width, 1), MOST_PIXELS)
    for first in range(0, pixels // together, most):
        count = min(most, pixels // together - first)
        tasks.append((first * width, part * channels, width, width, count))
        part += together
    left = pixels % together
    if left:
        tasks.append(((pixels - left) * channels, part * channels, left * channels, 0, 1))
    return tasks, part + left, width


def _lines(batch: int, channels: int, positions: int) -> list[tuple[int, ...]]:
    """Tasks of an array ``(batch, channels, positions)``: a part of one channel each."""
    image = channels * positions
    together = max(PART_ELEMENTS // max(positions, 1), 1)
    pieces = [
        (n * image + first, min(together, batch - n), min(PART_ELEMENTS, positions - first))
        for n in range(0, batch, together)
        for first in range(0, positions, PART_ELEMENTS)
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
