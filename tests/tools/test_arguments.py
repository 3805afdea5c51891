"""Reading of what people type."""

import pytest

from polyphase import Geometry, GeometryError, OutputSizeError
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


@pytest.mark.parametrize(
    ("told", "options", "tokens"),
    [
        (
            "kernel_size=(3, 5), stride=2, padding=1 gives 19",
            "-k 3x5 -s 2 -p 1 gives 19",
            "k3x5 s2 p1 gives 19",
        ),
        ("padding=((0, 1),), output_padding=1", "-p 0,1 -o 1", "p0,1 o1"),
        ("padding=(1, (-1, 0)) | dilation=2", "-p 1x-1,0 | -d 2", "p1x-1,0 | d2"),
        ("write a pair (-1, -1)", "write -p -1,-1", "write p-1,-1"),
        ("must be at least 1, got (0, 3)", "must be at least 1, got 0x3", None),
        ("output_size [10, 14] from [(5, 5), (7, 7)]", "output_size 10,14 from 5x5,7x7", None),
        ("(exactly 3 times every size)", "(exactly 3 times every size)", None),
    ],
)
def test_messages_are_spelled_as_people_type(told, options, tokens):
    assert arguments.typed(told) == options
    assert arguments.typed(told, line=True) == tokens or tokens is None


def test_an_error_is_spelled_anew_and_stays_what_it_is():
    text = r"30 is reached by -s 3 -p 0 \(exactly 3 times"
    with pytest.raises(OutputSizeError, match=text), arguments.spelled():
        Geometry(3, 2, padding=1).for_output_size(10, 30)
    with pytest.raises(GeometryError, match="write p-1,-1"):
        arguments.problem("c1:1 i6 k3 p-1", {})
    with pytest.raises(GeometryError, match="write -p -1,-1"):
        arguments.problem("6", {"kernel_size": (3,), "padding": (-1,)})


def test_a_long_text_is_cut():
    assert arguments.short("a" * 1000) == repr("a" * 37 + "...")
