"""The problem line: one text for one problem, both ways; and what does not fit together."""

import pickle
import re

import pytest
import strategies
from hypothesis import assume, given
from hypothesis import strategies as st

from polyphase import Geometry, GeometryError, OutputSizeError, Problem
from polyphase.arithmetic.problem import ITEM_SIZES, LAYOUTS, OPERATORS

LINE = "conv_transpose n2 c64:32 g1 i8x8 k4x4 s2x2 p1x1 o0x0 d1x1 f32 nchw @dcgan-3"
problems = st.sampled_from(OPERATORS).flatmap(
    lambda operator: strategies.problems(operator, dtypes=tuple(ITEM_SIZES))
)


@given(problems)
def test_the_line_of_a_problem_is_read_back(problem):
    assert Problem.parse(str(problem)) == problem
    assert str(Problem.parse(str(problem))) == str(problem)


@given(problems, st.randoms(use_true_random=False))
def test_tokens_come_in_any_order(problem, random):
    tokens = str(problem).split()
    random.shuffle(tokens)
    assert Problem.parse(" ".join(tokens)) == problem


@given(problems)
def test_a_problem_is_a_value(problem):
    assert pickle.loads(pickle.dumps(problem)) == problem
    assert hash(Problem.parse(str(problem))) == hash(problem)


@given(strategies.problems("conv_transpose"))
def test_the_adjoint_goes_back(problem):
    assume(min(problem.output_size) > 0)
    back = Problem(
        problem.geometry,
        problem.output_size,
        problem.out_channels,
        problem.in_channels,
        batch=problem.batch,
        groups=problem.groups,
        operator="conv",
    )
    assert back.output_size == problem.input_size
    assert back.weight_shape == problem.weight_shape
    assert back.input_shape == problem.output_shape
    assert back.output_shape == problem.input_shape


def test_the_line_in_full():
    problem = Problem.parse(LINE)
    assert str(problem) == LINE
    assert problem == Problem(
        Geometry((4, 4), 2, padding=1), (8, 8), 64, 32, batch=2, name="dcgan-3"
    )
    assert problem.rank == 2
    assert problem.output_size == (16, 16)
    assert problem.input_shape == (2, 64, 8, 8)
    assert problem.output_shape == (2, 32, 16, 16)
    assert problem.weight_shape == (64, 32, 4, 4)
    assert problem.bytes == 4 * (2 * 64 * 64 + 2 * 32 * 256 + 64 * 32 * 16 + 32)
    assert not problem.channels_last


def test_what_a_line_leaves_out():
    problem = Problem.parse("c6:4 g2 i5x7 k3x1 o0x0 nhwc f64")
    assert str(problem) == ("conv_transpose n1 c6:4 g2 i5x7 k3x1 s1x1 p0x0 o0x0 d1x1 f64 nhwc")
    assert problem.channels_last
    assert problem.item_size == 8
    assert problem.weight_shape == (6, 2, 3, 1)


@pytest.mark.parametrize(
    ("padding", "token"),
    [
        ([1], "p1"),
        ([(0, 1)], "p0,1"),
        ([(-1, -1)], "p-1,-1"),
        ([(0, -2)], "p0,-2"),
        ([2, (1, 0)], "p2x1,0"),
        ([(1, 1), (-1, 3)], "p1x-1,3"),
    ],
)
def test_paddings_of_every_kind(padding, token):
    kernel_size = (5,) * len(padding)
    problem = Problem(Geometry(kernel_size, padding=padding), (9,) * len(padding), 1, 1)
    assert f" {token} " in str(problem)
    assert Problem.parse(str(problem)) == problem


@pytest.mark.parametrize("rank", LAYOUTS)
def test_layouts(rank):
    geometry = Geometry((3,) * rank)
    first, last = LAYOUTS[rank]
    assert Problem(geometry, (4,) * rank, 1, 1).layout == first
    assert Problem(geometry, (4,) * rank, 1, 1, layout=last).channels_last


REFUSED = [
    (
        "",
        GeometryError,
        "the problem line needs c (in:out channels, such as c64:32), i (input size, such as i8x8), "
        "k (kernel size, such as k4x4), got ''",
    ),
    ("c1:1 i4", GeometryError, "the problem line needs k (kernel size, such as k4x4), got"),
    ("c64 i4 k3", GeometryError, "c (in:out channels, such as c64:32), got 'c64 i4 k3': c64 is a"),
    (
        "c1:1 i4 k3 q7",
        GeometryError,
        "cannot read 'q7' in the problem line 'c1:1 i4 k3 q7': a line has c (in:out channels), "
        "i (input size), k (kernel size), and may have n (batch), g (groups), s (stride), "
        "p (padding), o (output padding), d (dilation), an operator (conv_transpose, conv, "
        "weight_grad), a dtype (f32, f64, bf16, f16, c32, c64, c128, int8, int16, int32, int64, "
        "uint8), a layout (ncl, nlc, nchw, nhwc, ncdhw, ndhwc), @name; an example is "
        "'conv_transpose n2 c64:32 g1 i8x8 k4x4 s2x2 p1x1 o0x0 d1x1 f32 nchw @name'",
    ),
    (
        "c1:1 i4 k3.5",
        GeometryError,
        "k (kernel size) takes whole numbers joined by x, such as k4x4",
    ),
    ("c1:1 i4 k", GeometryError, "k (kernel size) takes whole numbers joined by x, such as k4x4"),
    ("c1:1 i4 k3 psame", GeometryError, "p (padding) takes whole numbers or begin,end pairs"),
    ("c1-1 i4 k3", GeometryError, "c (in:out channels) takes two numbers, such as c64:32"),
    ("c1:1 i4 k3 n1x1", GeometryError, "n (batch) takes a whole number, such as n2"),
    ("c1:1 i4 k3 float32", GeometryError, "'c1:1 i4 k3 float32': did you mean f32? a line has"),
    ("c1:1 i4 k3 NLC", GeometryError, "did you mean nlc? a line has"),
    ("conv_transpose2d c1:1 i4 k3", GeometryError, "did you mean conv_transpose? a line has"),
    (
        "c1:1 i4x4 k3x3 ncl",
        GeometryError,
        "layout of 2 spatial axes must be one of nchw, nhwc, got",
    ),
    ("c1:1 i4 k3 p-1", GeometryError, "padding must be at least 0, got -1; to add positions"),
    ("c1 i4 k3", GeometryError, "cannot read 'c1'"),
    ("c1:1 i4 k3 k5", GeometryError, "'k5' gives k a second time"),
    ("c1:1 i4 k3 f32 f64", GeometryError, "'f64' gives dtype a second time"),
    (
        "c1:1 i4x4 k3",
        GeometryError,
        "every size needs the same number of axes, but i has 2 and k has 1 in 'c1:1 i4x4 k3'",
    ),
    ("c1:1 i4 k3 p1x1", GeometryError, "i has 1 and p has 2"),
    ("c1:1 i4 k0", GeometryError, "kernel_size must be at least 1, got 0"),
    ("c1:1 i0 k3", GeometryError, "input_size must be at least 1, got 0"),
    ("c0:1 i4 k3", GeometryError, "in_channels must be at least 1, got 0"),
    ("c1:1 i4 k3 o1", GeometryError, "output_padding must be smaller than stride or dilation"),
    ("c1:1 i4x4x4x4 k3x3x3x3", GeometryError, "a problem has 1 to 3 spatial axes, got 4"),
    ("c4:6 g4 i4 k3", GeometryError, "groups must divide out_channels, got groups 4 and out_chan"),
    ("c6:4 g4 i4 k3", GeometryError, "groups must divide in_channels, got groups 4 and in_chan"),
    (
        "c1:1 i4 k3 nchw",
        GeometryError,
        "layout of 1 spatial axis must be one of ncl, nlc, got 'nchw'",
    ),
    ("c1:1 i2 k1 p9", OutputSizeError, "output size would be -16"),
    ("conv c1:1 i2 k3", OutputSizeError, "covers 3 positions and does not fit size 2"),
    ("conv c1:1 i1 k4 s2", OutputSizeError, "covers 4 positions and does not fit size 1"),
    (f"c1:1 i{'9' * 2000} k3", GeometryError, "a number has at most 1000 digits, got one of 2000"),
    (5, TypeError, "a problem line is text, got 5"),
    (None, TypeError, "a problem line is text, got None"),
]


@pytest.mark.parametrize(("line", "error", "text"), REFUSED, ids=lambda v: str(v)[:25])
def test_bad_lines_are_refused(line, error, text):
    with pytest.raises(error, match=re.escape(text)):
        Problem.parse(line)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"geometry": 3}, TypeError, "geometry must be a Geometry, got 3"),
        ({"input_size": (4, 4)}, GeometryError, "input_size must have 1 value, one per axis"),
        ({"in_channels": 1.0}, TypeError, "in_channels must be an int, got 1.0 (float)"),
        ({"groups": 0}, GeometryError, "groups must be at least 1, got 0"),
        ({"batch": -1}, GeometryError, "batch must be at least 0, got -1"),
        ({"dtype": "float32"}, GeometryError, "dtype must be one of f32, f64, bf16"),
        ({"dtype": None}, GeometryError, "dtype must be one of f32, f64, bf16"),
        (
            {"layout": "nwc"},
            GeometryError,
            "layout of 1 spatial axis must be one of ncl, nlc, got 'nwc'",
        ),
        ({"operator": "deconv"}, GeometryError, "operator must be one of conv_transpose, conv"),
        ({"name": "two words"}, GeometryError, "name must have no spaces, got 'two words'"),
        ({"name": 5}, TypeError, "name must be text, got 5"),
    ],
)
def test_bad_values_are_refused(change, error, text):
    values = {"geometry": Geometry(3), "input_size": 4, "in_channels": 1, "out_channels": 1}
    with pytest.raises(error, match=re.escape(text)):
        Problem(**{**values, **change})


def test_an_output_without_positions_is_a_problem():
    assert Problem.parse("c1:1 i2 k1 p1").output_size == (0,)
    assert Problem.parse("n0 c1:1 i2 k1").input_shape == (0, 1, 2)
