"""Paddle: ``paddle.nn.functional.conv1d_transpose`` to ``conv3d_transpose``.

Padding may differ between the ends. The word ``"SAME"`` is a trap: it pads as an ordinary
convolution of the same input would, so that the result depends on the input size, and it sets the
dilation to 1.
"""

from collections.abc import Sequence
from typing import Any

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis, entries, plain
from polyphase.errors import GeometryError, OutputSizeError
from polyphase.interop.convention import (
    Convention,
    Crop,
    Layout,
    Meaning,
    Rule,
    below_stride,
    checked_groups,
    columns,
    frame,
    input_sizes,
    meaning,
    per_axis,
    split_total,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("iok")
CONVENTION = Convention(
    name="paddle",
    title="Paddle",
    call="paddle.nn.functional.conv{rank}d_transpose(x, weight, bias, {})",
    layout=LAYOUT,
    rules=(
        Rule("padding, output_padding", "begin", "end - op"),
        Rule("VALID", "0", "-op"),
        Rule(
            "SAME, which makes the dilation 1",
            "max((ceil(n/s) - 1)*s + k - n, 0)//2",
            "max((ceil(n/s) - 1)*s + k - n, 0) - a - op",
        ),
        Rule("output_size, with a as above", "a", "F - O - a"),
    ),
    output_padding="below stride",
    groups="groups",
    names={
        "kernel_size": "kernel_size",
        "stride": "stride",
        "padding": "padding",
        "output_padding": "output_padding",
        "dilation": "dilation",
    },
    defaults={"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1},
    checked="paddlepaddle 3.3",
    source="`paddle.nn.functional.conv2d_transpose`",
    trap="`SAME` is not `n*s`: it depends on the input size, and it makes the dilation 1.",
)


def geometry(
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: str | int | Sequence[Any] = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    output_size: PerAxis | None = None,
    *,
    input_size: PerAxis | None = None,
) -> Meaning:
    """What the arguments mean; ``output_size`` and ``"SAME"`` need ``input_size``.

    ``padding`` is an int, one per axis, ``[begin, end, begin, end, ...]``, or pairs for all axes
    with batch and channels, which come first here.

    >>> geometry((3, 3), 2, [1, 0, 1, 1]).geometry.crops
    ((1, 0), (1, 1))
    >>> geometry(3, 2, "SAME", input_size=6).geometry.output_size(6)
    12
    >>> geometry(3, 2, "SAME", input_size=7).geometry.output_size(7)
    13
    """
    around = frame(kernel_size, stride, dilation)
    rank = around.rank
    checked_groups("groups", groups)
    extra = per_axis("output_padding", output_padding, rank, low=0)
    below_stride("output_padding", extra, (axis.stride for axis in around.axes))
    word = padding.upper() if isinstance(padding, str) else ""
    if word == "SAME":
        around = frame(around.kernel_size, around.stride)
        sizes = input_sizes(around, input_size, "padding 'SAME' depends on it")
        pads = list(map(_same_pads, around.axes, sizes))
    elif isinstance(padding, str):
        if word != "VALID":
            raise GeometryError(f"padding must be 'SAME', 'VALID' or numbers, got {padding!r}")
        pads = [(0, 0)] * rank
    else:
        pads = _pairs(padding, rank)
    if output_size is None:
        return meaning(around, pads, LAYOUT, extra)
    if any(extra):
        raise GeometryError(f"output_size and output_padding {extra} exclude each other")
    sizes = input_sizes(around, input_size, "output_size means nothing without it")
    wanted = per_axis("output_size", output_size, rank, low=0)
    grown = []
    for axis, n, (low, high), size in zip(around.axes, sizes, pads, wanted, strict=True):
        least = axis.full_size(n) - low - high
        if not least <= size < least + axis.stride:
            raise OutputSizeError(
                f"output_size must be {least} to {least + axis.stride - 1} for input_size {n}, "
                f"got {size}"
            )
        grown.append(size - least)
    return meaning(around, pads, LAYOUT, grown)


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The arguments that mean this geometry, with as little ``output_padding`` as there can be.

    >>> parameters(Geometry(3, stride=2, padding=1, output_padding=1))
    ... # doctest: +NORMALIZE_WHITESPACE
    {'stride': 2, 'padding': [1, 0], 'output_padding': 0, 'groups': 1, 'dilation': 1}

    Raises :class:`~polyphase.interop.NoExactCall` where the beginning gains, or the end gains a
    whole stride.
    """
    return exactly(CONVENTION, _express, geometry, groups)


def _same_pads(axis: Axis, n: int) -> Crop:
    """What an ordinary convolution of an input of this size would be padded with."""
    windows = -(-n // axis.stride)
    return split_total(max((windows - 1) * axis.stride + axis.extent - n, 0), begin_first=False)


def _pairs(padding: int | Sequence[Any], rank: int) -> list[Crop]:
    found = entries("padding", padding)
    if found is not None and all(isinstance(entry, Sequence) for entry in found):
        if len(found) != rank + 2:
            raise GeometryError(
                f"padding must have {rank + 2} pairs, batch and channels first, or {2 * rank} "
                f"numbers, got {padding!r}"
            )
        pairs = [per_axis("a padding pair", pair, 2, low=0) for pair in found]
        if any(map(any, pairs[:2])):
            raise GeometryError(f"padding of batch and channels must be [0, 0], got {padding!r}")
        return [(low, high) for low, high in pairs[2:]]
    if found is not None and len(found) == 2 * rank:
        flat = per_axis("padding", found, 2 * rank, low=0)
        return list(zip(flat[::2], flat[1::2], strict=True))
    return [(p, p) for p in per_axis("padding", padding, rank, low=0)]


def _express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    for axis in geometry.axes:
        if axis.begin < 0:
            return f"padding must be at least 0, but the beginning is to gain {-axis.begin}"
        if -axis.end >= axis.stride:
            return (
                f"output_padding would be {-axis.end}, and it must be smaller than stride "
                f"{axis.stride}"
            )
    _, stride, dilation = columns(geometry)
    return {
        "stride": plain(stride),
        "padding": [max(removed, 0) for crop in geometry.crops for removed in crop],
        "output_padding": plain(tuple(max(-axis.end, 0) for axis in geometry.axes)),
        "groups": groups,
        "dilation": plain(dilation),
    }
