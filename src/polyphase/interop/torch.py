"""PyTorch, the reference convention: ``torch.nn.functional.conv_transpose1d`` to ``3d``.

``padding`` is removed from both ends of the full result, ``output_padding`` is computed further at
the end. The layers ``torch.nn.ConvTranspose1d`` to ``3d`` mean the same.
"""

from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis, plain
from polyphase.errors import OutputSizeError
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
    per_axis,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("iok")
CONVENTION = Convention(
    name="torch",
    title="PyTorch",
    call="torch.nn.functional.conv_transpose{rank}d(x, weight, bias, {})",
    layout=LAYOUT,
    rules=(Rule("padding, output_padding", "p", "p - op"),),
    output_padding="below stride or below dilation",
    groups="groups",
    names={
        "kernel_size": "kernel_size",
        "stride": "stride",
        "padding": "padding",
        "output_padding": "output_padding",
        "dilation": "dilation",
    },
    defaults={"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1},
    checked="torch 2.13",
    source="`torch.nn.functional.conv_transpose2d`, `torch/nn/modules/conv.py`",
    trap="The layers take as many values of `output_size` as the stride is large, the "
    "functions as many of `output_padding` as the larger of stride and dilation.",
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
    """What PyTorch's parameters mean; ``output_size`` is that of a layer's ``forward``.

    It replaces ``output_padding``, needs ``input_size``, and may be anything from the smallest size
    to ``stride - 1`` above.

    >>> geometry((3, 3), 2, 1, input_size=(6, 6), output_size=(12, 11)).geometry.crops
    ((1, 0), (1, 1))
    """
    checked_groups("groups", groups)
    if output_size is None:
        return _meaning(kernel_size, stride, padding, output_padding, dilation)
    base = _meaning(kernel_size, stride, padding, 0, dilation).geometry
    sizes = input_sizes(base, input_size, "output_size means nothing without it")
    wanted = per_axis("output_size", output_size, base.rank)
    extra = []
    for axis, n, size in zip(base.axes, sizes, wanted, strict=True):
        least = axis.output_size(n)
        if not least <= size < least + axis.stride:
            raise OutputSizeError(
                f"output_size must be {least} to {least + axis.stride - 1} for input_size {n}, "
                f"got {size}"
            )
        extra.append(size - least)
    return _meaning(kernel_size, stride, padding, extra, dilation)


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The arguments that mean this geometry.

    >>> parameters(Geometry((4, 4), stride=2, padding=((1, 0), 1)))
    ... # doctest: +NORMALIZE_WHITESPACE
    {'stride': (2, 2), 'padding': (1, 1), 'output_padding': (1, 0), 'dilation': (1, 1),
     'groups': 1}

    Raises :class:`~polyphase.interop.NoExactCall`, a :class:`~polyphase.Unsupported`, where the end
    loses more than the beginning, or the beginning gains.
    """
    return exactly(CONVENTION, express, geometry, groups)


def express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    """The arguments, or why there are none."""
    for axis in geometry.axes:
        extra = axis.begin - axis.end
        if axis.begin < 0 or extra < 0:
            return (
                "padding removes the same from both ends and output_padding gives some back at the "
                f"end, but {axis.begin} and {axis.end} are to be removed"
            )
        if extra >= max(axis.stride, axis.dilation):
            return (
                f"output_padding would be {extra}, and it must be smaller than stride "
                f"{axis.stride} or dilation {axis.dilation}"
            )
    _, stride, dilation = columns(geometry)
    return {
        "stride": plain(stride),
        "padding": plain(tuple(axis.begin for axis in geometry.axes)),
        "output_padding": plain(tuple(axis.begin - axis.end for axis in geometry.axes)),
        "dilation": plain(dilation),
        "groups": groups,
    }


def _meaning(
    kernel_size: PerAxis,
    stride: PerAxis,
    padding: PerAxis,
    output_padding: PerAxis,
    dilation: PerAxis,
) -> Meaning:
    around = frame(kernel_size, stride, dilation)
    pads = [(p, p) for p in per_axis("padding", padding, around.rank, low=0)]
    extra = per_axis("output_padding", output_padding, around.rank, low=0)
    return meaning(around, pads, LAYOUT, extra)
