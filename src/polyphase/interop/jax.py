"""JAX: ``jax.lax.conv_transpose``.

Three traps: the kernel is not reversed, so that PyTorch's weights have to be; a word means the
padding of a convolution, while numbers mean the padding of the input between whose entries zeros
have been put (``use_consistent_padding=True`` makes them mean the former); and
``transpose_kernel=True`` reverses the kernel and swaps its channels, which is Keras' convention.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis
from polyphase.errors import GeometryError
from polyphase.interop.convention import (
    Convention,
    Crop,
    Layout,
    Meaning,
    Rule,
    columns,
    frame,
    one_of,
    per_axis,
    same_crop,
    valid_crop,
)
from polyphase.interop.exact import exactly

LAYOUT = Layout("kio", flip=True)
CONVENTION = Convention(
    name="jax",
    title="JAX",
    call="jax.lax.conv_transpose(x, kernel, {})",
    layout=LAYOUT,
    rules=(
        Rule("SAME", "max(e - s, 0)//2", "e - s - a"),
        Rule("VALID", "0", "e - max(e, s)"),
        Rule("(lo, hi)", "e - 1 - lo", "e - 1 - hi"),
        Rule("(lo, hi) with use_consistent_padding", "lo", "hi"),
    ),
    names={
        "kernel_size": "kernel_size",
        "stride": "strides",
        "padding": "padding",
        "dilation": "rhs_dilation",
    },
    defaults={"rhs_dilation": 1},
    channels_last=True,
    takes_bias=False,
    checked="jax 0.10",
    source="`jax/_src/lax/convolution.py`",
    trap="Pairs pad the input: PyTorch's `p` is `d*(k-1) - p` here. With "
    "`transpose_kernel=True` the weights are those of Keras. On CPUs XLA reads outside of its "
    "input for a negative pair without strides and dilation, and gives wrong values.",
)


class Numbers(NamedTuple):
    """``dimension_numbers`` as places of batch, channels (output, input) and spatial axes."""

    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    out: tuple[int, ...]


def geometry(
    kernel_size: PerAxis,
    strides: PerAxis,
    padding: str | Sequence[Crop],
    rhs_dilation: PerAxis | None = None,
    *,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    use_consistent_padding: bool = False,
) -> Meaning:
    """What the arguments mean.

    >>> geometry((3,), (2,), [(1, 2)]).geometry.crops
    ((1, 0),)
    >>> geometry((3,), (2,), [(1, 0)], use_consistent_padding=True).geometry.crops
    ((1, 0),)
    """
    around = frame(kernel_size, strides, 1 if rhs_dilation is None else rhs_dilation)
    crops = _crops(around.axes, padding, use_consistent_padding)
    output, inputs, *spatial = numbers(dimension_numbers, around.rank).rhs
    if transpose_kernel:
        output, inputs = inputs, output
    shaped = Geometry(around.kernel_size, around.stride, padding=crops, dilation=around.dilation)
    return Meaning(shaped, (inputs, output, *spatial), not transpose_kernel)


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The arguments that mean this geometry, without ``use_consistent_padding``.

    >>> parameters(Geometry(3, stride=2, padding=1, output_padding=1))
    {'strides': (2,), 'padding': ((1, 2),), 'rhs_dilation': (1,)}

    Raises :class:`~polyphase.interop.NoExactCall` for groups, and where the call exists, but XLA
    gives wrong values for it: a negative padding without strides and dilation.
    """
    return exactly(CONVENTION, _express, geometry, groups)


def conv_transpose(
    lhs: NDArray[Any],
    rhs: NDArray[Any],
    strides: PerAxis,
    padding: str | Sequence[Crop],
    rhs_dilation: PerAxis | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    use_consistent_padding: bool = False,
) -> NDArray[Any]:
    """``jax.lax.conv_transpose`` of NumPy arrays.

    ``lhs`` is ``(N, *size, C)`` and ``rhs`` is ``(*kernel_size, I, O)`` unless
    ``dimension_numbers`` says otherwise: three strings such as ``("NCHW", "OIHW", "NCHW")``, or
    JAX's own ``ConvDimensionNumbers``. One to three spatial axes.

    >>> import numpy as np
    >>> x, kernel = np.ones((1, 3, 1)), np.array([1.0, 2.0, 4.0]).reshape(3, 1, 1)
    >>> conv_transpose(x, kernel, (2,), "SAME").ravel()
    array([4., 2., 5., 2., 5., 2.])
    """
    from polyphase.interop.arrays import checked, run

    rank = checked("lhs", lhs, "rhs", rhs)
    order = numbers(dimension_numbers, rank)
    kernel_size = tuple(rhs.shape[at] for at in order.rhs[2:])
    meant = geometry(
        kernel_size,
        strides,
        padding,
        rhs_dilation,
        dimension_numbers=order,
        transpose_kernel=transpose_kernel,
        use_consistent_padding=use_consistent_padding,
    )
    result = run(lhs.transpose(order.lhs), rhs, None, meant)
    # the order of the result says where its axes go
    return result.transpose(sorted(range(rank + 2), key=order.out.__getitem__))


def numbers(given: Any, rank: int) -> Numbers:
    """``dimension_numbers`` in any of the ways that JAX takes them.

    >>> numbers(("NCHW", "OIHW", "NHWC"), 2)
    Numbers(lhs=(0, 1, 2, 3), rhs=(0, 1, 2, 3), out=(0, 3, 1, 2))
    """
    if given is None:
        spatial = "HWD"[:rank]
        given = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    if hasattr(given, "rhs_spec"):
        given = given.lhs_spec, given.rhs_spec, given.out_spec
    specs = tuple(given) if isinstance(given, Sequence) else ()
    if len(specs) != 3:
        raise GeometryError(
            "dimension_numbers must be three strings, of input, kernel and output, such as "
            f"('NCHW', 'OIHW', 'NCHW'), got {given!r}"
        )
    if not all(isinstance(spec, str) for spec in specs):
        return Numbers(*(tuple(spec) for spec in specs))
    letters = [letter for letter in specs[1] if letter not in "OI"]
    orders = ("N", "C", *letters), ("O", "I", *letters), ("N", "C", *letters)
    for spec, order in zip(specs, orders, strict=True):
        if sorted(spec) != sorted(order) or len(order) != rank + 2:
            raise GeometryError(
                f"dimension_numbers {specs!r} must each have {rank + 2} different letters: N and C "
                "for input and output, O and I for the kernel, and the same spatial ones"
            )
    return Numbers(
        *(tuple(map(spec.index, order)) for spec, order in zip(specs, orders, strict=True))
    )


def _crops(axes: tuple[Axis, ...], padding: str | Sequence[Crop], consistent: bool) -> list[Crop]:
    if isinstance(padding, str):
        rule = same_crop if one_of("padding", padding, ("SAME", "VALID")) == "SAME" else valid_crop
        return list(map(rule, axes))
    if len(padding) != len(axes):
        raise GeometryError(
            f"padding must be 'SAME', 'VALID' or {len(axes)} pairs, one per spatial axis, "
            f"got {padding!r}"
        )
    pairs = [per_axis("a padding pair", pair, 2) for pair in padding]
    if consistent:
        return [(low, high) for low, high in pairs]
    return [
        (axis.extent - 1 - low, axis.extent - 1 - high)
        for axis, (low, high) in zip(axes, pairs, strict=True)
    ]


def padding_of(geometry: Geometry) -> str | tuple[Crop, ...]:
    """The padding that means these crops: a word where there is one, else pairs."""
    for word, rule in (("SAME", same_crop), ("VALID", valid_crop)):
        if tuple(map(rule, geometry.axes)) == geometry.crops:
            return word
    return tuple(
        (axis.extent - 1 - axis.begin, axis.extent - 1 - axis.end) for axis in geometry.axes
    )


def fault(geometry: Geometry) -> str:
    """What goes wrong with a call that exists, or nothing.

    On CPUs jaxlib 0.10 reads memory that is not the input's: 7 inputs, 4 taps and padding (-2, 2)
    give other values at the end.
    """
    plain = all(axis.stride == axis.dilation == 1 for axis in geometry.axes)
    if plain and any(max(axis.begin, axis.end) > axis.extent - 1 for axis in geometry.axes):
        return "on CPUs XLA gives wrong values for a negative padding without strides and dilation"
    return ""


def _express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    wrong = fault(geometry)
    if wrong:
        return wrong
    _, stride, dilation = columns(geometry)
    return {"strides": stride, "padding": padding_of(geometry), "rhs_dilation": dilation}
