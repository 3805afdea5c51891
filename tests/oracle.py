"""A second definition of the three operators, by gather; it shares no formula with the package.

For each output and tap: subtract, divide by the stride, keep the input if the division is exact
and the index inside. Sizes are found by looking for the last position that anything reaches.
Everything is plain loops over Python ints; values are combined in NumPy's widest types, which hold
the small integers of the tests exactly.
"""

from itertools import product

import numpy as np


def conv_transpose(x, w, b, geometry, groups=1):
    x, dense = _widest(x), _without_groups(_widest(w), groups)
    axes = _axes(geometry)
    meetings = [_gather(axis, n) for axis, n in zip(axes, x.shape[2:], strict=True)]
    size = [_large_size(axis, n) for axis, n in zip(axes, x.shape[2:], strict=True)]
    y = np.zeros((x.shape[0], dense.shape[1], *size), dense.dtype)
    for o, t, i in _joined(meetings):
        y[(..., *o)] += x[(..., *i)] @ dense[(..., *t)]
    return _plus_bias(y, b)


def conv(y, w, b, geometry, groups=1):
    y, dense = _widest(y), _without_groups(_widest(w), groups)
    axes = _axes(geometry)
    sizes = [_small_size(axis, m) for axis, m in zip(axes, y.shape[2:], strict=True)]
    x = np.zeros((y.shape[0], w.shape[0], *sizes), dense.dtype)
    for i in np.ndindex(*sizes):
        for t in np.ndindex(*w.shape[2:]):
            o = [
                s * at + d * tap - begin
                for (_, s, d, begin, _), at, tap in zip(axes, i, t, strict=True)
            ]
            # outside there are zeros
            if all(0 <= at < m for at, m in zip(o, y.shape[2:], strict=True)):
                x[(..., *i)] += y[(..., *o)] @ dense[(..., *t)].T
    return _plus_bias(x, b)


def weight_grad(x, y, geometry, groups=1):
    x, y = _widest(x), _widest(y)
    axes = _axes(geometry)
    meetings = [_gather(axis, n) for axis, n in zip(axes, x.shape[2:], strict=True)]
    dense = np.zeros((x.shape[1], y.shape[1], *(k for k, *_ in axes)), x.dtype)
    for o, t, i in _joined(meetings):
        dense[(..., *t)] += x[(..., *i)].T @ y[(..., *o)]
    return _with_groups(dense, groups)


def multiplications(problem):
    """Products of an input with a tap that reach an output, over batch, channels and positions."""
    axes = _axes(problem.geometry)
    small = problem.output_size if problem.operator == "conv" else problem.input_size
    large = problem.input_size if problem.operator == "conv" else problem.output_size
    count = problem.batch * problem.in_channels * problem.out_channels // problem.groups
    for axis, n, m in zip(axes, small, large, strict=True):
        count *= len(_gather(axis, n, m))
    return count


def assert_same(actual, expected, problem=""):
    """Equal in every element, or an error that names the problem and the first differences."""
    __tracebackhide__ = True
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{problem}: {actual.shape}, not {expected.shape}"
    # a NaN differs from everything, itself included
    wrong = np.argwhere(actual != expected)
    told = "; ".join(
        f"{tuple(map(int, at))} is {actual[tuple(at)]}, not {expected[tuple(at)]}"
        for at in wrong[:5]
    )
    assert not len(wrong), f"{problem}: {len(wrong)} of {actual.size} elements differ: {told}"


def _axes(geometry):
    """Kernel, stride, dilation and what is removed at either end, as they were given."""

    def per_axis(value):
        return value if isinstance(value, tuple) else (value,)

    return [
        (k, s, d, begin, end - op)
        for k, s, d, (begin, end), op in zip(
            per_axis(geometry.kernel_size),
            per_axis(geometry.stride),
            per_axis(geometry.dilation),
            geometry.pads,
            per_axis(geometry.output_padding),
            strict=True,
        )
    ]


def _large_size(axis, n):
    k, s, d, begin, end = axis
    last = max(s * i + d * t for i in (0, n - 1) for t in (0, k - 1))
    return len(range(begin, last + 1 - end))


def _small_size(axis, m):
    """How many times the kernel can be laid down, one stride apart, on ``m`` padded positions."""
    k, s, d, begin, end = axis
    count = 0
    while s * count + d * (k - 1) < begin + m + end:
        count += 1
    return count


def _gather(axis, n, m=None):
    """``(output, tap, input)`` of everything that meets."""
    k, s, d, begin, _ = axis
    found = []
    for o in range(_large_size(axis, n) if m is None else m):
        for t in range(k):
            i, rest = divmod(o + begin - d * t, s)
            if rest == 0 and 0 <= i < n:
                found.append((o, t, i))
    return found


def _joined(meetings):
    """The meetings of several axes as ``(outputs, taps, inputs)``, one entry per axis."""
    for together in product(*meetings):
        yield tuple(zip(*together, strict=True))


def _widest(array):
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    return array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)


def _without_groups(w, groups):
    """Weights with every output channel, zero where input and output are in different groups."""
    c_in, per_group = w.shape[:2]
    dense = np.zeros((c_in, per_group * groups, *w.shape[2:]), w.dtype)
    for i, j in product(range(c_in), range(per_group)):
        dense[i, i * groups // c_in * per_group + j] = w[i, j]
    return dense


def _with_groups(dense, groups):
    c_in, c_out = dense.shape[:2]
    per_group = c_out // groups
    w = np.zeros((c_in, per_group, *dense.shape[2:]), dense.dtype)
    for i, j in product(range(c_in), range(per_group)):
        w[i, j] = dense[i, i * groups // c_in * per_group + j]
    return w


def _plus_bias(result, b):
    if b is not None:
        for channel, value in enumerate(_widest(b)):
            result[:, channel] += value
    return result
