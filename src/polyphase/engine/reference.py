"""Transposed convolution and its two companions as they are defined, in plain NumPy.

Every other method is compared with this file, so it is written to be read and never made fast.
Arrays are channels first, ``(N, C, *spatial)``, and the weights of all three operators are the same
array ``(C_in, C_out/groups, *kernel_size)``, named from the side of the transposed convolution.

Input ``i`` and tap ``t`` of an axis meet at position ``u = s*i + d*t`` of the full result; output
``o`` is position ``o + a``. Each operator is one loop over the taps on that law:

- :func:`conv_transpose` adds ``x[i] * w[t]`` to ``y[o]``,
- :func:`conv`, its adjoint in ``x``, adds ``y[o] * w[t]`` to ``x[i]``,
- :func:`weight_grad`, its adjoint in ``w``, adds ``x[i] * y[o]`` to ``w[t]``.

They are bilinear: complex values are never conjugated. Half precision (``float16`` and
``bfloat16``) is summed in ``float32`` and rounded once; integers wrap as NumPy's do.
Channels, groups and shapes are checked by :mod:`polyphase.functional`, not here.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.phases import tap_windows

Array = NDArray[Any]
Index = tuple[Any, ...]


def conv_transpose(
    x: Array, w: Array, b: Array | None, geometry: Geometry, groups: int = 1
) -> Array:
    """The transposed convolution by scatter: every product is added where it lands.

    ``x`` is ``(N, C_in, *size)``, ``w`` is ``(C_in, C_out/groups, *kernel_size)``, ``b`` is
    ``(C_out,)`` or ``None``; the result is ``(N, C_out, *geometry.output_size(size))``.

    >>> x = np.array([[[1.0, 2.0]]])
    >>> w = np.array([[[1.0, 10.0, 100.0]]])
    >>> conv_transpose(x, w, None, Geometry(3, stride=2))
    array([[[  1.,  10., 102.,  20., 200.]]])
    """
    small = x.shape[2:]
    large = _large_size(geometry, small)
    wide_x, wide_w = _wide(x), _wide(w)
    y = np.zeros((x.shape[0], w.shape[1] * groups, *large), wide_x.dtype)
    for tap, inputs, outputs in _meetings(geometry.axes, small, large):
        products = _split(wide_w[tap], groups).swapaxes(-1, -2) @ _by_group(wide_x[inputs], groups)
        y[outputs] += products.reshape(y[outputs].shape)
    return _finish(y, b, x.dtype)


def conv(y: Array, w: Array, b: Array | None, geometry: Geometry, groups: int = 1) -> Array:
    """The strided convolution with the same parameters: every input gathers what it reached.

    ``y`` is the large side ``(N, C_out, *size)``, ``w`` is ``(C_in, C_out/groups, *kernel_size)``
    as for :func:`conv_transpose`, ``b`` is ``(C_in,)`` or ``None``; the result is
    ``(N, C_in, *small)`` with ``small = floor((size + a + b - e) / s) + 1`` on each axis, where
    the crop ``(a, b)`` takes ``output_padding`` into account.

    >>> y = np.array([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    >>> w = np.array([[[1.0, 10.0, 100.0]]])
    >>> conv(y, w, None, Geometry(3, stride=2))
    array([[[321., 543.]]])
    """
    large = y.shape[2:]
    small = tuple(axis.conv_output_size(m) for axis, m in zip(geometry.axes, large, strict=True))
    wide_y, wide_w = _wide(y), _wide(w)
    x = np.zeros((y.shape[0], w.shape[0], *small), wide_y.dtype)
    for tap, inputs, outputs in _meetings(geometry.axes, small, large):
        products = _split(wide_w[tap], groups) @ _by_group(wide_y[outputs], groups)
        x[inputs] += products.reshape(x[inputs].shape)
    return _finish(x, b, y.dtype)


def weight_grad(x: Array, y: Array, geometry: Geometry, groups: int = 1) -> Array:
    """The derivative of ``sum(conv_transpose(x, w) * y)`` by ``w``.

    ``x`` is ``(N, C_in, *size)`` and ``y`` is ``(N, C_out, *geometry.output_size(size))``; the
    result is ``(C_in, C_out/groups, *kernel_size)``.

    >>> x = np.array([[[1.0, 2.0]]])
    >>> y = np.array([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    >>> weight_grad(x, y, Geometry(3, stride=2))
    array([[[ 7., 10., 13.]]])
    """
    wide_x, wide_y = _wide(x), _wide(y)
    kernel_size = (axis.kernel_size for axis in geometry.axes)
    w = np.zeros((x.shape[1], y.shape[1] // groups, *kernel_size), wide_x.dtype)
    for tap, inputs, outputs in _meetings(geometry.axes, x.shape[2:], y.shape[2:]):
        met = _by_group(wide_y[outputs], groups).swapaxes(-1, -2)
        products = _by_group(wide_x[inputs], groups) @ met
        w[tap] = products.sum(axis=0, dtype=w.dtype).reshape(w[tap].shape)
    return w.astype(x.dtype, copy=False)


def conv_transpose_by_zero_insertion(
    x: Array, w: Array, b: Array | None, geometry: Geometry, groups: int = 1
) -> Array:
    """The same result in the first textbook form: insert zeros, then convolve with stride 1.

    ``s - 1`` zeros go between neighbouring inputs and a border of ``d*(k-1) - a`` and
    ``d*(k-1) - b`` around them (a negative border removes); the weights are flipped along every
    axis and their channels swapped. Arguments and result as for :func:`conv_transpose`.

    >>> x = np.array([[[1.0, 2.0]]])
    >>> w = np.array([[[1.0, 10.0, 100.0]]])
    >>> conv_transpose_by_zero_insertion(x, w, None, Geometry(3, stride=2))
    array([[[  1.,  10., 102.,  20., 200.]]])

    Form: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning",
    arXiv 1603.07285, section 4.5.
    """
    geometry.output_size(x.shape[2:])
    spread = [(n - 1) * axis.stride + 1 for axis, n in zip(geometry.axes, x.shape[2:], strict=True)]
    inserted = np.zeros((*x.shape[:2], *spread), x.dtype)
    at: Index = (..., *(slice(None, None, axis.stride) for axis in geometry.axes))
    inserted[at] = x
    c_in, c_out_per_group, *kernel_size = w.shape
    swapped = w.reshape(groups, c_in // groups, c_out_per_group, *kernel_size).swapaxes(1, 2)
    flipped = np.flip(
        swapped.reshape(groups * c_out_per_group, c_in // groups, *kernel_size),
        axis=tuple(range(2, w.ndim)),
    )
    border = [(axis.extent - 1 - axis.begin, axis.extent - 1 - axis.end) for axis in geometry.axes]
    dense = Geometry(kernel_size, padding=border, dilation=geometry.dilation)
    return conv(inserted, flipped, b, dense, groups)


def convolution_matrix(w: Array, size: Iterable[int], geometry: Geometry, groups: int = 1) -> Any:
    """The matrix ``C`` of the strided convolution, a ``scipy.sparse.csr_array``.

    A row stands for one element ``(C_in, *size)`` of the small side, a column for one element
    ``(C_out, *geometry.output_size(size))`` of the large side, both in C order, so that ``C @ y``
    is the convolution and ``C.T @ x`` the transposed convolution.

    >>> convolution_matrix(np.array([[[1, 10, 100]]]), [2], Geometry(3, stride=2)).toarray()
    array([[  1,  10, 100,   0,   0],
           [  0,   0,   1,  10, 100]])
    """
    sparse = _scipy_sparse()
    small = tuple(size)
    large = _large_size(geometry, small)
    w = _wide(w)
    c_in, c_out = w.shape[0], w.shape[1] * groups
    matrix = sparse.csr_array((c_in * prod(small), c_out * prod(large)), dtype=w.dtype)
    for tap in product(*(range(axis.kernel_size) for axis in geometry.axes)):
        at: Index = (..., *tap)
        factor = sparse.block_diag(np.split(w[at], groups), format="csr")
        for axis, t, n, m in zip(geometry.axes, tap, small, large, strict=True):
            factor = sparse.kron(factor, _tap_matrix(axis, t, n, m, w.dtype), format="csr")
        matrix = matrix + factor
    return sparse.csr_array(matrix, dtype=w.dtype)


def conv_transpose_by_matrix(
    x: Array, w: Array, b: Array | None, geometry: Geometry, groups: int = 1
) -> Array:
    """The same result in the second textbook form: ``C.T @ x`` with the matrix written out.

    Arguments and result as for :func:`conv_transpose`; needs scipy.

    >>> x = np.array([[[1.0, 2.0]]])
    >>> w = np.array([[[1.0, 10.0, 100.0]]])
    >>> conv_transpose_by_matrix(x, w, None, Geometry(3, stride=2))
    array([[[  1.,  10., 102.,  20., 200.]]])
    """
    small = x.shape[2:]
    large = _large_size(geometry, small)
    matrix = convolution_matrix(w, small, geometry, groups)
    rows = _wide(x).reshape(x.shape[0], matrix.shape[0])
    y = (matrix.T @ rows.T).T.reshape(x.shape[0], w.shape[1] * groups, *large)
    return _finish(y, b, x.dtype)


def _meetings(
    axes: tuple[Axis, ...], small: tuple[int, ...], large: tuple[int, ...]
) -> Iterator[tuple[Index, Index, Index]]:
    """For every tap: its index, the inputs that it carries into the output, and where they land."""
    per_axis = zip(axes, small, large, strict=True)
    for meeting in product(*(tap_windows(axis, n, m) for axis, n, m in per_axis)):
        taps, inputs = zip(*meeting, strict=True)
        if all(inputs):
            indices = (slice(window.start, window.stop) for window in inputs)
            yield (..., *taps), (..., *indices), (..., *map(_landing, axes, taps, inputs))


def _landing(axis: Axis, tap: int, inputs: range) -> slice:
    first = axis.stride * inputs[0] + axis.dilation * tap - axis.begin
    return slice(first, first + axis.stride * (len(inputs) - 1) + 1, axis.stride)


def _large_size(geometry: Geometry, small: tuple[int, ...]) -> tuple[int, ...]:
    """The output size as a tuple, whatever the rank."""
    size = geometry.output_size(small)
    return size if isinstance(size, tuple) else (size,)


def _by_group(array: Array, groups: int) -> Array:
    """``(N, C, *size)`` as ``(N, groups, C/groups, prod(size))``."""
    batch, channels, *size = array.shape
    return array.reshape(batch, groups, channels // groups, prod(size))


def _split(matrix: Array, groups: int) -> Array:
    """One tap's ``(C_in, C_out/groups)`` as ``(groups, C_in/groups, C_out/groups)``."""
    return matrix.reshape(groups, matrix.shape[0] // groups, matrix.shape[1])


def _tap_matrix(axis: Axis, tap: int, size: int, large: int, dtype: np.dtype[Any]) -> Any:
    """One axis, one tap: a 1 where input (row) and output (column) meet."""
    outputs = axis.stride * np.arange(size) + axis.dilation * tap - axis.begin
    inputs = np.flatnonzero((outputs >= 0) & (outputs < large))
    ones = np.ones(len(inputs), dtype)
    return _scipy_sparse().csr_array((ones, (inputs, outputs[inputs])), shape=(size, large))


def _wide(array: Array) -> Array:
    """The dtype in which sums are kept."""
    # bfloat16 comes from ml_dtypes, which is not needed to recognise it
    half = array.dtype == np.float16 or array.dtype.name == "bfloat16"
    return array.astype(np.float32) if half else array


def _finish(result: Array, b: Array | None, dtype: np.dtype[Any]) -> Array:
    if b is not None:
        result = result + _wide(b).reshape(-1, *[1] * (result.ndim - 2))
    return result.astype(dtype, copy=False)


def _scipy_sparse() -> Any:
    try:
        from scipy import sparse
    except ImportError:
        raise ImportError(
            "the matrix form needs scipy; install it with: pip install 'polyphase[scipy]'"
        ) from None
    return sparse
