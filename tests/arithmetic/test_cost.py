"""Costs, counted one by one."""

import oracle
import problem_files
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.cost import Work, cost, pairs
from polyphase.arithmetic.phases import tap_windows
from polyphase.arithmetic.problem import OPERATORS, Problem

GROUPED = "n2 c4:6 g2 i5x3 k4x3 s2x3 p1x0 o1x2 f64"


@given(st.sampled_from(OPERATORS).flatmap(strategies.problems))
def test_phases_multiply_exactly_what_the_oracle_counts(problem):
    assert cost(problem).phases == Work(oracle.multiplications(problem), 0)


@pytest.mark.parametrize("problem", problem_files.problems("classes", "regress"), ids=str)
def test_phases_multiply_what_the_oracle_counts_in_every_class(problem):
    assert cost(problem).phases.multiplications == oracle.multiplications(problem)


@given(strategies.problems())
def test_phases_never_multiply_more_than_the_other_ways(problem):
    found = cost(problem)
    others = found.zero_insertion, found.column_buffer
    assert all(found.phases.multiplications <= work.multiplications for work in others)


def test_the_other_two_ways_by_hand():
    found = cost(Problem.parse(GROUPED))
    # the output is 11 x 11
    assert found.zero_insertion == Work(
        multiplications=2 * 4 * 6 // 2 * (11 * 4) * (11 * 3),
        intermediate_bytes=8 * 2 * 4 * (11 + 3) * (11 + 2),
    )
    assert found.column_buffer == Work(
        multiplications=2 * 4 * 6 // 2 * (5 * 4) * (3 * 3),
        intermediate_bytes=8 * 2 * 6 * (5 * 4) * (3 * 3),
    )
    assert found.bytes == 8 * (2 * 4 * 5 * 3 + 4 * 3 * 4 * 3 + 2 * 6 * 11 * 11 + 6)


def test_the_adjoints_cost_what_the_transposed_convolution_costs():
    transposed = cost(Problem.parse("n3 c4:6 g2 i5 k4 s3 p1"))
    conv = cost(Problem.parse("conv n3 c6:4 g2 i14 k4 s3 p1"))
    assert conv.zero_insertion == transposed.zero_insertion
    assert conv.column_buffer == transposed.column_buffer
    assert conv.phases == transposed.phases
    assert cost(Problem.parse("weight_grad n3 c4:6 g2 i5 k4 s3 p1")) == transposed


axes = st.builds(
    Axis,
    kernel_size=st.integers(1, 12),
    stride=st.integers(1, 12),
    dilation=st.integers(1, 12),
    begin=st.integers(-20, 20),
)


@given(axes, st.integers(1, 12), st.integers(0, 60))
def test_pairs_agree_with_the_window_of_every_tap(axis, size, output_size):
    windows = tap_windows(axis, size, output_size)
    assert pairs(axis, size, output_size) == sum(len(inputs) for _, inputs in windows)


def test_huge_sizes_are_counted_exactly_and_at_once():
    n, k = 10**15, 10**12
    uncropped = (n - 1) * 7 + (k - 1) * 3 + 1
    assert pairs(Axis(k, stride=7, dilation=3), n, uncropped) == n * k
    # the two outer taps miss two outputs each at one end, the two next to them one
    assert pairs(Axis(5, begin=2, end=2), n, n) == 5 * n - 6
