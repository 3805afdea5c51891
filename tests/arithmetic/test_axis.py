"""The size law against positions counted one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyphase.arithmetic.axis import Axis, conv_size, extent, transposed_size

axes = st.builds(
    Axis,
    kernel_size=st.integers(1, 9),
    stride=st.integers(1, 9),
    dilation=st.integers(1, 6),
    begin=st.integers(-6, 20),
    end=st.integers(-6, 20),
)
sizes = st.integers(1, 20)


def positions(axis, size):
    """Every position of the full result that some input and tap reach."""
    return {
        axis.stride * i + axis.dilation * t for i in range(size) for t in range(axis.kernel_size)
    }


@given(axes, sizes)
def test_the_full_result_ends_at_the_last_position(axis, size):
    assert axis.full_size(size) == max(positions(axis, size)) + 1
    assert axis.output_size(size) == max(positions(axis, size)) + 1 - axis.begin - axis.end


@given(axes, sizes)
def test_the_convolution_has_one_output_per_window_that_fits(axis, size):
    padded = size + axis.begin + axis.end
    last_tap = max(axis.dilation * t for t in range(axis.kernel_size))
    windows = sum(axis.stride * j + last_tap < padded for j in range(size + 60))
    found = axis.conv_output_size(size)
    assert found == windows or (windows == 0 and found < 1)


@given(axes, sizes)
def test_the_convolution_maps_exactly_these_sizes_to_one(axis, size):
    expected = [m for m in range(1, 300) if axis.conv_output_size(m) == size]
    assert list(axis.conv_input_sizes(size)) == expected


@given(axes, sizes)
def test_the_convolution_undoes_the_size_of_its_transpose(axis, size):
    assert axis.conv_output_size(axis.output_size(size)) == size


@pytest.mark.parametrize(("kernel_size", "dilation", "expected"), [(1, 7, 1), (3, 1, 3), (3, 4, 9)])
def test_extent(kernel_size, dilation, expected):
    assert extent(kernel_size, dilation) == expected


class Symbol:
    """A number that can only be added, subtracted and multiplied, as text."""

    def __init__(self, text):
        self.text = text

    def __add__(self, other):
        return Symbol(f"({self.text} + {getattr(other, 'text', other)})")

    def __sub__(self, other):
        return Symbol(f"({self.text} - {getattr(other, 'text', other)})")

    def __mul__(self, other):
        return Symbol(f"({self.text} * {getattr(other, 'text', other)})")

    def __radd__(self, other):
        return Symbol(f"({other} + {self.text})")


def test_the_size_of_a_symbol_is_a_formula_in_it():
    formula = transposed_size(Symbol("n"), 3, 2, 1, 1, 1).text
    for n in range(1, 20):
        assert eval(formula, {"n": n}) == transposed_size(n, 3, 2, 1, 1, 1)


def test_huge_sizes_are_exact():
    assert transposed_size(10**30, 3, 10**30, 1, 1, 1) == 10**60 - 10**30 + 1
    assert conv_size(10**60 - 10**30 + 1, 3, 10**30, 1, 1, 1) == 10**30
