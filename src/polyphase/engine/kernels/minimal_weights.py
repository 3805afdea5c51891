"""Method ``minimal_weights``: ``weights``, where not cells are multiplied but sums of them.

Both sides of a box are packed as cells first. From those around each group of positions come the
sums that are multiplied; each register tile is a product of two of them, summed over all groups.
When the last box has been added, the sums of products go through steps that make gradients of them.
"""

from llvmlite import ir

from polyphase.engine.emit import I64, Record
from polyphase.engine.kernels import weights_sums
from polyphase.engine.kernels.weights import Packed, Weights
from polyphase.engine.kernels.weights_context import FORM, STEP, Shape, Sums
from polyphase.engine.target import Target


def build(shape: Shape, target: Target) -> str:
    """IR of the kernel."""
    assert shape.sums + shape.tile_vectors < target.registers, shape
    assert shape.x_sums, shape
    assert shape.taps == 1, shape
    assert not shape.spaced, shape
    return _MinimalWeights(shape, target.lanes(shape.dtype)).build()


class _MinimalWeights(Weights):
    """Builder of the method."""

    tile_place = ("x",)

    def functions(self) -> None:
        """Those of ``weights``, and one for each kind of sums."""
        super().functions()

        def summing(name: str, sums: Sums, side: str) -> ir.Function:
            pitch = self.pitch[side]
            return weights_sums.function(self.module, name, sums, pitch, self.lanes, self.kind)

        self.x_sums = summing("x_sums", self.shape.x_sums, "x")
        self.y_sums = [
            summing(f"y_sums{number}", sums, "y") for number, sums in enumerate(self.shape.y_sums)
        ]

    def fill(self, side: str, packed: Packed, start: ir.Value, stop: ir.Value) -> None:
        """Some blocks of one side of a box as cells, and their sums into the panels."""
        e, c, box = self.e, self.e.c, packed.box
        spacing = c[f"{side}_packed"]
        size = e.mul(spacing, e.builder.sub(stop, start))
        self.clear(box[f"{side}_clear"], packed.cells, size)
        self.pack_cells(side, packed, packed.cells, start, stop, spacing)
        with e.loop(start, stop, carried=[packed.cells, packed.panels(side)]) as blocks:
            cells, panel = blocks.values
            if side == "x":
                self._sum(self.x_sums, "x", box, cells, panel)
            else:
                self._sum_phases(box, cells, panel)
            following = e.at(panel, c[f"{side}_panel"], self.kind)
            blocks.carry([e.at(cells, spacing, self.kind), following])

    def _sum_phases(self, box: Record, cells: ir.Value, panel: ir.Value) -> None:
        """The sums of each phase of the output."""
        e = self.e
        with e.loop(box["form_start"], box["form_stop"]) as forms:
            form = e.record(e.c["forms"], forms.index, FORM)
            source = e.at(cells, form["source"], self.kind)
            target = e.at(panel, form["target"], self.kind)
            for kind, function in enumerate(self.y_sums):
                with e.when(e.builder.icmp_signed("==", form["kind"], e.const(kind))):
                    self._sum(function, "y", box, source, target)

    def _sum(
        self, function: ir.Function, side: str, box: Record, source: ir.Value, target: ir.Value
    ) -> None:
        """Sums of one kind, in all groups of a box."""
        e = self.e
        groups = e.at(e.c["groups"], e.add(e.mul(box["group_start"], 2), int(side == "y")), I64)
        count = e.builder.sub(box["group_stop"], box["group_start"])
        steps = [box[f"{side}_{axis}"] for axis in "dhw"]
        e.builder.call(function, [source, target, groups, count, *steps, box[f"{side}_plane"]])

    def origin(self, x: ir.Value, tile: Record) -> ir.Value:
        """The sum of the input that is multiplied."""
        return self.e.at(x, tile["x"], self.kind)

    def finish(self, block: ir.Value) -> None:
        """Through the steps that make gradients of sums of products."""
        e, b = self.e, self.e.builder
        with e.loop(0, e.c["step_count"]) as steps:
            step = e.record(e.c["steps"], steps.index, STEP)
            target, *terms = (e.at(block, step[name], self.kind) for name in STEP[:3])
            half = ir.Constant(self.kind, 0.5)
            factors = [e.splat(b.fmul(b.sitofp(step[n], self.kind), half)) for n in STEP[3:]]
            with e.loop(0, self.tile_size, self.lanes) as sums:
                first, second = (e.load_vector(term, sums.index, self.kind) for term in terms)
                value = e.fma(factors[0], first, b.fmul(factors[1], second))
                e.store_vector(value, target, sums.index)
