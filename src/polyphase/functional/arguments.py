"""From the arguments of a call to a checked :class:`~polyphase.Problem`, remembered for next time.

Nothing here touches the elements of an array: shapes, dtypes and parameters decide everything, so
the answer is kept and a call that was seen before costs one look-up.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from polyphase.arithmetic.axis import extent
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import Problem
from polyphase.arithmetic.values import at_least, entries, whole
from polyphase.errors import GeometryError, Unsupported

# names of dtypes as arrays give them, and as problem lines do
DTYPES = {
    "float32": "f32",
    "float64": "f64",
    "float16": "f16",
    "bfloat16": "bf16",
    "complex32": "c32",
    "complex64": "c64",
    "complex128": "c128",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
}
# what an address can span; arrays beyond it cannot exist
MOST_BYTES = 2**63 - 1
# of input, weight and bias, if there is one
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]


@dataclass(frozen=True, slots=True)
class Call:
    """A checked call: the problem, and whether the input has a batch axis."""

    problem: Problem
    batched: bool


def read(
    operator: str,
    rank: int,
    shapes: Shapes,
    dtypes: tuple[Any, ...],
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
) -> Call:
    """The call that these arguments describe.

    ``shapes`` and ``dtypes`` are those of input, weight and bias, ``None`` for no bias.

    >>> call = read("conv", 1, ((4, 9), (2, 4, 3), None), ("float32",) * 2, 2, 1, 0, 1, 1)
    >>> print(call.problem, call.batched)
    conv n1 c4:2 g1 i9 k3 s2 p1 o0 d1 f32 ncl False

    Raises ``TypeError`` for a parameter of the wrong kind, :class:`~polyphase.Unsupported` for a
    dtype that nothing computes, :class:`~polyphase.GeometryError` for everything else.
    """
    return _read(
        operator,
        rank,
        shapes,
        dtypes,
        hashable("stride", stride),
        hashable("padding", padding),
        hashable("output_padding", output_padding),
        hashable("dilation", dilation),
        hashable("groups", groups),
    )


def hashable(name: str, value: Any) -> Any:
    """``value`` with lists as tuples and every number an ``int``.

    ``2``, ``2.0`` and ``True`` are the same key of a cache, so what is no int stops here.

    >>> hashable("stride", [2, 1])
    (2, 1)
    """
    if type(value) is int or isinstance(value, str):
        return value
    if type(value) is tuple:
        for entry in value:
            if type(entry) is not int:
                break
        else:
            return value
    found = entries(name, value)
    return whole(name, value) if found is None else tuple(hashable(name, v) for v in found)


@lru_cache(maxsize=4096)
def _read(
    operator: str,
    rank: int,
    shapes: Shapes,
    dtypes: tuple[Any, ...],
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
) -> Call:
    name = f"{operator}{rank}d"
    input_shape, weight_shape, _ = shapes
    dtype = _dtype(dtypes)
    check_axes(name, rank, input_shape, weight_shape, transposed=operator == "conv_transpose")
    if 0 in input_shape[-rank:]:
        raise GeometryError(
            f"input of {name} must have at least 1 position on every spatial axis, "
            f"got shape {input_shape}"
        )
    in_channels, out_channels, groups = _channels(operator, shapes, groups)
    kernel_size = weight_shape[2:]
    stride = per_axis("stride", stride, rank)
    dilation = per_axis("dilation", dilation, rank)
    output_padding = per_axis("output_padding", output_padding, rank)
    padding = per_axis("padding", padding, rank)
    if isinstance(padding, str):
        padding = named_padding(operator, padding, kernel_size, stride, dilation, output_padding)
    elif operator == "conv":
        _refuse_negative(padding)
    geometry = Geometry(
        kernel_size,
        stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
    )
    size = input_shape[-rank:]
    if operator == "conv":
        geometry.conv_output_size(size)
    batched = len(input_shape) == rank + 2
    problem = Problem(
        geometry,
        size,
        in_channels,
        out_channels,
        batch=input_shape[0] if batched else 1,
        groups=groups,
        dtype=dtype,
        operator=operator,
    )
    # numpy multiplies the sizes even where one of them is 0
    spanned = problem.item_size * prod(max(n, 1) for n in problem.output_shape)
    if max(problem.bytes, spanned) > MOST_BYTES:
        raise GeometryError(
            f"an output of shape {problem.output_shape} is larger than any memory; make stride or "
            "input smaller"
        )
    return Call(problem, batched)


def _dtype(dtypes: tuple[Any, ...]) -> str:
    # a torch dtype is spelled "torch.float32"
    names = [str(dtype).removeprefix("torch.") for dtype in dtypes if dtype is not None]
    for name in names:
        if name not in DTYPES:
            raise Unsupported(
                f"arrays of dtype {name} are not computed; convert them to one of "
                f"{', '.join(DTYPES)}"
            )
    if len(set(names)) > 1:
        raise GeometryError(
            f"input, weight and bias must have one dtype, got {', '.join(names)}; "
            "convert them to the same"
        )
    return DTYPES[names[0]]


def check_axes(
    name: str,
    rank: int,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    transposed: bool,
) -> None:
    """Refuse the wrong number of axes; sizes may be symbols."""
    if len(input_shape) not in (rank + 1, rank + 2):
        raise GeometryError(
            f"input of {name} must have {rank + 2} axes (N, C, *size), or {rank + 1} without a "
            f"batch, got shape {tuple(input_shape)}"
        )
    if len(weight_shape) != rank + 2:
        channels = "C_in, C_out/groups" if transposed else "C_out, C_in/groups"
        raise GeometryError(
            f"weight of {name} must have {rank + 2} axes ({channels}, *kernel_size), "
            f"got shape {tuple(weight_shape)}"
        )


def _channels(operator: str, shapes: Shapes, groups: Any) -> tuple[int, int, int]:
    """Input channels, output channels and groups, when they fit each other and the bias."""
    input_shape, weight_shape, bias_shape = shapes
    groups = whole("groups", groups)
    at_least("groups", (groups,), 1)
    first, second = weight_shape[0], weight_shape[1] * groups
    expected, out_channels = (first, second) if operator == "conv_transpose" else (second, first)
    in_channels = input_shape[len(input_shape) - len(weight_shape) + 1]
    if in_channels != expected:
        taken = f"weight of shape {tuple(weight_shape)} with groups {groups} takes {expected}"
        if input_shape[-1] == expected:
            mend = f"its last axis has {expected}, and channels come before the spatial axes here"
        elif weight_shape[1] == in_channels and groups == 1:
            order = "(C_in, C_out/groups" if operator == "conv_transpose" else "(C_out, C_in/groups"
            mend = f"the weight is {order}, *kernel_size) here, so swap its first two axes"
        else:
            mend = f"give it {expected}, or make the weight for {in_channels}"
        raise GeometryError(
            f"{taken} input channels, but input of shape {tuple(input_shape)} has {in_channels}: "
            f"{mend}"
        )
    if bias_shape is not None and bias_shape != (out_channels,):
        raise GeometryError(
            f"bias must have shape ({out_channels},), one value per output channel, "
            f"got {bias_shape}"
        )
    return in_channels, out_channels, groups


def per_axis(name: str, value: Any, rank: int) -> Any:
    """One entry per axis; as in PyTorch, a sequence of one entry serves every axis."""
    if isinstance(value, str) and name == "padding":
        return value
    if isinstance(value, int | str):
        return (whole(name, value),) * rank
    if len(value) == 1:
        return value * rank
    if len(value) != rank:
        pair = rank == 1 and name == "padding" and len(value) == 2
        fix = f"; for two different ends write [{value}]" if pair else ""
        raise GeometryError(
            f"{name} must be an int or a sequence of {rank}, one entry per axis, got {value}{fix}"
        )
    return value


def named_padding(
    operator: str,
    padding: str,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    output_padding: tuple[int, ...],
) -> Any:
    """The padding that a word stands for, as numbers."""
    if operator == "conv_transpose" and padding == "same":
        if any(output_padding):
            raise GeometryError(
                "padding 'same' fixes the output to input * stride, so output_padding must be 0, "
                f"got {output_padding}"
            )
        return Geometry.same(kernel_size, stride, dilation=dilation).pads
    if operator == "conv" and padding == "valid":
        return 0
    if operator == "conv" and padding == "same":
        if any(s != 1 for s in stride):
            raise GeometryError(
                f"padding 'same' keeps the size and needs stride 1, got stride {stride}; "
                "give padding in numbers"
            )
        surplus = [extent(k, d) - 1 for k, d in zip(kernel_size, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in surplus]
    words = "'same'" if operator == "conv_transpose" else "'same' or 'valid'"
    raise GeometryError(
        f"padding must be an int, one int or (begin, end) pair per axis, or {words}, "
        f"got {padding!r}; for no padding write 0"
    )


def _refuse_negative(padding: tuple[Any, ...]) -> None:
    """For a convolution, in its own words: the geometry speaks of what padding removes."""
    for entry in padding:
        if isinstance(entry, int) and entry < 0:
            raise GeometryError(
                f"padding must be at least 0, got {entry}; to remove positions of the input "
                f"write a pair ({entry}, {entry})"
            )
