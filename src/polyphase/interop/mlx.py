"""MLX: ``mlx.core.conv_transpose1d`` to ``3d``, channels last.

PyTorch's rule, with an ``output_padding`` of any size. Where ``padding`` is larger than
``dilation*(kernel_size-1)`` MLX removes inputs instead of outputs, which is the same only for
stride 1 and inputs that are long enough: such a call has no meaning here.
"""

from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis, plain
from polyphase.errors import Unsupported
from polyphase.interop.convention import (
    Convention,
    Layout,
    Meaning,
    Rule,
    checked_groups,
    columns,
    frame,
    padded,
    per_axis,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("oki")
CONVENTION = Convention(
    name="mlx",
    title="MLX",
    call="mx.conv_transpose{rank}d(x, weight, {})",
    layout=LAYOUT,
    rules=(Rule("padding up to e - 1", "p", "p - op"),),
    output_padding="any",
    groups="groups",
    grouped_ranks=(1, 2),
    names={
        "kernel_size": "kernel_size",
        "stride": "stride",
        "padding": "padding",
        "output_padding": "output_padding",
        "dilation": "dilation",
    },
    defaults={"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "groups": 1},
    channels_last=True,
    takes_bias=False,
    checked="mlx 0.32",
    source="`mlx/ops.cpp`",
    trap="A `padding` above `d*(k-1)` removes inputs, which gives other numbers without a "
    "word. There are no groups in 3D.",
)


def geometry(
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    output_padding: PerAxis = 0,
    groups: int = 1,
) -> Meaning:
    """What MLX's parameters mean.

    >>> geometry(3, 2, 1, output_padding=3).geometry.output_size(6)
    14

    Raises :class:`~polyphase.Unsupported` for a padding above ``dilation*(kernel_size-1)``, where
    MLX computes no transposed convolution, and for groups on three axes.
    """
    around = frame(kernel_size, stride, dilation)
    pads = per_axis("padding", padding, around.rank, low=0)
    extra = per_axis("output_padding", output_padding, around.rank, low=0)
    for axis, p in zip(around.axes, pads, strict=True):
        if p > axis.extent - 1:
            raise Unsupported(
                f"padding {p} is more than dilation*(kernel_size-1) = {axis.extent - 1}: MLX then "
                "removes inputs instead of outputs, which no geometry describes"
            )
    if checked_groups("groups", groups) > 1 and around.rank not in CONVENTION.grouped_ranks:
        raise Unsupported(f"MLX has no groups on three axes, got groups {groups}")
    return padded(around, [(p, p) for p in pads], extra, LAYOUT)


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The arguments that mean this geometry.

    >>> parameters(Geometry(3, stride=2, padding=[(1, -2)]))
    {'stride': 2, 'padding': 1, 'dilation': 1, 'output_padding': 3, 'groups': 1}

    Raises :class:`~polyphase.interop.NoExactCall` where the end loses more than the beginning, the
    beginning gains, or it loses more than ``dilation*(kernel_size-1)``.
    """
    return exactly(CONVENTION, _express, geometry, groups)


def _express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    for axis in geometry.axes:
        if axis.begin < 0 or axis.begin < axis.end:
            return (
                "padding removes the same from both ends and output_padding gives some back at the "
                f"end, but {axis.begin} and {axis.end} are to be removed"
            )
        if axis.begin > axis.extent - 1:
            return (
                f"padding {axis.begin} is more than dilation*(kernel_size-1) = {axis.extent - 1}, "
                "and MLX then removes inputs instead of outputs"
            )
    _, stride, dilation = columns(geometry)
    return {
        "stride": plain(stride),
        "padding": plain(tuple(axis.begin for axis in geometry.axes)),
        "dilation": plain(dilation),
        "output_padding": plain(tuple(axis.begin - axis.end for axis in geometry.axes)),
        "groups": groups,
    }
