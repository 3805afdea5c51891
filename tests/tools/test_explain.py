"""Explanations, held against the pairs of input and tap counted one by one."""

from itertools import product

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

import polyphase
from polyphase import GeometryError, Problem
from polyphase.arithmetic.problem import OPERATORS
from polyphase.tools.explain import LISTING_LIMIT, PICTURE_ROWS, explain, picture

explained = st.sampled_from(OPERATORS).flatmap(strategies.problems).map(explain)


def meetings(axis, inputs, outputs):
    """Every (output, tap, input) of one axis that meets inside."""
    return {
        (axis.stride * i + axis.dilation * t - axis.begin, t, i)
        for i, t in product(inputs, range(axis.kernel_size))
        if axis.stride * i + axis.dilation * t - axis.begin in outputs
    }


def verdict(line):
    return explain(Problem.parse(line)).verdict


@given(explained)
def test_the_phases_use_every_meeting_once(found):
    for view, axis in zip(found.axes, found.as_data()["axes"], strict=True):
        used = [
            (phase["start"] + axis["stride"] * m, tap, m + offset)
            for phase in axis["phases"]
            for m in range(phase["outputs"])
            for tap, offset in zip(phase["taps"], phase["offsets"], strict=True)
            if 0 <= m + offset < axis["input_size"]
        ]
        assert len(used) == len(set(used))
        assert set(used) == meetings(view.axis, range(view.input_size), range(view.output_size))
        assert sum(phase["outputs"] for phase in axis["phases"]) == axis["output_size"]


@given(explained, st.integers(1, 30))
def test_the_picture_shows_every_meeting_of_its_inputs(found, positions):
    for view in found.axes:
        if view.is_empty:
            continue
        drawn = picture(view, positions)
        assert 0 < len(drawn.outputs) <= positions
        assert len(drawn.inputs) <= PICTURE_ROWS
        shown = {
            (position, tap, i)
            for i, row in zip(drawn.inputs, drawn.rows, strict=True)
            for position, tap in zip(drawn.outputs, row, strict=True)
            if tap is not None
        }
        assert shown == meetings(view.axis, drawn.inputs, drawn.outputs)
        everything = meetings(view.axis, range(view.input_size), drawn.outputs)
        assert drawn.counts == tuple(sum(o == at for o, _, _ in everything) for at in drawn.outputs)
        assert {i for _, _, i in everything} <= set(
            range(drawn.inputs.start, drawn.inputs.stop + drawn.hidden_inputs)
        )


def test_the_picture_counts_the_inputs_that_it_hides():
    view = explain(Problem.parse("c1:1 i100 k31 p15")).axes[0]
    drawn = picture(view, 23)
    assert (drawn.outputs, drawn.inputs, drawn.hidden_inputs) == (range(23), range(16), 22)


def test_the_picture_drops_columns_rather_than_rows_of_a_diagonal():
    view = explain(Problem.parse("c1:1 i100 k3")).axes[0]
    drawn = picture(view, 50)
    assert (drawn.outputs, drawn.inputs, drawn.hidden_inputs) == (range(16), range(16), 0)


def test_data_of_the_classic():
    found = explain(Problem.parse("c1:1 i6 k3 s2 p1")).as_data()
    # it depends on the machine
    del found["plan"]
    assert found == {
        "problem": "conv_transpose n1 c1:1 g1 i6 k3 s2 p1 o0 d1 f32 ncl",
        "input_size": 6,
        "output_size": 11,
        "axes": [
            {
                "input_size": 6,
                "output_size": 11,
                "kernel_size": 3,
                "stride": 2,
                "dilation": 1,
                "crop": [1, 1],
                "phases": [
                    {"start": 0, "outputs": 6, "taps": [1], "offsets": [0]},
                    {"start": 1, "outputs": 5, "taps": [0, 2], "offsets": [1, 0]},
                ],
            }
        ],
        "overlap": {
            "even": False,
            "fewest": 1,
            "most": 2,
            "verdict": "Checkerboard: away from the border outputs receive 1 or 2 contributions. "
            "Even overlap needs a kernel_size that stride 2 divides: 2 or 4.",
        },
        "cost": {
            "zero_insertion": {"multiplications": 33, "intermediate_bytes": 52},
            "column_buffer": {"multiplications": 18, "intermediate_bytes": 72},
            "phases": {"multiplications": 16, "intermediate_bytes": 0},
            "bytes": 84,
        },
    }


def test_the_plan_is_that_of_the_engine():
    for line in ("c64:32 i8x8 k4x4 s2x2 p1x1", "conv c3:4 i9 k3 s2", "c3:2 i4 k2 int8"):
        problem = Problem.parse(line)
        found, plan = explain(problem).as_data()["plan"], polyphase.plan(problem)
        assert found["method"] == plan.method.name
        assert found["target"] == plan.target.name
        assert found["kernel"] == plan.kernel
        assert found["tiling"] == (plan.tiling and plan.tiling.describe())
        assert found["predicted_share"] == plan.predicted_share
        assert found["refusals"] == plan.refusals


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "c1:1 i8x8 k4x4 s2x2 p1x1",
            "Away from the border every output receives 4 contributions: "
            "overlap makes no checkerboard.",
        ),
        (
            "c1:1 i8 k2 s2",
            "Nothing overlaps: an output receives 1 contribution, so there is no checkerboard.",
        ),
        (
            "c1:1 i8x8 k3x3 s2x2",
            "Checkerboard: away from the border outputs receive 1 to 4 contributions. "
            "Even overlap needs a kernel_size that stride 2 divides on axes 0 and 1: 2 or 4.",
        ),
        (
            "c1:1 i8x8 k3x4 s2x2",
            "Checkerboard: away from the border outputs receive 2 to 4 contributions. "
            "Even overlap needs a kernel_size that stride 2 divides on axis 0: 2 or 4.",
        ),
        (
            "c1:1 i8 k3 s5",
            "Gaps: some outputs receive the bias alone, others 1 contribution. "
            "Even overlap needs a kernel_size that stride 5 divides: 5.",
        ),
        (
            "c1:1 i8 k4 s2 d2",
            "Gaps: some outputs receive the bias alone, others up to 4 contributions. "
            "Stride 2 and dilation 2 share the factor 2, so only one output in 2 is reached: "
            "choose a dilation that shares none.",
        ),
        (
            "c1:1 i1 k4 s1",
            "Away from the border every output receives 4 contributions: "
            "overlap makes no checkerboard. "
            "This input is so small that every output is at the border and receives fewer.",
        ),
    ],
)
def test_verdicts(line, expected):
    assert verdict(line) == expected


@given(explained)
def test_the_verdict_speaks_of_a_checkerboard_where_counts_differ(found):
    counts = {len(phase.taps) for view in found.axes for phase in view.phases}
    fewest, most = found.contributions
    assert found.is_even == (fewest == most)
    assert ("no checkerboard" in found.verdict) == (fewest == most)
    assert ("Gaps" in found.verdict) == (0 in counts)


def test_what_evens_out_the_overlap_does():
    uneven = "c1:1 i999 k{} s{} d{}"
    for k, s, d in product(range(1, 8), repeat=3):
        text = verdict(uneven.format(k, s, d))
        dilation = 1 if "choose a dilation" in text else d
        kernel = k
        if "kernel_size" in text:
            kernel = text.removesuffix(".").split()[-1]
        assert explain(Problem.parse(uneven.format(kernel, s, dilation))).is_even


def test_a_convolution_is_explained_by_its_transpose():
    view = explain(Problem.parse("conv c1:1 i13 k4 s2 p1")).axes[0]
    assert (view.input_size, view.output_size) == (6, 13)
    # the crop that gives all 13, of which the convolution's last window leaves one over
    assert (view.axis.begin, view.axis.end) == (1, 0)


@pytest.mark.parametrize("line", ["c1:1 i1 k100 p50", "c1:1 i1x4 k2x1 p1x0"])
def test_an_empty_output_costs_nothing(line):
    assert explain(Problem.parse(line)).as_data()["cost"]["phases"]["multiplications"] == 0


@pytest.mark.parametrize("name", ["k", "s"])
def test_what_cannot_be_listed_is_refused(name):
    sizes = {"k": 1, "s": 1, name: LISTING_LIMIT + 1}
    with pytest.raises(GeometryError, match=f"at most {LISTING_LIMIT}"):
        explain(Problem.parse(f"c1:1 i4 k{sizes['k']} s{sizes['s']}"))
