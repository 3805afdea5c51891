"""Caffe's ``Deconvolution`` layer: ``pad`` is removed from both ends, nothing else."""

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
    meaning,
    per_axis,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("iok")


def _in_prototxt(value: Any) -> str:
    # a repeated field holds one value per axis
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


CONVENTION = Convention(
    name="caffe",
    title="Caffe",
    call='layer {type: "Deconvolution", convolution_param {num_output: C_out, {}}}',
    bias=("C_out", "C_out, bias_term: false"),
    result="",
    slices=False,
    layout=LAYOUT,
    rules=(Rule("pad", "p", "p"),),
    groups="group",
    names={
        "kernel_size": "kernel_size",
        "stride": "stride",
        "padding": "pad",
        "dilation": "dilation",
    },
    defaults={"stride": 1, "pad": 0, "dilation": 1, "group": 1},
    source="`src/caffe/layers/base_conv_layer.cpp`",
    trap="`num_output` counts all groups, the weights have those of one.",
    shown=_in_prototxt,
    assignment="{}: {}",
)


def geometry(
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    pad: PerAxis = 0,
    dilation: PerAxis = 1,
    group: int = 1,
) -> Meaning:
    """What the fields of ``convolution_param`` mean.

    >>> geometry(4, 2, 1).geometry
    Geometry(kernel_size=4, stride=2, padding=1)
    """
    around = frame(kernel_size, stride, dilation)
    checked_groups("group", group)
    pads = [(p, p) for p in per_axis("pad", pad, around.rank, low=0)]
    return meaning(around, pads, LAYOUT)


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The fields of ``convolution_param`` that mean this geometry.

    >>> parameters(Geometry(4, stride=2, padding=1))
    {'kernel_size': (4,), 'stride': (2,), 'pad': (1,), 'dilation': (1,), 'group': 1}

    Raises :class:`~polyphase.interop.NoExactCall` where the two ends differ, or gain.
    """
    return exactly(CONVENTION, _express, geometry, groups)


def _express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    for begin, end in geometry.crops:
        if begin != end or begin < 0:
            return f"pad removes the same from both ends, but {begin} and {end} are to be removed"
    kernel, stride, dilation = columns(geometry)
    return {
        "kernel_size": kernel,
        "stride": stride,
        "pad": tuple(begin for begin, _ in geometry.crops),
        "dilation": dilation,
        "group": groups,
    }
