"""How the input of a box comes into the tile: cells, each of a channel or of two.

Where the target multiplies pairs of bfloat16, two neighbouring channels share a cell, the first in
its lower half; a channel that lacks its partner has zeros beside it.
"""

from collections.abc import Sequence

from llvmlite import ir

from polyphase.engine.emit import Emitter, Record

# source of a packed row that lies outside the input
OUTSIDE = -(1 << 62)
# vectors of a pixel that are packed at a time
PACKED_VECTORS = 4


class Cells:
    """Packing, for kernels whose context has the fields it needs."""

    e: Emitter
    context: dict[str, ir.Value]
    lanes: int
    storage: ir.Type
    kind: ir.Type
    paired: bool
    # channels from the first cell on that is packed next
    left: ir.Value

    def packed_line(self, task: Record, source: ir.Value, row: Record) -> Record:
        """Start of a source line, its first element inside the input, and how many are inside."""
        e = self.e
        inside = e.builder.icmp_signed("!=", row["source"], e.const(OUTSIDE))
        place = e.builder.select(inside, row["source"], e.const(0))
        span = e.builder.sub(task["high"], task["low"])
        return {
            "line": e.at(source, place, self.storage),
            "low": task["low"],
            "count": e.builder.select(inside, span, e.const(0)),
        }

    def begin_cells(self, first: ir.Value) -> None:
        """Cells that are packed next begin with this one: find out how many channels they have."""
        if self.paired:
            self.left = self.e.builder.sub(self.context["x_count"], self.e.mul(first, 2))

    def cells(self, line: Record, at: ir.Value) -> ir.Value:
        """A vector of cells that lie side by side in a source line; 0 outside the input."""
        e, b = self.e, self.e.builder
        place = b.sub(at, line["low"])
        mask = e.lanes_within(place, line["count"])
        vector = e.load_vector(line["line"], at, self.storage, mask)
        if not self.paired:
            return e.widen(vector, self.kind)
        alone = b.icmp_signed("<", self.left, e.const(2))
        mask = e.lanes_within(place, b.select(alone, e.const(0), line["count"]))
        apart = b.ashr(self.context["x_channel"], e.const(1))
        second = e.load_vector(line["line"], e.add(at, apart), self.storage, mask)
        return e.paired(vector, second, self.kind)

    def adjacent_cells(
        self, source: ir.Value, first: ir.Value, mask: ir.Value | None = None
    ) -> ir.Value:
        """A vector of cells of a pixel whose channels are adjacent, the ``first`` and so on.

        The mask is :meth:`existing`'s.
        """
        e = self.e
        if not self.paired:
            return e.widen(e.load_vector(source, first, self.storage, mask), self.kind)
        elements = e.load_vector(source, e.mul(first, 2), self.storage, mask, 2 * self.lanes)
        return e.builder.bitcast(elements, ir.VectorType(self.kind, self.lanes))

    def existing(self, first: ir.Value | int, count: ir.Value) -> ir.Value:
        """Which channels of the cells from ``first`` on there are, of ``count`` cells."""
        e = self.e
        if not self.paired:
            return e.lanes_within(first, count)
        first = e.const(0) if isinstance(first, int) else e.mul(first, 2)
        return e.lanes_within(first, self.left, 2 * self.lanes)

    def pack_line(self, line: Record, out: ir.Value) -> None:
        """One row of one channel, or one pair, whose cells lie side by side."""
        with self.e.loop(0, self.context["tile_width"], self.lanes) as blocks:
            self.e.store_vector(self.cells(line, blocks.index), out, blocks.index)

    def pack_pixels(
        self,
        source: ir.Value,
        apart: ir.Value,
        inside: tuple[ir.Value, ir.Value],
        out: ir.Value,
        cell: int,
        count: ir.Value,
    ) -> None:
        """One row of pixels, ``count`` cells of adjacent channels each, so many elements apart.

        Each pixel in memory lies ``apart`` from that before. Some of them lie ``inside`` the input,
        the first and the one past the last; others are 0.
        """
        e, b, width = self.e, self.e.builder, self.context["tile_width"]
        first, stop = (b.select(b.icmp_signed("<", i, e.const(0)), e.const(0), i) for i in inside)
        first, stop = (b.select(b.icmp_signed("<", i, width), i, width) for i in (first, stop))
        zero = ir.Constant(ir.VectorType(self.kind, self.lanes), None)

        def clear(start: ir.Value, stop: ir.Value) -> None:
            with e.loop(start, stop) as cells:
                target = e.at(out, e.mul(cells.index, cell), self.kind)
                with e.loop(0, count, self.lanes) as blocks:
                    e.store_vector(zero, target, blocks.index)

        clear(e.const(0), first)
        with e.loop(first, stop) as cells:
            pixel = e.at(source, e.mul(cells.index, apart), self.storage)
            self._pack_pixel(pixel, e.at(out, e.mul(cells.index, cell), self.kind), count)
        clear(stop, width)

    def _pack_pixel(self, source: ir.Value, target: ir.Value, count: ir.Value) -> None:
        """Some vectors at a time, then single ones, then the rest of one."""
        e, b = self.e, self.e.builder
        start, whole = e.const(0), count
        if self.paired:
            full = b.ashr(self.left, e.const(1))
            whole = b.select(b.icmp_signed("<", full, count), full, count)
        for together in (PACKED_VECTORS, 1):
            step = together * self.lanes
            stop = b.and_(whole, e.const(-step))
            with e.loop(start, stop, step) as blocks:
                places = [e.add(blocks.index, v * self.lanes) for v in range(together)]
                vectors = [self.adjacent_cells(source, place) for place in places]
                for vector, place in zip(vectors, places, strict=True):
                    e.store_vector(vector, target, place)
            start = stop
        with e.when(b.icmp_signed("<", start, count)):
            vector = self.adjacent_cells(source, start, self.existing(start, count))
            e.store_vector(vector, target, start)

    def pack_square(
        self, line: Record, places: Sequence[ir.Value], left: ir.Value, out: ir.Value, at: ir.Value
    ) -> None:
        """The first ``left`` cells at a vector's worth of places, whose channels are adjacent.

        They are read place by place and written cell by cell, from ``at`` on in each.
        """
        e, b, c = self.e, self.e.builder, self.context
        everything = self.existing(0, left)
        nothing = ir.Constant(everything.type, None)
        vectors = []
        for place in places:
            inside = b.icmp_unsigned("<", b.sub(place, line["low"]), line["count"])
            mask = b.select(inside, everything, nothing)
            pixel = e.at(line["line"], e.mul(place, c["x_width"]), self.storage)
            vectors.append(self.adjacent_cells(pixel, e.const(0), mask))
        for channel, vector in enumerate(e.deinterleave(vectors)):
            e.store_vector(vector, out, e.add(at, e.mul(c["tile_channel"], channel)))
