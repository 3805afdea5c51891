"""The operators on plain tensors in CPU memory, by the engine.

A :class:`Native` is made once for each kind of call and kept: shapes, dtypes and parameters have
then made every decision but the layout, which follows input and weights, by PyTorch's own rule
where it has one.
"""

from dataclasses import replace
from functools import cached_property, partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from polyphase.arithmetic.problem import LAYOUTS, Problem
from polyphase.engine import reference
from polyphase.engine.order import Order, order
from polyphase.engine.run import Operation, operation
from polyphase.engine.sums import BiasOperation
from polyphase.engine.weights import WeightOperation, weight_operation
from polyphase.functional.tensors.kept import kept_panels
from polyphase.functional.tensors.results import Results, strides

Sizes = tuple[int, ...]

_DEFINITIONS = {"conv_transpose": reference.conv_transpose, "conv": reference.conv}
_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


class Native:
    """A checked ``conv_transpose`` or ``conv`` of plain CPU tensors of a real dtype."""

    def __init__(self, problem: Problem, dtype: torch.dtype, batched: bool) -> None:
        self._problem = problem
        self._dtype = dtype
        self._result = Results(problem.output_shape[not batched :], dtype)
        x_shape = problem.input_shape[not batched :]
        self._layouts = Layouts(problem.rank, x_shape, problem.weight_shape)
        # None where the reference computes
        self._operations: dict[bool, Operation | None] = {}
        self._first = self._result.first
        # for weights that lie in another order: a large copy lies on warm pages
        self._dense = Results(problem.weight_shape, dtype)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The result; weights are packed for this call alone."""
        found = self._quick(x, weight)
        if found is None:
            return self._general(x, weight, bias, keep=False)
        if bias is None:
            y = self._first()
            found.compute(x.data_ptr(), weight.data_ptr(), None, y.data_ptr())
            return y
        bias = bias.contiguous()
        y = self._first()
        found.compute(x.data_ptr(), weight.data_ptr(), bias.data_ptr(), y.data_ptr())
        return y

    def infer(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The result; the panels of a ``torch.nn.Parameter`` are kept for the next call.

        Weights and bias may have another dtype than the call, to which they are converted.
        """
        if type(weight) is not Parameter:
            return self(x, *self._converted(weight, bias))
        found = self._quick(x, weight)
        if found is None:
            return self._general(x, weight, bias, keep=True)
        if not found.packs:
            return self(x, *self._converted(weight, bias))
        y = self._first()
        panels = kept_panels(found, weight, bias, self._dtype)
        found.run(x.data_ptr(), panels, y.data_ptr())
        return y

    def _converted(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weights and bias in the dtype of the call."""
        if weight.dtype is not self._dtype:
            weight = weight.to(self._dtype)
        if bias is not None and bias.dtype is not self._dtype:
            bias = bias.to(self._dtype)
        return weight, bias

    def _quick(self, x: Tensor, weight: Tensor) -> Operation | None:
        """What computes tensors that are channels-first beyond doubt."""
        if not (self._layouts.told_apart and x.is_contiguous() and weight.is_contiguous()):
            return None
        return self._operation(False)

    def _general(self, x: Tensor, weight: Tensor, bias: Tensor | None, keep: bool) -> Tensor:
        """The result in any layout, of any size."""
        last = self._layouts.is_last(x, weight)
        found = self._operation(last)
        if found is None:
            weight, bias = self._converted(weight, bias)
            return self._layouts.placed(self._by_definition(x, weight, bias), last)
        x = self._layouts.placed(x, last)
        y = self._result.last() if last else self._first()
        if keep and found.packs and isinstance(weight, Parameter):
            panels = kept_panels(found, weight, bias, self._dtype)
            found.run(x.data_ptr(), panels, y.data_ptr())
            return y
        weight, bias = self._converted(weight, bias)
        weight = self._ordered(weight, found.weights_last)
        bias = None if bias is None else bias.contiguous()
        address = None if bias is None else bias.data_ptr()
        found.compute(x.data_ptr(), weight.data_ptr(), address, y.data_ptr())
        return y

    def _ordered(self, weight: Tensor, last: bool) -> Tensor:
        """Weights in the order of the definition, or in that of channels-last memory."""
        first = weight.is_contiguous()
        if not last and first:
            return weight
        lies_last = is_dense_last(weight, self._problem.rank)
        if last and lies_last:
            return weight
        dense = self._dense.last() if last else self._dense.first()
        swapped = first if last else lies_last
        found = self._into_last if last else self._into_first
        if not swapped or found is None:
            return dense.copy_(weight)
        found.run(weight.data_ptr(), dense.data_ptr())
        return dense

    @cached_property
    def _into_first(self) -> Order | None:
        """What brings channels-last weights into the order of the definition, if of known type."""
        rows, channels, *sizes = self._problem.weight_shape
        return order(rows, channels, prod(sizes), self._problem.dtype)

    @cached_property
    def _into_last(self) -> Order | None:
        """The way back."""
        rows, channels, *sizes = self._problem.weight_shape
        return order(rows, prod(sizes), channels, self._problem.dtype)

    def _operation(self, last: bool) -> Operation | None:
        if last not in self._operations:
            layout = LAYOUTS[self._problem.rank][last]
            self._operations[last] = operation(replace(self._problem, layout=layout))
        return self._operations[last]

    def _by_definition(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        problem = self._problem
        arrays = as_array(x.reshape(problem.input_shape)), as_array(weight)
        b = None if bias is None else as_array(bias)
        y = _DEFINITIONS[problem.operator](*arrays, b, problem.geometry, problem.groups)
        return self._result.of(y)


class NativeWeights:
    """A checked ``weight_grad`` of plain CPU tensors of a real dtype."""

    def __init__(self, problem: Problem, dtype: torch.dtype, batched: bool) -> None:
        self._problem = problem
        self._result = Results(problem.weight_shape, dtype)
        # by the layouts of the operands and of the weights
        self._operations: dict[tuple[bool, bool], WeightOperation | None] = {}
        self._wide_input = prod(problem.input_shape) > prod(problem.output_shape)
        wide = problem.input_shape if self._wide_input else problem.output_shape
        self._layouts = Layouts(problem.rank, wide[not batched :])

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradient of the weights, from input ``x`` and output gradient ``y``."""
        return self._computed(x, y, False)

    def like(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """The same in memory like that of the weights, so that nobody has to bring it there."""
        last = not weight.is_contiguous() and is_dense_last(weight, self._problem.rank)
        return self._computed(x, y, last)

    def _computed(self, x: Tensor, y: Tensor, weights_last: bool) -> Tensor:
        # the larger of the two stays where it is
        wide = x if self._wide_input else y
        last = not wide.is_contiguous() and self._layouts.is_last(wide)
        found = self._operation(last, weights_last)
        if found is None:
            return self._by_definition(x, y)
        x, y = self._layouts.placed(x, last), self._layouts.placed(y, last)
        w = self._result.last() if weights_last else self._result.first()
        found.run(x.data_ptr(), y.data_ptr(), w.data_ptr(), weights_last)
        return w

    def _operation(self, last: bool, weights_last: bool) -> WeightOperation | None:
        key = last, weights_last
        if key not in self._operations:
            problem = replace(self._problem, layout=LAYOUTS[self._problem.rank][last])
            self._operations[key] = weight_operation(problem, weights_last)
        return self._operations[key]

    def _by_definition(self, x: Tensor, y: Tensor) -> Tensor:
        problem = self._problem
        arrays = (
            as_array(x.reshape(problem.input_shape)),
            as_array(y.reshape(problem.output_shape)),
        )
        return self._result.of(reference.weight_grad(*arrays, problem.geometry, problem.groups))


class NativeSums:
    """The gradient of the bias of a plain CPU tensor: the sum of every channel."""

    def __init__(
        self, rank: int, shape: Sizes, dtype: torch.dtype, operations: list[BiasOperation]
    ) -> None:
        """``operations`` are those of the two layouts of a problem with results like ``y``."""
        self._operations = operations
        self._layouts = Layouts(rank, shape)
        self._empty = partial(torch.empty, shape[-rank - 1], dtype=dtype, device="cpu")

    def __call__(self, y: Tensor) -> Tensor:
        """The sums over images and positions."""
        last = not y.is_contiguous() and self._layouts.is_last(y)
        y = self._layouts.placed(y, last)
        b = self._empty()
        self._operations[last].run(y.data_ptr(), b.data_ptr())
        return b


class Layouts:
    """Which memory layout a call is computed in, from the shapes of a tensor and the weights."""

    def __init__(self, rank: int, shape: Sizes, weight_shape: Sizes | None = None) -> None:
        self._rank = rank
        self._batched = len(shape) == rank + 2
        self._tensor = _Format(rank, shape)
        # PyTorch has no such format for weights of one axis
        self._weight = _Format(rank, weight_shape) if weight_shape and rank > 1 else None
        # where both layouts are the same memory, being contiguous tells them apart no more
        self.told_apart = self._tensor.told_apart and (not self._weight or self._weight.told_apart)

    def is_last(self, x: Tensor, weight: Tensor | None = None) -> bool:
        """Whether the result for ``x`` and ``weight`` is channels-last."""
        if not self._batched:
            return False
        if self._tensor.is_last(x):
            return True
        return weight is not None and self._weight is not None and self._weight.is_last(weight)

    def placed(self, x: Tensor, last: bool) -> Tensor:
        """``x`` in that layout."""
        if not last:
            return x.contiguous()
        if self._rank > 1:
            return x.contiguous(memory_format=_FORMATS[self._rank])
        if is_dense_last(x, 1):
            return x
        return torch.empty_strided(x.shape, strides(x.shape, last), dtype=x.dtype).copy_(x)


class _Format:
    """Whether a tensor of a shape is channels-last."""

    def __init__(self, rank: int, shape: Sizes) -> None:
        channels, *sizes = shape[-rank - 1 :]
        # where sizes of 1 make both layouts the same memory, PyTorch goes by the strides; for one
        # axis it has no such format, and only that counts which would have to be copied
        self.told_apart = (channels > 1 and max(sizes) > 1) or rank == 1
        self._dense = strides(shape, last=True)

    def is_last(self, tensor: Tensor) -> bool:
        """By PyTorch's rule."""
        if self.told_apart:
            if tensor.is_contiguous():
                return False
            if tensor.stride() == self._dense:
                return True
        return strides_are_last(tensor.shape, tensor.stride())


def as_array(tensor: Tensor) -> Any:
    """A tensor's values for NumPy, which has no bfloat16: its sums are those of float32."""
    wide = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
    return wide.detach().numpy()


def is_dense_last(tensor: Tensor, rank: int) -> bool:
    """Whether a tensor is channels-last without gaps."""
    if rank > 1 and tensor.dim() == rank + 2:
        return tensor.is_contiguous(memory_format=_FORMATS[rank])
    return tensor.movedim(-rank - 1, -1).is_contiguous()


def strides_are_last(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether PyTorch takes strides for channels-last; expanded and empty axes are neither.

    The rule is that of ``Tensor.suggest_memory_format`` in ATen.

    >>> strides_are_last((2, 3, 4, 5), (60, 1, 15, 3))
    True
    """
    if strides[1] == 0:
        return False
    least = 0
    for axis in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[axis] == 0 or strides[axis] < least:
            return False
        if axis == 0 and least == strides[1]:
            return False
        least = strides[axis] * shape[axis]
    return True
