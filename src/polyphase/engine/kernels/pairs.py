"""Kernel ``pairs``: weights of two neighbouring input channels into one element of a panel.

Kernels ``gather`` and ``transpose`` make panels that have every channel by itself, in float32, and
twice the length. A panel begins with biases, which are copied; the lines that follow belong to one
channel after the other, and two of them become one. The values are those of bfloat16 weights, so
that the upper half of each is all of it.
"""

from llvmlite import ir

from polyphase.engine.emit import I32, I64, POINTER, STORAGE, Emitter
from polyphase.engine.target import Target

CONTEXT = "source panels next runs run_count".split()
# where a panel begins, its biases, and the lines that it will have
RUN = "place biases lines width".split()


def build(target: Target) -> str:
    """IR of ``run(context)``: takes panels until none is left, from any number of threads."""
    e = Emitter(ir.Module("pairs"), "run", ["context*"], target.lanes("bf16"))
    b, kind = e.builder, STORAGE["f32"]
    context = e.arguments["context"]
    c = {name: e.load(context, i, I64) for i, name in enumerate(CONTEXT)}
    for name in ("source", "panels", "runs"):
        c[name] = b.inttoptr(c[name], POINTER)
    high = ir.Constant(ir.VectorType(I32, e.lanes), [16] * e.lanes)
    with e.taken(e.at(context, CONTEXT.index("next"), I64), c["run_count"]) as index:
        run = e.record(c["runs"], index, RUN)
        source = e.at(c["source"], e.mul(run["place"], 2), kind)
        panel = e.at(c["panels"], run["place"], kind)
        with e.loop(0, run["biases"], e.lanes) as parts:
            mask = e.lanes_within(parts.index, run["biases"])
            bias = e.load_vector(source, parts.index, kind, mask)
            e.store_vector(bias, panel, parts.index, mask)
        lines = e.at(source, e.mul(run["biases"], 2), kind), e.at(panel, run["biases"], kind)
        with e.loop(0, run["lines"], carried=lines) as pairs:
            first, out = pairs.values
            second = e.at(first, run["width"], kind)
            with e.loop(0, run["width"], e.lanes) as parts:
                mask = e.lanes_within(parts.index, run["width"])
                low, upper = (
                    b.bitcast(e.load_vector(line, parts.index, kind, mask), high.type)
                    for line in (first, second)
                )
                cleared = b.shl(b.lshr(upper, high), high)
                pair = b.bitcast(b.or_(b.lshr(low, high), cleared), ir.VectorType(kind, e.lanes))
                e.store_vector(pair, out, parts.index, mask)
            pairs.carry([e.at(second, run["width"], kind), e.at(out, run["width"], kind)])
    e.finish()
    return str(e.module)
