"""Sums of cells for method ``minimal_weights``: of a window around each group of positions."""

from collections.abc import Sequence
from itertools import product

from llvmlite import ir

from polyphase.engine.emit import I64, Emitter
from polyphase.engine.kernels.weights_context import Sum, Sums

ARGUMENTS = "source* target* groups* count d h w plane".split()

# by place along the three axes
_Values = dict[tuple[int, int, int], ir.Value]


def function(
    module: ir.Module, name: str, sums: Sums, pitch: int, lanes: int, kind: ir.Type
) -> ir.Function:
    """The function ``(*ARGUMENTS)`` that makes every sum of some groups, offsets in elements.

    A group begins at ``source + groups[2*i]``, and its neighbours along an axis lie ``d``, ``h`` or
    ``w`` further on. Each sum, of all groups side by side, takes a ``plane`` of the target. The
    last vector of a group may reach beyond it: what follows is written later.
    """
    e = Emitter(module, name, ARGUMENTS, lanes)
    a = e.arguments
    near = ({offset for terms in axis for offset, _ in terms} for axis in sums)
    places = {
        (d, h, w): e.add(e.add(e.mul(a["d"], d), e.mul(a["h"], h)), e.mul(a["w"], w))
        for d, h, w in product(*map(sorted, near))
    }
    planes = [e.mul(a["plane"], i) for i, _ in enumerate(product(*sums))]
    with e.loop(0, a["count"]) as groups:
        origin = e.load(a["groups"], e.mul(groups.index, 2), I64)
        source = e.at(a["source"], origin, kind)
        target = e.at(a["target"], e.mul(groups.index, pitch), kind)
        with e.loop(0, pitch, lanes) as parts:
            cell, out = (e.at(start, parts.index, kind) for start in (source, target))
            values = {window: e.load_vector(cell, place, kind) for window, place in places.items()}
            for axis in (2, 1, 0):
                values = _along(e, values, axis, sums[axis])
            for plane, number in zip(planes, sorted(values), strict=True):
                e.store_vector(values[number], out, plane)
    e.finish()
    e.function.linkage = "internal"
    return e.function


def _along(e: Emitter, values: _Values, axis: int, sums: Sequence[Sum]) -> _Values:
    """The sums along one axis of values at places, by their number."""

    def at(place: tuple[int, int, int], there: int) -> tuple[int, int, int]:
        d, h, w = (there if a == axis else p for a, p in enumerate(place))
        return d, h, w

    found: _Values = {}
    for place in dict.fromkeys(at(place, 0) for place in values):
        for number, terms in enumerate(sums):
            (first, _), *others = terms
            total = values[at(place, first)]
            for offset, sign in others:
                add = e.builder.fadd if sign > 0 else e.builder.fsub
                total = add(total, values[at(place, offset)])
            found[at(place, number)] = total
    return found
