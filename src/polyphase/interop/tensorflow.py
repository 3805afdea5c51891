"""TensorFlow: ``tf.nn.conv1d_transpose`` to ``conv3d_transpose``, which need the output shape.

The convolution that is transposed must map the output size back to the input size, so that it is
one of as many sizes as the stride has values.
"""

from collections.abc import Sequence
from typing import Any

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis, plain
from polyphase.errors import GeometryError, OutputSizeError
from polyphase.interop.convention import (
    Convention,
    Crop,
    Layout,
    Meaning,
    Rule,
    columns,
    frame,
    input_sizes,
    meaning,
    per_axis,
    removed,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("koi")
CONVENTION = Convention(
    name="tensorflow",
    title="TensorFlow",
    call="tf.nn.conv{rank}d_transpose(x, filters, {})",
    layout=LAYOUT,
    rules=(
        Rule("SAME", "max(T, 0)//2", "F - O - a"),
        Rule("VALID", "0", "F - O"),
        Rule("(lo, hi), two axes only", "lo", "F - O - a"),
    ),
    names={
        "kernel_size": "kernel_size",
        "stride": "strides",
        "padding": "padding",
        "dilation": "dilations",
    },
    defaults={"padding": "SAME", "dilations": 1},
    needs_sizes=True,
    channels_last=True,
    takes_bias=False,
    checked="tensorflow 2.21",
    source="`tf.nn.conv2d_transpose`",
    trap="The output size must be one that the convolution maps back to the input size. With "
    "`SAME` it also moves the beginning of the crop. `padding` in numbers together with "
    "`dilations` does not run on CPUs.",
)


def geometry(
    kernel_size: PerAxis,
    input_size: PerAxis,
    output_shape: Sequence[int],
    strides: int | Sequence[int],
    padding: str | Sequence[Sequence[int]] = "SAME",
    data_format: str | None = None,
    dilations: int | Sequence[int] | None = None,
) -> Meaning:
    """What the arguments mean for this input size.

    ``output_shape`` has all axes, ``[batch, *size, channels]`` or as ``data_format`` says; strides
    and dilations may have them too.

    >>> geometry((3, 3), (6, 6), [1, 12, 11, 8], 2).geometry.crops
    ((0, 1), (1, 1))
    """
    rank = frame(kernel_size, 1).rank
    last = _channels_last(data_format, rank)
    around = frame(
        kernel_size,
        _spatial("strides", strides, rank, last),
        _spatial("dilations", 1 if dilations is None else dilations, rank, last),
    )
    sizes = input_sizes(around, input_size, "output_shape means nothing without it")
    shape = per_axis("output_shape", output_shape, rank + 2, low=0)
    wanted = shape[1:-1] if last else shape[2:]
    pads = _explicit(padding, rank, last)
    crops = [
        _crop(axis, n, size, padding if pads is None else pads[at])
        for at, (axis, n, size) in enumerate(zip(around.axes, sizes, wanted, strict=True))
    ]
    return meaning(around, crops, LAYOUT)


def parameters(
    geometry: Geometry,
    groups: int = 1,
    *,
    input_size: PerAxis,
    batch: Any,
    out_channels: Any,
) -> dict[str, Any]:
    """The arguments that mean this geometry, channels last, for an input of this size.

    ``batch`` and ``out_channels`` are only put into ``output_shape``.

    >>> parameters(Geometry.same(3, stride=2), input_size=6, batch=1, out_channels=8)
    {'output_shape': [1, 12, 8], 'strides': 2, 'padding': 'SAME', 'dilations': 1}

    Raises :class:`~polyphase.interop.NoExactCall` for groups, where the beginning gains, the end
    gains a whole stride, or neither word removes what the geometry removes and there are no two
    axes.
    """

    asked = groups

    def express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
        found = padding_of(geometry, geometry.sizes(input_size))
        if isinstance(found, str):
            return found
        _, stride, dilation = columns(geometry)
        return {
            "output_shape": [batch, *found["output_size"], share(out_channels, asked)],
            "strides": plain(stride),
            "padding": found["padding"],
            "dilations": plain(dilation),
        }

    return exactly(CONVENTION, express, geometry, groups)


def share(out_channels: Any, groups: int) -> Any:
    """What is left of the output channels for the call of one group."""
    if groups == 1:
        return out_channels
    if isinstance(out_channels, int):
        return out_channels // groups
    # a name in a call that is only shown
    return type(out_channels)(f"{out_channels} // {groups}")


def padding_of(geometry: Geometry, sizes: tuple[int, ...]) -> dict[str, Any] | str:
    """Padding and output size, or why there are none."""
    wanted = [axis.output_size(n) for axis, n in zip(geometry.axes, sizes, strict=True)]
    for word in ("VALID", "SAME"):
        if all(map(_means, geometry.axes, sizes, wanted, [word] * geometry.rank)):
            return {"padding": word, "output_size": wanted}
    pads = [(axis.begin, max(axis.end, 0)) for axis in geometry.axes]
    possible = geometry.rank == 2 and min(begin for begin, _ in pads) >= 0
    if possible and all(map(_means, geometry.axes, sizes, wanted, pads)):
        padding = [[0, 0], *map(list, pads), [0, 0]]
        return {"padding": padding, "output_size": wanted}
    neither = "'VALID' nor 'SAME'" + (" nor explicit padding" if geometry.rank == 2 else "")
    return (
        f"{removed(geometry.crops)} are to be removed from an input of {plain(sizes)}, which "
        f"neither {neither} does"
    )


def _means(axis: Axis, n: int, size: int, padding: str | Crop) -> bool:
    """Whether this padding, with this output size, removes what the axis removes."""
    try:
        return _crop(axis, n, size, padding) == (axis.begin, axis.end)
    except GeometryError:
        return False


def _crop(axis: Axis, n: int, size: int, padding: str | Sequence[Sequence[int]] | Crop) -> Crop:
    """What TensorFlow removes from the full result so that ``size`` is left."""
    e, s = axis.extent, axis.stride
    if padding == "SAME":
        least, begin = (n - 1) * s + 1, max(axis.full_size(n) - size, 0) // 2
    elif padding == "VALID":
        least, begin = (n - 1) * s + e, 0
    elif isinstance(padding, tuple):
        low, high = padding
        least, begin = (n - 1) * s + e - low - high, low
    else:
        raise GeometryError(f"padding must be 'SAME', 'VALID' or pairs, got {padding!r}")
    if not max(least, 0) <= size < least + s:
        raise OutputSizeError(
            f"output_shape must have {max(least, 0)} to {least + s - 1} on an axis with input "
            f"{n}, kernel extent {e}, stride {s} and padding {padding!r}, got {size}"
        )
    return begin, axis.full_size(n) - size - begin


def _explicit(padding: object, rank: int, last: bool) -> list[Crop] | None:
    """The pairs of the spatial axes where padding is given in numbers."""
    if isinstance(padding, str):
        return None
    if rank != 2:
        raise GeometryError(
            f"padding in numbers is for two spatial axes only, got {padding!r} for {rank}"
        )
    given = list(padding) if isinstance(padding, Sequence) else []
    if len(given) != 4:
        raise GeometryError(
            "padding must be 'SAME', 'VALID' or four pairs, with batch and channels among them, "
            f"got {padding!r}"
        )
    pairs = [per_axis("a padding pair", pair, 2, low=0) for pair in given]
    spatial, others = (pairs[1:3], pairs[::3]) if last else (pairs[2:], pairs[:2])
    if any(map(any, others)):
        raise GeometryError(f"padding of batch and channels must be (0, 0), got {padding!r}")
    return [(low, high) for low, high in spatial]


def _spatial(name: str, value: int | Sequence[int], rank: int, last: bool) -> tuple[int, ...]:
    """The values of the spatial axes, with or without batch and channels around them."""
    if isinstance(value, Sequence) and len(value) == rank + 2:
        full = per_axis(name, value, rank + 2)
        value, others = (full[1:-1], full[:: rank + 1]) if last else (full[2:], full[:2])
        if others != (1, 1):
            raise GeometryError(f"{name} must be 1 for batch and channels, got {full}")
    return per_axis(name, value, rank, low=1)


def _channels_last(data_format: str | None, rank: int) -> bool:
    spatial = {1: "W", 2: "HW", 3: "DHW"}.get(rank, "")
    if data_format not in (None, f"N{spatial}C", f"NC{spatial}"):
        raise GeometryError(
            f"data_format must be 'N{spatial}C' or 'NC{spatial}', got {data_format!r}"
        )
    return data_format != f"NC{spatial}"
