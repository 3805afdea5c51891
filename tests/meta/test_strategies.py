"""The random problems reach the corners that they are there for."""

from math import gcd

import numpy as np
import pytest
import strategies
from hypothesis import given, settings

EXAMPLES = 400


def axes_of(problem):
    """Per axis: kernel, stride, dilation, padding at either end, output padding."""
    g = problem.geometry
    values = [
        value if isinstance(value, tuple) else (value,)
        for value in (g.kernel_size, g.stride, g.dilation, g.pads, g.output_padding)
    ]
    return list(zip(*values, strict=True))


def some_axis(rule):
    return lambda case: any(rule(*axis) for axis in axes_of(case.problem))


def has_empty_phase(k, s, d, pads, op):
    return len({d * t % s for t in range(k)}) < s


def element_strides(array):
    """Strides along the axes that are longer than one element, in elements."""
    return [
        stride // array.itemsize
        for stride, size in zip(array.strides, array.shape, strict=True)
        if size > 1
    ]


def has_gaps(array):
    steps = element_strides(array)
    spans = (abs(s) * (n - 1) for s, n in zip(steps, np.squeeze(array).shape, strict=True))
    return array.size > 0 and sum(spans) + 1 > array.size


CORNERS = {
    "one axis": lambda case: case.problem.rank == 1,
    "two axes": lambda case: case.problem.rank == 2,
    "three axes": lambda case: case.problem.rank == 3,
    "stride > kernel": some_axis(lambda k, s, d, pads, op: s > k),
    "stride = kernel": some_axis(lambda k, s, d, pads, op: s == k > 1),
    "gcd(stride, dilation) > 1": some_axis(lambda k, s, d, pads, op: gcd(s, d) > 1),
    "output padding >= stride": some_axis(lambda k, s, d, pads, op: op >= s),
    "padding > dilation*(kernel-1)": some_axis(lambda k, s, d, pads, op: max(pads) > d * (k - 1)),
    "padding < output padding": some_axis(lambda k, s, d, pads, op: 0 <= pads[1] < op),
    "crops that differ": some_axis(lambda k, s, d, pads, op: pads[0] != pads[1]),
    "a negative crop at the beginning": some_axis(lambda k, s, d, pads, op: pads[0] < 0),
    "a negative crop at the end": some_axis(lambda k, s, d, pads, op: pads[1] < 0),
    "an empty phase": some_axis(has_empty_phase),
    "batch of zero": lambda case: case.problem.batch == 0,
    "several in a batch": lambda case: case.problem.batch > 1,
    "input of one element": lambda case: case.input[0:1, 0:1].size == 1,
    "kernel of one tap": lambda case: case.weight[0, 0].size == 1,
    "one channel in and out": lambda case: case.weight.shape[:2] == (1, 1),
    "groups of several channels": lambda case: 1 < case.problem.groups < case.problem.in_channels,
    "depthwise": lambda case: 1 < case.problem.groups == case.problem.in_channels,
    "depthwise with multiplier": lambda case: (
        1 < case.problem.groups == case.problem.in_channels < case.problem.out_channels
    ),
    "an output of size 0": lambda case: 0 in case.problem.output_size,
    "channels last": lambda case: (
        case.problem.channels_last and case.input.strides[1] == case.input.itemsize
    ),
    "channels first": lambda case: not case.problem.channels_last,
    "a negative step in memory": lambda case: any(s < 0 for s in element_strides(case.input)),
    "an expanded input": lambda case: 0 in element_strides(case.input),
    "expanded weights": lambda case: 0 in element_strides(case.weight),
    "gaps in memory": lambda case: has_gaps(case.input),
    "a bias": lambda case: case.bias is not None,
    "no bias": lambda case: case.bias is None,
}
# what a convolution or a call of PyTorch cannot have
NOT_IN_CONV = {"output padding >= stride", "padding < output padding", "an output of size 0"}
NOT_IN_TORCH = {
    "crops that differ",
    "a negative crop at the beginning",
    "a negative crop at the end",
    "an output of size 0",
}


def corners_reached(**kinds):
    reached = set()

    @settings(max_examples=EXAMPLES)
    @given(strategies.cases(**kinds))
    def look(case):
        reached.update(name for name, holds in CORNERS.items() if holds(case))

    look()
    return reached


@pytest.mark.parametrize(
    ("kinds", "impossible"),
    [
        ({}, set()),
        ({"operator": "conv"}, NOT_IN_CONV),
        ({"torch_legal": True}, NOT_IN_TORCH),
    ],
    ids=["conv_transpose", "conv", "torch"],
)
def test_every_corner_is_reached(kinds, impossible):
    assert corners_reached(**kinds) == set(CORNERS) - impossible


def test_every_dtype_is_reached_and_keeps_its_integers():
    reached = set()

    @settings(max_examples=100)
    @given(strategies.cases(dtypes=tuple(strategies.DTYPES)))
    def look(case):
        reached.add(case.problem.dtype)
        assert case.input.dtype == case.weight.dtype == strategies.DTYPES[case.problem.dtype]
        assert case.input.dtype.itemsize == case.problem.item_size
        values = case.input.astype(np.complex128)
        assert np.array_equal(values, np.round(values))
        assert np.abs(values).max(initial=0) < 6

    look()
    assert reached == set(strategies.DTYPES)


@settings(max_examples=100)
@given(strategies.cases())
def test_arrays_fit_their_problem(case):
    assert case.input.shape == case.problem.input_shape
    assert case.weight.shape == case.problem.weight_shape
    assert case.bias is None or case.bias.shape == (case.problem.out_channels,)
