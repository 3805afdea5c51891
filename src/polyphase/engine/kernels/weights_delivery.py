"""Delivery of method ``weights``: blocks of sums, brought into the order of the weights."""

from llvmlite import ir

from polyphase.engine.emit import I64, STORAGE
from polyphase.engine.kernels.weights_context import DIRECT, Function, Shape


def function(module: ir.Module, shape: Shape, lanes: int) -> ir.Function:
    """The function that sums a block over the chunks and writes it as weights."""
    return _Delivery(module, shape, lanes).build()


class _Delivery:
    def __init__(self, module: ir.Module, shape: Shape, lanes: int) -> None:
        self.shape = shape
        self.lanes = lanes
        self.storage = STORAGE[shape.dtype]
        self.kind = ir.DoubleType() if shape.dtype == "f64" else ir.FloatType()
        self.e = Function(module, "deliver", "block* w* x_channels y_channels".split(), lanes)
        self.e.function.linkage = "internal"

    def build(self) -> ir.Function:
        """The whole function."""
        e, a, c, shape = self.e, self.e.arguments, self.e.c, self.shape
        width = shape.tile_vectors * self.lanes
        if shape.kind == "outputs":
            with e.loop(0, a["x_channels"]) as rows:
                block = e.at(a["block"], e.mul(rows.index, width), self.kind)
                w = e.at(a["w"], e.mul(rows.index, c["w_input"]), self.storage)
                self._across(block, w, a["y_channels"], c["w_output"], c["taps"])
        elif shape.kind == "taps":
            with e.loop(0, a["x_channels"]) as rows:
                block = e.at(a["block"], e.mul(rows.index, width), self.kind)
                w = e.at(a["w"], e.mul(rows.index, c["w_input"]), self.storage)
                self._along(block, w, e.mul(a["y_channels"], c["taps"]))
        else:
            many = a["y_channels"] if shape.kind == "inputs" else e.const(1)
            entries = e.mul(many, c["taps"])
            self._across(a["block"], a["w"], a["x_channels"], c["w_input"], entries)
        e.finish()
        return e.function

    def _summed(self, block: ir.Value, places: list[ir.Value]) -> list[ir.Value]:
        """Vectors at these places, summed over the chunks in their order."""
        e = self.e
        first = [e.load_vector(block, place, self.kind) for place in places]
        with e.loop(1, e.c["chunks"], carried=first) as chunks:
            chunk = e.at(block, e.mul(chunks.index, e.c["chunk_size"]), self.kind)
            more = [e.load_vector(chunk, place, self.kind) for place in places]
            chunks.carry([e.builder.fadd(a, b) for a, b in zip(chunks.values, more, strict=True)])
        return chunks.results

    def _across(
        self,
        block: ir.Value,
        w: ir.Value,
        channels: ir.Value,
        stride: ir.Value,
        entries: ir.Value,
    ) -> None:
        """Lanes are channels, ``stride`` apart in the weights; each has ``entries`` in a row."""
        e, lanes = self.e, self.lanes
        with e.loop(0, channels, lanes) as parts:
            left = e.builder.sub(channels, parts.index)
            source = e.at(block, parts.index, self.kind)
            target = e.at(w, e.mul(parts.index, stride), self.storage)
            with e.loop(0, entries, lanes) as steps:
                places = [e.load(e.c["sources"], e.add(steps.index, i), I64) for i in range(lanes)]
                mask = e.lanes_within(0, e.builder.sub(entries, steps.index))
                none = ir.Constant(mask.type, None)
                for i, line in enumerate(e.deinterleave(self._summed(source, places))):
                    exists = e.builder.icmp_signed("<", e.const(i), left)
                    at = e.add(e.mul(stride, i), steps.index)
                    chosen = e.builder.select(exists, mask, none)
                    e.store_vector(e.narrow(line, self.storage), target, at, chosen)

    def _along(self, block: ir.Value, w: ir.Value, entries: ir.Value) -> None:
        """Lanes are neighbouring taps: each vector has its place."""
        e = self.e
        with e.loop(0, entries) as steps:
            line = e.record(e.c["sources"], steps.index, DIRECT)
            (value,) = self._summed(block, [line["source"]])
            mask = e.lanes_within(0, line["count"])
            e.store_vector(e.narrow(value, self.storage), w, line["target"], mask)
