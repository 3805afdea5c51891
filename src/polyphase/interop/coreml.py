"""Core ML: ``conv_transpose`` of the model intermediate language (iOS 15), ``mb.conv_transpose``.

There is no output padding. ``output_shape`` is understood with ``pad_type`` ``"valid"`` and
``"same"``, where it means what TensorFlow means; what it means with ``"custom"`` is not documented.
"""

from collections.abc import Sequence
from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis
from polyphase.errors import Unsupported
from polyphase.interop import tensorflow
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
    per_axis,
    removed,
    same_crop,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("iok")
CONVENTION = Convention(
    name="coreml",
    title="Core ML",
    call="mb.conv_transpose(x=x, weight=weight, bias=bias, {})",
    bias=(", bias=bias", ""),
    slices=False,
    layout=LAYOUT,
    rules=(
        Rule("valid", "0", "0"),
        Rule("custom", "begin", "end"),
        Rule("same", "max(e - s, 0)//2", "e - s - a"),
        Rule("same with output_shape", "max(T, 0)//2", "F - O - a"),
        Rule("valid with output_shape", "0", "F - O"),
    ),
    groups="groups",
    names={
        "kernel_size": "kernel_size",
        "stride": "strides",
        "dilation": "dilations",
    },
    defaults={"strides": 1, "pad_type": "valid", "pad": 0, "dilations": 1, "groups": 1},
    checked="coremltools 9.0, sizes only",
    source="`coremltools/converters/mil/mil/ops/defs/iOS15/conv.py`",
    trap="There is no output padding: a converter that pads the input instead is wrong.",
)


def geometry(
    kernel_size: PerAxis,
    strides: PerAxis = 1,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: PerAxis = 1,
    output_shape: Sequence[int] | None = None,
    groups: int = 1,
    *,
    input_size: PerAxis | None = None,
) -> Meaning:
    """What the inputs of the operator mean.

    ``pad`` has begin and end of each axis in turn and counts for ``"custom"`` only;
    ``output_shape`` is ``[N, C_out, *size]`` and needs ``input_size``.

    >>> geometry((3, 3), 2, "custom", [1, 0, 1, 1]).geometry.crops
    ((1, 0), (1, 1))

    Raises :class:`~polyphase.Unsupported` for ``output_shape`` with ``"custom"``.
    """
    around = frame(kernel_size, strides, dilations)
    checked_groups("groups", groups)
    one_of("pad_type", pad_type, ("valid", "same", "custom"))
    if output_shape is not None:
        if pad_type == "custom":
            raise Unsupported(
                "what output_shape means with pad_type 'custom' is not documented: leave it out"
            )
        sizes = input_sizes(around, input_size, "output_shape means nothing without it")
        shape = per_axis("output_shape", output_shape, around.rank + 2, low=0)
        spread = [1, *shape[2:], 1]
        meant = tensorflow.geometry(
            around.kernel_size,
            sizes,
            spread,
            columns(around)[1],
            pad_type.upper(),
            dilations=columns(around)[2],
        )
        return Meaning(meant.geometry, LAYOUT.permutation(around.rank), LAYOUT.flip)
    if pad_type == "same":
        return meaning(around, map(same_crop, around.axes), LAYOUT)
    flat = per_axis("pad", pad if pad is not None else 0, 2 * around.rank, low=0)
    if pad_type == "valid":
        flat = (0,) * len(flat)
    return meaning(around, list(zip(flat[::2], flat[1::2], strict=True)), LAYOUT)


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The inputs of the operator that mean this geometry for every input size.

    >>> parameters(Geometry(3, stride=2, padding=1, output_padding=1))
    ... # doctest: +NORMALIZE_WHITESPACE
    {'strides': [2], 'pad_type': 'custom', 'pad': [1, 0], 'dilations': [1], 'groups': 1}

    Raises :class:`~polyphase.interop.NoExactCall` where either end gains, unless that is ``same``.
    """
    return exactly(CONVENTION, _express, geometry, groups)


def _express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    _, stride, dilation = columns(geometry)
    pad = [removed for crop in geometry.crops for removed in crop]
    if not any(pad):
        padding: dict[str, Any] = {"pad_type": "valid"}
    elif min(pad) >= 0:
        padding = {"pad_type": "custom", "pad": pad}
    elif tuple(map(same_crop, geometry.axes)) == geometry.crops:
        padding = {"pad_type": "same"}
    else:
        return (
            f"pad must be at least 0, but {removed(geometry.crops)} are to be removed from the ends"
        )
    return {
        "strides": list(stride),
        **padding,
        "dilations": list(dilation),
        "groups": groups,
    }
