"""Kernel ``transpose``: weights of neighbouring output channels into the lanes of panels.

A square takes lanes from ``rows`` output channels, ``row_stride`` apart, at ``columns`` taps that
lie side by side, those of a channel or of several; column ``c`` becomes a vector at ``place[c]``,
unless that is negative. Where it has lines, each of them becomes a vector instead, the sum of some
columns. It does so for ``channels`` input channels, each ``width`` farther on in the panel.
"""

from llvmlite import ir

from polyphase.engine.emit import I64, POINTER, STORAGE, Emitter
from polyphase.engine.target import Target

CONTEXT = (
    "weights panels next squares square_count places lines terms row_stride channel_stride"
).split()
SQUARE = "target source rows lanes place columns channels width line_start line_stop".split()
# where a line goes, and which stretch of the terms tells its columns: what is subtracted comes last
LINE = "place term_start less_start term_stop".split()
# columns of a square that has lines, at the most
MOST_SUMMED = 256
# rows are fetched so many channels before they are transposed; more would push each other out
CHANNELS_AHEAD = 2
# lines of sums are fetched so many channels before they are written: panels are too far apart, and
# too many at once, for the processor to foresee it
LINES_AHEAD = 4


def build(dtype: str, target: Target) -> str:
    """IR of ``run(context)``: takes squares until none is left, from any number of threads."""
    module = ir.Module("transpose")
    lanes = target.lanes(dtype)
    e = Emitter(module, "run", ["context*"], lanes)
    b = e.builder
    storage = STORAGE[dtype]
    kind = ir.DoubleType() if dtype == "f64" else ir.FloatType()
    context = e.arguments["context"]
    c = {name: e.load(context, i, I64) for i, name in enumerate(CONTEXT)}
    for name in ("weights", "panels", "squares", "places", "lines", "terms"):
        c[name] = b.inttoptr(c[name], POINTER)
    columns_aside = e.slot(ir.VectorType(kind, lanes), MOST_SUMMED + lanes)
    counter = e.at(context, CONTEXT.index("next"), I64)
    with e.taken(counter, c["square_count"]) as index:
        square = e.record(c["squares"], index, SQUARE)
        places = e.at(c["places"], square["place"], I64)
        written = e.lanes_within(0, square["lanes"])
        source = e.at(c["weights"], square["source"], storage)
        out = e.at(c["panels"], square["target"], kind)
        summed = b.icmp_signed("<", square["line_start"], square["line_stop"])
        existing = e.lanes_within(0, square["rows"])
        offsets = []
        for i in range(lanes):
            exists = b.icmp_signed("<", e.const(i), square["rows"])
            # in place of a row that does not exist the first one is read, and then left out
            offsets.append(b.select(exists, e.mul(c["row_stride"], i), e.const(0)))
        with e.loop(0, square["channels"], carried=[source, out]) as channels:
            line, panel = channels.values
            with e.loop(0, square["columns"], lanes) as columns:
                inside = e.lanes_within(0, b.sub(square["columns"], columns.index))
                start = e.at(line, columns.index, storage)
                later = e.at(start, e.mul(c["channel_stride"], CHANNELS_AHEAD), storage)
                rows = []
                for offset in offsets:
                    e.prefetch(later, offset, storage)
                    rows.append(e.widen(e.load_vector(start, offset, storage, inside), kind))
                zero = ir.Constant(rows[0].type, None)
                vectors = [b.select(existing, vector, zero) for vector in e.deinterleave(rows)]
                with b.if_else(summed) as (aside, direct):
                    with aside:
                        for i, vector in enumerate(vectors):
                            at = e.mul(e.add(columns.index, i), lanes)
                            e.store_vector(vector, columns_aside, at)
                    with direct:
                        for i, vector in enumerate(vectors):
                            place = e.load(places, e.add(columns.index, i), I64)
                            with e.when(b.icmp_signed(">=", place, e.const(0))):
                                e.store_vector(vector, panel, place, written)
            following = e.at(panel, e.mul(square["width"], LINES_AHEAD), kind)
            with e.loop(square["line_start"], square["line_stop"]) as lines:
                place, start, less, stop = e.record(c["lines"], lines.index, LINE).values()
                e.prefetch(following, place, kind, write=True)

                def column(number: ir.Value) -> ir.Value:
                    at = e.mul(e.load(c["terms"], number, I64), lanes)
                    return e.load_vector(columns_aside, at, kind)

                with e.loop(e.add(start, 1), less, carried=[column(start)]) as terms:
                    terms.carry([b.fadd(terms.values[0], column(terms.index))])
                with e.loop(less, stop, carried=terms.results) as terms:
                    terms.carry([b.fsub(terms.values[0], column(terms.index))])
                e.store_vector(terms.results[0], panel, place, written)
            channels.carry(
                [e.at(line, c["channel_stride"], storage), e.at(panel, square["width"], kind)]
            )
    e.finish()
    return str(module)
