"""Faults of overlap: positions that taps reach unequally, or not at all."""

from collections.abc import Iterator
from math import prod

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import Problem
from polyphase.arithmetic.values import each
from polyphase.tools.check.evenness import Evenness, evenness, tap_counts
from polyphase.tools.check.finding import Finding, by, several
from polyphase.tools.check.mends import Mend, widened
from polyphase.tools.check.walk import Array, Layer, Walk, named

# below this, what the weights add up to hides the uneven overlap
EVEN_ENOUGH = 0.05
# even overlap whose weights differ more than this, and more than chance does
UNEVEN_WEIGHTS = 0.5
# taps that are listed one by one
LISTED = 4096


def overlapping(problem: Problem) -> list[Axis]:
    """The axes along which results of several inputs can overlap."""
    pairs = zip(problem.geometry.axes, problem.input_size, strict=True)
    return [axis for axis, n in pairs if n > 1]


def empty_phases(layer: Layer) -> Iterator[Finding]:
    """Outputs that no tap reaches, wherever they are."""
    geometry = layer.problem.geometry
    shares = [
        sum(count > 0 for count in tap_counts(axis)) / axis.stride
        for axis in geometry.axes
        if axis.stride <= LISTED
    ]
    if prod(shares) == 1:
        return
    total = prod(axis.stride for axis in geometry.axes)
    empty = total - round(prod(shares) * total)
    worst = max(geometry.axes, key=lambda axis: axis.stride / axis.kernel_size)
    shorter = worst.kernel_size < worst.stride
    yield Finding(
        "empty-phases",
        "warning",
        layer.name,
        f"{empty} of {total} phases have no tap: {empty / total:.0%} of the output is "
        f"{_filling(layer)}, "
        + (
            f"because stride {worst.stride} is longer than the kernel of {worst.kernel_size}."
            if shorter
            else "because stride and dilation have a common divisor."
        ),
        f"Use a kernel of at least {worst.stride}, best a multiple of it."
        if shorter
        else "Use dilation 1, or one that has no divisor in common with the stride.",
    )


def uneven(layer: Layer, weights: Array | None, is_sized: bool) -> Iterator[Finding]:
    """Positions that get unequal numbers of taps, or unequal weights.

    ``is_sized`` says that the mend must reach the same sizes by ``output_size``.
    """
    problem = layer.problem
    axes = overlapping(problem)
    if not axes or any(axis.stride > LISTED for axis in axes):
        return
    found = evenness(problem.geometry, weights)
    if found is None:
        return
    unequal = list(filter(is_uneven, axes))
    if unequal:
        yield _overlap(layer, unequal, found, is_sized)
    elif (
        min(found.gains.flat) > 0
        and found.measured
        and found.unevenness > max(UNEVEN_WEIGHTS, found.noise)
    ):
        yield Finding(
            "uneven-weights",
            "note",
            layer.name,
            f"Every position gets the same number of taps, but the weights differ by phase: the "
            f"response to a constant input varies by {found.unevenness:.0%} of its mean.",
            "Look at a flat region of the output; initialise all phases alike (bilinear or ICNR).",
        )


def is_uneven(axis: Axis) -> bool:
    """Whether positions get unequal numbers of taps, and none gets no tap."""
    return 0 < min(tap_counts(axis)) < max(tap_counts(axis))


def _evened(layer: Layer, fixed: bool) -> Mend:
    """One mend for all axes, whether positions get unequal numbers of taps or none."""
    problem = layer.problem
    beyond = _beyond(layer) if fixed else [0] * problem.rank
    wanted = [
        bool(none) or (n > 1 and axis.stride <= LISTED and is_uneven(axis))
        for axis, n, none in zip(problem.geometry.axes, problem.input_size, beyond, strict=True)
    ]
    return widened(problem.geometry, wanted, fixed)


def _overlap(layer: Layer, axes: list[Axis], found: Evenness, is_sized: bool) -> Finding:
    axis = axes[0]
    counts = tap_counts(axis)
    measured = found.measured and found.unevenness < EVEN_ENOUGH
    how = "of these weights" if found.measured else "with equal weights"
    mend = _evened(layer, not is_sized)
    return Finding(
        "uneven-overlap",
        "note" if measured else "warning",
        layer.name,
        f"Kernel {axis.kernel_size} is no multiple of stride {axis.stride}: positions get "
        f"{' or '.join(map(str, sorted(set(counts))))} taps in turn. The response {how} to a "
        f"constant input varies by {found.unevenness:.0%} of its mean"
        + (", so they make up for it." if measured else ": a checkerboard."),
        "Keep these weights, or use a kernel that is a multiple of the stride before training."
        if measured
        else f"{mend.typed}{mend.where} makes the same size{'s' if is_sized else ''} evenly; "
        f"train on from {mend.grown}, which gives the old result.",
    )


def bias_only(walk: Walk, place: int, layer: Layer) -> Iterator[Finding]:
    """Positions that ``output_padding`` adds beyond all taps, although nothing asks for them."""
    if not any(_beyond(layer)) or _is_needed(walk, place, layer):
        return
    geometry, mend = layer.problem.geometry, _evened(layer, fixed=True)
    where = " and ".join(
        f"{several(max(counts), 'position')} at the {end}"
        for counts, end in zip(zip(*_ends(layer), strict=True), ("beginning", "end"), strict=True)
        if any(counts)
    )
    yield Finding(
        "bias-only",
        "warning",
        layer.name,
        f"{_adding(geometry)} adds {where} of an axis that "
        f"no tap reaches: they hold {_filling(layer)}.",
        f"{mend.typed}{mend.where} makes the same size out of taps; train on from {mend.grown}, "
        "which gives the old result.",
    )


def needed_bias(walk: Walk) -> Iterator[Finding]:
    """One remark on all layers whose added positions are there to meet something."""
    layers = [
        layer
        for place, layer in enumerate(walk.layers)
        if any(_beyond(layer)) and _is_needed(walk, place, layer)
    ]
    if not layers:
        return
    most = max(max(_beyond(layer)) for layer in layers)
    yield Finding(
        "bias-only",
        "note",
        "",
        f"To make the size that is asked for, {named(layers)} add{'s' * (len(layers) == 1)} up to "
        f"{several(most, 'position')} that no tap reaches: they hold {_filling(layers[0])}.",
        "Nothing, for the sizes are right; where that border matters, pad the input to a size at "
        "which nothing is added.",
    )


def _ends(layer: Layer) -> list[tuple[int, int]]:
    """Positions of each axis, at its beginning and its end, that no tap reaches."""
    return [(max(0, -axis.begin), max(0, -axis.end)) for axis in layer.problem.geometry.axes]


def _beyond(layer: Layer) -> list[int]:
    return [begin + end for begin, end in _ends(layer)]


def _is_needed(walk: Walk, place: int, layer: Layer) -> bool:
    """Whether a call asked for this size, or the result meets something of just this size."""
    return bool(layer.asked) or any(
        meeting.layer == place and meeting.other == meeting.made == layer.problem.output_size
        for meeting in walk.meetings
    )


def _adding(geometry: Geometry) -> str:
    extra = each(geometry.output_padding)
    return f"output_padding {by(extra)}" if any(extra) else "Negative padding"


def _filling(layer: Layer) -> str:
    return "the bias alone" if layer.has_bias else "zeros"
