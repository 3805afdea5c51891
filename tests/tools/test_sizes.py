"""Sizes with their formula."""

import pytest
import strategies
from hypothesis import given

from polyphase import Geometry, OutputSizeError
from polyphase.tools.sizes import sizes


@given(strategies.problems())
def test_the_formula_gives_the_size(problem):
    found = sizes(problem.geometry, problem.input_size)
    for axis, expected in zip(found.axes, problem.output_size, strict=True):
        assert eval(axis.numbers) == axis.output_size == expected
        assert axis.output_size in axis.reachable


@given(strategies.problems(torch_legal=True))
def test_the_law_has_the_letters_of_the_numbers(problem):
    for axis in sizes(problem.geometry, problem.input_size).axes:
        letters = {
            "n": axis.input_size,
            "k": axis.axis.kernel_size,
            "s": axis.axis.stride,
            "p": axis.axis.begin,
            "d": axis.axis.dilation,
            "op": axis.output_padding,
        }
        assert eval(axis.law, letters) == eval(axis.numbers)


def test_data_of_the_classic():
    assert sizes(Geometry(3, 2, padding=1), 6).as_data() == {
        "kernel_size": 3,
        "stride": 2,
        "padding": 1,
        "output_padding": 0,
        "dilation": 1,
        "input_size": 6,
        "output_size": 11,
        "output_sizes": [11, 12],
        "conv_input_sizes": [11, 12],
        "formula": "(6 - 1)*2 - 2*1 + 1*(3 - 1) + 0 + 1 = 11",
    }


def test_data_of_two_axes():
    found = sizes(Geometry((3, 5), (2, 1), padding=(4, (-2, 0))), (50, 100)).as_data()
    assert found["output_size"] == (93, 106)
    assert found["output_sizes"] == ([93, 94], [106, 106])
    assert found["formula"][1] == "(100 - 1)*1 - (-2) - 0 + 1*(5 - 1) + 0 + 1 = 106"


def test_no_convolution_leads_back_from_an_empty_output():
    found = sizes(Geometry(1, padding=[(1, 0)]), 1).as_data()
    assert (found["output_size"], found["conv_input_sizes"]) == (0, None)


def test_a_crop_that_is_too_large_is_refused():
    with pytest.raises(OutputSizeError, match="input of at least 17"):
        sizes(Geometry(3, padding=9), 1)
