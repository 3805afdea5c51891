"""The gradient of the weights, on addresses: from a problem to a compiled operation.

Like :mod:`polyphase.engine.run`, but nothing is packed ahead: both operands are new in every call.
"""

import struct
from dataclasses import replace
from functools import lru_cache

import numpy as np

from polyphase.arithmetic.problem import Problem
from polyphase.engine import memory, threads
from polyphase.engine.kernels.weights_context import CONTEXT
from polyphase.engine.methods import DIRECT_WEIGHTS
from polyphase.engine.plan import Plan, planned
from polyphase.engine.run import WORK_PER_THREAD, Contexts, compiled
from polyphase.engine.weights_tiling import WeightsTiling

# what changes from call to call stands at the head of the context
_CALL = struct.Struct("9q")
assert CONTEXT[:9] == "x y w scratch rests phase w_last next ticket".split()


class WeightOperation:
    """A compiled problem whose operator is ``weight_grad``.

    ``weights_last`` tells whether it delivers weights in channels-last memory alone.
    """

    def __init__(self, plan: Plan) -> None:
        tiling = plan.tiling
        method = plan.method
        if not isinstance(tiling, WeightsTiling) or method.tables is None or method.kernel is None:
            raise ValueError(f"the {method.name} computes no weight gradient")
        self.plan = plan
        self.weights_last = tiling.weights_last
        self.tables = tables = method.tables(tiling)
        self._code = compiled(method.kernel, tiling.kernel_shape, plan.target)
        useful = max(1, tables.multiply_adds // WORK_PER_THREAD)
        self._most_threads = min(len(tables.tasks), useful)
        self._contexts = Contexts(tables.context)
        self._rest_type = np.float64 if plan.problem.dtype == "f64" else np.float32

    def run(self, x: int, y: int, w: int, last: bool = False) -> None:
        """Compute from input and output gradient at ``x`` and ``y`` into the weights at ``w``.

        All are contiguous; ``x`` and ``y`` lie in the layout of the problem, ``w`` is
        ``(C_in, C_out/groups, *kernel_size)``, or with ``last`` the same in channels-last memory.
        """
        assert last or not self.weights_last, self.plan
        tables = self.tables
        count = self._most_threads
        if count > 1:
            count = min(count, threads.get_num_threads())
        buffer = memory.scratch.borrow(tables.scratch_bytes * count)
        rests = 0
        if tables.rest_elements:
            kept = memory.outputs.array((tables.rest_elements,), self._rest_type)
            rests = kept.ctypes.data
        values, context = self._contexts.borrow()
        # all chunks are complete before a block is summed over them
        for phase in range(2 if tables.chunks > 1 else 1):
            _CALL.pack_into(values, 0, x, y, w, buffer.address, rests, phase, int(last), 0, 0)
            threads.run(self._code.call, self._code.address, context, count)
        self._contexts.give_back((values, context))
        memory.scratch.give_back(buffer)


@lru_cache(maxsize=1024)
def weight_operation(problem: Problem, last: bool = False) -> WeightOperation | None:
    """The compiled operation of a problem; ``None`` where only the reference computes it.

    ``last`` says that weights are wanted in channels-last memory.
    """
    plan = planned(problem)
    if not isinstance(plan.tiling, WeightsTiling):
        return None
    if plan.tiling.weights_last and not last:
        # reordering them would take what the method gains
        plan = replace(plan, method=DIRECT_WEIGHTS)
    with threads.undivided:
        return WeightOperation(plan)
