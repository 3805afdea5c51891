"""Keras 3: ``keras.ops.conv_transpose`` and the layers ``Conv1DTranspose`` to ``Conv3DTranspose``.

All back ends agree on what is written here, the torch back end since 3.15: before, its ``same`` was
one position off for strides above 1 and odd kernels. The TensorFlow back end refuses the part of it
where the output would be smaller than ``(n-1)*stride + 1``.
"""

from typing import Any

from numpy.typing import NDArray

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis, plain
from polyphase.interop.convention import (
    Convention,
    Crop,
    Layout,
    Meaning,
    Rule,
    below_stride,
    columns,
    effective_dilation,
    frame,
    meaning,
    one_of,
    per_axis,
    removed,
    same_crop,
    split_total,
    valid_crop,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("koi")
FORMATS = ("channels_last", "channels_first")
CONVENTION = Convention(
    name="keras",
    title="Keras 3",
    call="keras.layers.Conv{rank}DTranspose(filters, {})",
    bias=("{})", "{}, use_bias=False)"),
    applied="(x)",
    layout=LAYOUT,
    rules=(
        Rule("valid", "0", "e - max(e, s)"),
        Rule("valid with output_padding", "0", "-op"),
        Rule("same", "max(e - s, 0)//2", "e - s - a"),
        Rule("same with output_padding", "max(e - e%2 - op, 0)//2", "e - e%2 - op - a"),
    ),
    output_padding="below stride, or none",
    names={
        "kernel_size": "kernel_size",
        "stride": "strides",
        "padding": "padding",
        "output_padding": "output_padding",
        "dilation": "dilation_rate",
    },
    defaults={"strides": 1, "padding": "valid", "output_padding": None, "dilation_rate": 1},
    channels_last=True,
    checked="keras 3.15 with the back ends torch, jax and tensorflow",
    source="`keras/src/backend/common/backend_utils.py`",
    trap="`output_padding=0` is not the default, `None` is. Layers refuse `strides` with "
    "`dilation_rate`, `keras.ops.conv_transpose` does not. The TensorFlow back end "
    "refuses an output below `(n-1)*s + 1`. Before 3.15 the torch back end is one position off for "
    "`same` with strides and odd kernels.",
)


def geometry(
    kernel_size: PerAxis,
    strides: PerAxis = 1,
    padding: str = "valid",
    output_padding: PerAxis | None = None,
    dilation_rate: PerAxis = 1,
) -> Meaning:
    """What the arguments of ``keras.ops.conv_transpose`` mean; a layer takes some of them.

    >>> geometry((3, 3), 2, "same").geometry.crops
    ((0, 1), (0, 1))
    >>> geometry((3, 3), 2, "same", output_padding=0).geometry.crops
    ((1, 1), (1, 1))
    """
    around = frame(kernel_size, strides, dilation_rate)
    same = one_of("padding", str(padding).lower(), ("valid", "same")) == "same"
    if output_padding is None:
        return meaning(around, map(same_crop if same else valid_crop, around.axes), LAYOUT)
    extra = per_axis("output_padding", output_padding, around.rank, low=0)
    below_stride("output_padding", extra, (axis.stride for axis in around.axes))
    if not same:
        return meaning(around, [(0, 0)] * around.rank, LAYOUT, extra)
    return meaning(around, map(_same_crop_less, around.axes, extra), LAYOUT)


def parameters(geometry: Geometry, groups: int = 1, *, layer: bool = True) -> dict[str, Any]:
    """The arguments that mean this geometry, for a layer; or for ``keras.ops.conv_transpose``.

    The layers refuse strides above 1 together with dilation, the function takes them.

    >>> parameters(Geometry.same(4, stride=2))
    ... # doctest: +NORMALIZE_WHITESPACE
    {'kernel_size': 4, 'strides': 2, 'padding': 'same', 'output_padding': None,
     'dilation_rate': 1}

    Raises :class:`~polyphase.interop.NoExactCall` for groups, and wherever neither ``"same"`` nor
    ``"valid"`` removes what the geometry removes.
    """

    def express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
        kernel, stride, _ = columns(geometry)
        dilation = effective_dilation(geometry)
        if layer and max(stride) > 1 and max(dilation) > 1:
            return f"layers refuse strides {plain(stride)} with dilation_rate {plain(dilation)}"
        found = _padding(geometry)
        if isinstance(found, str):
            return found
        size = {"kernel_size": plain(kernel)} if layer else {}
        return {**size, "strides": plain(stride), **found, "dilation_rate": plain(dilation)}

    return exactly(CONVENTION, express, geometry, groups)


def conv_transpose(
    x: NDArray[Any],
    kernel: NDArray[Any],
    strides: PerAxis,
    padding: str,
    output_padding: PerAxis | None = None,
    data_format: str = "channels_last",
    dilation_rate: PerAxis = 1,
) -> NDArray[Any]:
    """``keras.ops.conv_transpose`` of NumPy arrays.

    ``x`` is ``(N, *size, C_in)``, or ``(N, C_in, *size)`` for ``channels_first``, and the result
    likewise; ``kernel`` is ``(*kernel_size, C_out, C_in)``. One to three spatial axes.

    >>> import numpy as np
    >>> x, kernel = np.ones((1, 3, 1)), np.array([1.0, 2.0, 4.0]).reshape(3, 1, 1)
    >>> conv_transpose(x, kernel, 2, "same").ravel()
    array([1., 2., 5., 2., 5., 2.])
    """
    from polyphase.interop.arrays import run, shapes

    last = one_of("data_format", data_format, FORMATS) == "channels_last"
    channels = -1 if last else 1
    _, kernel_size = shapes("x", x, "kernel", kernel, LAYOUT, channels)
    meant = geometry(kernel_size, strides, padding, output_padding, dilation_rate)
    return run(x, kernel, None, meant, channels=channels)


def _same_crop_less(axis: Axis, extra: int) -> Crop:
    return split_total(axis.extent - axis.extent % 2 - extra, begin_first=False)


def _padding(geometry: Geometry) -> dict[str, Any] | str:
    """The words that give these crops."""
    axes, crops = geometry.axes, list(geometry.crops)
    for padding, rule in (("valid", valid_crop), ("same", same_crop)):
        if list(map(rule, axes)) == crops:
            return {"padding": padding, "output_padding": None}
    valid = [-end for _, end in crops]
    same = [axis.extent - axis.extent % 2 - axis.begin - axis.end for axis in axes]
    for padding, extra in (("valid", valid), ("same", same)):
        if all(0 <= op < axis.stride for op, axis in zip(extra, axes, strict=True)):
            meant = geometry_of(geometry, padding, extra)
            if list(meant.crops) == crops:
                return {"padding": padding, "output_padding": plain(tuple(extra))}
    return f"neither padding='valid' nor padding='same' removes {removed(crops)} from the two ends"


def geometry_of(asked: Geometry, padding: str, extra: list[int]) -> Geometry:
    """What Keras makes of a kernel, stride and dilation with this padding."""
    return geometry(asked.kernel_size, asked.stride, padding, extra, asked.dilation).geometry
