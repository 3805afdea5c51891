"""Complex tensors by real arithmetic: real and imaginary parts are channels of a wider problem."""

from dataclasses import replace

import torch
from torch import Tensor

from polyphase.arithmetic.problem import Problem
from polyphase.functional.tensors.native import Layouts, Native, NativeWeights

# name and dtype of the parts of each complex dtype
PARTS = {
    "c32": ("f16", torch.float16),
    "c64": ("f32", torch.float32),
    "c128": ("f64", torch.float64),
}


class ComplexNative:
    """A checked ``conv_transpose`` or ``conv`` of plain complex CPU tensors."""

    def __init__(self, problem: Problem, batched: bool) -> None:
        self._problem = problem
        self._shape = problem.output_shape[not batched :]
        x_shape = problem.input_shape[not batched :]
        self._layouts = Layouts(problem.rank, x_shape, problem.weight_shape)
        self._native = Native(_wide(problem), PARTS[problem.dtype][1], batched=True)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The result."""
        problem = self._problem
        groups = problem.groups
        wide_bias = None if bias is None else _side_by_side(bias, groups, 0)
        y = self._native(
            _side_by_side(x.reshape(problem.input_shape), groups, 1),
            self._weights(weight),
            wide_bias,
        )
        split = y.unflatten(1, (groups, 2, -1))
        result = torch.complex(*(split[:, :, part].reshape(self._shape) for part in (0, 1)))
        return self._layouts.placed(result, self._layouts.is_last(x, weight))

    # weights are not kept: they are taken apart in every call
    infer = __call__

    def _weights(self, weight: Tensor) -> Tensor:
        """Each weight as the matrix by which it multiplies a pair of parts."""
        grouped = weight.unflatten(0, (self._problem.groups, -1))
        real, imaginary = grouped.real, grouped.imag
        # the transposed convolution sums over the first axis, the strided one over the second
        turned = imaginary if self._problem.operator == "conv_transpose" else -imaginary
        rows = torch.cat([real, turned], 2), torch.cat([-turned, real], 2)
        return torch.cat(rows, 1).flatten(0, 1)


class ComplexWeights:
    """A checked ``weight_grad`` of plain complex CPU tensors."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._native = NativeWeights(_wide(problem), PARTS[problem.dtype][1], batched=True)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradient of the weights; nothing is conjugated."""
        problem = self._problem
        groups = problem.groups
        x, y = x.reshape(problem.input_shape), y.reshape(problem.output_shape)
        w = self._native(_side_by_side(x, groups, 1), _side_by_side(y, groups, 1))
        # by parts of x, then by parts of y
        parts = w.unflatten(0, (groups, 2, -1)).unflatten(3, (2, -1))
        real = parts[:, 0, :, 0] - parts[:, 1, :, 1]
        imaginary = parts[:, 0, :, 1] + parts[:, 1, :, 0]
        return torch.complex(real.flatten(0, 1), imaginary.flatten(0, 1))


def _wide(problem: Problem) -> Problem:
    return replace(
        problem,
        dtype=PARTS[problem.dtype][0],
        in_channels=2 * problem.in_channels,
        out_channels=2 * problem.out_channels,
    )


def _side_by_side(tensor: Tensor, groups: int, axis: int) -> Tensor:
    """In each group of channels the real parts, then the imaginary ones."""
    grouped = tensor.unflatten(axis, (groups, -1))
    return torch.cat([grouped.real, grouped.imag], axis + 1).flatten(axis, axis + 1)
