"""From the arguments of a call to what computes it on the CPU, checked once and remembered."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import LAYOUTS, Problem
from polyphase.engine.sums import bias_operation
from polyphase.errors import GeometryError
from polyphase.functional.arguments import DTYPES, read
from polyphase.functional.tensors.native import Native, NativeSums, NativeWeights
from polyphase.functional.tensors.parts import PARTS, ComplexNative, ComplexWeights
from polyphase.functional.tensors.spatial import Spatial, spatial

Sizes = tuple[int, ...]


class Prepared(NamedTuple):
    """A kind of call: what computes it, its parameters, and those of its gradients."""

    compute: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    infer: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    spatial: Spatial
    companion: Spatial


@lru_cache(maxsize=4096)
def prepared(
    operator: str,
    rank: int,
    input_shape: Sizes,
    weight_shape: Sizes,
    bias_shape: Sizes | None,
    input_dtype: torch.dtype,
    weight_dtype: torch.dtype,
    bias_dtype: torch.dtype | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
) -> Prepared:
    """The checked call with these arguments, which must be ints, strings and tuples of them.

    Raises what :func:`~polyphase.functional.arguments.read` raises.
    """
    shapes = input_shape, weight_shape, bias_shape
    dtypes = input_dtype, weight_dtype, bias_dtype
    call = read(operator, rank, shapes, dtypes, stride, padding, output_padding, dilation, groups)
    called = spatial(weight_shape[2:], stride, padding, output_padding, dilation, groups)
    problem = call.problem
    if operator == "conv_transpose":
        companion = called.folded()
    else:
        companion = called.reaching(problem.output_size, problem.input_size, weight_shape[2:])
    native: Native | ComplexNative
    if problem.dtype in PARTS:
        native = ComplexNative(problem, call.batched)
    else:
        native = Native(problem, input_dtype, call.batched)
    return Prepared(native.__call__, native.infer, called, companion)


@lru_cache(maxsize=4096)
def prepared_weights(
    rank: int,
    input_shape: Sizes,
    output_shape: Sizes,
    input_dtype: torch.dtype,
    output_dtype: torch.dtype,
    kernel_size: Sizes,
    parameters: Spatial,
) -> NativeWeights | ComplexWeights:
    """What computes the gradient of the weights of a transposed convolution."""
    if input_dtype is not output_dtype:
        raise GeometryError(
            f"input and output must have one dtype, got {input_dtype} and {output_dtype}"
        )
    batched = len(input_shape) == rank + 2
    geometry = Geometry(
        kernel_size,
        parameters.stride,
        padding=parameters.padding,
        dilation=parameters.dilation,
    )
    problem = Problem(
        geometry,
        input_shape[-rank:],
        input_shape[-rank - 1],
        output_shape[-rank - 1],
        batch=input_shape[0] if batched else 1,
        groups=parameters.groups,
        dtype=DTYPES[str(input_dtype).removeprefix("torch.")],
        operator="weight_grad",
    )
    if problem.dtype in PARTS:
        return ComplexWeights(problem)
    return NativeWeights(problem, input_dtype, batched)


@lru_cache(maxsize=4096)
def prepared_sums(rank: int, shape: Sizes, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """What sums every channel of a tensor that has elements."""
    name = DTYPES.get(str(dtype).removeprefix("torch."), "")
    batched = len(shape) == rank + 2
    channels, *size = shape[batched:]
    # a layer whose output has this shape
    problem = Problem(
        Geometry((1,) * rank),
        tuple(size),
        1,
        channels,
        batch=shape[0] if batched else 1,
        dtype=name,
    )
    found = [bias_operation(replace(problem, layout=layout)) for layout in LAYOUTS[rank]]
    operations = [operation for operation in found if operation]
    if operations:
        return NativeSums(rank, shape, dtype, operations)
    # half precision on a machine without it
    return lambda y: y.sum([axis for axis in range(len(shape)) if axis != batched])


class Backward(NamedTuple):
    """What computes the three gradients of a kind of call, that of the weights in their order."""

    of_input: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    of_weights: Callable[[Tensor, Tensor, Tensor], Tensor]
    of_bias: Callable[[Tensor], Tensor]


@lru_cache(maxsize=4096)
def prepared_backward(
    operator: str,
    input_shape: Sizes,
    weight_shape: Sizes,
    output_shape: Sizes,
    dtype: torch.dtype,
    parameters: Spatial,
) -> Backward:
    """What computes the gradients of a call of ``operator`` with these shapes.

    ``parameters`` are those of :attr:`Prepared.companion`.
    """
    rank, size = len(weight_shape) - 2, weight_shape[2:]
    transposed = operator == "conv_transpose"
    adjoint = "conv" if transposed else "conv_transpose"
    kinds = dtype, dtype, None
    of_input = prepared(adjoint, rank, output_shape, weight_shape, None, *kinds, *parameters)
    small, large = (input_shape, output_shape) if transposed else (output_shape, input_shape)
    of_weights = prepared_weights(rank, small, large, dtype, dtype, size, parameters)
    assert isinstance(of_weights, NativeWeights), dtype
    return Backward(of_input.compute, of_weights.like, prepared_sums(rank, output_shape, dtype))
