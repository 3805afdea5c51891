"""The functions on NumPy arrays against each framework's own definition, written out in loops."""

import random
import re

import against
import numpy as np
import oracle
import pytest

from polyphase import GeometryError, interop


def spread_input(x, strides):
    """``stride - 1`` zeros between neighbours."""
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[1:-1], strides, strict=True)]
    result = np.zeros((x.shape[0], *sizes, x.shape[-1]))
    result[(slice(None), *(slice(None, None, s) for s in strides))] = x
    return result


def padded(x, pads):
    """Zeros added, or positions removed, at both ends of the spatial axes."""
    grown = np.pad(x, [(0, 0), *((max(a, 0), max(b, 0)) for a, b in pads), (0, 0)])
    ends = zip(pads, grown.shape[1:-1], strict=True)
    return grown[(slice(None), *(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in ends))]


def correlation(x, kernel, dilation):
    """What JAX's documentation starts from: a convolution with stride 1, kernel not reversed."""
    taps = kernel.shape[:-2]
    sizes = [n - (k - 1) * d for n, k, d in zip(x.shape[1:-1], taps, dilation, strict=True)]
    result = np.zeros((x.shape[0], *sizes, kernel.shape[-1]))
    for tap in np.ndindex(*taps):
        start = [t * d for t, d in zip(tap, dilation, strict=True)]
        window = tuple(slice(at, at + size) for at, size in zip(start, sizes, strict=True))
        result += x[(slice(None), *window)] @ kernel[tap]
    return result


@pytest.mark.parametrize(("rank", "count"), [(1, 60), (2, 30), (3, 8)])
def test_jax_is_a_convolution_of_the_input_with_zeros_between(rank, count):
    rng = random.Random(rank)
    while count:
        problem = against.problem("jax", rng, rank)
        keywords = dict(problem.call.keywords)
        if problem.refusal is not None or isinstance(keywords["padding"], str):
            continue
        count -= 1
        del keywords["kernel_size"]
        pads = keywords["padding"]
        x = against.last(problem.x)
        target = "keras" if keywords["transpose_kernel"] else "jax"
        kernel = interop.convert(problem.weight, source="torch", target=target)
        used = np.flip(kernel, tuple(range(rank))).swapaxes(-1, -2)
        used = used if keywords["transpose_kernel"] else kernel
        if keywords["use_consistent_padding"]:
            columns = zip(problem.call.kernel, keywords["rhs_dilation"], pads, strict=True)
            pads = [((k - 1) * d - a, (k - 1) * d - b) for k, d, (a, b) in columns]
        expected = correlation(
            padded(spread_input(x, keywords["strides"]), pads), used, keywords["rhs_dilation"]
        )
        oracle.assert_same(interop.jax.conv_transpose(x, kernel, **keywords), expected)


def adjoint_of_same(x, kernel, stride, size):
    """The transpose of the SAME convolution from ``size`` positions, as TensorFlow defines it."""
    n, k = x.shape[1], kernel.shape[0]
    total = max((n - 1) * stride + k - size, 0)
    y = np.zeros((x.shape[0], size, kernel.shape[1]))
    for i in range(n):
        for t in range(k):
            at = i * stride + t - total // 2
            if 0 <= at < size:
                y[:, at] += x[:, i] @ kernel[t].T
    return y


def test_keras_is_the_transpose_of_its_convolution():
    rng = random.Random(0)
    for _ in range(200):
        n, k, s = rng.randint(1, 6), rng.randint(1, 6), rng.randint(1, 4)
        x, kernel = numbers(rng, (2, n, 3)), numbers(rng, (k, 2, 3))
        expected = adjoint_of_same(x, kernel, s, n * s)
        oracle.assert_same(interop.keras.conv_transpose(x, kernel, s, "same"), expected)
        first = interop.keras.conv_transpose(
            against.first(x), kernel, s, "same", data_format="channels_first"
        )
        oracle.assert_same(against.last(first), expected)


def onnx_by_its_text(x, w, pads, strides, dilations, size):
    """Scatter, with the sizes and the first positions that the equations of the text give."""
    y = np.zeros((x.shape[0], w.shape[1], *size))
    for i in np.ndindex(*x.shape[2:]):
        for t in np.ndindex(*w.shape[2:]):
            at = [
                s * a + d * b - p
                for s, a, d, b, p in zip(strides, i, dilations, t, pads, strict=True)
            ]
            if all(0 <= p < n for p, n in zip(at, size, strict=True)):
                y[(..., *at)] += x[(..., *i)] @ w[(..., *t)]
    return y


@pytest.mark.parametrize("upper", [True, False])
def test_onnx_follows_its_equations(upper):
    rng = random.Random(upper)
    word = "SAME_UPPER" if upper else "SAME_LOWER"
    for _ in range(100):
        size = [rng.randint(1, 4) for _ in range(2)]
        kernel = [rng.randint(1, 4) for _ in range(2)]
        strides = [rng.randint(1, 3) for _ in range(2)]
        dilations = [rng.randint(1, 2) for _ in range(2)]
        extra = [rng.randint(0, s - 1) for s in strides]
        x, w = numbers(rng, (1, 2, *size)), numbers(rng, (2, 3, *kernel))
        output = [n * s for n, s in zip(size, strides, strict=True)]
        begins = []
        for n, k, s, d, op, o in zip(size, kernel, strides, dilations, extra, output, strict=True):
            total = s * (n - 1) + op + ((k - 1) * d + 1) - o
            # pads are at least 0
            total = max(total, 0)
            begins.append(total // 2 if upper else total - total // 2)
        result = interop.onnx.conv_transpose(
            x, w, auto_pad=word, strides=strides, dilations=dilations, output_padding=extra
        )
        expected = onnx_by_its_text(x, w, begins, strides, dilations, output)
        oracle.assert_same(result, expected)


def numbers(rng, shape):
    return np.random.default_rng(rng.getrandbits(32)).integers(-4, 5, shape).astype(np.float64)


X, W = np.ones((1, 2, 4, 4)), np.ones((2, 3, 3, 3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: interop.onnx.conv_transpose([1], W), TypeError, "x must be a numpy.ndarray"),
        (
            lambda: interop.onnx.conv_transpose(X[0, 0], W),
            GeometryError,
            "x must have 3, 4 or 5 axes, that is 1 to 3 spatial ones, got shape (4, 4)",
        ),
        (
            lambda: interop.onnx.conv_transpose(X, W[0]),
            GeometryError,
            "x and w must have the same number of axes, got shapes (1, 2, 4, 4) and (3, 3, 3)",
        ),
        (
            lambda: interop.onnx.conv_transpose(X, W[:1]),
            GeometryError,
            "axis 0 of w, of shape (1, 3, 3, 3), must have as many input channels as x has: 2",
        ),
        (
            lambda: interop.onnx.conv_transpose(X, W, kernel_shape=[2, 3]),
            GeometryError,
            "kernel_shape must be that of w, (3, 3), got (2, 3)",
        ),
        (
            lambda: interop.onnx.conv_transpose(X, W, pads=[1, 1]),
            GeometryError,
            "pads must have 4 values, the beginnings of all axes and then their ends, got [1, 1]",
        ),
        (
            lambda: interop.onnx.conv_transpose(X, W, auto_pad="VALID", pads=[0] * 4),
            GeometryError,
            "pads cannot be used with auto_pad 'VALID': leave one of them out",
        ),
        (
            lambda: interop.keras.conv_transpose(X, W, 2, "causal"),
            GeometryError,
            "axis 3 of kernel, of shape (2, 3, 3, 3), must have as many input channels as x",
        ),
        (
            lambda: interop.keras.conv_transpose(X, W, 2, "same", 2, "channels_first"),
            GeometryError,
            "must have as many input channels",
        ),
        (
            lambda: interop.keras.geometry(3, 2, "causal"),
            GeometryError,
            "padding must be 'valid' or 'same', got 'causal'",
        ),
        (
            lambda: interop.keras.geometry(3, 2, "same", 2),
            GeometryError,
            "output_padding must be smaller than the stride, got 2 with stride 2: 0 to 1",
        ),
        (
            lambda: interop.jax.geometry((3, 3), (2, 2), [(0, 1)]),
            GeometryError,
            "padding must be 'SAME', 'VALID' or 2 pairs, one per spatial axis",
        ),
        (
            lambda: interop.jax.numbers(("NCH", "OIH"), 1),
            GeometryError,
            "dimension_numbers must be three strings, of input, kernel and output",
        ),
        (
            lambda: interop.jax.numbers(("NCH", "OIW", "NCH"), 1),
            GeometryError,
            "must each have 3 different letters: N and C for input and output, O and I for",
        ),
        (
            lambda: interop.tensorflow.geometry(3, 4, [1, 20, 1], 2),
            GeometryError,
            "output_shape must have 7 to 8 on an axis with input 4, kernel extent 3, stride 2",
        ),
        (
            lambda: interop.onnx.geometry(3, output_shape=[4]),
            GeometryError,
            "input_size is missing: output_shape means nothing without it",
        ),
        (
            lambda: interop.openvino.geometry((3, 3), strides=(1, 2, 3)),
            GeometryError,
            "every parameter needs the same number of axes",
        ),
        (
            lambda: interop.mxnet.geometry(3, target_shape=9, input_size=2),
            GeometryError,
            "target_shape must be at most 4 for input_size 2, got 9",
        ),
    ],
)
def test_what_is_refused(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()
