"""Packing for method ``weights``: functions that bring a box of either side into scratch.

A box comes as lines, stretches that lie side by side in memory. In an ``adjacent`` panel each cell
holds ``pitch`` channels side by side, so that a channel can be a vector lane or a broadcast scalar
whatever the layout in memory. In a ``spaced`` panel each channel keeps its cells side by side.
"""

from dataclasses import dataclass

from llvmlite import ir

from polyphase.engine.emit import I64, POINTER, STORAGE, Emitter

LINE = "source target".split()
ARGUMENTS = (
    "source* target* channels pitch lines* line_start line_stop count places* channel pixel pair "
    "block"
).split()


@dataclass(frozen=True, slots=True)
class Panel:
    """How one side is packed: ``pitch`` channels to a cell, or spaced; its layout in memory.

    ``pixel`` is the number of channels where these are few and all of them are packed, else 0. A
    cell holds the elements of so many ``images``, of two that lie ``pair`` apart.
    """

    dtype: str
    pitch: int
    spaced: bool
    channels_last: bool
    pixel: int = 0
    images: int = 1


def function(module: ir.Module, name: str, panel: Panel, lanes: int) -> ir.Function:
    """The packing function ``(*ARGUMENTS)``, offsets in elements.

    Cell ``i`` of a line goes to ``line.target + places[i]``; every ``pitch`` channels form a block,
    and blocks lie ``block`` elements apart. The places go on to a multiple of the lanes. A spaced
    panel has none: the cells of a line stay side by side, and channels lie ``block`` apart.
    """
    transposed = not panel.spaced and not panel.channels_last
    if transposed:
        # both sides share it: it takes the longest to compile
        name = "pack_squares"
        known = module.globals.get(name)
        if known is not None:
            return known
    packer = _Packer(module, name, panel, lanes)
    if transposed:
        packer.adjacent_from_first()
    elif panel.spaced and panel.pixel:
        packer.spaced_from_pixels(panel.pixel)
    elif panel.spaced:
        packer.spaced_from_last() if panel.channels_last else packer.spaced_from_first()
    else:
        packer.adjacent_from_last(panel.pitch)
    packer.e.finish()
    packer.e.function.linkage = "internal"
    return packer.e.function


class _Packer:
    def __init__(self, module: ir.Module, name: str, panel: Panel, lanes: int) -> None:
        self.e = Emitter(module, name, ARGUMENTS, lanes)
        self.a = self.e.arguments
        self.lanes = lanes
        self.storage = STORAGE[panel.dtype]
        self.images = panel.images
        self.kind = ir.DoubleType() if panel.dtype == "f64" else ir.FloatType()

    def least(self, value: ir.Value, bound: ir.Value | int) -> ir.Value:
        """The smaller of two."""
        b = self.e.builder
        bound = self.e.const(bound) if isinstance(bound, int) else bound
        return b.select(b.icmp_signed("<", value, bound), value, bound)

    def line(self, index: ir.Value, source: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where a line begins in memory, and the panel's offset of it."""
        e, a = self.e, self.a
        first = e.mul(index, len(LINE))
        start, target = (e.load(a["lines"], e.add(first, i), I64) for i in range(2))
        return e.at(source, start, self.storage), target

    def first_lanes(self, count: ir.Value) -> ir.Value:
        """Mask of the first ``count`` lanes."""
        return self.e.lanes_within(0, count)

    def loaded(
        self,
        source: ir.Value,
        offset: ir.Value,
        mask: ir.Value | None = None,
        pair: ir.Value | None = None,
    ) -> ir.Value:
        """A vector of the source as accumulator elements, or as pairs that lie so far apart."""
        e = self.e
        vector = e.load_vector(source, offset, self.storage, mask)
        if self.images == 1:
            return e.widen(vector, self.kind)
        other = e.at(source, pair or self.a["pair"], self.storage)
        return e.paired(vector, e.load_vector(other, offset, self.storage, mask), self.kind)

    # a cell's channels side by side

    def adjacent_from_first(self) -> None:
        """Squares of ``lanes`` channels by ``lanes`` cells, transposed in registers."""
        e, a, lanes = self.e, self.a, self.lanes
        # llvmlite's typed pointer becomes an untyped one only by way of an integer
        room = e.builder.ptrtoint(e.slot(self.storage, self.images * lanes * lanes), I64)
        spare = e.builder.inttoptr(room, POINTER)
        with e.loop(0, a["channels"], a["pitch"], carried=[a["target"]]) as blocks:
            block = blocks.values[0]
            here = self.least(e.builder.sub(a["channels"], blocks.index), a["pitch"])
            with e.loop(0, here, lanes) as parts:
                # beyond the last channel it is read again; those lanes are never looked at
                last = e.builder.sub(e.builder.sub(here, parts.index), e.const(1))
                first = e.mul(e.add(blocks.index, parts.index), a["channel"])
                source = e.at(a["source"], first, self.storage)
                offsets = [e.mul(self.least(e.const(i), last), a["channel"]) for i in range(lanes)]
                wide = e.builder.sub(a["pitch"], parts.index)
                whole = e.builder.icmp_signed(">=", wide, e.const(lanes))
                mask = self.first_lanes(wide)
                target = e.at(block, parts.index, self.kind)
                with e.loop(a["line_start"], a["line_stop"]) as lines:
                    line, there = self.line(lines.index, source)
                    out = e.at(target, there, self.kind)
                    with e.loop(0, a["count"], lanes) as cells:
                        corner = e.at(line, cells.index, self.storage)
                        left = e.builder.sub(a["count"], cells.index)
                        square = e.deinterleave(self._square(corner, offsets, left, spare))
                        places = [
                            e.load(a["places"], e.add(cells.index, i), I64) for i in range(lanes)
                        ]
                        with e.builder.if_else(whole) as branches:
                            for branch, chosen in zip(branches, (None, mask), strict=True):
                                with branch:
                                    for place, cell in zip(places, square, strict=True):
                                        e.store_vector(cell, out, place, chosen)
            blocks.carry([e.at(block, a["block"], self.kind)])

    def _square(
        self, corner: ir.Value, offsets: list[ir.Value], left: ir.Value, spare: ir.Value
    ) -> list[ir.Value]:
        """A vector at each offset; where a line ends within, what is left of it, by a detour."""
        e, lanes = self.e, self.lanes
        partial = e.builder.icmp_signed("<", left, e.const(lanes))
        with e.when(partial):
            mask = self.first_lanes(left)
            for image in range(self.images):
                source = e.at(corner, e.mul(self.a["pair"], image), self.storage)
                for i, offset in enumerate(offsets):
                    vector = e.load_vector(source, offset, self.storage, mask)
                    e.store_vector(vector, spare, (image * lanes + i) * lanes)
        start = e.builder.select(partial, spare, corner)
        pair = e.builder.select(partial, e.const(lanes * lanes), self.a["pair"])
        return [
            self.loaded(start, e.builder.select(partial, e.const(i * lanes), offset), pair=pair)
            for i, offset in enumerate(offsets)
        ]

    def adjacent_from_last(self, pitch: int) -> None:
        """Pixels copied, block by block."""
        e, a = self.e, self.a
        left = e.builder.srem(a["channels"], e.const(pitch))
        whole = e.builder.sub(a["channels"], left)
        with e.loop(a["line_start"], a["line_stop"]) as lines:
            line, place = self.line(lines.index, a["source"])
            out = e.at(a["target"], place, self.kind)
            with e.loop(0, a["count"]) as cells:
                pixel = e.at(line, e.mul(cells.index, a["pixel"]), self.storage)
                target = e.at(out, e.load(a["places"], cells.index, I64), self.kind)
                with e.loop(0, whole, pitch, carried=[target]) as blocks:
                    source = e.at(pixel, blocks.index, self.storage)
                    for first in range(0, pitch, self.lanes):
                        wide = pitch - first
                        mask = None if wide >= self.lanes else self.first_lanes(e.const(wide))
                        vector = self.loaded(source, e.const(first), mask)
                        e.store_vector(vector, blocks.values[0], first, mask)
                    blocks.carry([e.at(blocks.values[0], a["block"], self.kind)])
                source = e.at(pixel, whole, self.storage)
                with e.loop(0, left, self.lanes) as parts:
                    mask = self.first_lanes(e.builder.sub(left, parts.index))
                    vector = self.loaded(source, parts.index, mask)
                    e.store_vector(vector, blocks.results[0], parts.index, mask)

    # a channel's cells side by side

    def spaced_from_first(self) -> None:
        """Lines copied."""
        e, a = self.e, self.a
        with e.loop(0, a["channels"]) as channels:
            source = e.at(a["source"], e.mul(channels.index, a["channel"]), self.storage)
            target = e.at(a["target"], e.mul(channels.index, a["block"]), self.kind)
            with e.loop(a["line_start"], a["line_stop"]) as lines:
                line, place = self.line(lines.index, source)
                out = e.at(target, place, self.kind)
                full = e.builder.and_(a["count"], e.const(-self.lanes))
                with e.loop(0, full, self.lanes) as cells:
                    e.store_vector(self.loaded(line, cells.index), out, cells.index)
                rest = e.builder.sub(a["count"], full)
                with e.when(e.builder.icmp_signed(">", rest, e.const(0))):
                    mask = self.first_lanes(rest)
                    e.store_vector(self.loaded(line, full, mask), out, full, mask)

    def spaced_from_last(self) -> None:
        """Squares of ``lanes`` cells by ``lanes`` channels, transposed in registers."""
        e, a, lanes = self.e, self.a, self.lanes
        with e.loop(0, a["channels"], lanes) as parts:
            left = e.builder.sub(a["channels"], parts.index)
            inside = self.first_lanes(left)
            source = e.at(a["source"], parts.index, self.storage)
            target = e.at(a["target"], e.mul(parts.index, a["block"]), self.kind)
            with e.loop(a["line_start"], a["line_stop"]) as lines:
                line, place = self.line(lines.index, source)
                out = e.at(target, place, self.kind)
                with e.loop(0, a["count"], lanes) as cells:
                    rest = e.builder.sub(a["count"], cells.index)
                    last = e.builder.sub(rest, e.const(1))
                    pixels = [
                        e.add(cells.index, self.least(e.const(i), last)) for i in range(lanes)
                    ]
                    square = [self.loaded(line, e.mul(at, a["pixel"]), inside) for at in pixels]
                    mask = self.first_lanes(rest)
                    none = ir.Constant(mask.type, None)
                    for i, vector in enumerate(e.deinterleave(square)):
                        exists = e.builder.icmp_signed("<", e.const(i), left)
                        at = e.add(e.mul(a["block"], i), cells.index)
                        e.store_vector(vector, out, at, e.builder.select(exists, mask, none))

    def spaced_from_pixels(self, channels: int) -> None:
        """Whole pixels of a few channels, taken apart in registers."""
        e, a, lanes = self.e, self.a, self.lanes
        with e.loop(a["line_start"], a["line_stop"]) as lines:
            line, place = self.line(lines.index, a["source"])
            out = e.at(a["target"], place, self.kind)
            with e.loop(0, a["count"], lanes) as cells:
                rest = e.builder.sub(a["count"], cells.index)
                elements = e.mul(rest, channels)
                start = e.at(line, e.mul(cells.index, channels), self.storage)
                vectors = []
                for first in range(0, channels * lanes, lanes):
                    mask = self.first_lanes(e.builder.sub(elements, e.const(first)))
                    vectors.append(self.loaded(start, e.const(first), mask))
                mask = self.first_lanes(rest)
                for i, vector in enumerate(e.deinterleave(vectors)):
                    e.store_vector(vector, out, e.add(e.mul(a["block"], i), cells.index), mask)
