"""Gradients of weights and bias on NumPy arrays: layout and element types around the operations."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.problem import LAYOUTS, Problem
from polyphase.engine import reference
from polyphase.engine.sums import bias_operation
from polyphase.engine.weights import WeightOperation, weight_operation

Array = NDArray[Any]
_REAL = {"c64": ("f32", np.float32), "c128": ("f64", np.float64)}


def weight_gradient(problem: Problem, x: Array, y: Array) -> Array:
    """The weights' gradient from the input ``x`` and the output's gradient ``y``.

    The operator of ``problem`` is ``weight_grad``; shapes and dtypes belong to it. Arrays that lie
    channels-last in memory are computed as such.

    >>> problem = Problem.parse("weight_grad c1:1 i2 k2 s2 f64")
    >>> weight_gradient(problem, np.ones((1, 1, 2)), np.arange(4.0).reshape(1, 1, 4))
    array([[[2., 4.]]])
    """
    if problem.dtype in _REAL:
        return _complex(problem, x, y)
    last = _channels_last(x) and _channels_last(y)
    found = _operation(problem, last)
    if found is None:
        return reference.weight_grad(x, y, problem.geometry, problem.groups)
    if last:
        x, y = np.moveaxis(x, 1, -1), np.moveaxis(y, 1, -1)
    x, y = (np.require(array, requirements=("C", "A")) for array in (x, y))
    w = np.empty(problem.weight_shape, x.dtype)
    found.run(x.ctypes.data, y.ctypes.data, w.ctypes.data)
    return w


def bias_gradient(problem: Problem, y: Array) -> Array:
    """The bias' gradient: the sum of the output's gradient ``y`` over images and positions.

    >>> bias_gradient(Problem.parse("c1:2 i2 k2 s2 f64"), np.ones((1, 2, 4)))
    array([4., 4.])
    """
    last = _channels_last(y)
    found = bias_operation(replace(problem, layout=LAYOUTS[problem.rank][int(last)]))
    if found is None:
        axes = (0, *range(2, y.ndim))
        # only f16 has a wider type to be summed in
        wide: Array = y.astype(np.float32) if problem.dtype == "f16" else y
        total: Array = wide.sum(axis=axes, dtype=wide.dtype)
        return total.astype(y.dtype, copy=False)
    y = np.require(np.moveaxis(y, 1, -1) if last else y, requirements=("C", "A"))
    b = np.empty(problem.out_channels, y.dtype)
    found.run(y.ctypes.data, b.ctypes.data)
    return b


@lru_cache(maxsize=2048)
def _operation(problem: Problem, last: bool) -> WeightOperation | None:
    return weight_operation(replace(problem, layout=LAYOUTS[problem.rank][int(last)]))


def _channels_last(array: Array) -> bool:
    return not array.flags.c_contiguous and bool(np.moveaxis(array, 1, -1).flags.c_contiguous)


def _complex(problem: Problem, x: Array, y: Array) -> Array:
    """By real arithmetic: real and imaginary parts are channels of a problem twice as wide."""
    dtype, kind = _REAL[problem.dtype]
    groups, (first, second, *taps) = problem.groups, problem.weight_shape
    real = replace(
        problem,
        dtype=dtype,
        in_channels=2 * problem.in_channels,
        out_channels=2 * problem.out_channels,
    )
    both = weight_gradient(real, _parts(x, groups, kind), _parts(y, groups, kind))
    both = both.reshape(groups, 2, first // groups, 2, second, *taps)
    w = np.empty((groups, first // groups, second, *taps), x.dtype)
    w.real = both[:, 0, :, 0] - both[:, 1, :, 1]
    w.imag = both[:, 0, :, 1] + both[:, 1, :, 0]
    return w.reshape(problem.weight_shape)


def _parts(array: Array, groups: int, kind: Any) -> Array:
    """Channels split by group into real parts, then imaginary parts."""
    batch, channels, *size = array.shape
    split = array.reshape(batch, groups, channels // groups, *size)
    joined = np.concatenate([split.real, split.imag], 2)
    return joined.reshape(batch, 2 * channels, *size).astype(kind, copy=False)
