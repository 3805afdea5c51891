"""Kernel ``peak``: nothing but multiply-adds, to measure how many the machine can do.

It computes no method; the benchmark holds the other kernels against it.
"""

from llvmlite import ir

from polyphase.engine.emit import I64, POINTER, STORAGE, Emitter
from polyphase.engine.target import Target

CONTEXT = "rounds values".split()
# independent sums: enough to hide the latency of any unit, few enough for 16 registers
SUMS = 12


def build(dtype: str, target: Target) -> str:
    """IR of ``run(context)``: ``rounds`` times ``SUMS`` vector multiply-adds in every thread.

    ``values`` points to two vectors, a factor and an addend; the last sums go to the third. Where
    the target multiplies pairs, the factor holds them.
    """
    lanes = target.lanes(dtype)
    e = Emitter(ir.Module("peak"), "run", ["context*"], lanes)
    context = e.arguments["context"]
    rounds = e.load(context, CONTEXT.index("rounds"), I64)
    values = e.builder.inttoptr(e.load(context, CONTEXT.index("values"), I64), POINTER)
    kind = STORAGE["f64" if dtype == "f64" else "f32"]
    factor = e.load_vector(values, 0, kind)
    addend = e.load_vector(values, lanes, kind)
    with e.loop(0, rounds, carried=[addend] * SUMS) as loop:
        # sums stay finite: those of pairs grow slowly, the others tend to twice the addend
        if target.together(dtype) > 1:
            loop.carry([e.add_pairs(factor, addend, value) for value in loop.values])
        else:
            loop.carry([e.fma(value, factor, addend) for value in loop.values])
    total = loop.results[0]
    for value in loop.results[1:]:
        total = e.builder.fadd(total, value)
    # what nobody reads would not be computed
    e.store_vector(total, values, 2 * lanes)
    e.finish()
    return str(e.module)
