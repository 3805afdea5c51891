"""Delivery of method ``weights``: blocks of sums, brought into the order of the weights.

That is the taps of one output channel after another, or the output channels at one tap after
another, as in channels-last memory.
"""

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
        self.aside = self.e.slot(ir.VectorType(self.storage, lanes))

    def build(self) -> ir.Function:
        """The whole function."""
        e, kind = self.e, self.shape.kind
        if kind == "groups":
            # the one output channel of a group lies alike in both orders
            self._across(e.arguments["block"], e.arguments["w"], e.c["w_input"], e.c["taps"])
        else:
            last = e.builder.icmp_signed("!=", e.c["w_last"], e.const(0))
            with e.builder.if_else(last) as (by_tap, by_channel):
                with by_tap:
                    self._deliver(last=True)
                with by_channel:
                    self._deliver(last=False)
        e.finish()
        return e.function

    def _deliver(self, last: bool) -> None:
        e, a, c = self.e, self.e.arguments, self.e.c
        if self.shape.kind == "inputs":
            if not last:
                self._across(a["block"], a["w"], c["w_input"], e.mul(a["y_channels"], c["taps"]))
                return
            with e.loop(0, c["taps"]) as taps:
                w = e.at(a["w"], e.mul(taps.index, c["out_channels"]), self.storage)
                self._across(a["block"], w, c["w_input"], a["y_channels"], taps.index)
            return
        with e.loop(0, a["x_channels"]) as rows:
            width = self.shape.tile_vectors * self.lanes
            block = e.at(a["block"], e.mul(rows.index, width), self.kind)
            w = e.at(a["w"], e.mul(rows.index, c["w_input"]), self.storage)
            if self.shape.kind == "taps":
                self._along(block, w, last)
            elif last:
                self._side_by_side(block, w)
            else:
                self._across(block, w, c["taps"], c["taps"])

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
        stride: ir.Value,
        entries: ir.Value,
        tap: ir.Value | None = None,
    ) -> None:
        """Lanes are channels, ``stride`` apart in the weights; each has ``entries`` in a row.

        These are the taps of some output channels, or the output channels at one ``tap``.
        """
        e, lanes, taps = self.e, self.lanes, self.e.c["taps"]
        wanted = "y_channels" if self.shape.kind == "outputs" else "x_channels"
        channels = e.arguments[wanted]
        with e.loop(0, channels, lanes) as parts:
            left = e.builder.sub(channels, parts.index)
            source = e.at(block, parts.index, self.kind)
            target = e.at(w, e.mul(parts.index, stride), self.storage)
            with e.loop(0, entries, lanes) as steps:
                numbers = [e.add(steps.index, i) for i in range(lanes)]
                if tap is not None:
                    # in place of an output channel that does not exist the last one is read
                    most = e.builder.sub(entries, e.const(1))
                    numbers = [e.add(tap, e.mul(e.least(n, most), taps)) for n in numbers]
                places = [e.load(e.c["sources"], number, I64) for number in numbers]
                mask = e.lanes_within(0, e.builder.sub(entries, steps.index))
                none = ir.Constant(mask.type, None)
                for i, line in enumerate(e.deinterleave(self._summed(source, places))):
                    exists = e.builder.icmp_signed("<", e.const(i), left)
                    at = e.add(e.mul(stride, i), steps.index)
                    chosen = e.builder.select(exists, mask, none)
                    e.store_vector(e.narrow(line, self.storage), target, at, chosen)

    def _side_by_side(self, block: ir.Value, w: ir.Value) -> None:
        """Lanes are output channels that lie side by side in the weights."""
        e, lanes = self.e, self.lanes
        with e.loop(0, e.c["taps"]) as taps:
            source = e.load(e.c["sources"], taps.index, I64)
            places = [e.add(source, v * lanes) for v in range(self.shape.vectors)]
            target = e.at(w, e.mul(taps.index, e.c["out_channels"]), self.storage)
            for v, value in enumerate(self._summed(block, places)):
                mask = e.lanes_within(v * lanes, e.arguments["y_channels"])
                e.store_vector(e.narrow(value, self.storage), target, v * lanes, mask)

    def _along(self, block: ir.Value, w: ir.Value, last: bool) -> None:
        """Lanes are neighbouring taps: each vector has its place, or each of its elements."""
        e = self.e
        with e.loop(0, e.mul(e.arguments["y_channels"], e.c["stretches"])) as steps:
            line = e.record(e.c["sources"], steps.index, DIRECT)
            (value,) = self._summed(block, [line["source"]])
            stored = e.narrow(value, self.storage)
            if last:
                e.store_vector(stored, self.aside, 0)
                with e.loop(0, line["count"]) as lanes:
                    at = e.add(line["last"], e.mul(lanes.index, e.c["out_channels"]))
                    e.store(e.load(self.aside, lanes.index, self.storage), w, at)
            else:
                e.store_vector(stored, w, line["target"], e.lanes_within(0, line["count"]))
