"""Faults of the whole model at other sizes: it stops, or its output does not follow its input."""

from collections.abc import Iterator, Sequence

from polyphase.tools.check.finding import Finding, by
from polyphase.tools.check.neighbours import Neighbours, rule, spatial, strides
from polyphase.tools.check.walk import Walk


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


def parity(walk: Walk, others: Sequence[Walk]) -> Iterator[Finding]:
    """An output that is not ``scale * n + constant`` for every input size ``n``, axis by axis."""
    size = spatial(walk)
    made = {
        spatial(seen): seen.outputs[0][2:]
        for seen in (walk, *others)
        if seen.outputs and len(seen.outputs[0]) == len(size) + 2
    }
    if not walk.layers or size not in made or len(made) < 2:
        return
    lines = [{n[axis]: out[axis] for n, out in made.items()} for axis in range(len(size))]
    if any(lines[axis][n[axis]] != out[axis] for n, out in made.items() for axis in range(len(n))):
        # an output axis that depends on several input axes follows no rule of one axis
        return
    if any(o < 0.75 * n for o, n in zip(made[size], size, strict=True)) and any(
        _slope(line) < 0.75 for line in lines
    ):
        # the output is meant to be smaller than the input
        return
    wrong = [_excess(line) for line in lines]
    off = {
        n: tuple(wrong[axis][m] for axis, m in enumerate(n))
        for n in made
        if any(wrong[axis][m] for axis, m in enumerate(n))
    }
    if not off:
        return
    here = size in off
    shown = size if here else min(off)
    side = "short" if max(off[shown], key=abs) < 0 else "long"
    fits = {(axis, n): not one for axis, line in enumerate(wrong) for n, one in line.items()}
    common = rule(fits, strides(walk))
    yield Finding(
        "output-size",
        "error" if here else "warning",
        "",
        f"The output does not follow the input: {by(shown)} gives {by(made[shown])}, {side} by "
        f"{by(tuple(map(abs, off[shown])))}; {len(off)} of {len(made)} sizes tried are off.",
        "Give every transposed layer output_size="
        + (f", or pad the input to {common} and cut the output." if common else "."),
    )


def _slope(line: dict[int, int]) -> float:
    first, last = min(line), max(line)
    return (line[last] - line[first]) / (last - first) if last > first else 1.0


def _excess(line: dict[int, int]) -> dict[int, int]:
    """How far each output size of one axis is from ``scale * n``, or from what is meant instead.

    Where no size gives just that, the input that divides best says what is meant. An output of one
    size is meant to be so.
    """
    if len(set(line.values())) == 1:
        return dict.fromkeys(line, 0)
    scale = max(1, round(_slope(line)))
    best = max(line, key=lambda n: (line[n] == scale * n, n & -n))
    return {n: out - scale * n - (line[best] - scale * best) for n, out in line.items()}


def some(sizes: Sequence[str], most: int = 4) -> str:
    """The first of a list, as people write it."""
    return ", ".join(sizes[:most]) + (", ..." if len(sizes) > most else "")
