"""The gradients of weights and bias under guard pages, and what their tests share.

``python guarded_weights.py SEED COUNT`` runs COUNT random problems, see ``guarded``.
"""

import faulthandler
import random
import sys
from dataclasses import replace
from unittest import mock

import guarded
import kernels
import numpy as np
import oracle
import strategies

from polyphase.engine import memory, reference, threads, weights_tiling
from polyphase.engine.methods import METHODS
from polyphase.engine.plan import Plan
from polyphase.engine.sums import BiasOperation
from polyphase.engine.weights import WeightOperation
from polyphase.engine.weights_tiling import WeightsTiling

BY_NAME = {method.name: method for method in METHODS if "weight_grad" in method.operators}


def kinds(problem, target):
    """Methods that accept a problem, what may fill a vector, whether output channels are spaced."""
    return sorted(
        {
            (name, tile.shape.kind, tile.shape.spaced)
            for name in BY_NAME
            if BY_NAME[name].tiling
            if not BY_NAME[name].refuse(problem, target)
            for tile in BY_NAME[name].tiling(problem, target, 1 << 20).register_tiles()
        }
    )


def operation(problem, target, kind=None):
    """The compiled problem, with tiles of one kind where one is given."""
    method, *filling = kind or ("weights", None, None)
    register_tiles = WeightsTiling.register_tiles

    def chosen(tiling):
        for tile in register_tiles(tiling):
            if kind is None or [tile.shape.kind, tile.shape.spaced] == filling:
                yield tile

    with mock.patch.object(WeightsTiling, "register_tiles", chosen):
        return WeightOperation(Plan(problem, target, BY_NAME[method], {}))


def operands(problem, seed=0):
    """Input and output gradient of small integers, channels first."""
    generator = np.random.default_rng(seed)
    x = strategies.numbers(generator, problem.input_shape, problem.dtype)
    y = strategies.numbers(generator, problem.output_shape, problem.dtype)
    return x, y


def weights_in(memory, problem, last):
    """Weights as they lie in memory of their shape, in one of two orders."""
    channels_in, channels_out, *taps = problem.weight_shape
    if not last:
        return memory.reshape(problem.weight_shape)
    return np.moveaxis(memory.reshape(channels_in, *taps, channels_out), -1, 1)


def compute(operation, x, y, last=False):
    """The weights' gradient, in memory that was all NaN."""
    problem = operation.plan.problem
    last = last or operation.weights_last
    x, y = (kernels.in_layout(array, problem) for array in (x, y))
    w = np.full(problem.weight_shape, np.nan, x.dtype)
    operation.run(x.ctypes.data, y.ctypes.data, w.ctypes.data, last)
    return weights_in(w, problem, last)


def bias(operation, problem, y):
    """The bias' gradient, in memory that was all NaN."""
    y = kernels.in_layout(y, problem)
    b = np.full(problem.out_channels, np.nan, y.dtype)
    operation.run(y.ctypes.data, b.ctypes.data)
    return b


def check(problem, target, kind, at_end, seed):
    """One way to compute one problem, every buffer at the same end of its memory."""
    kept = guarded.Memory(at_end)
    x, y = operands(problem, seed)
    weights, sums = operation(problem, target, kind), BiasOperation(problem, target)
    pools = memory.scratch, memory.outputs
    memory.scratch = memory.outputs = kept
    try:
        at_x, at_y = (kept.holding(kernels.in_layout(a, problem)).ctypes.data for a in (x, y))
        w = kept.array(problem.weight_shape, x.dtype)
        b = kept.array((problem.out_channels,), x.dtype)
        last = bool(seed % 2) or weights.weights_last
        weights.run(at_x, at_y, w.ctypes.data, last)
        sums.run(at_y, b.ctypes.data)
    finally:
        memory.scratch, memory.outputs = pools
    wide = [array.astype(np.float64) for array in (x, y)]
    expected = reference.weight_grad(*wide, problem.geometry, problem.groups)
    w = weights_in(w, problem, last)
    oracle.assert_same(w, expected.astype(x.dtype), problem)
    total = wide[1].sum(axis=(0, *range(2, y.ndim)))
    oracle.assert_same(b, total.astype(y.dtype), problem)
    for buffer in kept.given:
        buffer.assert_margin_untouched()
        buffer.free()


def main(seed, number):
    faulthandler.enable()
    threads.set_num_threads(2)
    choice = random.Random(seed)
    done = 0
    while done < number:
        problem = guarded.some_problem(choice)
        target = choice.choice(kernels.TARGETS)
        if problem is None or problem.operator == "conv":
            continue
        problem = replace(problem, operator="weight_grad")
        if BY_NAME["weights"].refuse(problem, target):
            continue
        # small boxes and many chunks as often as the planner's own
        weights_tiling.SMALLEST_TASK = choice.choice((1, 400_000))
        weights_tiling.BOX_POSITIONS = choice.choice(((5,), (16, 64), (64, 256, 1024)))
        kind = choice.choice(kinds(problem, target))
        for at_end in (False, True):
            print(f"{target.name} {kind} at_end={at_end} {problem}", flush=True)
            check(problem, target, kind, at_end, choice.randrange(2**32))
        done += 1
    print("done")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
