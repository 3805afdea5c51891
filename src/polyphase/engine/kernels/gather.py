"""Kernel ``gather``: weights and biases from their arrays into the panels that a method reads.

A run writes ``channels`` lines of entries; entry ``e`` of line ``i`` is the sum over ``terms`` of
``source[base + i*channel_stride + offset[term][e]]``, where a negative offset stands for 0, and one
beyond ``SUBTRACTED`` for what is subtracted. Where the first ``adjacent`` entries lie side by side
and the others are 0, lines are copied.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from polyphase.engine.emit import I64, POINTER, STORAGE, Emitter
from polyphase.engine.target import Target

CONTEXT = "weights biases panels next runs run_count entries channel_stride".split()
# added to the offset of a term that is taken from the sum
SUBTRACTED = 1 << 62
RUN = "target base entry_start entry_count terms adjacent channels from_bias".split()


def build(dtype: str, target: Target) -> str:
    """IR of ``run(context)``: takes runs until none is left, from any number of threads."""
    module = ir.Module("gather")
    e = Emitter(module, "run", ["context*"], target.lanes(dtype))
    storage = STORAGE[dtype]
    kind = ir.DoubleType() if dtype == "f64" else ir.FloatType()
    context = e.arguments["context"]
    c = {name: e.load(context, i, I64) for i, name in enumerate(CONTEXT)}
    for name in ("weights", "biases", "panels", "runs", "entries"):
        c[name] = e.builder.inttoptr(c[name], POINTER)
    counter = e.at(context, CONTEXT.index("next"), I64)
    with e.taken(counter, c["run_count"]) as index:
        run = e.record(c["runs"], index, RUN)
        of_bias = e.builder.icmp_signed("!=", run["from_bias"], e.const(0))
        source = e.at(e.builder.select(of_bias, c["biases"], c["weights"]), run["base"], storage)
        target_line = e.at(c["panels"], run["target"], kind)
        offsets = e.at(c["entries"], run["entry_start"], I64)
        copied = e.builder.icmp_signed(">", run["adjacent"], e.const(0))
        with e.builder.if_else(copied) as (together, apart):
            with together, _lines(e, c, run, source, target_line, storage, kind) as (line, out):
                start = e.at(line, e.load(offsets, 0, I64), storage)
                with e.loop(0, run["entry_count"], e.lanes) as parts:
                    within = e.lanes_within(parts.index, run["adjacent"])
                    vector = e.load_vector(start, parts.index, storage, within)
                    left = e.builder.sub(run["entry_count"], parts.index)
                    e.store_vector(e.widen(vector, kind), out, parts.index, e.lanes_within(0, left))
            with apart, _lines(e, c, run, source, target_line, storage, kind) as (line, out):
                _sums(e, run, offsets, line, out, storage, kind)
    e.finish()
    return str(module)


@contextmanager
def _lines(
    e: Emitter,
    c: dict[str, ir.Value],
    run: dict[str, ir.Value],
    source: ir.Value,
    target: ir.Value,
    storage: ir.Type,
    kind: ir.Type,
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Goes through the lines of a run: where each is read, and where it is written."""
    with e.loop(0, run["channels"], carried=[source, target]) as channels:
        line, out = channels.values
        yield line, out
        following = e.at(line, c["channel_stride"], storage), e.at(out, run["entry_count"], kind)
        channels.carry(following)


def _sums(
    e: Emitter,
    run: dict[str, ir.Value],
    offsets: ir.Value,
    line: ir.Value,
    out: ir.Value,
    storage: ir.Type,
    kind: ir.Type,
) -> None:
    """A line, entry by entry."""
    with e.loop(0, run["entry_count"]) as entries:

        def term(number: ir.Value, entry: ir.Value = entries.index) -> ir.Value:
            place = e.add(e.mul(number, run["entry_count"]), entry)
            offset = e.load(offsets, place, I64)
            b = e.builder
            missing = b.icmp_signed("<", offset, e.const(0))
            less = b.icmp_signed(">=", offset, e.const(SUBTRACTED))
            # the load must be legal also where its value is thrown away
            safe = b.select(missing, e.const(0), b.and_(offset, e.const(SUBTRACTED - 1)))
            value = e.widen_scalar(e.load(line, safe, storage), kind)
            value = b.select(less, b.fneg(value), value)
            return b.select(missing, ir.Constant(kind, 0.0), value)

        with e.loop(1, run["terms"], carried=[term(e.const(0))]) as terms:
            terms.carry([e.builder.fadd(terms.values[0], term(terms.index))])
        e.store(terms.results[0], out, entries.index)
