"""Random problems for hypothesis, with arrays of small integers in every kind of memory.

Sizes are small and most are drawn independently, so that a kernel is often shorter than its
stride, a crop often longer than the kernel, and a phase often empty. ``meta/test_strategies.py``
shows which kinds really occur.
"""

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from polyphase import Geometry, Problem
from polyphase.arithmetic.problem import LAYOUTS

# the largest size, kernel and stride of an axis, by number of spatial axes
LIMITS = {1: 7, 2: 4, 3: 3}
DTYPES = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype(np.float16),
    "c64": np.dtype(np.complex64),
    "c128": np.dtype(np.complex128),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
}
MEMORY = ("dense", "reversed", "strided", "expanded")


class Case(NamedTuple):
    """A problem and its arrays: the operator's input, the weights and a bias or ``None``."""

    problem: Problem
    input: Any
    weight: Any
    bias: Any


@st.composite
def problems(draw, operator="conv_transpose", ranks=(1, 2, 3), dtypes=("f64",), torch_legal=False):
    """A problem that the arithmetic accepts.

    ``torch_legal`` leaves out what PyTorch cannot say: crops that differ between the ends or are
    negative, and outputs of size 0.
    """
    rank = draw(st.sampled_from(ranks))
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    depthwise = groups > 1 and draw(st.booleans())
    small_channels = groups * (1 if depthwise else draw(st.integers(1, 3)))
    large_channels = groups * draw(st.integers(1, 3))
    axes = [draw(_axes(LIMITS[rank], operator, torch_legal)) for _ in range(rank)]
    small, large, kernel_size, stride, padding, output_padding, dilation = zip(*axes, strict=True)
    backwards = operator == "conv"
    return Problem(
        Geometry(
            kernel_size, stride, padding=padding, output_padding=output_padding, dilation=dilation
        ),
        large if backwards else small,
        large_channels if backwards else small_channels,
        small_channels if backwards else large_channels,
        batch=draw(st.sampled_from((1, 2, 1, 2, 0))),
        groups=groups,
        dtype=draw(st.sampled_from(dtypes)),
        layout=draw(st.sampled_from(LAYOUTS[rank])),
        operator=operator,
    )


@st.composite
def _axes(draw, limit, operator, torch_legal):
    """One axis: sizes of both sides, kernel, stride, padding, output padding, dilation."""
    small, kernel = draw(st.integers(1, limit)), draw(st.integers(1, limit))
    stride, dilation = draw(st.integers(1, limit)), draw(st.integers(1, 4))
    output_padding, least = 0, 1
    if operator != "conv":
        output_padding = draw(st.integers(0, max(stride, dilation) - 1))
        least = int(torch_legal)
    full = (small - 1) * stride + (kernel - 1) * dilation + 1 + output_padding
    room = full - least
    begin = end = draw(st.integers(0, room // 2))
    if not torch_legal and draw(st.booleans()):
        begin = draw(st.integers(-3, room))
        end = draw(st.integers(-3, room - max(begin, 0)))
    large = full - begin - end
    if operator == "conv":
        # a convolution maps a whole stride of sizes to the same one
        large += draw(st.integers(0, stride - 1))
    return small, large, kernel, stride, (begin, end), output_padding, dilation


@st.composite
def cases(draw, operator="conv_transpose", **kinds):
    """A problem with arrays; the keywords are those of :func:`problems`."""
    problem = draw(problems(operator, **kinds))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bias = numbers(generator, (problem.out_channels,), problem.dtype)
    return Case(
        problem,
        draw(_in_memory(numbers(generator, problem.input_shape, problem.dtype), problem)),
        draw(_in_memory(numbers(generator, problem.weight_shape, problem.dtype), problem)),
        draw(st.sampled_from((bias, None))),
    )


@st.composite
def _in_memory(draw, array, problem):
    """The same shape in the problem's layout, and in one of the ways of ``MEMORY``."""
    kind = draw(st.sampled_from(MEMORY))
    axis = draw(st.integers(0, array.ndim - 1))
    stored = np.ascontiguousarray(np.moveaxis(array, 1, -1) if problem.channels_last else array)
    if kind == "reversed":
        stored = np.flip(np.flip(stored, axis).copy(), axis)
    elif kind == "strided":
        every_second = tuple(slice(None, None, 1 + (axis == at)) for at in range(stored.ndim))
        stored = np.repeat(stored, 2, axis)[every_second]
    elif kind == "expanded" and stored.size:
        stored = np.broadcast_to(np.take(stored, [0], axis), stored.shape)
    return np.moveaxis(stored, -1, 1) if problem.channels_last else stored


def numbers(generator, shape, dtype):
    """Small integers, so that sums are exact in every dtype and in any order."""
    low = 0 if dtype.startswith("u") else -4
    values = generator.integers(low, 5, shape)
    if dtype.startswith("c"):
        values = values + 1j * generator.integers(-4, 5, shape)
    return values.astype(DTYPES[dtype])
