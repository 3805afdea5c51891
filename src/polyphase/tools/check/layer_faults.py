"""Faults that a transposed layer has by itself: its parameters, its weights, its neighbours."""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.cost import cost
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.phases import tap_windows
from polyphase.arithmetic.problem import Problem
from polyphase.arithmetic.solve import solve
from polyphase.errors import PolyphaseError
from polyphase.tools.check.evenness import Evenness, evenness, tap_counts
from polyphase.tools.check.finding import Finding, by, several
from polyphase.tools.check.walk import Array, Layer, Walk

# below this, what the weights add up to hides the uneven overlap
EVEN_ENOUGH = 0.05
# even overlap whose weights differ more than this, and more than chance does
UNEVEN_WEIGHTS = 0.5
LONG_KERNEL = 64
# taps that are listed one by one
LISTED = 4096


def layer_faults(walk: Walk, layer: Layer) -> Iterator[Finding]:
    """Everything that is found in one layer, apart from the sizes that it meets."""
    weights = layer.weights()
    yield from _empty_phases(layer)
    yield from _uneven(layer, weights)
    yield from _bias_only(layer)
    yield from _dead_taps(layer)
    yield from _two_opinions(layer)
    yield from _not_portable(layer)
    yield from _slow(layer)
    yield from _diagonal(layer, weights)
    yield from _foldable(walk, layer)
    for remark in layer.remarks:
        yield Finding(
            "runtimes-differ",
            "warning",
            layer.name,
            remark,
            "polyphase.interop.onnx.rewrite(model)",
        )


def overlapping(problem: Problem) -> list[Axis]:
    """The axes along which results of several inputs can overlap."""
    pairs = zip(problem.geometry.axes, problem.input_size, strict=True)
    return [axis for axis, n in pairs if n > 1]


def _empty_phases(layer: Layer) -> Iterator[Finding]:
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
    filled = "the bias alone" if layer.has_bias else "zeros"
    shorter = worst.kernel_size < worst.stride
    yield Finding(
        "empty-phases",
        "warning",
        layer.name,
        f"{empty} of {total} phases have no tap: {empty / total:.0%} of the output is {filled}, "
        + (
            f"because stride {worst.stride} is longer than the kernel of {worst.kernel_size}."
            if shorter
            else "because stride and dilation have a common divisor."
        ),
        f"Use a kernel of at least {worst.stride}, best a multiple of it."
        if shorter
        else "Use dilation 1, or one that has no divisor in common with the stride.",
    )


def _uneven(layer: Layer, weights: Array | None) -> Iterator[Finding]:
    problem = layer.problem
    axes = overlapping(problem)
    if not axes or any(axis.stride > LISTED for axis in axes):
        return
    found = evenness(problem.geometry, weights)
    if found is None:
        return
    uneven = [axis for axis in axes if 0 < min(tap_counts(axis)) < max(tap_counts(axis))]
    if uneven:
        yield _overlap(layer, uneven, found)
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


def _overlap(layer: Layer, axes: list[Axis], found: Evenness) -> Finding:
    axis = axes[0]
    counts = tap_counts(axis)
    measured = found.measured and found.unevenness < EVEN_ENOUGH
    how = "of these weights" if found.measured else "with equal weights"
    larger = -(-axis.kernel_size // axis.stride) * axis.stride
    more = (larger - axis.kernel_size) * axis.dilation
    begin, end = axis.begin + more // 2, axis.end + more - more // 2
    pair = f"{begin}" if begin == end else f"({begin}, {end}), a pair that polyphase takes,"
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
        else f"kernel_size={larger} with padding={pair} makes the same size evenly; the old "
        "weights with zeros as further taps are a start for training.",
    )


def _bias_only(layer: Layer) -> Iterator[Finding]:
    problem = layer.problem
    tails = tuple(max(0, -axis.end) for axis in problem.geometry.axes)
    heads = tuple(max(0, -axis.begin) for axis in problem.geometry.axes)
    if not any(tails + heads):
        return
    filled = "the bias alone" if layer.has_bias else "zeros"
    where = " and ".join(
        f"{several(max(counts), 'position')} at the {end}"
        for counts, end in ((heads, "beginning"), (tails, "end"))
        if any(counts)
    )
    yield Finding(
        "bias-only",
        "warning",
        layer.name,
        f"output_padding {by(_each(problem.geometry.output_padding))} adds {where} of an axis that "
        f"no tap reaches: they hold {filled}.",
        _reaching(problem),
    )


def _reaching(problem: Problem) -> str:
    """Parameters with which taps reach every position of the same output."""
    kernels: list[object] = []
    pads: list[object] = []
    for axis, n, target in zip(
        problem.geometry.axes, problem.input_size, problem.output_size, strict=True
    ):
        if axis.end >= 0 and axis.begin >= 0:
            kernels.append(axis.kernel_size)
            pads.append(axis.begin)
            continue
        try:
            best = solve(n, target, stride=axis.stride, limit=1)[0]
        except PolyphaseError:
            return "Drop output_padding, and pad the result if its size must be this one."
        kernels.append(best.kernel_size)
        pads.append(best.padding)
    return (
        f"kernel_size={_told(kernels)} with padding={_told(pads)} makes the same size out of taps; "
        "or drop output_padding."
    )


def _dead_taps(layer: Layer) -> Iterator[Finding]:
    problem = layer.problem
    dead, always = [], []
    for axis, n, size in zip(
        problem.geometry.axes, problem.input_size, problem.output_size, strict=True
    ):
        if axis.kernel_size > LISTED:
            return
        dead.append([t for t, inputs in tap_windows(axis, n, size) if not inputs])
        many = n + -(-(axis.begin + max(axis.end, 0)) // axis.stride) + axis.extent
        plenty = max(0, axis.output_size(many))
        always.append([t for t, inputs in tap_windows(axis, many, plenty) if not inputs])
    if not any(dead):
        return
    used = prod(
        1 - len(taps) / axis.kernel_size
        for taps, axis in zip(dead, problem.geometry.axes, strict=True)
    )
    listed = next(taps for taps in dead if taps)
    ever = any(always)
    yield Finding(
        "dead-taps",
        "warning" if ever else "note",
        layer.name,
        f"The crop throws away all that {several(len(listed), 'tap')} "
        f"({', '.join(map(str, listed[:6]))}{', ...' if len(listed) > 6 else ''}) make: "
        f"{1 - used:.0%} of the weights have no effect"
        + (" at any size." if ever else f" at this input size, {by(problem.input_size)}."),
        "Use a smaller kernel and less padding: the result stays the same."
        if ever
        else "Nothing is wrong if larger inputs follow; else a smaller kernel gives the same.",
    )


def _two_opinions(layer: Layer) -> Iterator[Finding]:
    for axis, op in zip(
        layer.problem.geometry.axes, _each(layer.problem.geometry.output_padding), strict=True
    ):
        if op >= axis.stride:
            yield Finding(
                "rejected-elsewhere",
                "warning",
                layer.name,
                f"output_padding {op} is not below stride {axis.stride}, only below dilation "
                f"{axis.dilation}: PyTorch's function takes it, but output_size= of its layers "
                f"ends at output_padding {axis.stride - 1}, and onnxruntime and Keras refuse it.",
                "Use less padding instead of more output_padding, or polyphase's (begin, end).",
            )
            return
        if axis.dilation > axis.stride:
            yield Finding(
                "rejected-elsewhere",
                "note",
                layer.name,
                f"With dilation {axis.dilation} above stride {axis.stride}, output_padding up to "
                f"{axis.dilation - 1} is legal, but output_size= of PyTorch's layers ends at "
                f"{axis.stride - 1}.",
                "Give output_padding itself where output_size is refused.",
            )
            return


def _not_portable(layer: Layer) -> Iterator[Finding]:
    geometry, groups = layer.problem.geometry, layer.problem.groups
    if not any(_each(geometry.output_padding)):
        return
    from polyphase.interop import keras, onnx, tflite

    without = Geometry(
        geometry.kernel_size, geometry.stride, padding=geometry.padding, dilation=geometry.dilation
    )
    sizes = {
        "input_size": layer.problem.input_size,
        "batch": layer.problem.batch,
        "out_channels": layer.problem.out_channels,
    }
    names, instead = [], ""
    for title, framework, given in (
        ("ONNX", onnx, {}),
        ("Keras", keras, {}),
        ("TFLite", tflite, sizes),
    ):
        reason = _refusal(framework, geometry, groups, given)
        if reason and not _refusal(framework, without, groups, given):
            names.append(title)
            instead = instead or f"In {title}: {reason}."
    if names:
        yield Finding(
            "not-portable",
            "note",
            layer.name,
            f"output_padding {by(_each(geometry.output_padding))} with this padding has no exact "
            f"counterpart in a single call of {' or '.join(names)}.",
            instead,
        )


def _refusal(framework: Any, geometry: Geometry, groups: int, given: dict[str, Any]) -> str:
    """What the framework needs in place of a single call, "" where that is enough."""
    try:
        framework.parameters(geometry, groups, **given)
    except PolyphaseError as error:
        return str(error).partition("exact instead: ")[2] or str(error)
    return ""


def _slow(layer: Layer) -> Iterator[Finding]:
    problem = layer.problem
    found = cost(problem)
    longest = max(axis.kernel_size for axis in problem.geometry.axes)
    intensity = found.phases.multiplications / max(1, problem.bytes)
    column = found.column_buffer.intermediate_bytes
    if problem.groups > 1:
        what = "depthwise" if problem.groups == problem.in_channels else "grouped"
        yield Finding(
            "slow-path",
            "note",
            layer.name,
            f"A {what} layer of {problem.groups} groups does {intensity:.2g} multiply-adds per "
            "byte that it moves: memory decides its speed, not arithmetic.",
            "polyphase.accelerate(model); measure it with --measure.",
        )
    elif longest >= LONG_KERNEL:
        yield Finding(
            "slow-path",
            "note",
            layer.name,
            f"With a kernel of {longest}, a column buffer takes {_megabytes(column)} where input, "
            f"weights and output are {_megabytes(problem.bytes)}.",
            "polyphase.accelerate(model), which makes no such buffer; measure it with --measure.",
        )


def _diagonal(layer: Layer, weights: Array | None) -> Iterator[Finding]:
    problem = layer.problem
    if (
        weights is None
        or problem.groups != 1
        or problem.in_channels != problem.out_channels
        or problem.in_channels == 1
    ):
        return
    used = np.any(weights != 0, axis=tuple(range(2, weights.ndim)))
    if not used.any() or np.any(used & ~np.eye(len(used), dtype=bool)):
        return
    yield Finding(
        "diagonal-weights",
        "note",
        layer.name,
        f"No channel reaches another: {1 - 1 / problem.in_channels:.0%} of the weights, and of "
        "the multiply-adds, are zeros.",
        f"If they stay so (frozen interpolation), groups={problem.groups * problem.in_channels} "
        "gives the same result.",
    )


def _foldable(walk: Walk, layer: Layer) -> Iterator[Finding]:
    output = walk.steps[layer.step].outputs[0] if layer.step < len(walk.steps) else -1
    readers = walk.readers(output)
    if len(readers) != 1 or readers[0].kind != "norm":
        return
    saved = 2 * layer.problem.item_size * prod(layer.problem.output_shape)
    yield Finding(
        "foldable-norm",
        "note",
        layer.name,
        "Batch normalisation follows at once. For inference it can be folded into weights and "
        f"bias, which saves reading and writing {_megabytes(saved)}.",
        "torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm, transpose=True)",
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.3g} MB"


def _told(values: list[object]) -> str:
    return str(values[0] if len(set(values)) == 1 else tuple(values))


def _each(value: object) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
