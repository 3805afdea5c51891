"""Channels-last memory read as lines: channels beside the taps of the last axis.

There the channels of neighbouring pixels lie in line, and so do, in the weights, those of
neighbouring taps. Who reads both as they lie sees one channel whose pixels are as many cells wide
as there are channels.
"""

from dataclasses import replace
from functools import lru_cache
from math import prod

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import Problem


def lie_in_lines(problem: Problem) -> bool:
    """Whether weights have channels-last memory, in which pixels that neighbouring taps meet touch.

    PyTorch has no such memory for weights of one axis, and of one channel it is as any other.
    """
    last = problem.geometry.axes[-1]
    touch = last.kernel_size == 1 or last.dilation == 1
    return problem.channels_last and problem.rank > 1 and _channels(problem) > 1 and touch


@lru_cache(maxsize=64)
def in_lines(problem: Problem) -> Problem:
    """The same sums, with the channels of the large side among the taps of the last axis.

    For those that :func:`lie_in_lines`.

    >>> print(in_lines(Problem.parse("conv c8:4 i9x9 k3x3 s1x2 nhwc")))
    conv n1 c1:4 g1 i9x72 k3x24 s1x16 p0x0 o0x0 d1x1 f32 nhwc
    >>> print(in_lines(Problem.parse("weight_grad c4:3 i5x5 k2x2 s2x2 nhwc")))
    weight_grad n1 c4:1 g1 i5x5 k2x6 s2x6 p0x0 o0x0 d1x1 f32 nhwc
    """
    assert lie_in_lines(problem), problem
    *outer, last = problem.geometry.axes
    channels = _channels(problem)
    geometry = Geometry(
        [*(axis.kernel_size for axis in outer), last.kernel_size * channels],
        [*(axis.stride for axis in outer), last.stride * channels],
        padding=[
            *((axis.begin, axis.end) for axis in outer),
            (last.begin * channels, last.end * channels),
        ],
        dilation=[*(axis.dilation for axis in outer), 1],
    )
    if problem.operator == "conv":
        size = (*problem.input_size[:-1], problem.input_size[-1] * channels)
        found = replace(problem, geometry=geometry, input_size=size, in_channels=1)
    else:
        found = replace(problem, geometry=geometry, out_channels=1)
    # kernels trust that both are the same memory
    assert _elements(found) == _elements(problem), problem
    return found


def _elements(problem: Problem) -> list[int]:
    """Those of input, weights and output."""
    return [prod(s) for s in (problem.input_shape, problem.weight_shape, problem.output_shape)]


def _channels(problem: Problem) -> int:
    """Channels of the large side."""
    return problem.in_channels if problem.operator == "conv" else problem.out_channels
