"""TensorFlow Lite: the operator ``TRANSPOSE_CONV``, two spatial axes, channels last.

TensorFlow's rule without explicit padding, dilation and groups. The operator does not check the
output size: outside TensorFlow's range its kernels compute different things.
"""

from collections.abc import Sequence
from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis
from polyphase.errors import OutputSizeError, Unsupported
from polyphase.interop import tensorflow
from polyphase.interop.convention import (
    Convention,
    Layout,
    Meaning,
    Rule,
    columns,
    effective_dilation,
    one_of,
    per_axis,
    removed,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("oki")
CONVENTION = Convention(
    name="tflite",
    title="TensorFlow Lite",
    call="TRANSPOSE_CONV(x, filters, {})",
    result="",
    slices=False,
    layout=LAYOUT,
    rules=(
        Rule("SAME", "max(T, 0)//2", "F - O - a"),
        Rule("VALID", "0", "F - O"),
    ),
    ranks=(2,),
    names={"kernel_size": "kernel_size", "padding": "padding"},
    needs_sizes=True,
    channels_last=True,
    takes_bias=False,
    checked="three kernels of the interpreter of tensorflow 2.21",
    source="`tensorflow/lite/kernels/transpose_conv.cc`",
    trap="An `output_shape` outside TensorFlow's range is accepted, and the kernels give "
    "different numbers. There are neither dilation nor groups. XNNPACK ends the process for "
    "some outputs that are smaller than the stride.",
)


def geometry(
    kernel_size: Sequence[int],
    input_size: PerAxis,
    output_shape: Sequence[int],
    stride_h: int = 1,
    stride_w: int = 1,
    padding: str = "SAME",
) -> Meaning:
    """What the options mean for this input size; ``output_shape`` is ``[N, H, W, C]``.

    >>> geometry((3, 3), (6, 6), [1, 12, 12, 8], 2, 2).geometry.crops
    ((0, 1), (0, 1))

    Raises :class:`~polyphase.Unsupported` for an output size outside TensorFlow's range.
    """
    kernel = per_axis("kernel_size", kernel_size, 2, low=1)
    one_of("padding", padding, ("SAME", "VALID"))
    try:
        meant = tensorflow.geometry(kernel, input_size, output_shape, (stride_h, stride_w), padding)
    except OutputSizeError as error:
        raise Unsupported(f"the kernels of TensorFlow Lite disagree here: {error}") from None
    return Meaning(meant.geometry, LAYOUT.permutation(2), LAYOUT.flip)


def parameters(
    geometry: Geometry,
    groups: int = 1,
    *,
    input_size: PerAxis,
    batch: Any,
    out_channels: Any,
) -> dict[str, Any]:
    """The options and the ``output_shape`` that mean this geometry for an input of this size.

    >>> parameters(Geometry.same((3, 3), 2), input_size=(6, 6), batch=1, out_channels=8)
    {'output_shape': [1, 12, 12, 8], 'stride_h': 2, 'stride_w': 2, 'padding': 'SAME'}

    Raises :class:`~polyphase.interop.NoExactCall` for groups, dilation, other than two axes, and
    where neither word removes what the geometry removes.
    """

    asked = groups

    def express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
        _, stride, _ = columns(geometry)
        if max(effective_dilation(geometry)) > 1:
            return f"it has dilation {geometry.dilation}, and the operator knows none"
        found = tensorflow.padding_of(geometry, geometry.sizes(input_size))
        if isinstance(found, str):
            return found
        if not isinstance(found["padding"], str):
            return f"neither 'VALID' nor 'SAME' removes {removed(geometry.crops)} from the ends"
        return {
            "output_shape": [
                batch,
                *found["output_size"],
                tensorflow.share(out_channels, asked),
            ],
            "stride_h": stride[0],
            "stride_w": stride[1],
            "padding": found["padding"],
        }

    return exactly(CONVENTION, express, geometry, groups)
