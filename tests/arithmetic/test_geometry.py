"""Geometry: what it takes, what it answers, what it refuses."""

import copy
import pickle
import re
from ast import literal_eval
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polyphase as pp
from polyphase import Geometry, GeometryError, OutputSizeError
from polyphase.arithmetic.axis import Axis

SEED = Geometry(3, stride=2, padding=1)


@st.composite
def geometries(draw, ranks=(1, 2, 3)):
    """Any legal geometry, with paddings of every kind."""
    rank = draw(st.sampled_from(ranks))
    numbers = st.lists(st.integers(1, 6), min_size=rank, max_size=rank)
    stride, dilation = draw(numbers), draw(numbers)
    pad = st.integers(0, 4) | st.tuples(st.integers(-3, 6), st.integers(-3, 6))
    return Geometry(
        draw(numbers),
        stride,
        padding=draw(st.lists(pad, min_size=rank, max_size=rank)),
        output_padding=[
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        ],
        dilation=dilation,
    )


def reached(axis, size):
    """Length of the output, from the positions that inputs and taps reach."""
    s, d, k = axis.stride, axis.dilation, axis.kernel_size
    full = max(s * i + d * t for i in range(size) for t in range(k)) + 1
    return full - axis.begin - axis.end


def each(value):
    """A public size as a tuple: the bare entry belongs to one axis."""
    return value if isinstance(value, tuple) else (value,)


@given(geometries(), st.integers(1, 9))
def test_output_size_is_where_the_positions_end(geometry, size):
    expected = tuple(reached(axis, size) for axis in geometry.axes)
    if min(expected) < 0:
        with pytest.raises(OutputSizeError, match="output size would be"):
            geometry.output_size((size,) * geometry.rank)
    else:
        assert each(geometry.output_size((size,) * geometry.rank)) == expected


@given(geometries(), st.integers(1, 9))
def test_output_sizes_are_those_of_every_legal_output_padding(geometry, size):
    found = each(geometry.output_sizes((size,) * geometry.rank))
    for i, sizes in enumerate(found):
        k, s, d = (each(v)[i] for v in (geometry.kernel_size, geometry.stride, geometry.dilation))
        legal = []
        for op in range(max(s, d)):
            one = Geometry(k, s, padding=[geometry.pads[i]], output_padding=op, dilation=d).axes[0]
            legal.append(reached(one, size))
        assert list(sizes) == [n for n in legal if n >= 0]


@given(geometries(), st.data())
def test_for_output_size_reaches_what_output_sizes_lists(geometry, data):
    size = (data.draw(st.integers(1, 9)),) * geometry.rank
    ranges = each(geometry.output_sizes(size))
    target = tuple(data.draw(st.integers(1, max(60, *r, 1) if r else 60)) for r in ranges)
    if all(n in sizes for n, sizes in zip(target, ranges, strict=True)):
        found = geometry.for_output_size(size, target)
        assert each(found.output_size(size)) == target
        assert (found.kernel_size, found.stride, found.pads, found.dilation) == (
            geometry.kernel_size,
            geometry.stride,
            geometry.pads,
            geometry.dilation,
        )
    else:
        with pytest.raises(OutputSizeError, match="cannot be reached"):
            geometry.for_output_size(size, target)


@given(geometries(), st.integers(1, 40))
def test_conv_sizes_and_the_sizes_that_lead_to_them(geometry, size):
    plain = Geometry(
        geometry.kernel_size, geometry.stride, padding=geometry.pads, dilation=geometry.dilation
    )
    sizes = (size,) * geometry.rank
    windows = tuple(
        sum(axis.stride * j + axis.extent <= size + axis.begin + axis.end for j in range(99))
        for axis in plain.axes
    )
    if min(windows) < 1:
        with pytest.raises(OutputSizeError, match="does not fit size"):
            geometry.conv_output_size(sizes)
    else:
        assert each(geometry.conv_output_size(sizes)) == windows
        for m, small in zip(each(geometry.conv_input_sizes(windows)), windows, strict=True):
            assert size in m
            assert small >= 1


@given(geometries(ranks=(1,)), st.integers(1, 6))
def test_phases_and_overlap_are_those_of_the_axes(geometry, size):
    assert len(geometry.phases()) == geometry.stride
    if geometry.axes[0].output_size(size) >= 0:
        assert len(geometry.overlap(size)) == geometry.output_size(size)
    counts = {len(phase.taps) for phase in geometry.phases()}
    assert geometry.is_uniform == (len(counts) == 1)


@given(geometries())
def test_repr_is_the_constructor_call(geometry):
    again = eval(repr(geometry), {"Geometry": Geometry})
    assert again == geometry
    assert repr(again) == repr(geometry)
    assert hash(again) == hash(geometry)
    assert again.axes == geometry.axes


@given(geometries())
def test_copies_and_pickles(geometry):
    for again in (copy.deepcopy(geometry), pickle.loads(pickle.dumps(geometry))):
        assert again == geometry
        assert again.axes == geometry.axes


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(1, 20))
def test_same_multiplies_every_size(kernel_size, stride, dilation, size):
    geometry = Geometry.same(kernel_size, stride, dilation=dilation)
    assert geometry.output_size(size) == size * stride
    ((begin, end),) = geometry.crops
    # the convention of TensorFlow: the end loses the odd one, the beginning never gains
    assert begin >= 0
    assert end - begin in (0, 1) or begin == 0


def test_the_forms_of_parameters():
    assert Geometry((3,), (2,)) == Geometry(3, 2)
    assert Geometry(3, padding=[1]) == Geometry(3, padding=1) == Geometry(3, padding=((1, 1),))
    assert Geometry([3, 5], stride=2).stride == (2, 2)
    assert Geometry(np.int64(3), stride=np.array([2])).kernel_size == 3
    assert type(Geometry(np.int64(3)).kernel_size) is int
    assert Geometry(3, stride=2, padding=((0, 1),)).padding == ((0, 1),)
    assert Geometry((3, 3), padding=((0, 1), 2)).padding == ((0, 1), 2)
    assert Geometry(iter([3, 5])).kernel_size == (3, 5)
    assert Geometry(3, padding=((-1, -1),)).pads == ((-1, -1),)


def test_equality_is_that_of_the_parameters():
    assert Geometry(3, stride=2) != Geometry(3, stride=1)
    assert Geometry(3) != Geometry((3, 3))
    # the same crop, but output padding is a parameter of its own
    assert Geometry(3, 2, padding=((1, 0),)) != Geometry(3, 2, padding=1, output_padding=1)
    assert Geometry(3, 2, padding=((1, 0),)).axes == (Axis(3, 2, 1, 1, 0),)
    assert Geometry(3, 2, padding=1, output_padding=1).axes == (Axis(3, 2, 1, 1, 0),)


def test_the_shape_of_answers():
    two = Geometry((3, 5), stride=(2, 1), padding=(4, 2))
    assert two.output_size((50, 100)) == (93, 100)
    assert two.output_sizes((50, 100)) == (range(93, 95), range(100, 101))
    assert two.conv_input_sizes((50, 100)) == (range(93, 95), range(100, 101))
    assert two.conv_output_size((93, 100)) == (50, 100)
    assert two.rank == 2
    assert [len(axis) for axis in two.phases()] == [2, 1]
    assert [len(counts) for counts in two.overlap((6, 7))] == [5, 7]
    assert Geometry((3,)).output_size((6,)) == Geometry(3).output_size(6) == 8
    assert Geometry(3).sizes(6) == (6,)


REFUSED = [
    ({"kernel_size": 0}, GeometryError, "kernel_size must be at least 1, got 0"),
    ({"stride": -1}, GeometryError, "stride must be at least 1, got -1"),
    ({"dilation": 0}, GeometryError, "dilation must be at least 1, got 0"),
    ({"padding": -1}, GeometryError, "padding must be at least 0, got -1; to add positions"),
    ({"output_padding": -1}, GeometryError, "output_padding must be at least 0, got -1"),
    (
        {"stride": 2, "output_padding": 2, "dilation": 2},
        GeometryError,
        "output_padding must be smaller than stride or dilation, got output_padding 2 with stride "
        "2 and dilation 2: 0 to 1 are allowed",
    ),
    ({"kernel_size": 3.0}, TypeError, "kernel_size must be an int, got 3.0 (float)"),
    ({"kernel_size": "3"}, TypeError, "kernel_size must be an int, got '3' (str)"),
    ({"kernel_size": True}, TypeError, "kernel_size must be an int, got True (bool)"),
    ({"kernel_size": None}, TypeError, "kernel_size must be an int, got None (NoneType)"),
    ({"padding": "same"}, TypeError, "use Geometry.same(...)"),
    ({"padding": [1.5]}, TypeError, "padding must be an int, got 1.5 (float)"),
    ({"padding": [(1, 2, 3)]}, GeometryError, "a padding pair is (begin, end), got (1, 2, 3)"),
    ({"kernel_size": ()}, GeometryError, "kernel_size must have at least one entry, got ()"),
    ({"stride": {2, 3}}, TypeError, "stride must be an int or a sequence in order of axes"),
    (
        {"kernel_size": (3, 3), "stride": (1, 2, 3)},
        GeometryError,
        "every parameter needs the same number of axes, but kernel_size has 2, stride has 3",
    ),
]


@pytest.mark.parametrize(("given_", "error", "text"), REFUSED, ids=lambda v: str(v)[:30])
def test_bad_parameters_are_refused(given_, error, text):
    with pytest.raises(error, match=re.escape(text)):
        Geometry(**{"kernel_size": 3, **given_})


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda g: g.output_size(0), GeometryError, "input_size must be at least 1, got 0"),
        (lambda g: g.output_size((6, 6)), GeometryError, "input_size must have 1 value, one per"),
        (lambda g: g.output_size(6.0), TypeError, "input_size must be an int, got 6.0"),
        (lambda g: g.output_size(()), GeometryError, "input_size must have 1 value"),
        (lambda g: g.conv_output_size(-3), GeometryError, "size must be at least 1, got -3"),
        (lambda g: g.conv_input_sizes(0), GeometryError, "size must be at least 1, got 0"),
        (lambda g: g.output_sizes("6"), TypeError, "input_size must be an int, got '6'"),
        (lambda g: g.for_output_size(6, 0), GeometryError, "output_size must be at least 1"),
        (lambda g: g.for_output_size(6, 13), OutputSizeError, "output_size 13 cannot be reached"),
        (lambda g: g.overlap(10**9), GeometryError, "too many to list one by one: at most 1000000"),
    ],
)
def test_bad_sizes_are_refused(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call(SEED)


def test_a_stride_with_too_many_phases_is_not_listed():
    with pytest.raises(GeometryError, match="stride is 1000001, too many to list one by one"):
        Geometry(3, stride=1_000_001).phases()


@given(geometries(), st.data())
def test_a_crop_that_is_too_large_says_what_would_do(geometry, data):
    axes = st.lists(st.integers(0, 30), min_size=geometry.rank, max_size=geometry.rank)
    geometry = replace(geometry, padding=data.draw(axes))
    size = (1,) * geometry.rank
    try:
        geometry.output_size(size)
    except OutputSizeError as error:
        found = re.fullmatch(
            r"output size would be (-\d+)( on axis \d)?: input 1 gives a full result of \d+, and "
            r"padding removes \d+ and -?\d+; use at most padding=(.*), or an input of at least "
            r"(.*)",
            str(error),
        )
        padding, enough = map(literal_eval, found.groups()[2:])
        # every axis has an output then, and those at fault the last one or two that are left
        mended = np.ravel(replace(geometry, padding=padding).output_size(size))
        assert mended.min() >= 1
        axis = int(found[2][-1]) if found[2] else 0
        assert mended[axis] <= 2
        assert np.ravel(geometry.output_size(enough)).min() >= 1
        fewer = list(np.ravel(enough))
        fewer[axis] -= 1
        assert geometry.axes[axis].output_size(fewer[axis]) < 1


def test_a_crop_that_is_too_large_is_told_of_its_axis():
    geometry = Geometry((3, 3), stride=(1, 2), padding=(0, 9))
    told = "would be -13 on axis 1: input 2 gives a full result of 5, and padding removes 9 and 9;"
    text = f"{told} use at most padding=(0, 2), or an input of at least (4, 9)"
    with pytest.raises(OutputSizeError, match=re.escape(text)):
        geometry.output_size((4, 2))


@given(st.integers(1, 9), st.integers(0, 4), st.integers(1, 3))
def test_a_kernel_that_does_not_fit_says_which_size_would_do(kernel_size, padding, dilation):
    geometry = Geometry(kernel_size, 2, padding=padding, dilation=dilation)
    try:
        geometry.conv_output_size(1)
    except OutputSizeError as error:
        enough = int(str(error).rsplit(" ", 1)[1])
        assert geometry.conv_output_size(enough) == 1
        with pytest.raises(OutputSizeError):
            geometry.conv_output_size(enough - 1)


def test_huge_values_are_exact():
    huge = Geometry(10**12, stride=10**15, padding=10**11, dilation=10**9)
    full = (10**18 - 1) * 10**15 + (10**12 - 1) * 10**9 + 1
    assert huge.output_size(10**18) == full - 2 * 10**11
    assert huge.conv_output_size(huge.output_size(10**18)) == 10**18
    assert len(huge.output_sizes(10**18)) == 10**15
    reached = huge.for_output_size(10**18, huge.output_size(10**18) + 10**14)
    assert reached.output_padding == 10**14


def test_both_standard_types_are_raised():
    for kind in (ValueError, RuntimeError, pp.PolyphaseError):
        with pytest.raises(kind, match="stride must be at least 1"):
            Geometry(3, stride=0)
