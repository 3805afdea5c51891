"""Faults of the whole model at other sizes: it stops, or its output does not follow its input."""

from collections.abc import Iterator, Sequence
from itertools import takewhile

from polyphase.arithmetic.values import each
from polyphase.tools.check.finding import Finding, by
from polyphase.tools.check.neighbours import Neighbours
from polyphase.tools.check.rules import excesses, rule, spatial, strides
from polyphase.tools.check.walk import Shape, Walk

# sums of output paddings that are looked through
MOST = 1 << 14


def stops(walk: Walk, others: Neighbours) -> Iterator[Finding]:
    """Sizes at which the model stops, although it runs at others."""
    stopped = [other for other in others.stopped if other.stopped_at]
    if not stopped and not others.ran:
        # a model of fixed size
        return
    stopped = stopped or others.stopped
    if not stopped:
        return
    sizes = [by(spatial(other)) for other in stopped]
    runs = {spatial(other): True for other in (walk, *others.ran)}
    runs |= {spatial(other): False for other in others.stopped}
    common = rule(
        {
            (axis, n): any(fine for size, fine in runs.items() if size[axis] == n)
            for size in runs
            for axis, n in enumerate(size)
        },
        strides(walk),
    )
    at = stopped[0].stopped_at
    yield Finding(
        "other-sizes",
        "warning" if at else "note",
        at,
        f"{'stops' if at else 'The model stops'} at {len(stopped)} of {others.tried} larger inputs "
        f"tried ({some(sizes)}): {stopped[0].stopped}.",
        f"Pad the input to {common}." if common else "Keep to sizes at which it runs.",
    )


def parity(walk: Walk, others: Neighbours) -> Iterator[Finding]:
    """An output that is not ``scale * n + constant`` for every input size ``n``, axis by axis."""
    wrong = excesses([walk, *others.ran])
    size = spatial(walk)
    seen = {spatial(one): one for one in (walk, *others.ran) if one.outputs}
    off = {
        n: tuple(wrong[axis, m] for axis, m in enumerate(n))
        for n in seen
        if any(wrong.get((axis, m)) for axis, m in enumerate(n))
    }
    if not off:
        return
    here = size in off
    shown = size if here else min(off)
    side = "short" if max(off[shown], key=abs) < 0 else "long"
    held = rule(others.fits(walk), strides(walk))
    ways = ["give every transposed layer output_size="] * all(
        _by_output_size(seen[n], excess) for n, excess in off.items()
    )
    ways += [f"pad the input to {held} and cut the output"] * bool(held)
    mend = ", or ".join(ways) or "crop or pad the output to the size that is meant"
    yield Finding(
        "output-size",
        "error" if here else "warning",
        "",
        f"The output does not follow the input: {by(shown)} gives "
        f"{by(seen[shown].outputs[0][2:])}, {side} by "
        f"{by(tuple(map(abs, off[shown])))}; {len(off)} of {len(seen)} sizes tried are off.",
        f"{mend[0].upper()}{mend[1:]}.",
    )


def _by_output_size(walk: Walk, excess: Shape) -> bool:
    """Whether other output paddings of the last layers, which meet nothing, make up for it."""
    bound = {meeting.layer for meeting in walk.meetings}
    free = takewhile(lambda place: place not in bound, reversed(range(len(walk.layers))))
    geometries = [walk.layers[place].problem.geometry for place in free]
    if any(geometry.rank != len(excess) for geometry in geometries):
        return False
    for axis, over in enumerate(excess):
        reached, scale = {0}, 1
        for geometry in geometries:
            stride, extra = geometry.axes[axis].stride, each(geometry.output_padding)[axis]
            if len(reached) * stride > MOST:
                break
            reached = {n + scale * (op - extra) for n in reached for op in range(stride)}
            scale *= stride
        if -over not in reached:
            return False
    return True


def some(sizes: Sequence[str], most: int = 4) -> str:
    """The first of a list, as people write it."""
    return ", ".join(sizes[:most]) + (", ..." if len(sizes) > most else "")
