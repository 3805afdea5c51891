"""Sizes that do not fit: at the given input, and at the sizes next to it."""

from collections.abc import Iterator, Sequence

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import Problem
from polyphase.errors import OutputSizeError, PolyphaseError
from polyphase.tools.check.finding import Finding, by
from polyphase.tools.check.walk import Layer, Meeting, Shape, Walk


def size_faults(walk: Walk, others: Sequence[Walk]) -> Iterator[Finding]:
    """Everything that is wrong with sizes in ``walk``, and in the walks at other sizes."""
    for place, layer in enumerate(walk.layers):
        found = list(_misfits(walk, others, place, layer))
        yield from found
        if not found:
            yield from _off_multiple(walk, place, layer)
            yield from _repaired(walk, others, place)
        yield from _cropped(walk, layer)
    yield from _parity(walk, others)


def spatial(walk: Walk) -> Shape:
    """Size of the input that has spatial axes."""
    return next((shape[2:] for shape in walk.inputs if len(shape) > 2), ())


def _meetings(walk: Walk, place: int) -> list[Meeting]:
    return [meeting for meeting in walk.meetings if meeting.layer == place]


def _misfits(walk: Walk, others: Sequence[Walk], place: int, layer: Layer) -> Iterator[Finding]:
    here = [meeting for meeting in _meetings(walk, place) if not meeting.fits]
    elsewhere = [
        (spatial(other), meeting)
        for other in others
        for meeting in _meetings(other, place)
        if not meeting.fits
    ]
    if here:
        meeting = here[0]
        yield Finding(
            "skip-mismatch",
            "error",
            layer.name,
            f"makes {by(meeting.made)} and meets {by(meeting.other)} in {meeting.how}: "
            f"{_lacking(meeting)}.",
            _mend(walk, layer, meeting, _divisor([walk, *others])),
        )
    elif elsewhere:
        size, meeting = elsewhere[0]
        failing = {size for size, _ in elsewhere}
        other = next(other for other in others if spatial(other) == size)
        at = other.layers[place] if place < len(other.layers) else layer
        yield Finding(
            "skip-mismatch",
            "warning",
            layer.name,
            f"fits what it meets here, but not at {len(failing)} of {len(others)} larger inputs "
            f"tried: from an input of {by(size)} it makes {by(meeting.made)} and meets "
            f"{by(meeting.other)} in {meeting.how}, {_lacking(meeting)}.",
            _mend(other, at, meeting, _divisor([walk, *others])),
        )


def _divisor(walks: Sequence[Walk]) -> int | None:
    """The smallest number of whose multiples all sizes fit, and of no others, as far as tried."""
    fits: dict[tuple[int, int], bool] = {}
    for seen in walks:
        for axis, n in enumerate(spatial(seen)):
            fits[axis, n] = all(m.made[axis] == m.other[axis] for m in seen.meetings)
    return _common_divisor(fits)


def _common_divisor(fits: dict[tuple[int, int], bool]) -> int | None:
    """The smallest number all of whose multiples fit, as far as tried; keys are axis and size."""
    for divisor in range(2, 129):
        multiples = [fine for (_, n), fine in fits.items() if n % divisor == 0]
        if multiples and all(multiples):
            return divisor
    return None


def _lacking(meeting: Meeting) -> str:
    lacking = [theirs - ours for ours, theirs in zip(meeting.made, meeting.other, strict=True)]
    short, long = max(lacking), -min(lacking)
    told = [f"short by {short}"] if short > 0 else []
    return " and ".join([*told, f"long by {long}"] if long > 0 else told)


def _mend(walk: Walk, layer: Layer, meeting: Meeting, divisor: int | None = None) -> str:
    problem = layer.problem
    padded = (
        f"pad the input to a multiple of {divisor}"
        if divisor
        else ("pad the input to a size where all levels fit")
    )
    if problem.output_size == meeting.made:
        try:
            fits = problem.geometry.for_output_size(problem.input_size, meeting.other)
        except OutputSizeError:
            pass
        else:
            extra = by(_each(fits.output_padding))
            return (
                f"Call it with output_size= the size of what it meets (output_padding {extra} "
                f"there), or {padded}."
            )
    if all(a >= b for a, b in zip(meeting.made, meeting.other, strict=True)):
        return f"Crop the result to the size of what it meets, or {padded}."
    return f"output_size= alone does not reach it: {padded}."


def _off_multiple(walk: Walk, place: int, layer: Layer) -> Iterator[Finding]:
    problem = layer.problem
    if any(meeting.fits for meeting in _meetings(walk, place)):
        # the size is what its partner needs
        return
    if _change(walk, layer):
        return
    for axis, n, made in zip(
        problem.geometry.axes, problem.input_size, problem.output_size, strict=True
    ):
        off = made - n * axis.stride
        # without padding nobody wanted a multiple
        if not off or axis.stride == 1 or abs(off) >= axis.stride or axis.begin <= 0:
            continue
        side = "short" if off < 0 else "long"
        sign = "+" if off > 0 else "-"
        yield Finding(
            "off-multiple",
            "warning",
            layer.name,
            f"{n} becomes {made} = {axis.stride}*{n} {sign} {abs(off)}: {abs(off)} too {side} for "
            f"an upsampling by {axis.stride}, at every input size.",
            _exact(problem),
        )
        return


def _exact(problem: Problem) -> str:
    geometry = problem.geometry
    target = tuple(n * a.stride for n, a in zip(problem.input_size, geometry.axes, strict=True))
    told = f"polyphase.Geometry.same({geometry.kernel_size}, {geometry.stride})"
    try:
        fits = geometry.for_output_size(problem.input_size, target)
    except PolyphaseError:
        same = Geometry.same(geometry.kernel_size, geometry.stride, dilation=geometry.dilation)
        return f"padding={same.padding!r} gives exactly the multiple ({told})."
    return f"output_padding={_plain(fits.output_padding)} gives exactly the multiple."


def _repaired(walk: Walk, others: Sequence[Walk], place: int) -> Iterator[Finding]:
    for seen in (walk, *others):
        for meeting in _meetings(seen, place):
            ours = meeting.repairs
            theirs = [repair for repair in meeting.other_repairs if repair[0] == "crop"]
            if not ours and not theirs:
                continue
            layer = walk.layers[place].name
            where = "" if seen is walk else f" for an input of {by(spatial(seen))}"
            if ours:
                kinds = " and ".join(dict.fromkeys(repair[0] for repair in ours))
                says = (
                    f"comes out as {by(ours[0][1])} where {by(meeting.other)} is met{where}; a "
                    f"{kinds} makes it fit."
                )
                mend = "output_size= the size of what it meets makes it fit without that."
            else:
                says = (
                    f"makes {by(meeting.made)} and meets {by(theirs[0][1])}{where}, of which a "
                    "crop keeps the part that fits."
                )
                mend = (
                    "output_size= the size of what it meets loses nothing."
                    if _within_reach(seen.layers[place].problem, theirs[0][1])
                    else "Nothing, if the input was padded for it, as in FCN; else those positions "
                    "are lost."
                )
            yield Finding("repaired", "note", layer, says, mend)
            return


def _within_reach(problem: Problem, size: Shape) -> bool:
    try:
        problem.geometry.for_output_size(problem.input_size, size)
    except PolyphaseError:
        return False
    return True


def _change(walk: Walk, layer: Layer) -> tuple[tuple[int, int], ...] | None:
    """What is cut off or added right after a layer."""
    if layer.step >= len(walk.steps):
        return None
    value = walk.steps[layer.step].outputs[0]
    total: list[tuple[int, int]] | None = None
    while True:
        readers = walk.readers(value)
        if len(readers) != 1 or readers[0].kind not in ("crop", "pad", "pointwise", "norm"):
            break
        step = readers[0]
        if step.kind in ("crop", "pad") and any(map(any, step.change)):
            total = total or [(0, 0)] * len(step.change)
            total = [(a + c, b + d) for (a, b), (c, d) in zip(total, step.change, strict=True)]
        value = step.outputs[0]
    return tuple(total) if total else None


def _cropped(walk: Walk, layer: Layer) -> Iterator[Finding]:
    change = _change(walk, layer)
    if change is None or not any(min(pair) < 0 for pair in change):
        return
    sizes = layer.problem.output_size
    kept = 1.0
    for (begin, end), size in zip(change, sizes, strict=True):
        kept *= max(0, size + min(begin, 0) + min(end, 0)) / size
    pads = tuple(
        (a - min(begin, 0), b - min(end, 0))
        for (a, b), (begin, end) in zip(layer.problem.geometry.pads, change, strict=True)
    )
    given = pads[0] if len(set(pads)) == 1 else pads
    symmetric = all(a == b for a, b in pads)
    yield Finding(
        "cropped",
        "note",
        layer.name,
        f"{1 - kept:.1%} of its result is computed and then cut off.",
        f"padding={pads[0][0] if symmetric and len(set(pads)) == 1 else given} never computes it"
        + ("." if symmetric else "; polyphase takes such pairs, PyTorch does not."),
    )


def _parity(walk: Walk, others: Sequence[Walk]) -> Iterator[Finding]:
    """An output that is not ``scale * n + constant`` for every input size ``n``."""
    size = spatial(walk)
    made = {
        spatial(seen): seen.outputs[0][2:]
        for seen in (walk, *others)
        if seen.outputs and len(seen.outputs[0]) == len(size) + 2
    }
    last = max(made, default=size)
    if not walk.layers or size not in made or last == size:
        return
    slopes = [
        (late - early) / (m - n)
        for n, m, early, late in zip(size, last, made[size], made[last], strict=True)
    ]
    smaller = any(o < 0.75 * n for o, n in zip(made[size], size, strict=True))
    if min(slopes) < 0.75 and smaller:
        # the output is meant to be smaller than the input
        return
    scales = [max(1, round(slope)) for slope in slopes]
    excess = {n: tuple(o - s * m for s, m, o in zip(scales, n, made[n], strict=True)) for n in made}
    # what the size that divides best has is what is meant
    meant = tuple(
        excess[max(made, key=lambda n: n[axis] & -n[axis])][axis] for axis in range(len(size))
    )
    wrong = {
        n: tuple(a - b for a, b in zip(found, meant, strict=True))
        for n, found in excess.items()
        if found != meant
    }
    if not wrong:
        return
    here = size in wrong
    shown = size if here else min(wrong)
    amount = max(wrong[shown], key=abs)
    side = "short" if amount < 0 else "long"
    yield Finding(
        "output-size",
        "error" if here else "warning",
        "",
        f"The output does not follow the input: {by(shown)} gives {by(made[shown])}, {side} by "
        f"{by(tuple(map(abs, wrong[shown])))}; {len(wrong)} of {len(made)} sizes tried are off.",
        _followed(made, wrong),
    )


def _followed(made: dict[Shape, Shape], wrong: dict[Shape, tuple[int, ...]]) -> str:
    divisor = _common_divisor(
        {
            (axis, n): size not in wrong or not wrong[size][axis]
            for size in made
            for axis, n in enumerate(size)
        }
    )
    if divisor:
        return (
            f"Give every transposed layer output_size=, or pad the input to a multiple of "
            f"{divisor} and cut the output."
        )
    return "Give every transposed layer output_size=, or pad the input to a size that fits."


def _each(value: object) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _plain(value: object) -> object:
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value
