"""Steps of method ``minimal_weights``: sums and differences of planes, in place or elsewhere."""

from llvmlite import ir

from polyphase.engine.emit import Emitter
from polyphase.engine.kernels.weights_context import STEP


def function(module: ir.Module, kind: ir.Type, lanes: int) -> ir.Function:
    """The function ``(where, steps, start, stop)`` that goes through some steps, in their order.

    What is written may be one of the operands; one that is read further on may not lie behind.
    """
    e = Emitter(module, "go_through", "where* steps* start stop".split(), lanes)
    where, b = e.arguments["where"], e.builder
    with e.loop(e.arguments["start"], e.arguments["stop"]) as steps:
        step = e.record(e.arguments["steps"], steps.index, STEP)
        target, *operands = (e.at(where, step[name], kind) for name in STEP[:3])
        factors = []
        for name in STEP[4:]:
            half = b.fmul(b.sitofp(step[name], kind), ir.Constant(kind, 0.5))
            factors.append(e.splat(half))
        with e.loop(0, step["count"], lanes) as cells:
            first, second = (e.load_vector(at, cells.index, kind) for at in operands)
            value = e.fma(factors[0], first, b.fmul(factors[1], second))
            e.store_vector(value, target, cells.index)
    e.finish()
    e.function.linkage = "internal"
    return e.function
