"""What the functions compute beyond PyTorch, and what they accept."""

import numpy as np
import oracle
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from polyphase import Geometry, functional
from polyphase.functional import conv1d, conv2d, conv_transpose1d, conv_transpose2d

DTYPES = tuple(strategies.DTYPES)
X = np.array([[[1.0, 2.0]]])
W = np.array([[[1.0, 10.0, 100.0]]])


def check_against_oracle(case):
    problem, x, w, b = case
    g = problem.geometry
    keywords = {
        "stride": g.stride,
        "padding": g.padding,
        "dilation": g.dilation,
        "groups": problem.groups,
    }
    if problem.operator == "conv_transpose":
        keywords["output_padding"] = g.output_padding
    result = getattr(functional, f"{problem.operator}{problem.rank}d")(x, w, b, **keywords)
    expected = getattr(oracle, problem.operator)(x, w, b, g, problem.groups)
    assert result.dtype == x.dtype
    oracle.assert_same(result, expected.astype(x.dtype), problem)


@given(strategies.cases(dtypes=DTYPES))
def test_every_crop_dtype_and_kind_of_memory_transposed(case):
    check_against_oracle(case)


@given(strategies.cases("conv", dtypes=DTYPES))
def test_every_crop_dtype_and_kind_of_memory(case):
    check_against_oracle(case)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
def test_same_is_exactly_input_times_stride(size, kernel, stride, dilation):
    x, w = np.ones((1, 1, size)), np.ones((1, 1, kernel))
    result = conv_transpose1d(x, w, stride=stride, padding="same", dilation=dilation)
    assert result.shape == (1, 1, size * stride)
    pads = Geometry.same(kernel, stride, dilation=dilation).pads
    by_pairs = conv_transpose1d(x, w, stride=stride, padding=pads, dilation=dilation)
    oracle.assert_same(result, by_pairs)


def test_pairs_differ_between_the_ends_and_may_add_positions():
    oracle.assert_same(conv_transpose1d(X, W, padding=[(1, 0)]), [[[12, 120, 200]]])
    oracle.assert_same(conv_transpose1d(X, W, np.array([7.0]), padding=[(-1, 2)]), [[[7, 8, 19]]])
    oracle.assert_same(conv1d(X, W, padding=[(2, 0)]), [[[100, 210]]])
    oracle.assert_same(conv1d(np.array([[[5.0, 1, 2, 3]]]), W, padding=[(-1, 0)]), [[[321]]])


def test_named_padding_of_the_convolution():
    y, w = np.ones((1, 1, 6)), np.ones((1, 1, 4))
    # of the three zeros the end gets the odd one, as in PyTorch
    oracle.assert_same(conv1d(y, w, padding="same"), conv1d(y, w, padding=[(1, 2)]))
    oracle.assert_same(conv1d(y, w, padding="valid"), conv1d(y, w))


def test_an_input_without_a_batch():
    x, w = np.arange(24.0).reshape(2, 3, 4), np.arange(16.0).reshape(2, 2, 2, 2)
    oracle.assert_same(conv_transpose2d(x, w, stride=2), conv_transpose2d(x[None], w, stride=2)[0])
    oracle.assert_same(conv2d(x, w), conv2d(x[None], w)[0])


def test_outputs_of_size_0_are_empty():
    x, w = np.ones((2, 3, 1, 2)), np.ones((3, 4, 2, 2))
    assert conv_transpose2d(x, w, padding=1).shape == (2, 4, 0, 1)


@pytest.mark.parametrize(
    "two", [2, np.int64(2), np.uint8(2), [2], (2,), np.array([2]), range(2, 3)]
)
def test_a_parameter_is_an_int_or_a_sequence_of_ints(two):
    expected = conv_transpose1d(X, W, stride=2, padding=2, dilation=2)
    oracle.assert_same(conv_transpose1d(X, W, stride=two, padding=two, dilation=two), expected)


def test_one_entry_serves_every_axis():
    x, w = np.ones((1, 1, 3, 4)), np.ones((1, 1, 3, 3))
    result = conv_transpose2d(x, w, stride=(2,), padding=[(0, 1)])
    oracle.assert_same(result, conv_transpose2d(x, w, stride=2, padding=[(0, 1), (0, 1)]))


def test_inputs_are_left_as_they_were():
    arrays = [np.ones((1, 2, 3)), np.ones((2, 2, 3)), np.ones(2)]
    for array in arrays:
        array.flags.writeable = False
    result = conv_transpose1d(*arrays, stride=2)
    assert result.flags.writeable
    assert not any(np.shares_memory(result, array) for array in arrays)
