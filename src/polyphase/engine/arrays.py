"""NumPy arrays in, NumPy arrays out: layout, element types and ``out`` around the operations."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.problem import LAYOUTS, Problem
from polyphase.engine import memory, reference
from polyphase.engine.run import Operation, operation
from polyphase.errors import GeometryError

Array = NDArray[Any]
# steps that the search for an overlap may take; numpy's stubs know two special values only
OVERLAP_STEPS: Any = 1000
_REAL = {"c64": ("f32", np.float32), "c128": ("f64", np.float64)}
_DEFINITIONS = {"conv_transpose": reference.conv_transpose, "conv": reference.conv}


def compute(
    problem: Problem, x: Array, weight: Array, bias: Array | None, out: Array | None = None
) -> Array:
    """The operator of ``problem`` on arrays whose shapes and dtypes belong to it.

    ``problem`` is channels-first; an array that lies channels-last in memory is computed as such,
    and so is the result. ``out`` receives the result where it is given.

    >>> problem = Problem.parse("n1 c1:1 i2 k2 s2")
    >>> x, w = np.array([[[1, 2]]], np.float32), np.array([[[1, 10]]], np.float32)
    >>> compute(problem, x, w, None)
    array([[[ 1., 10.,  2., 20.]]], dtype=float32)

    Raises :class:`~polyphase.GeometryError` where ``out`` does not fit.
    """
    if out is not None:
        _check_out(problem, out, {"input": x, "weight": weight, "bias": bias})
    if problem.dtype in _REAL:
        return _delivered(_complex(problem, x, weight, bias), out)
    last = _channels_last(x)
    found = _operation(problem, last)
    if found is None:
        definition = _DEFINITIONS[problem.operator]
        return _delivered(definition(x, weight, bias, problem.geometry, problem.groups), out)
    x = _contiguous(np.moveaxis(x, 1, -1) if last else x)
    weight = _contiguous(np.moveaxis(weight, 1, -1) if found.weights_last else weight)
    if bias is not None:
        bias = _contiguous(bias)
    addresses = (
        memory.address(x),
        memory.address(weight),
        None if bias is None else memory.address(bias),
    )
    target = np.moveaxis(out, 1, -1) if last and out is not None else out
    if target is not None and target.flags.c_contiguous and target.flags.aligned:
        found.compute(*addresses, memory.address(target))
        assert out is not None
        return out
    y = memory.outputs.array(found.output_shape, x.dtype)
    found.compute(*addresses, memory.address(y))
    return _delivered(np.moveaxis(y, -1, 1) if last else y, out)


@lru_cache(maxsize=2048)
def _operation(problem: Problem, last: bool) -> Operation | None:
    layout = LAYOUTS[problem.rank][int(last)]
    return operation(replace(problem, layout=layout))


def _channels_last(x: Array) -> bool:
    """Whether the channels vary fastest in memory; channels first where both are true."""
    return not x.flags.c_contiguous and bool(np.moveaxis(x, 1, -1).flags.c_contiguous)


def _contiguous(array: Array) -> Array:
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.require(array, requirements=("C", "A"))


def _delivered(result: Array, out: Array | None) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


def _check_out(problem: Problem, out: Array, inputs: dict[str, Array | None]) -> None:
    x = inputs["input"]
    assert x is not None
    if out.shape != problem.output_shape or out.dtype != x.dtype:
        raise GeometryError(
            f"out must have shape {problem.output_shape} and dtype {x.dtype}, "
            f"got shape {out.shape} and dtype {out.dtype}"
        )
    if not out.flags.writeable:
        raise GeometryError("out must be writable, got a read-only array; pass a copy of it")
    for name, array in inputs.items():
        if array is not None and _overlap(out, array):
            raise GeometryError(f"out must not overlap {name}; pass an array of its own")
    # strides of an array without elements say nothing
    axes = zip(out.shape, out.strides, strict=True) if out.size else ()
    if any(n > 1 and stride == 0 for n, stride in axes):
        raise GeometryError("out must not overlap itself, got a broadcast array; pass a copy of it")


def _overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share an element, as far as that is found out quickly."""
    try:
        return bool(np.shares_memory(a, b, max_work=OVERLAP_STEPS))
    except np.exceptions.TooHardError:
        return True


def _complex(problem: Problem, x: Array, weight: Array, bias: Array | None) -> Array:
    """By real arithmetic: real and imaginary parts are channels of a problem twice as wide."""
    dtype, kind = _REAL[problem.dtype]
    real = replace(
        problem,
        dtype=dtype,
        in_channels=2 * problem.in_channels,
        out_channels=2 * problem.out_channels,
    )
    groups = problem.groups
    # the outer channel axis of the weights is that of the small side
    first, second = weight.shape[0] // groups, weight.shape[1]
    w = weight.reshape(groups, first, second, *weight.shape[2:])
    sign = -1 if problem.operator == "conv_transpose" else 1
    upper = np.concatenate([w.real, sign * -w.imag], 2)
    lower = np.concatenate([sign * w.imag, w.real], 2)
    both = np.concatenate([upper, lower], 1).astype(kind, copy=False)
    wide = _parts(x, groups, 1)
    wide_bias = None if bias is None else _parts(bias, groups, 0)
    y = compute(real, wide, both.reshape(2 * weight.shape[0], 2 * second, *weight.shape[2:]),
                wide_bias)  # fmt: skip
    size = y.shape[2:]
    y = y.reshape(y.shape[0], groups, 2, problem.out_channels // groups, *size)
    result = np.empty((y.shape[0], groups, *y.shape[3:]), x.dtype)
    result.real, result.imag = y[:, :, 0], y[:, :, 1]
    return result.reshape(problem.output_shape)


def _parts(array: Array, groups: int, axis: int) -> Array:
    """Channels split by group into real parts, then imaginary parts."""
    shape = array.shape
    split = array.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    joined = np.concatenate([split.real, split.imag], axis + 1)
    return joined.reshape(*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
