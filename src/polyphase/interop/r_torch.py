"""torch for R: ``nn_conv_transpose1d`` to ``3d`` and ``nnf_conv_transpose1d`` to ``3d``.

Names and meaning are PyTorch's, with one exception: the layers compute ``output_padding`` from
``output_size`` without the dilation.
"""

from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis
from polyphase.errors import OutputSizeError
from polyphase.interop import torch
from polyphase.interop.convention import (
    Convention,
    Meaning,
    Rule,
    frame,
    input_sizes,
    per_axis,
)
from polyphase.interop.exact import exactly


def _in_r(value: Any) -> str:
    return f"c({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)


CONVENTION = Convention(
    name="r_torch",
    title="torch for R",
    call="nnf_conv_transpose{rank}d(x, weight, bias, {})",
    slices=False,
    layout=torch.LAYOUT,
    rules=(Rule("padding, output_padding", "p", "p - op"),),
    output_padding="below stride or below dilation",
    groups="groups",
    names=torch.CONVENTION.names,
    defaults=torch.CONVENTION.defaults,
    source="`R/nn-conv.R` of mlverse/torch",
    trap="What a layer makes of `output_size` is too large by `(k-1)*(d-1)`.",
    shown=_in_r,
    assignment="{} = {}",
)


def geometry(
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    *,
    groups: int = 1,
    input_size: PerAxis | None = None,
    output_size: PerAxis | None = None,
) -> Meaning:
    """What the parameters mean, and what a layer makes of ``output_size``.

    With a dilation it makes something larger than was asked for:

    >>> geometry(3, 2, 0, dilation=2, input_size=6, output_size=14).geometry.output_size(6)
    16
    """
    if output_size is None:
        return torch.geometry(kernel_size, stride, padding, output_padding, dilation, groups=groups)
    around = frame(kernel_size, stride, dilation)
    sizes = input_sizes(around, input_size, "output_size means nothing without it")
    wanted = per_axis("output_size", output_size, around.rank)
    pads = per_axis("padding", padding, around.rank, low=0)
    extra = []
    for axis, n, p, size in zip(around.axes, sizes, pads, wanted, strict=True):
        least = (n - 1) * axis.stride - 2 * p + axis.kernel_size
        if not least <= size < least + axis.stride:
            raise OutputSizeError(
                f"output_size must be {least} to {least + axis.stride - 1} for input_size {n} "
                f"(the layer leaves the dilation out of this rule), got {size}"
            )
        extra.append(size - least)
    return torch.geometry(kernel_size, stride, padding, extra, dilation, groups=groups)


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The arguments that mean this geometry, never ``output_size``.

    >>> parameters(Geometry(3, stride=2, padding=1, output_padding=1))
    {'stride': 2, 'padding': 1, 'output_padding': 1, 'dilation': 1, 'groups': 1}

    Raises :class:`~polyphase.interop.NoExactCall` as PyTorch's ``parameters`` does.
    """
    return exactly(CONVENTION, torch.express, geometry, groups)
