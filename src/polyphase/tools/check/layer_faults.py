"""Faults that a transposed layer has by itself: its parameters, its speed, what follows it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from polyphase.arithmetic.cost import cost
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.phases import tap_windows
from polyphase.arithmetic.values import each
from polyphase.errors import PolyphaseError
from polyphase.tools.check.finding import Finding, by, several
from polyphase.tools.check.overlap_faults import (
    LISTED,
    bias_only,
    empty_phases,
    needed_bias,
    uneven,
)
from polyphase.tools.check.walk import Array, Layer, Walk, listed, named

LONG_KERNEL = 64
# multiply-adds per byte, above which arithmetic is what takes the time
BUSY = 4
# remarks on parameters, which layers of one kind have in common
ONCE = ("rejected-elsewhere", "not-portable")


def layer_faults(walk: Walk, sized: Collection[int] = ()) -> Iterator[Finding]:
    """Everything that is found in the layers, apart from the sizes that they meet.

    ``sized`` are the places of layers that must go on reaching several sizes by ``output_size``.
    """
    found = [
        finding
        for place, layer in enumerate(walk.layers)
        for finding in _one_layer(walk, place, layer, place in sized or bool(layer.asked))
    ]
    yield from _told_once(found)
    yield from needed_bias(walk)
    yield from _foldable(walk)


def _told_once(found: Sequence[Finding]) -> Iterator[Finding]:
    """Remarks that are the same of several layers as one that names them all."""
    for finding in found:
        alike = [
            one
            for one in found
            if finding.code in ONCE and (one.code, one.says) == (finding.code, finding.says)
        ]
        if len(alike) < 2:
            yield finding
        elif finding is alike[0]:
            names = listed([one.layer for one in alike])
            mends = {one.mend for one in alike}
            mend = finding.mend if len(mends) == 1 else f"{finding.mend} The others likewise."
            yield replace(finding, layer=names, mend=mend)


def _one_layer(walk: Walk, place: int, layer: Layer, is_sized: bool) -> Iterator[Finding]:
    weights = layer.weights()
    yield from empty_phases(layer)
    yield from uneven(layer, weights, is_sized)
    yield from bias_only(walk, place, layer)
    yield from _dead_taps(layer)
    yield from _two_opinions(layer)
    yield from _not_portable(layer)
    yield from _slow(layer)
    yield from _diagonal(layer, weights)
    for remark in layer.remarks:
        yield Finding(
            "runtimes-differ",
            "warning",
            layer.name,
            remark,
            "polyphase.interop.onnx.rewrite(model)",
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
        layer.problem.geometry.axes, each(layer.problem.geometry.output_padding), strict=True
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
    if not any(each(geometry.output_padding)):
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
            f"output_padding {by(each(geometry.output_padding))} with this padding has no exact "
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
    if problem.groups > 1 and intensity < BUSY:
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


def _foldable(walk: Walk) -> Iterator[Finding]:
    layers = []
    for layer in walk.layers:
        output = walk.steps[layer.step].outputs[0] if layer.step < len(walk.steps) else -1
        readers = walk.readers(output)
        if len(readers) == 1 and readers[0].kind == "norm":
            layers.append(layer)
    if not layers:
        return
    saved = sum(2 * one.problem.item_size * prod(one.problem.output_shape) for one in layers)
    yield Finding(
        "foldable-norm",
        "note",
        "",
        f"Batch normalisation follows at once after {named(layers)}. For inference it can be "
        f"folded into weights and bias, which saves reading and writing {_megabytes(saved)}.",
        "torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm, transpose=True)",
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.3g} MB"
