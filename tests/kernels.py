"""Kernels one by one: every method on every target of this machine, past the planner's choice."""

from contextlib import contextmanager

import numpy as np
import pytest
import strategies

from polyphase.engine import arrays, methods, plan, run
from polyphase.engine.target import Target, available

TARGETS = available()
FORWARD = tuple(
    method for method in methods.METHODS if "conv" in method.operators and method.kernel
)
# a processor that multiplies pairs of bfloat16; on any x86 LLVM makes code for it
SERVER = Target(
    "avx512", "x86_64-unknown-linux-gnu", "cooperlake", "-prefer-256-bit", 64, 32, True, pairs=True
)
WITH_PAIRS = [target for target in TARGETS if target.pairs]
needs_pairs = pytest.mark.skipif(not WITH_PAIRS, reason="no target here multiplies pairs")
# bytes around an output that nothing may touch, and what they hold
BAND = 256
MARK = 0xA5


def ways(problem):
    """The targets and methods with a kernel that do not refuse the problem."""
    return [
        (target, method)
        for target in TARGETS
        for method in FORWARD
        if method.refuse(problem, target) is None
    ]


def operation(problem, target, method):
    return run.Operation(plan.Plan(problem, target, method, {}))


def operands(problem, seed=0, bias=True):
    """Input, weights and bias of small integers, channels first."""
    generator = np.random.default_rng(seed)
    x = strategies.numbers(generator, problem.input_shape, problem.dtype)
    w = strategies.numbers(generator, problem.weight_shape, problem.dtype)
    b = strategies.numbers(generator, (problem.out_channels,), problem.dtype)
    return x, w, b if bias else None


def in_layout(array, problem):
    """Contiguous in the layout of the problem."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1) if problem.channels_last else array)


def ordered(operation, w):
    """Weights as the operation takes them."""
    return np.ascontiguousarray(np.moveaxis(w, 1, -1) if operation.weights_last else w)


def compute(operation, x, w, b):
    """The result, channels first; its memory was all NaN, between bands that stay as they were."""
    problem = operation.plan.problem
    x, w = in_layout(x, problem), ordered(operation, w)
    n, c, *size = problem.output_shape
    shape = (n, *size, c) if problem.channels_last else problem.output_shape
    memory = np.full(BAND + x.itemsize * int(np.prod(shape)) + BAND, MARK, np.uint8)
    y = memory[BAND:-BAND].view(x.dtype).reshape(shape)
    y[...] = np.nan
    panels = operation.pack(w.ctypes.data, None if b is None else b.ctypes.data)
    operation.run(x.ctypes.data, panels, y.ctypes.data)
    for band in (memory[:BAND], memory[-BAND:]):
        assert (band == MARK).all(), f"{problem}: written outside of the output"
    return np.moveaxis(y, -1, 1) if problem.channels_last else y


@contextmanager
def engine_on(target):
    """The whole engine on another target than the best one."""
    caches = (plan.planned, run.operation, arrays._operation)
    best = plan.current
    try:
        plan.current = lambda: target
        for cache in caches:
            cache.cache_clear()
        yield
    finally:
        plan.current = best
        for cache in caches:
            cache.cache_clear()
