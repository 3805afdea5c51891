"""Parameter sets as data."""

import pytest

from polyphase import OutputSizeError
from polyphase.tools.solutions import solutions


def test_data_of_one_axis():
    found = solutions([(7,)], [(16,)], {"stride": [2], "kernel_size": [5, 6]}, 2).as_data()
    assert found == {
        "input_size": 7,
        "output_size": 16,
        "solutions": [
            {
                "kernel_size": 6,
                "stride": 2,
                "padding": 1,
                "output_padding": 0,
                "dilation": 1,
                "even": True,
            },
            {
                "kernel_size": 5,
                "stride": 2,
                "padding": 1,
                "output_padding": 1,
                "dilation": 1,
                "even": False,
            },
        ],
        "stopped": None,
    }


def test_data_of_several_sizes():
    found = solutions([(5, 5), (7, 7)], [(10, 5), (14, 7)], {}, 1).as_data()
    assert found["input_size"] == [(5, 5), (7, 7)]
    assert found["output_size"] == [(10, 5), (14, 7)]
    assert found["solutions"][0]["stride"] == (2, 1)


def test_as_many_as_asked_for_may_not_be_all():
    assert solutions([(7,)], [(16,)], {"stride": [2], "kernel_size": [6]}, 1).is_full
    assert not solutions([(7,)], [(16,)], {"stride": [2], "kernel_size": [6]}, 50).is_full


def test_out_of_reach():
    with pytest.raises(OutputSizeError, match="19 and 20"):
        solutions([(10,)], [(30,)], {"kernel_size": [3], "stride": [2], "padding": [1]}, 5)
