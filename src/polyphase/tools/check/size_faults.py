"""Sizes that do not fit: at the given input, and at the sizes next to it."""

from collections.abc import Iterator, Sequence

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import Problem
from polyphase.arithmetic.values import brief, each
from polyphase.errors import OutputSizeError, PolyphaseError
from polyphase.tools.check.finding import Finding, by
from polyphase.tools.check.mends import AxisMend, Mend, serving, widened
from polyphase.tools.check.neighbours import Neighbours
from polyphase.tools.check.output_faults import parity, some, stops
from polyphase.tools.check.overlap_faults import is_uneven
from polyphase.tools.check.rules import rule, spatial, strides, works
from polyphase.tools.check.walk import Layer, Meeting, Shape, Walk


def size_faults(walk: Walk, others: Neighbours) -> Iterator[Finding]:
    """Everything that is wrong with sizes in ``walk``, and in the walks at other sizes."""
    advice = _advice(walk, others)
    for place, layer in enumerate(walk.layers):
        found = list(_unreachable(walk, others, place, layer, advice))
        found += list(_misfits(walk, others, place, layer, advice))
        yield from found
        if not found:
            yield from _off_multiple(walk, place, layer)
            yield from _repaired(walk, others.ran, place)
        yield from _cropped(walk, others.ran, place)
    yield from stops(walk, others)
    yield from parity(walk, others)


def _advice(walk: Walk, others: Neighbours) -> str:
    """What to do about the input, "" where no input size helps."""
    if others.fitting is None:
        return ""
    common = rule(others.fits(walk), strides(walk))
    here = by(others.fitting)
    if others.fitting == spatial(walk):
        fine = [by(spatial(other)) for other in others.ran if works(other)]
        kept = f"keep to input sizes that fit, such as {' and '.join([here, *fine[:1]])}"
        return f"pad the input to {common}" if common else kept
    return f"pad the input to {here}" + (f", {common}" if common else "")


def _meetings(walk: Walk, place: int) -> list[Meeting]:
    return [meeting for meeting in walk.meetings if meeting.layer == place]


def sized(walk: Walk, others: Neighbours) -> set[int]:
    """Places of layers that must make several sizes of one input, by ``output_size``."""
    return {
        meeting.layer
        for seen in (walk, *others.ran)
        for meeting in seen.meetings
        if meeting.repairs
        or meeting.other_repairs
        or (not meeting.fits and seen.layers[meeting.layer].problem.output_size == meeting.made)
    } | {place for place, layer in enumerate(walk.layers) if layer.asked}


def _unreachable(
    walk: Walk, others: Neighbours, place: int, layer: Layer, advice: str
) -> Iterator[Finding]:
    """Calls with an ``output_size`` that the layer cannot make."""
    asked = [(seen, seen.layers[place]) for seen in (walk, *others.ran)]
    failing = [(seen, one) for seen, one in asked if not one.is_reached]
    if not failing:
        return
    seen, one = failing[0]
    here = seen is walk
    mend = serving(
        _unpadded(layer.problem.geometry),
        [(one.problem.input_size, one.asked) for _, one in asked if one.asked],
    )
    typed = f"{mend.typed}{mend.where} reach every size that is asked for" if mend else ""
    sizes = [by(spatial(seen)) for seen, _ in failing]
    says = (
        f"is asked for {by(one.asked)} by output_size=, but from {by(one.problem.input_size)} it "
        f"reaches {_reach(one)} alone, and PyTorch stops there"
    )
    if not here:
        says = (
            f"runs here, but not at {len(failing)} of {others.tried} larger inputs tried "
            f"({some(sizes)}): at {sizes[0]} it {says}"
        )
    yield Finding(
        "unreachable-size",
        "error" if here else "warning",
        layer.name,
        f"{says}.",
        _sentence(typed, advice)
        or "No kernel and padding reach all sizes that are asked for: crop or pad the result.",
    )


def _unpadded(geometry: Geometry) -> Geometry:
    """Without the output padding, which ``output_size`` chooses."""
    return Geometry(
        geometry.kernel_size, geometry.stride, padding=geometry.pads, dilation=geometry.dilation
    )


def _reach(layer: Layer) -> str:
    problem = layer.problem
    told = []
    for axis, base in zip(problem.geometry.axes, problem.output_size, strict=True):
        last = base + axis.stride - 1
        told.append(f"{base}" if last == base else f"{base} to {last}")
    return " x ".join(told)


def _sentence(*ways: str) -> str:
    told = ", or ".join(way for way in ways if way)
    return f"{told[:1].upper() if not told.startswith(('kernel', 'padding')) else told[:1]}" + (
        f"{told[1:]}." if told else ""
    )


def _misfits(
    walk: Walk, others: Neighbours, place: int, layer: Layer, advice: str
) -> Iterator[Finding]:
    here = [meeting for meeting in _meetings(walk, place) if not meeting.fits]
    elsewhere = [
        (other, meeting)
        for other in others.ran
        for meeting in _meetings(other, place)
        if not meeting.fits
    ]
    wanted = [
        (seen.layers[place].problem, meeting)
        for seen in (walk, *others.ran)
        for meeting in _meetings(seen, place)
    ]
    if here:
        meeting = here[0]
        yield Finding(
            "skip-mismatch",
            "error",
            layer.name,
            f"makes {by(meeting.made)} and meets {by(meeting.other)} in {meeting.how}: "
            f"{_lacking(meeting)}.",
            _mend(layer, meeting, wanted, advice),
        )
    elif elsewhere:
        other, meeting = elsewhere[0]
        failing = {spatial(other) for other, _ in elsewhere}
        yield Finding(
            "skip-mismatch",
            "warning",
            layer.name,
            f"fits what it meets here, but not at {len(failing)} of {others.tried} larger inputs "
            f"tried: from an input of {by(spatial(other))} it makes {by(meeting.made)} and meets "
            f"{by(meeting.other)} in {meeting.how}, {_lacking(meeting)}.",
            _mend(other.layers[place], meeting, wanted, advice),
        )


def _lacking(meeting: Meeting) -> str:
    lacking = [theirs - ours for ours, theirs in zip(meeting.made, meeting.other, strict=True)]
    short, long = max(lacking), -min(lacking)
    told = [f"short by {short}"] if short > 0 else []
    return " and ".join([*told, f"long by {long}"] if long > 0 else told)


def _mend(
    layer: Layer, meeting: Meeting, wanted: Sequence[tuple[Problem, Meeting]], advice: str
) -> str:
    problem = layer.problem
    is_long = all(a >= b for a, b in zip(meeting.made, meeting.other, strict=True))
    crop = "crop the result to the size of what it meets"
    if problem.output_size != meeting.made:
        return _sentence(crop if is_long else "", advice) or "Resize it to what it meets."
    try:
        fits = problem.geometry.for_output_size(problem.input_size, meeting.other)
    except OutputSizeError:
        asked = [(one.input_size, m.other) for one, m in wanted if one.output_size == m.made]
        mend = serving(_unpadded(problem.geometry), asked)
        if mend and (mend.torch_takes or not is_long):
            crop = (
                f"{mend.typed}{mend.where} makes all sizes that it meets, called with "
                "output_size= the size of what it meets"
            )
        elif not is_long:
            crop = "resize it to what it meets"
        return _sentence(crop, advice)
    extra = by(each(fits.output_padding))
    return _sentence(
        f"call it with output_size= the size of what it meets (output_padding {extra} there)",
        advice,
    )


def _off_multiple(walk: Walk, place: int, layer: Layer) -> Iterator[Finding]:
    problem = layer.problem
    if layer.asked or any(meeting.fits for meeting in _meetings(walk, place)):
        # the size is what was asked for, or what its partner needs
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
        exact = geometry.for_output_size(problem.input_size, target)
        told = f"output_padding={brief(each(exact.output_padding))} gives exactly the multiple"
    except PolyphaseError:
        exact = Geometry.same(geometry.kernel_size, geometry.stride, dilation=geometry.dilation)
        told = f"padding={exact.padding!r} gives exactly the multiple ({told})"
    wanted = [is_uneven(axis) for axis in exact.axes]
    if any(wanted):
        even = widened(exact, wanted)
        told += f", and {even.typed}{even.where} gives it evenly"
    return f"{told}."


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
                mend = _fitting_without(walk, others, place)
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


def _fitting_without(walk: Walk, others: Sequence[Walk], place: int) -> str:
    """How the layer itself makes all sizes that it meets, here and elsewhere."""
    met = [(seen, m) for seen in (walk, *others) for m in _meetings(seen, place)]
    problems = [(seen.layers[place].problem, m.other) for seen, m in met]
    if any(
        m.repairs and m.repairs[0][1] != one.output_size
        for (one, _), (_, m) in zip(problems, met, strict=True)
    ):
        return "Nothing, if the positions that are cut off or added do not matter."
    if all(_within_reach(problem, other) for problem, other in problems):
        return "output_size= the size of what it meets makes it fit without that."
    geometry = walk.layers[place].problem.geometry
    mend = serving(_unpadded(geometry), [(one.input_size, other) for one, other in problems])
    if mend is None:
        return "Nothing, for no parameters make all sizes that it meets."
    return (
        f"{mend.typed}{mend.where}, called with output_size= the size of what it meets, makes it "
        "fit without that."
    )


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


def _cropped(walk: Walk, others: Sequence[Walk], place: int) -> Iterator[Finding]:
    layer = walk.layers[place]
    change = _change(walk, layer)
    if change is None or not any(min(pair) < 0 for pair in change):
        return
    if any(kind == "crop" for met in _meetings(walk, place) for kind, *_ in met.repairs):
        # it is told as a repair, which knows what the crop is for
        return
    varies = any(_change(seen, seen.layers[place]) != change for seen in others)
    sizes = layer.problem.output_size
    kept = 1.0
    for (begin, end), size in zip(change, sizes, strict=True):
        kept *= max(0, size + min(begin, 0) + min(end, 0)) / size
    pads = tuple(
        (a - min(begin, 0), b - min(end, 0))
        for (a, b), (begin, end) in zip(layer.problem.geometry.pads, change, strict=True)
    )
    mend = Mend(
        layer.problem.geometry,
        tuple(
            AxisMend(axis.kernel_size, *pair, op)
            for axis, pair, op in zip(
                layer.problem.geometry.axes,
                pads,
                each(layer.problem.geometry.output_padding),
                strict=True,
            )
        ),
    )
    yield Finding(
        "cropped",
        "note",
        layer.name,
        f"{100 * (1 - kept):.2g}% of its result is computed and then cut off.",
        f"{mend.typed}{mend.where} never computes it."
        if not varies
        else f"Nothing where inputs of several sizes follow, which lose different parts; for this "
        f"size alone, {mend.typed}{mend.where} never computes it.",
    )
