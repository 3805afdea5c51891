"""MXNet's ``Deconvolution``: PyTorch's rule under other names, or a ``target_shape``."""

from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis
from polyphase.errors import OutputSizeError
from polyphase.interop.convention import (
    Convention,
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
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("iok")
CONVENTION = Convention(
    name="mxnet",
    title="MXNet",
    call="mx.nd.Deconvolution(x, weight, bias, num_filter=C_out, no_bias=False, {})",
    bias=("bias, num_filter=C_out, no_bias=False", "num_filter=C_out, no_bias=True"),
    layout=LAYOUT,
    rules=(
        Rule("pad, adj", "p", "p - op"),
        Rule("target_shape", "F - O - (F - O)//2", "(F - O)//2"),
    ),
    output_padding="below stride",
    groups="num_group",
    names={
        "kernel_size": "kernel",
        "stride": "stride",
        "padding": "pad",
        "output_padding": "adj",
        "dilation": "dilate",
    },
    defaults={"stride": 1, "pad": 0, "adj": 0, "dilate": 1, "num_group": 1},
    source="`src/operator/nn/deconvolution-inl.h`",
    trap="`target_shape` replaces `pad` and `adj`. There is no bias unless `no_bias=False`. "
    "Three axes need cuDNN.",
)


def geometry(
    kernel: PerAxis,
    stride: PerAxis = 1,
    dilate: PerAxis = 1,
    pad: PerAxis = 0,
    adj: PerAxis = 0,
    target_shape: PerAxis | None = None,
    num_group: int = 1,
    *,
    input_size: PerAxis | None = None,
) -> Meaning:
    """What MXNet's parameters mean; ``target_shape`` needs ``input_size``.

    A ``target_shape`` removes the odd position at the beginning, and ``pad`` and ``adj`` play no
    part then.

    >>> geometry(3, 2, pad=1, adj=1).geometry.crops
    ((1, 0),)
    >>> geometry(4, 2, target_shape=11, input_size=5).geometry.crops
    ((1, 0),)
    """
    around = frame(kernel, stride, dilate)
    checked_groups("num_group", num_group)
    pads = per_axis("pad", pad, around.rank, low=0)
    extra = per_axis("adj", adj, around.rank, low=0)
    targets = per_axis("target_shape", target_shape or 0, around.rank, low=0)
    if not any(targets):
        below_stride("adj", extra, (axis.stride for axis in around.axes))
        return meaning(around, [(p, p) for p in pads], LAYOUT, extra)
    sizes = input_sizes(around, input_size, "target_shape means nothing without it")
    crops = []
    for axis, n, target in zip(around.axes, sizes, targets, strict=True):
        total = axis.full_size(n) - target
        if total < 0:
            raise OutputSizeError(
                f"target_shape must be at most {axis.full_size(n)} for input_size {n}, got {target}"
            )
        crops.append((total - total // 2, total // 2))
    return meaning(around, crops, LAYOUT)


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The arguments that mean this geometry, with ``pad`` and ``adj``.

    >>> parameters(Geometry(3, stride=2, padding=1, output_padding=1))
    {'kernel': (3,), 'stride': (2,), 'dilate': (1,), 'pad': (1,), 'adj': (1,), 'num_group': 1}

    Raises :class:`~polyphase.interop.NoExactCall` where the end loses more than the beginning, the
    beginning gains, or ``adj`` would reach the stride.
    """
    return exactly(CONVENTION, _express, geometry, groups)


def _express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    for axis in geometry.axes:
        extra = axis.begin - axis.end
        if axis.begin < 0 or extra < 0:
            return (
                "pad removes the same from both ends and adj gives some back at the end, but "
                f"{axis.begin} and {axis.end} are to be removed"
            )
        if extra >= axis.stride:
            return f"adj would be {extra}, and it must be smaller than stride {axis.stride}"
    kernel, stride, dilation = columns(geometry)
    return {
        "kernel": kernel,
        "stride": stride,
        "dilate": dilation,
        "pad": tuple(axis.begin for axis in geometry.axes),
        "adj": tuple(axis.begin - axis.end for axis in geometry.axes),
        "num_group": groups,
    }
