"""The oracle is right on examples done by hand, and the comparison with it bites."""

import numpy as np
import oracle
import pytest
import strategies
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from polyphase import Geometry, Problem
from polyphase.engine import reference


def line(*values):
    return np.array([[values]], dtype=np.float64)


# taps 1, 10, 100 make the sums readable: every digit is an input
BY_HAND = [
    (Geometry(3), [1, 2], [1, 12, 120, 200]),
    (Geometry(3, stride=2), [1, 2], [1, 10, 102, 20, 200]),
    (Geometry(3, stride=2, padding=1), [1, 2], [10, 102, 20]),
    (Geometry(3, stride=2, padding=1, output_padding=1), [1, 2], [10, 102, 20, 200]),
    (Geometry(3, stride=2, dilation=2), [1, 2], [1, 0, 12, 0, 120, 0, 200]),
    (Geometry(3, stride=4), [1, 2], [1, 10, 100, 0, 2, 20, 200]),
    (Geometry(3, padding=[(-1, 3)]), [1, 2], [0, 1]),
    (Geometry(3, padding=[(3, -2)]), [1, 2], [200, 0, 0]),
]


@pytest.mark.parametrize(("geometry", "x", "y"), BY_HAND, ids=str)
def test_transposed_by_hand(geometry, x, y):
    oracle.assert_same(oracle.conv_transpose(line(*x), line(1, 10, 100), None, geometry), line(*y))


def test_convolution_by_hand():
    geometry = Geometry(3, stride=2, padding=1)
    result = oracle.conv(line(1, 2, 3, 4, 5), line(1, 10, 100), None, geometry)
    oracle.assert_same(result, line(210, 432, 54))


def test_weight_gradient_by_hand():
    result = oracle.weight_grad(line(1, 10), line(1, 2, 3, 4, 5), Geometry(3, stride=2))
    oracle.assert_same(result, line(31, 42, 53))


def test_groups_by_hand():
    x = np.array([[[1.0], [2.0]]])
    w = np.array([[[1.0], [10.0]], [[100.0], [1000.0]]])
    oracle.assert_same(
        oracle.conv_transpose(x, w, np.array([0.5, 0, 0, 0]), Geometry(1), groups=2),
        [[[1.5], [10.0], [200.0], [2000.0]]],
    )


def test_multiplications_by_hand():
    # of 2 inputs x 3 taps the crop removes the first of input 0 and the last of input 1
    assert oracle.multiplications(Problem.parse("n2 c4:6 g2 i2 k3 s2 p1")) == 4 * 2 * 4 * 3
    assert oracle.multiplications(Problem.parse("conv n1 c1:1 i5 k3 s2 p1")) == 7


def perturbed(array, at):
    worse = np.array(array)
    worse.flat[at] += 1
    return worse


@settings(max_examples=50)
@given(st.data(), strategies.cases())
def test_one_wrong_element_is_noticed(data, case):
    problem, x, w, b = case
    good = reference.conv_transpose(x, w, b, problem.geometry, problem.groups)
    assume(good.size)
    expected = oracle.conv_transpose(x, w, b, problem.geometry, problem.groups)
    oracle.assert_same(good, expected, problem)
    bad = perturbed(good, data.draw(st.integers(0, good.size - 1)))
    with pytest.raises(AssertionError, match="1 of"):
        oracle.assert_same(bad, expected, problem)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (line(1, np.nan), r"k1.*1 of 2 elements differ: \(0, 0, 1\) is nan, not 2"),
        (line(1, 2, 0), r"\(1, 1, 3\), not \(1, 1, 2\)"),
        (line(2), r"\(1, 1, 1\), not"),
        (line(1, 2)[0], r"\(1, 2\), not"),
    ],
    ids=["nan", "too long", "too short", "too few axes"],
)
def test_other_faults_are_noticed(bad, complaint):
    with pytest.raises(AssertionError, match=complaint):
        oracle.assert_same(bad, line(1, 2), Problem.parse("c1:1 i2 k1"))
