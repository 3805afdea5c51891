"""Memory between two pages that nobody may touch, and a fuzzer that puts every buffer there.

``python guarded.py SEED COUNT`` runs COUNT problems of ``tests/problems`` and as many random ones,
with input, weights, bias, panels, scratch and output against a forbidden page, at the beginning and
at the end; ``python guarded.py regress`` runs what went wrong once, in every way. An access outside
kills the process, so it runs as a process of its own. The line printed last names the problem that
was running.
"""

import ctypes
import faulthandler
import mmap
import random
import sys

import kernels
import numpy as np
import oracle
import problem_files

from polyphase import Geometry, GeometryError, Problem
from polyphase.arithmetic.problem import LAYOUTS
from polyphase.engine import memory, pack, reference, threads
from polyphase.engine.methods import FLOATS

PAGE = mmap.PAGESIZE
NOTHING, READ_AND_WRITE = 0, 3
# NaN in every type: what is read there shows in results
MARK = 0xFF
# multiply-adds, elements of an array: more would only take longer
MOST_WORK = 3_000_000
MOST_ELEMENTS = 300_000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guarded:
    """``size`` bytes right behind a forbidden page, or right before one."""

    def __init__(self, size, at_end):
        pages = -(-max(size, 1) // PAGE)
        self._map = mmap.mmap(-1, (pages + 2) * PAGE)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._stop = self._base + (pages + 1) * PAGE
        ctypes.memset(self._base, MARK, (pages + 2) * PAGE)
        self.size = size
        self.address = self._stop - size if at_end else self._base + PAGE
        for page in (self._base, self._stop):
            _protect(page, NOTHING)

    def array(self, shape, dtype):
        content = (ctypes.c_char * self.size).from_address(self.address)
        return np.frombuffer(content, dtype).reshape(shape)

    def assert_margin_untouched(self):
        """What lies between the buffer and the far page."""
        first = self._base + PAGE
        for start, stop in ((first, self.address), (self.address + self.size, self._stop)):
            margin = (ctypes.c_ubyte * (stop - start)).from_address(start)
            assert set(margin) <= {MARK}, "written outside of the buffer"

    def free(self):
        for page in (self._base, self._stop):
            _protect(page, READ_AND_WRITE)


def _protect(page, access):
    if _libc.mprotect(page, PAGE, access):
        raise OSError(ctypes.get_errno(), "mprotect")


class Memory:
    """Stands in for the engine's pools, so that its own buffers are guarded, too."""

    def __init__(self, at_end):
        self.at_end = at_end
        self.given = []

    def borrow(self, size):
        self.given.append(Guarded(-(-size // memory.ALIGNMENT) * memory.ALIGNMENT, self.at_end))
        return self.given[-1]

    def give_back(self, buffer):
        pass

    def array(self, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.given.append(Guarded(size, self.at_end))
        return self.given[-1].array(shape, dtype)

    def holding(self, values):
        copy = self.array(values.shape, values.dtype)
        copy[...] = values
        return copy


def check(problem, target, method, at_end, seed):
    """One way to compute one problem, every buffer at the same end of its memory."""
    guarded = Memory(at_end)
    # half of them so that even few weights come to their panels by squares
    pack.LEAST_SQUARES = 0 if seed % 4 < 2 else 1 << 60
    x, w, b = kernels.operands(problem, seed)
    operation = kernels.operation(problem, target, method)
    pools = memory.scratch, memory.outputs
    memory.scratch = memory.outputs = guarded
    try:
        stored = guarded.holding(kernels.in_layout(x, problem))
        at_w = guarded.holding(kernels.ordered(operation, w)).ctypes.data
        at_b = guarded.holding(b).ctypes.data if seed % 2 else None
        n, c, *size = problem.output_shape
        shape = (n, *size, c) if problem.channels_last else problem.output_shape
        y, once = (guarded.array(shape, x.dtype) for _ in range(2))
        operation.run(stored.ctypes.data, operation.pack(at_w, at_b), y.ctypes.data)
        operation.compute(stored.ctypes.data, at_w, at_b, once.ctypes.data)
    finally:
        memory.scratch, memory.outputs = pools
    wide = [array.astype(np.float64) for array in (x, w, b if seed % 2 else 0 * b)]
    definition = getattr(reference, problem.operator)
    expected = definition(*wide, problem.geometry, problem.groups).astype(x.dtype)
    for result in (y, once):
        result = np.moveaxis(result, -1, 1) if problem.channels_last else result
        oracle.assert_same(result, expected, problem)
    for buffer in guarded.given:
        buffer.assert_margin_untouched()
        buffer.free()


def some_problem(choice):
    """A random problem with sizes around those of vectors and tiles, or ``None``."""
    rank = choice.choice((1, 1, 2, 2, 2, 3))
    kernels_, strides = ((1, 2, 3, 4, 5, 7, 9, 16), (1, 1, 2, 2, 3, 4, 8, 13))
    if rank == 3:
        kernels_, strides = (1, 2, 3, 4), (1, 2, 2, 3)
    longest = {1: 300, 2: 40, 3: 12}[rank]
    kernel = [choice.choice(kernels_) for _ in range(rank)]
    stride = [choice.choice(strides) for _ in range(rank)]
    if rank < 3 and choice.random() < 0.2:
        # long windows along the last axis, and phases that fill vectors
        kernel[-1] = choice.choice((17, 23, 33, 45, 64))
        stride[-1] = choice.choice((1, 2, 3, 4, 16, 17, 25, 32))
    dilation = [choice.choice((1, 1, 1, 2, 3)) for _ in range(rank)]
    groups = choice.choice((1, 1, 1, 2, 3, 5))
    sizes = (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, choice.randint(1, longest))
    padding = []
    for k, d in zip(kernel, dilation, strict=True):
        extent = (k - 1) * d + 1
        some = (choice.randint(-4, extent), choice.randint(-4, extent))
        padding.append(choice.choice(((0, 0), (extent // 2,) * 2, (0, choice.randint(0, 3)), some)))
    try:
        problem = Problem(
            Geometry(kernel, stride, padding=padding, dilation=dilation),
            [min(choice.choice(sizes), longest) for _ in range(rank)],
            groups * choice.choice((1, 2, 3, 5, 8, 16, 33, 70)),
            groups * choice.choice((1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 64)),
            batch=choice.choice((1, 1, 2, 3, 7, 17)),
            groups=groups,
            dtype=choice.choice(FLOATS),
            layout=choice.choice(LAYOUTS[rank]),
            operator=choice.choice(("conv_transpose", "conv")),
        )
    except GeometryError:
        return None
    positions = problem.output_size if problem.operator == "conv" else problem.input_size
    work = problem.batch * problem.in_channels * problem.out_channels // groups
    work *= int(np.prod(kernel)) * int(np.prod(positions))
    largest = max(int(np.prod(s)) for s in (problem.input_shape, problem.output_shape))
    return problem if work <= MOST_WORK and largest <= MOST_ELEMENTS else None


def some_of(choice, number):
    """Problems, each with a method and a target: compiling takes the time, so one way each."""
    listed = [problem for problem in problem_files.problems() if kernels.ways(problem)]
    for problem in choice.sample(listed, number):
        yield problem, choice.choice(kernels.ways(problem))
    while number:
        problem = some_problem(choice)
        if problem is not None and kernels.ways(problem):
            number -= 1
            yield problem, choice.choice(kernels.ways(problem))


def all_that_went_wrong():
    for problem in problem_files.problems("regress"):
        for way in kernels.ways(problem):
            yield problem, way


def main(seed, number=0):
    faulthandler.enable()
    threads.set_num_threads(2)
    choice = random.Random(seed)
    found = all_that_went_wrong() if seed == "regress" else some_of(choice, int(number))
    for problem, (target, method) in found:
        for at_end in (False, True):
            print(f"{target.name} {method.name} at_end={at_end} {problem}", flush=True)
            check(problem, target, method, at_end, choice.randrange(2**32))
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
