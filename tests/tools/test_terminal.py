"""What people read: within the width, in letters that every terminal has."""

from io import BytesIO, TextIOWrapper

import problem_files
import pytest
from rich.console import Console

import polyphase
from polyphase import Geometry, Problem
from polyphase.tools import terminal
from polyphase.tools.explain import explain
from polyphase.tools.sizes import sizes
from polyphase.tools.solutions import Solutions, solutions


def shown(parts, width, encoding="utf-8"):
    """The lines that a terminal of this width and encoding shows, without trailing blanks."""
    stream = TextIOWrapper(BytesIO(), encoding=encoding)
    console = Console(file=stream, width=width, markup=False, highlight=False, emoji=False)
    for part in parts:
        console.print(part)
    stream.seek(0)
    return [line.rstrip() for line in stream.read().splitlines()]


def explanation(line, width=80, encoding="utf-8"):
    return shown(terminal.explanation(explain(Problem.parse(line)), width), width, encoding)


def after(lines, heading):
    """The lines of one part, without its heading."""
    start = next(n for n, line in enumerate(lines) if line.startswith(heading)) + 1
    stop = next((n for n in range(start, len(lines)) if not lines[n]), len(lines))
    return lines[start:stop]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    "problem",
    [*problem_files.problems(), Problem.parse("c1026:1 i999999999999999999 k100000 s9999 p5000")],
    ids=str,
)
def test_no_line_is_wider_than_the_terminal(problem, width):
    lines = shown(terminal.explanation(explain(problem), width), width)
    assert max(map(len, lines)) <= width


def test_the_plan_tells_everything_but_the_cost_again():
    lines = after(explanation("n2 c64:32 i8x8 k4x4 s2x2 p1x1"), "Plan")
    found = polyphase.plan("n2 c64:32 i8x8 k4x4 s2x2 p1x1")
    told = " ".join(" ".join(lines).split())
    assert told == " ".join(f"{label} {text}" for label, text in found.facts if label != "cost")
    assert lines[0].split() == ["method", found.method.name, "on", found.target.name]


def test_sets_that_lose_inputs_are_told():
    for sizes_, freedom, lost in (((10,), {"kernel_size": [3]}, True), ((3,), {}, False)):
        lines = shown(terminal.solutions(solutions([sizes_], [(3,)], freedom, 3)), 80)
        told = " ".join(lines)
        assert ("loses inputs at the border. To make a size smaller, use an" in told) == lost
    lines = shown(
        terminal.solutions(solutions([(5,), (7,)], [(10,), (30,)], {"kernel_size": [3]}, 3)), 80
    )
    assert "loses inputs at the border. These are" in " ".join(lines)


def test_everything_is_plain_where_the_terminal_is():
    lines = explanation("n2 c4:6 g2 i5x100 k4x30 s2x20 p1x0 o1x2", encoding="ascii")
    assert all(line.isascii() for line in lines)
    assert "output" in "".join(lines)


def test_the_phase_table_names_taps_and_inputs():
    assert after(explanation("c1:1 i6 k3 s2 p1"), "Phases")[2:] == [
        "y[2m]     w[1] x[m]                    1         6",
        "y[2m+1]   w[0] x[m+1] + w[2] x[m]      2         5",
    ]


def test_an_empty_phase_is_the_bias_alone():
    assert after(explanation("c1:1 i5 k2 s3"), "Phases")[-1] == (
        "y[3m+2]   none: the bias alone      0         4"
    )


def test_many_phases_and_taps_are_cut_in_the_middle():
    rows = after(explanation("c1:1 i224 k1024 s256"), "Phases")[2:]
    assert len(rows) == 9
    assert rows[0].split("  ")[0] == "y[256m]"
    assert "w[0] x[m] + ... + w[768] x[m-3]" in rows[0]
    assert rows[7].split() == ["...", "248", "phases", "more"]
    assert rows[8].startswith("y[256m+255]")


def test_a_wide_terminal_shows_more_of_a_sum():
    rows = after(explanation("c1:1 i224 k1024 s256", width=120), "Phases")[2:]
    assert "w[0] x[m] + w[256] x[m-1] + ... + w[768] x[m-3]" in rows[0]


def test_the_picture_with_what_padding_removes():
    assert after(explanation("c1:1 i3 k3 s2 p1"), "Picture") == [
        "output   -|0 1 2 3 4|-",
        "x[0]     0|1 2      |",
        "x[1]      |  0 1 2  |",
        "x[2]      |      0 1|2",
        "count    1|1 2 1 2 1|1",
        "What padding removes is marked -.",
    ]


def test_the_picture_of_a_long_axis_is_its_beginning():
    lines = after(explanation("c1:1 i64 k4 s4", width=60), "Picture")
    assert lines[0] == "output  | 0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16"
    assert lines[-1] == "Outputs 0 to 16 of 256. The 4 phases take turns."


def test_inputs_left_out_of_the_picture_are_counted():
    assert "...      22 inputs more" in explanation("c1:1 i100 k31 p15")


@pytest.mark.parametrize(
    "line", ["c1:1 i999999 k3 p500000", "c1:1 i30 k10 p12", "c1:1 i12 k10 s1 p8"]
)
@pytest.mark.parametrize("width", [60, 80])
def test_the_columns_of_the_picture_line_up(line, width):
    rows = [row for row in after(explanation(line, width), "Picture") if row[0] in "ox.c"]
    marks = {
        tuple(at for at, letter in enumerate(row) if letter == "|")
        for row in rows
        if not row.startswith("...")
    }
    assert len(marks) == 1
    assert max(map(len, rows)) <= width


def test_axes_that_are_alike_are_shown_once():
    lines = explanation("c1:1 i5x4x5 k3x2x3 s2x2x2")
    headings = [line.split(":")[0] for line in lines if line.startswith("Phases")]
    assert headings == ["Phases, axes 0 and 2 alike", "Phases, axis 1"]


def test_the_overlap_of_two_axes_is_a_map():
    assert after(explanation("c1:1 i3x2 k3x3 s2x2 p1x1"), "Overlap")[:5] == [
        " 1 2 1",
        " 2 4 2",
        " 1 2 1",
        " 2 4 2",
        " 1 2 1",
    ]


def test_a_large_map_says_what_it_leaves_out():
    assert "The first 8x16 of 100x50." in explanation("c1:1 i50x25 k2x2 s2x2")


def test_the_cost_table():
    assert after(explanation("n2 c64:32 i8x8 k4x4 s2x2 p1x1"), "Cost")[2:] == [
        "zero insertion        16,777,216       4.55       184.8 kB",
        "column buffer          4,194,304       1.14       262.1 kB",
        "phases                 3,686,400       1.00           none",
        "Each way also moves input, weights, bias and output: 229.5 kB.",
    ]


@pytest.mark.parametrize("line", ["c1:1 i1 k100 p50", "c1:1 i1x4 k2x1 p1x0"])
def test_an_empty_output_has_no_picture(line):
    lines = explanation(line)
    assert "Nothing is computed: the output is empty." in lines
    assert not any(line.startswith(("Picture:", "Picture, axis 0")) for line in lines)


def test_an_empty_batch_costs_nothing():
    assert after(explanation("n0 c1:1 i4 k2"), "Cost")[4] == (
        "phases                         0          -           none"
    )


@pytest.mark.parametrize(
    ("operator", "remark"), [("conv", "shown is its transpose"), ("weight_grad", "the gradient")]
)
def test_an_adjoint_says_how_to_read_the_picture(operator, remark):
    assert remark in explanation(f"{operator} c1:1 i6 k3 s2 p1")[1]


def test_sizes_axis_by_axis():
    lines = shown(terminal.sizes(sizes(Geometry((3, 5), (2, 1), padding=(4, 2)), (50, 100))), 80)
    assert lines == [
        "input 50x100, output 93x100",
        "",
        "axis 0",
        "output = (n - 1)*s - 2*p + d*(k - 1) + op + 1",
        "       = (50 - 1)*2 - 2*4 + 1*(3 - 1) + 0 + 1",
        "       = 93",
        "Reachable: 93 to 94, with output_padding 0 to 1.",
        "The convolution with these parameters maps 93 to 94 back to 50.",
        "",
        "axis 1",
        "output = (n - 1)*s - 2*p + d*(k - 1) + op + 1",
        "       = (100 - 1)*1 - 2*2 + 1*(5 - 1) + 0 + 1",
        "       = 100",
        "Reachable: 100, with output_padding 0.",
        "The convolution with these parameters maps 100 back to 100.",
        "",
        "n input, k kernel_size, s stride, p padding, d dilation, op output_padding",
    ]


def test_parameter_sets_are_written_as_they_are_typed():
    found = solutions([(7, 7)], [(16, 13)], {"stride": ([2], [2]), "padding": ([1], [(0, 1)])}, 1)
    assert [line.split() for line in shown(terminal.solutions(found), 60)[4:5]] == [
        ["6x2", "2x2", "1x0,1", "0x0", "3"]
    ]


def test_dilation_is_a_column_where_it_is_free():
    lines = shown(terminal.solutions(solutions([(7,)], [(16,)], {"dilation": [3]}, 5)), 60)
    assert "dilation" in "".join(lines[:5])
    lines = shown(terminal.solutions(solutions([(7,)], [(16,)], {}, 5)), 60)
    assert "dilation" not in "".join(lines[:5])


def test_a_search_that_stopped_says_so():
    found = Solutions([(7,)], [(14,)], [Geometry(2, 2)], is_full=False, stopped="it stopped at 9")
    assert shown(terminal.solutions(found), 80)[-1] == "It stopped at 9."


def test_a_phase_has_one_colour_in_table_and_picture():
    stream = TextIOWrapper(BytesIO(), encoding="utf-8")
    console = Console(file=stream, width=80, force_terminal=True, color_system="standard")
    for part in terminal.explanation(explain(Problem.parse("c1:1 i3 k3 s2")), 80):
        console.print(part, markup=False, highlight=False)
    stream.seek(0)
    lines = stream.read().splitlines()
    cyan, magenta = "\x1b[36m", "\x1b[35m"
    table_row = next(line for line in lines if "y[2m]" in line)
    assert cyan in table_row
    assert magenta not in table_row
    picture_row = next(line for line in lines if line.startswith("x[0]"))
    assert f"{cyan}0" in picture_row
    assert f"{magenta}1" in picture_row
