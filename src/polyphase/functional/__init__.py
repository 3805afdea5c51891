"""Transposed convolution and the convolution it transposes, of NumPy arrays or PyTorch tensors.

The signatures are those of ``torch.nn.functional``, and so are results, defaults and the kinds of
error. Beyond PyTorch, ``padding`` may differ between the two ends of an axis, may be negative as
part of a ``(begin, end)`` pair, and may be ``"same"`` for a transposed convolution; outputs of size
0 are empty; and every integer dtype works for both operators. Different dtypes are never mixed, nor
are arrays and tensors.

Tensors have derivatives of every order, forwards and backwards, and work under ``torch.compile``,
``torch.export``, ``torch.vmap``, ``torch.func`` and autocast. Those on other devices than the CPU
are computed by PyTorch's own convolution with the same meaning.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.values import PerAxis, PerAxisPadding
from polyphase.engine.arrays import compute
from polyphase.functional.arguments import read

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
# arrays in, arrays out; tensors in, tensors out
Values = TypeVar("Values", Array, "Tensor")

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]


def conv_transpose1d(
    input: Values,
    weight: Values,
    bias: Values | None = None,
    stride: PerAxis = 1,
    padding: PerAxisPadding | str = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    out: Array | None = None,
) -> Values:
    """Transposed convolution over one spatial axis; see :func:`conv_transpose2d`.

    >>> x = np.array([[[1.0, 2.0]]])
    >>> w = np.array([[[1.0, 10.0, 100.0]]])
    >>> conv_transpose1d(x, w, stride=2)
    array([[[  1.,  10., 102.,  20., 200.]]])
    >>> conv_transpose1d(x, w, stride=2, padding=[(0, 1)])
    array([[[  1.,  10., 102.,  20.]]])
    """
    parameters = stride, padding, output_padding, dilation, groups
    return _run("conv_transpose", 1, input, weight, bias, *parameters, out)


def conv_transpose2d(
    input: Values,
    weight: Values,
    bias: Values | None = None,
    stride: PerAxis = 1,
    padding: PerAxisPadding | str = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    out: Array | None = None,
) -> Values:
    """Transposed convolution over two spatial axes, as ``torch.nn.functional.conv_transpose2d``.

    ``input`` is ``(N, C_in, H, W)``, or ``(C_in, H, W)`` without a batch; ``weight`` is
    ``(C_in, C_out/groups, *kernel_size)``; ``bias`` is ``(C_out,)``. All have one dtype:
    ``float32``, ``float64``, ``float16``, ``bfloat16``, ``complex64``, ``complex128``, ``int8`` to
    ``int64`` or ``uint8``. The result has that dtype and, per axis, the size
    ``(n-1)*stride - begin - end + dilation*(k-1) + output_padding + 1``.

    ``padding`` removes positions from the ends of the full result: an int for all, one per axis, or
    ``(begin, end)`` pairs per axis, whose values may be negative (positions added that hold the
    bias alone). ``"same"`` gives an output of exactly input times stride. ``output_padding``, which
    must be smaller than stride or dilation, computes further positions at the end. ``out``, for
    NumPy alone, is an array of the result's shape and dtype that shares no memory with the
    arguments, and receives the result.

    >>> x = np.ones((1, 16, 6, 6), np.float32)
    >>> w = np.ones((16, 8, 3, 3), np.float32)
    >>> conv_transpose2d(x, w, stride=2, padding=1).shape
    (1, 8, 11, 11)
    >>> conv_transpose2d(x, w, stride=2, padding="same").shape
    (1, 8, 12, 12)

    Raises ``TypeError`` for arguments of the wrong kind, :class:`~polyphase.GeometryError` (a
    ``ValueError`` and a ``RuntimeError``) for values, shapes and dtypes that do not fit together,
    and :class:`~polyphase.Unsupported` (a ``NotImplementedError``) for other dtypes.
    """
    parameters = stride, padding, output_padding, dilation, groups
    return _run("conv_transpose", 2, input, weight, bias, *parameters, out)


def conv_transpose3d(
    input: Values,
    weight: Values,
    bias: Values | None = None,
    stride: PerAxis = 1,
    padding: PerAxisPadding | str = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    *,
    out: Array | None = None,
) -> Values:
    """Transposed convolution over three spatial axes; see :func:`conv_transpose2d`.

    >>> x = np.ones((4, 2, 3, 3))
    >>> w = np.ones((4, 1, 1, 2, 2))
    >>> conv_transpose3d(x, w, stride=(1, 2, 2)).shape
    (1, 2, 6, 6)
    """
    parameters = stride, padding, output_padding, dilation, groups
    return _run("conv_transpose", 3, input, weight, bias, *parameters, out)


def conv1d(
    input: Values,
    weight: Values,
    bias: Values | None = None,
    stride: PerAxis = 1,
    padding: PerAxisPadding | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    out: Array | None = None,
) -> Values:
    """Convolution over one spatial axis; see :func:`conv2d`.

    >>> y = np.array([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    >>> w = np.array([[[1.0, 10.0, 100.0]]])
    >>> conv1d(y, w, stride=2)
    array([[[321., 543.]]])
    """
    return _run("conv", 1, input, weight, bias, stride, padding, 0, dilation, groups, out)


def conv2d(
    input: Values,
    weight: Values,
    bias: Values | None = None,
    stride: PerAxis = 1,
    padding: PerAxisPadding | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    out: Array | None = None,
) -> Values:
    """Convolution over two spatial axes, as ``torch.nn.functional.conv2d``.

    ``input`` is ``(N, C_in, H, W)``, or ``(C_in, H, W)`` without a batch; ``weight`` is
    ``(C_out, C_in/groups, *kernel_size)``; ``bias`` is ``(C_out,)``; dtypes and errors are those of
    :func:`conv_transpose2d`. The size per axis is
    ``floor((n + begin + end - dilation*(k-1) - 1) / stride) + 1``.

    ``padding`` puts zeros around the input: an int for all ends, one per axis, or ``(begin, end)``
    pairs per axis, whose values may be negative (positions removed). ``"valid"`` is 0, ``"same"``
    keeps the size and needs stride 1.

    With the same array of weights, stride, padding, dilation and groups it is the adjoint of
    :func:`conv_transpose2d`: ``(conv2d(y, w) * x).sum() == (conv_transpose2d(x, w) * y).sum()``.

    >>> y = np.ones((1, 8, 11, 11), np.float32)
    >>> w = np.ones((16, 8, 3, 3), np.float32)
    >>> conv2d(y, w, stride=2, padding=1).shape
    (1, 16, 6, 6)
    """
    return _run("conv", 2, input, weight, bias, stride, padding, 0, dilation, groups, out)


def conv3d(
    input: Values,
    weight: Values,
    bias: Values | None = None,
    stride: PerAxis = 1,
    padding: PerAxisPadding | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    out: Array | None = None,
) -> Values:
    """Convolution over three spatial axes; see :func:`conv2d`.

    >>> conv3d(np.ones((1, 2, 6, 6)), np.ones((4, 1, 1, 2, 2)), stride=(1, 2, 2)).shape
    (4, 2, 3, 3)
    """
    return _run("conv", 3, input, weight, bias, stride, padding, 0, dilation, groups, out)


def _run(
    operator: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
    out: Any = None,
) -> Any:
    if out is None:
        run = _runs.get(type(input)) or _find_run(type(input))
        return run(
            operator,
            rank,
            input,
            weight,
            bias,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
        )
    if hasattr(type(input), "__torch_function__"):
        raise TypeError(
            "out receives the result of NumPy arrays, and input is a tensor; call without out, and "
            "copy the result to where it belongs"
        )
    parameters = stride, padding, output_padding, dilation, groups
    return _run_arrays(operator, rank, input, weight, bias, *parameters, out)


def _run_arrays(
    operator: str,
    rank: int,
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
    out: Array | None = None,
) -> Array:
    _check_kinds(input=input, weight=weight, bias=bias, out=out)
    shapes = input.shape, weight.shape, None if bias is None else bias.shape
    dtypes = input.dtype, weight.dtype, None if bias is None else bias.dtype
    call = read(operator, rank, shapes, dtypes, stride, padding, output_padding, dilation, groups)
    problem = call.problem
    batch = input if call.batched else input[None]
    if call.batched or out is None:
        result = compute(problem, batch, weight, bias, out)
        return result if call.batched else result[0]
    compute(problem, batch, weight, bias, out[None])
    return out


# what computes on inputs of a type
_runs: dict[type, Callable[..., Any]] = {np.ndarray: _run_arrays}


def _find_run(kind: type) -> Callable[..., Any]:
    # tensors exist only where torch has been imported, so it need not be imported to look
    if "torch" in sys.modules and hasattr(kind, "__torch_function__"):
        from polyphase.functional.tensors.calls import run

        _runs[kind] = run
        return run
    return _run_arrays


def _check_kinds(**arrays: Any) -> None:
    for name, value in arrays.items():
        if isinstance(value, np.ndarray) or (name in ("bias", "out") and value is None):
            continue
        kind = type(value)
        told = (
            kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        )
        raise TypeError(
            f"{name} must be a numpy.ndarray, got {told}; convert it with numpy.asarray({name})"
        )
