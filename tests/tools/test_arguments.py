"""Reading of what people type."""

import pytest

from polyphase import Geometry, GeometryError
from polyphase.tools import arguments


def test_one_number_serves_every_axis():
    given = {"kernel_size": (3,), "stride": (2, 1), "padding": ((0, 1),), "dilation": None}
    assert arguments.geometry(2, given) == Geometry((3, 3), stride=(2, 1), padding=((0, 1), (0, 1)))


def test_same_is_the_output_of_exactly_input_times_stride():
    given = {"kernel_size": (3, 4), "stride": (2,), "padding": "same", "output_padding": None}
    assert arguments.geometry(2, given) == Geometry.same((3, 4), stride=(2, 2))


def test_allowed_values_are_collected_for_each_axis():
    given = {"kernel_size": ((3,), (3, 5)), "padding": (((0, 1),),), "stride": ()}
    assert arguments.freedom(2, given) == {
        "kernel_size": ([3], [3, 5]),
        "padding": ([(0, 1)], [(0, 1)]),
    }


def test_a_problem_line_and_its_options_make_the_same_problem():
    given = {"kernel_size": (3,), "stride": (2,), "padding": ((0, 1), 2)}
    line = "c1:1 i6x7 k3x3 s2x2 p0,1x2"
    assert arguments.problem("6x7", given) == arguments.problem(line, {})


@pytest.mark.parametrize("read", [arguments.numbers, arguments.sizes, arguments.pads])
@pytest.mark.parametrize(
    "text", ["", "x", "1x", "x1", "1.5", "1 x 2", "6\n", "\u0663", "+1", "1x2x3x4"]
)
def test_nothing_else_is_read(read, text):
    with pytest.raises(GeometryError):
        read(text)


def test_a_long_text_is_cut():
    assert arguments.short("a" * 1000) == repr("a" * 37 + "...")
