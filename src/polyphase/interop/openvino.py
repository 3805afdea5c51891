"""OpenVINO: ``ConvolutionBackpropData`` and ``GroupConvolutionBackpropData``.

Two traps: ``auto_pad="same_*"`` means no padding at all unless ``output_shape`` is given, and of
the two words ``same_upper`` removes the odd position at the beginning, which is the opposite of
ONNX.
"""

from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis
from polyphase.interop.convention import (
    Convention,
    Layout,
    Meaning,
    Rule,
    checked_groups,
    columns,
    frame,
    input_sizes,
    meaning,
    one_of,
    padded,
    per_axis,
    split_total,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("iok")
AUTO_PADS = ("explicit", "valid", "same_upper", "same_lower")
CONVENTION = Convention(
    name="openvino",
    title="OpenVINO",
    call="openvino.opset1.convolution_backprop_data(x, weight, {})",
    slices=False,
    layout=LAYOUT,
    rules=(
        Rule("explicit", "begin", "end - op"),
        Rule("valid, same_upper, same_lower", "0", "-op"),
        Rule("explicit with output_shape", "begin if groups == 1 else 0", "F - O - a"),
        Rule("valid with output_shape", "0", "F - O"),
        Rule(
            "same_upper with output_shape",
            "max(T, 0) - max(T, 0)//2",
            "F - O - a",
        ),
        Rule("same_lower with output_shape", "max(T, 0)//2", "F - O - a"),
    ),
    output_padding="any",
    groups="an axis of the weights",
    group_axis=True,
    grouped_call="openvino.opset1.group_convolution_backprop_data(x, weight, {})",
    names={
        "kernel_size": "kernel_size",
        "stride": "strides",
        "output_padding": "output_padding",
        "dilation": "dilations",
    },
    defaults={"auto_pad": "explicit", "output_padding": 0},
    takes_bias=False,
    checked="openvino 2026.4",
    source="`convolution-backprop-data-1.rst`",
    trap="`same_*` without `output_shape` removes nothing. `same_upper` and `same_lower` are "
    "the opposite of ONNX. `output_shape` with `explicit` means one thing without groups,"
    " another with them, and a third in the documentation. The CPU plugin ignores the "
    "pads of a kernel of 1 whose output has the size of its input.",
)


def geometry(
    kernel_size: PerAxis,
    strides: PerAxis = 1,
    pads_begin: PerAxis = 0,
    pads_end: PerAxis = 0,
    dilations: PerAxis = 1,
    auto_pad: str = "explicit",
    output_padding: PerAxis = 0,
    output_shape: PerAxis | None = None,
    *,
    input_size: PerAxis | None = None,
    groups: int = 1,
) -> Meaning:
    """What the attributes mean; ``output_shape`` (spatial sizes) needs ``input_size``.

    With groups the weights have one more axis, the groups, before those that ``permutation``
    speaks of.

    >>> geometry(3, 2, auto_pad="same_upper").geometry.crops
    ((0, 0),)
    >>> geometry(3, 2, auto_pad="same_upper", output_shape=12, input_size=6).geometry.crops
    ((1, 0),)
    """
    around = frame(kernel_size, strides, dilations)
    one_of("auto_pad", auto_pad, AUTO_PADS)
    grouped = checked_groups("groups", groups) > 1
    begins = per_axis("pads_begin", pads_begin, around.rank, low=0)
    ends = per_axis("pads_end", pads_end, around.rank, low=0)
    extra = per_axis("output_padding", output_padding, around.rank, low=0)
    if auto_pad != "explicit":
        begins = ends = (0,) * around.rank
    if output_shape is None:
        return padded(around, zip(begins, ends, strict=True), extra, LAYOUT)
    sizes = input_sizes(around, input_size, "output_shape means nothing without it")
    wanted = per_axis("output_shape", output_shape, around.rank, low=0)
    crops = []
    for axis, n, size, begin, op in zip(around.axes, sizes, wanted, begins, extra, strict=True):
        total = axis.full_size(n) - size
        if grouped:
            begin = 0
        if auto_pad.startswith("same"):
            begin, _ = split_total(total + op, begin_first=auto_pad == "same_upper")
        crops.append((begin, total - begin))
    return meaning(around, crops, LAYOUT)


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The attributes that mean this geometry, with as little ``output_padding`` as there can be.

    >>> parameters(Geometry(3, stride=2, padding=1, output_padding=1))
    ... # doctest: +NORMALIZE_WHITESPACE
    {'strides': [2], 'pads_begin': [1], 'pads_end': [0], 'dilations': [1], 'auto_pad': 'explicit',
     'output_padding': [0]}

    Raises :class:`~polyphase.interop.NoExactCall` where the beginning gains.
    """
    return exactly(CONVENTION, _express, geometry, groups)


def _express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    ones = all(axis.kernel_size == axis.stride == 1 for axis in geometry.axes)
    if ones and not any(map(sum, geometry.crops)) and any(map(any, geometry.crops)):
        return "a kernel of 1 whose output has the size of its input ignores the pads"
    for begin, _ in geometry.crops:
        if begin < 0:
            return f"pads_begin must be at least 0, but the beginning is to gain {-begin}"
    _, stride, dilation = columns(geometry)
    return {
        "strides": list(stride),
        "pads_begin": [begin for begin, _ in geometry.crops],
        "pads_end": [max(end, 0) for _, end in geometry.crops],
        "dilations": list(dilation),
        "auto_pad": "explicit",
        "output_padding": [max(-end, 0) for _, end in geometry.crops],
    }
