"""ONNX: the operator ``ConvTranspose`` as its specification (since opset 11) has it.

Where the specification would need pads below 0 (a kernel shorter than the stride with
``auto_pad="SAME_*"``, or an ``output_shape`` above the full result) the pads are 0 at the beginning
and the output has the size that the text asks for. Where runtimes differ from this,
:func:`rewrite` says so.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis
from polyphase.errors import GeometryError
from polyphase.interop.convention import (
    Convention,
    Crop,
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
    split_total,
)
from polyphase.interop.exact import exactly

if TYPE_CHECKING:
    from polyphase.interop.onnx_model import Rewriting

LAYOUT = Layout("iok")
AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
CONVENTION = Convention(
    name="onnx",
    title="ONNX",
    call='onnx.helper.make_node("ConvTranspose", ["X", "W", "B"], ["Y"], {})',
    bias=(', "B"]', "]"),
    slices=False,
    layout=LAYOUT,
    rules=(
        Rule("pads, output_padding", "begin", "end - op"),
        Rule("VALID", "0", "-op"),
        Rule(
            "SAME_UPPER, where O = n*s; SAME_UPPER with output_shape", "max(T, 0)//2", "F - O - a"
        ),
        Rule(
            "SAME_LOWER, where O = n*s; output_shape with any other auto_pad",
            "max(T, 0) - max(T, 0)//2",
            "F - O - a",
        ),
    ),
    output_padding="below stride or below dilation",
    groups="group",
    names={
        "kernel_size": "kernel_shape",
        "stride": "strides",
        "output_padding": "output_padding",
        "dilation": "dilations",
    },
    defaults={"strides": 1, "output_padding": 0, "pads": 0, "dilations": 1, "group": 1},
    checked="onnxruntime 1.31 and the operator's own test nodes",
    source="`docs/Operators.md`, ConvTranspose-22",
    trap="Runtimes and shape inference disagree about `auto_pad` with `output_padding`, about "
    "`output_shape`, and about kernels shorter than the stride. `rewrite` the model.",
)


def geometry(
    kernel_shape: PerAxis,
    *,
    auto_pad: str = "NOTSET",
    dilations: PerAxis | None = None,
    group: int = 1,
    output_padding: PerAxis | None = None,
    output_shape: PerAxis | None = None,
    pads: Sequence[int] | None = None,
    strides: PerAxis | None = None,
    input_size: PerAxis | None = None,
) -> Meaning:
    """What the attributes mean; ``output_shape`` (spatial sizes) needs ``input_size``.

    >>> geometry([3, 3], strides=[2, 2], auto_pad="SAME_LOWER").geometry.crops
    ((1, 0), (1, 0))
    >>> geometry([3], strides=[2], output_shape=[12], input_size=6).geometry.crops
    ((1, 0),)
    """
    around = frame(
        kernel_shape,
        1 if strides is None else strides,
        1 if dilations is None else dilations,
    )
    rank = around.rank
    checked_groups("group", group)
    one_of("auto_pad", auto_pad, AUTO_PADS)
    extra = per_axis("output_padding", 0 if output_padding is None else output_padding, rank, low=0)
    if pads is not None and auto_pad != "NOTSET":
        raise GeometryError(
            f"pads cannot be used with auto_pad {auto_pad!r}: leave one of them out, got {pads!r}"
        )
    given = _pads(pads, rank)
    # where the crop replaces output_padding, too, it still has to be legal
    meaning(around, [(0, 0)] * rank, LAYOUT, extra)
    if output_shape is None and not auto_pad.startswith("SAME"):
        return meaning(around, given, LAYOUT, extra)
    if output_shape is None:
        # the total is the same for every input size
        totals = [axis.extent - axis.stride for axis in around.axes]
    else:
        sizes = input_sizes(around, input_size, "output_shape means nothing without it")
        wanted = per_axis("output_shape", output_shape, rank, low=0)
        totals = [
            axis.full_size(n) - size
            for axis, n, size in zip(around.axes, sizes, wanted, strict=True)
        ]
    return meaning(
        around, map(_auto_crop, totals, extra, [auto_pad == "SAME_UPPER"] * rank), LAYOUT
    )


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The attributes that mean this geometry, with as little ``output_padding`` as there can be.

    >>> parameters(Geometry(3, stride=2, padding=1, output_padding=1))
    ... # doctest: +NORMALIZE_WHITESPACE
    {'kernel_shape': [3], 'strides': [2], 'pads': [1, 0], 'output_padding': [0], 'dilations': [1],
     'group': 1}

    Raises :class:`~polyphase.interop.NoExactCall` where the beginning gains, or the end gains as
    much as stride and dilation.
    """
    return exactly(CONVENTION, _express, geometry, groups)


def conv_transpose(
    x: NDArray[Any],
    w: NDArray[Any],
    b: NDArray[Any] | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: PerAxis | None = None,
    group: int = 1,
    kernel_shape: PerAxis | None = None,
    output_padding: PerAxis | None = None,
    output_shape: PerAxis | None = None,
    pads: Sequence[int] | None = None,
    strides: PerAxis | None = None,
) -> NDArray[Any]:
    """``ConvTranspose`` of NumPy arrays.

    ``x`` is ``(N, C, *size)``, ``w`` is ``(C, M/group, *kernel_shape)``, ``b`` is ``(M,)``; the
    result is ``(N, M, *size)``. One to three spatial axes.

    >>> import numpy as np
    >>> x, w = np.ones((1, 1, 3)), np.array([[[1.0, 2.0, 4.0]]])
    >>> conv_transpose(x, w, strides=[2], auto_pad="SAME_UPPER")
    array([[[1., 2., 5., 2., 5., 2.]]])
    """
    from polyphase.interop.arrays import run, shapes

    size, kernel = shapes("x", x, "w", w, LAYOUT, 1)
    told = per_axis("kernel_shape", kernel if kernel_shape is None else kernel_shape, len(kernel))
    if told != kernel:
        raise GeometryError(f"kernel_shape must be that of w, {kernel}, got {told}")
    meant = geometry(
        kernel,
        auto_pad=auto_pad,
        dilations=dilations,
        output_padding=output_padding,
        output_shape=output_shape,
        pads=pads,
        strides=strides,
        input_size=size,
    )
    return run(x, w, b, meant, group)


def rewrite(model: Any) -> "Rewriting":
    """The model with explicit pads only, and a report of the nodes that were in dispute.

    ``model`` is an ``onnx.ModelProto`` and stays as it is. In the copy no transposed convolution
    has ``auto_pad`` or ``output_shape``, and ``output_padding`` only as far as no pad could say it;
    onnxruntime and openvino then give what the specification means by the original. ``changes``
    tells for each node what it was, what it is, and who would have given something else. A node
    whose pads cannot be known (``output_shape`` with an input size that is not known) is left.

    >>> from onnx.parser import parse_model
    >>> model = parse_model('''<ir_version: 10, opset_import: ["" : 22]>
    ... up (float[1,1,6] x, float[1,1,3] w) => (float[] y) {
    ...   y = ConvTranspose <strides = [2], auto_pad = "SAME_LOWER"> (x, w)
    ... }''')
    >>> rewrite(model).changes[0].after
    {'strides': [2], 'pads': [1, 0]}

    Needs the package ``onnx``: ``pip install 'polyphase[onnx]'``.
    """
    from polyphase.interop.onnx_model import rewritten

    return rewritten(model)


def _pads(pads: Sequence[int] | None, rank: int) -> list[Crop]:
    """The pairs of ``[begin of each axis, end of each axis]``."""
    if pads is None:
        return [(0, 0)] * rank
    if len(pads) != 2 * rank:
        raise GeometryError(
            f"pads must have {2 * rank} values, the beginnings of all axes and then their ends, "
            f"got {pads!r}"
        )
    begins, ends = (per_axis("pads", half, rank, low=0) for half in (pads[:rank], pads[rank:]))
    return list(zip(begins, ends, strict=True))


def _auto_crop(total: int, extra: int, upper: bool) -> Crop:
    """The crop of a generated padding, whose halves are those of ``total + extra``."""
    begin, _ = split_total(total + extra, begin_first=not upper)
    return begin, total - begin


def _express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    for axis in geometry.axes:
        if axis.begin < 0:
            return f"pads must be at least 0, but the beginning is to gain {-axis.begin}"
        if -axis.end >= max(axis.stride, axis.dilation):
            return (
                f"output_padding would be {-axis.end}, and it must be smaller than stride "
                f"{axis.stride} or dilation {axis.dilation}"
            )
    kernel, stride, dilation = columns(geometry)
    return {
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "pads": [a for a, _ in geometry.crops] + [max(b, 0) for _, b in geometry.crops],
        "output_padding": [max(-b, 0) for _, b in geometry.crops],
        "dilations": list(dilation),
        "group": groups,
    }
