"""The solver as users call it: what it offers first, how freedom is given, what it refuses."""

import importlib
import re
from itertools import count, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polyphase as pp
from polyphase import Geometry, GeometryError, OutputSizeError, inverse_of, solve
from polyphase.arithmetic import freedom as reading
from polyphase.arithmetic import search as searching

# what an expert writes down without thinking, and where it is used
FIRST = [
    ((6, 12), {}, Geometry(2, 2)),  # U-Net
    ((6, 12), {"kernel_size": 4}, Geometry(4, 2, padding=1)),  # DCGAN
    ((6, 12), {"kernel_size": 3}, Geometry(3, 2, padding=1, output_padding=1)),  # pix2pix
    ((6, 11), {}, Geometry(3, 2, padding=1)),
    ((6, 11), {"stride": 2}, Geometry(3, 2, padding=1)),
    ((5, 13), {"kernel_size": 5, "stride": 2}, Geometry(5, 2)),  # DreamerV2
    ((1, 4), {"stride": 1}, Geometry(4)),  # DCGAN, first layer
    ((100, 800), {"kernel_size": 16}, Geometry(16, 8, padding=4)),  # HiFi-GAN
    ((100, 500), {"kernel_size": 10}, Geometry(10, 5, padding=3, output_padding=1)),  # MelGAN
    ((10, 30), {}, Geometry(3, 3)),
    ((10, 30), {"kernel_size": 5}, Geometry(5, 3, padding=1)),
    ((9, 9), {"kernel_size": 3}, Geometry(3, padding=1)),
    ((10, 8), {"kernel_size": 3}, Geometry(3, padding=2)),
    ((20, 40), {"kernel_size": 9}, Geometry(9, 2, padding=4, output_padding=1)),  # FSRCNN
    ((37, 148), {}, Geometry(4, 4)),  # DPT
]


@pytest.mark.parametrize(("sizes", "freedom", "expected"), FIRST, ids=str)
def test_the_first_is_what_an_expert_would_choose(sizes, freedom, expected):
    assert solve(*sizes, **freedom)[0] == expected


def test_seven_to_sixteen():
    found = solve(7, 16, stride=2)
    assert found[:3] == [Geometry(4, 2), Geometry(6, 2, padding=1), Geometry(8, 2, padding=2)]
    assert Geometry(5, 2, padding=1, output_padding=1) in found
    assert len(found) == 10
    assert found.stopped is None


@given(st.integers(1, 70), st.integers(1, 70), st.none() | st.integers(1, 9))
def test_what_loses_inputs_at_the_border_comes_last(size, target, kernel_size):
    found = solve(size, target, kernel_size=kernel_size, limit=20)
    lost = [any(max(a, b) >= axis.extent for a, b in g.crops for axis in g.axes) for g in found]
    assert lost == sorted(lost)
    # with free parameters nothing has to be lost
    assert kernel_size or not any(lost)


def test_ten_to_thirty_is_explained():
    with pytest.raises(OutputSizeError) as caught:
        solve(10, 30, 3, 2, 1)
    text = str(caught.value)
    assert (
        "kernel_size=3, stride=2, padding=1 gives 19 (reachable with output_padding: 19 and 20)"
        in text
    )
    assert "30 is reached by stride=3, padding=0 (exactly 3 times every size)" in text
    assert "kernel_size=5, stride=3" in text


@st.composite
def tasks(draw):
    """Sizes and a finite freedom on one to three axes."""
    rank = draw(st.integers(1, 3))
    few = st.lists(st.integers(1, 4), min_size=1, max_size=2, unique=True)
    freedom = {
        "kernel_size": draw(few | st.integers(1, 5)),
        "stride": draw(few | st.integers(1, 3)),
        "padding": draw(
            st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True) | st.integers(0, 2)
        ),
        "output_padding": draw(st.none() | st.just(0) | st.just([0, 1])),
        "dilation": draw(st.just(1) | st.just([1, 2])),
    }
    sizes = [draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)) for _ in range(2)]
    return tuple(sizes[0]), tuple(n + extra for n, extra in zip(*sizes, strict=True)), freedom


def every_geometry(inputs, targets, freedom):
    """Every geometry within a freedom that maps the one to the other, by trying them all."""

    def options(name, default):
        value = freedom[name]
        return default if value is None else [value] if isinstance(value, int) else value

    choices = list(
        product(
            options("kernel_size", None),
            options("stride", None),
            options("padding", None),
            options("output_padding", range(4)),
            options("dilation", None),
        )
    )
    by_axis = []
    for n, target in zip(inputs, targets, strict=True):
        reaching = []
        for choice in choices:
            k, s, p, op, d = choice
            try:
                one = Geometry(k, s, padding=p, output_padding=op, dilation=d)
                if one.output_size(n) == target:
                    reaching.append(choice)
            except GeometryError:
                continue
        by_axis.append(reaching)
    for axes in product(*by_axis):
        k, s, p, op, d = zip(*axes, strict=True)
        yield Geometry(k, s, padding=p, output_padding=op, dilation=d)


@settings(max_examples=150)
@given(tasks())
def test_a_finite_freedom_is_searched_to_the_end_on_every_axis(task):
    inputs, targets, freedom = task
    expected = set(every_geometry(inputs, targets, freedom))
    if expected:
        found = solve(inputs, targets, **freedom, limit=len(expected) + 1)
        assert len(found) == len(set(found))
        assert set(found) == expected
        assert found.stopped is None
    else:
        with pytest.raises(OutputSizeError, match="cannot be reached"):
            solve(inputs, targets, **freedom)


@given(st.integers(1, 40), st.integers(1, 120), st.integers(1, 20))
def test_everything_free_always_leads_there(size, target, limit):
    found = solve(size, target, limit=limit)
    assert len(found) == limit
    assert all(geometry.output_size(size) == target for geometry in found)


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=4, unique=True),
    st.integers(1, 4), st.integers(1, 6), st.integers(0, 2),
)  # fmt: skip
def test_several_inputs_are_served_by_each_geometry(sizes, stride, kernel_size, padding):
    axis = Geometry(kernel_size, stride, padding=padding)
    targets = [axis.axes[0].output_size(n) for n in sizes]
    if min(targets) < 1:
        return
    found = solve(sizes, targets)
    for geometry in found:
        assert geometry.stride == stride
        assert [geometry.output_size(n) for n in sizes] == targets
    assert axis in solve(sizes, targets, kernel_size=kernel_size)


def test_an_upsampler_for_every_size():
    found = solve([5, 7, 9], [10, 14, 18])
    assert found[:2] == [Geometry(2, 2), Geometry(4, 2, padding=1)]
    assert all(geometry.output_size(n) == 2 * n for geometry in found for n in range(1, 100))
    pairs = solve([(5, 4), (7, 4)], [(10, 4), (14, 4)], kernel_size=4, limit=3)
    assert all(geometry.output_size((5, 4)) == (10, 4) for geometry in pairs)
    assert all(geometry.stride[0] == 2 for geometry in pairs)


def test_equal_axes_get_equal_parameters_first():
    found = solve((7, 7, 7), (14, 14, 14), limit=6)
    for geometry in found:
        assert len(set(geometry.kernel_size)) == len(set(geometry.stride)) == 1
    assert found[0] == Geometry((2, 2, 2), 2)


def test_how_freedom_is_written():
    expected = [Geometry(4, 2, padding=1)]
    for kernel_size in (4, [4], {4}, (4,), range(4, 5), iter([4]), np.array([4]), np.int64(4)):
        assert solve(6, 12, kernel_size, padding=[1]) == expected
    two = Geometry((4, 3), (2, 1), padding=(1, 1))
    # where the sizes are tuples, a tuple is per axis
    assert solve((6, 9), (12, 9), kernel_size=(4, 3))[0] == two
    assert solve((6, 9), (12, 9), kernel_size=([4], range(3, 4)))[0] == two
    assert solve((6, 9), (12, 9), kernel_size=(4, None), padding=(1, 1))[0] == two
    # other collections serve every axis
    assert solve((6, 9), (12, 9), kernel_size=[3, 4], padding=[1])[0] == two
    assert solve((6,), (12,), kernel_size=(4,), limit=1) == expected
    # for one size without axes, a tuple is a collection too
    assert solve(6, 12, kernel_size=(3, 4), limit=1) == expected


def test_pairs_of_padding_where_they_are_allowed():
    assert solve(10, 20, 3, 2, padding=[(0, 1)]) == [Geometry(3, 2, padding=((0, 1),))]
    assert solve((10,), (20,), 3, 2, padding=((0, 1),)) == [Geometry(3, 2, padding=((0, 1),))]
    found = solve((10, 6), (20, 6), 3, (2, 1), padding=((0, 1), [1, 2]))
    assert found == [Geometry((3, 3), (2, 1), padding=((0, 1), 1))]


def test_pairs_of_padding_where_nothing_else_reaches():
    # an even kernel without stride changes the size by an odd number
    assert solve(10, 10, 4, 1) == [Geometry(4, padding=((1, 2),))]
    assert solve(10, 20, 3, 2, output_padding=0) == [Geometry(3, 2, padding=((0, 1),))]
    # a kernel shorter than the stride: positions are added that no tap reaches
    assert solve(10, 20, 1, 2, output_padding=0) == [Geometry(1, 2, padding=((0, -1),))]
    # an int reaches, so no pair is offered
    assert all(isinstance(g.padding, int) for g in solve(10, 20, 3, 2, limit=100))


def test_output_padding_obeys_the_rule():
    for geometry in solve(4, 11, stride=[1, 2, 3], dilation=[1, 2, 3, 4], limit=500):
        assert geometry.output_padding < max(geometry.stride, geometry.dilation)
    assert Geometry(3, output_padding=2, dilation=3) in solve(4, 12, 3, 1, 0, dilation=3)


def test_limit():
    assert len(solve(6, 12, limit=1)) == 1
    assert solve(6, 12, limit=3) == solve(6, 12, limit=30)[:3]
    assert len(solve((6, 6), (12, 12), limit=2000)) == 2000


def test_a_limit_that_nobody_reads_to_the_end_is_no_trap():
    found = solve((6, 6, 6), (12, 12, 12), kernel_size=range(1, 40), stride=2, limit=10**9)
    assert 20_000 <= len(found) < 39**3
    assert found.stopped.startswith("only the best 20")
    assert found.stopped.endswith(" combinations of the axes were ranked")


def test_solve_is_the_function_whatever_was_imported():
    module = importlib.import_module("polyphase.arithmetic.solve")
    assert pp.solve is module.solve
    assert callable(pp.solve)
    assert "solve" in dir(pp)


def test_huge_sizes():
    found = solve(10**9, 2 * 10**9)
    assert found[0] == Geometry(2, 2)
    assert found.stopped is None
    assert solve((10**30, 7), (3 * 10**30, 7))[0].stride == (3, 1)
    # one choice left, far from the ratio
    assert solve(2, 10**30, 3, None, 1, 0) == [Geometry(3, 10**30 - 1, padding=1)]


def test_a_collection_without_end_is_read_so_far_and_no_further(monkeypatch):
    found = solve(6, 12, kernel_size=count(1), limit=2)
    assert found == [Geometry(2, 2), Geometry(4, 2, padding=1)]
    assert found.stopped == "of kernel_size only the first 4096 values were tried"
    monkeypatch.setattr(reading, "VALUES", 3)
    found = solve((6, 6), (12, 12), kernel_size=([1, 2, 3], count(1)), limit=1)
    assert "of kernel_size on axis 1 only the first" in found.stopped
    with pytest.raises(OutputSizeError, match="only the first 4096 values were tried"):
        solve(6, 12, kernel_size=5, stride=range(3, 10**12), padding=0)


def test_a_search_that_was_broken_off_says_so(monkeypatch):
    monkeypatch.setattr(searching, "TRIALS", 40)
    found = solve(6, 12, limit=50)
    assert re.fullmatch(
        r"the search stopped after \d+ parameter sets, at stride 2: fix or narrow a parameter",
        found.stopped,
    )
    far = {"kernel_size": 3, "stride": range(100, 4000), "padding": 1}
    with pytest.raises(OutputSizeError, match=r"; the search stopped after .* at stride 1\d\d:"):
        solve(6, 12, **far)
    # the message looks for the nearest; if that arrives, it is a solution
    monkeypatch.setattr(searching, "TRIALS", 1)
    found = solve(6, 12, [1, 3], [1, 2], [0, 1])
    assert found[0].output_size(6) == 12
    assert "the search stopped after" in found.stopped


REFUSED = [
    ((0, 16), {}, GeometryError, "input_size must be at least 1, got 0"),
    ((7, -1), {}, GeometryError, "output_size must be at least 1, got -1"),
    (((7, 7), (16, 0)), {}, GeometryError, "output_size must be at least 1 on every axis"),
    ((7.0, 16), {}, TypeError, "input_size must be an int, got 7.0 (float)"),
    (("7", 16), {}, TypeError, "input_size must be an int, got '7' (str)"),
    ((7, None), {}, TypeError, "output_size must be an int, got None"),
    (((7, 7), 16), {}, GeometryError, "same number of axes, got (7, 7) and 16"),
    (((), ()), {}, GeometryError, "same number of axes, got () and ()"),
    (([7, (8,)], [16, 18]), {}, GeometryError, "same number of axes"),
    (([7], 16), {}, TypeError, "input_size and output_size must both be lists"),
    (([7, 8], [16]), {}, GeometryError, "must list equally many sizes, at least one, got 2 and 1"),
    (([], []), {}, GeometryError, "must list equally many sizes, at least one, got 0 and 0"),
    (([7, 7], [16, 17]), {}, OutputSizeError, "input_size 7 cannot give both 16 and 17"),
    (
        ([5, 7, 9], [10, 14, 19]),
        {},
        OutputSizeError,
        "input sizes [5, 7, 9] cannot give [10, 14, 19] with one geometry: each further input adds "
        "one stride of outputs; stride=2 could give [10, 14, 18], stride=3 [10, 16, 22]",
    ),
    (([5, 7], [14, 10]), {}, OutputSizeError, "cannot give [14, 10] with one geometry"),
    (([(5, 5), (5, 7)], [(5, 10), (5, 13)]), {}, OutputSizeError, "on axis 1 with one geometry"),
    ((7, 16), {"stride": 0}, GeometryError, "stride must be at least 1, got 0"),
    ((7, 16), {"stride": [1, 0]}, GeometryError, "stride must be at least 1, got 0"),
    ((7, 16), {"kernel_size": 2.5}, TypeError, "kernel_size must be an int, got 2.5 (float)"),
    ((7, 16), {"kernel_size": True}, TypeError, "kernel_size must be an int, got True (bool)"),
    ((7, 16), {"kernel_size": "3"}, TypeError, "kernel_size must be an int, got '3' (str)"),
    ((7, 16), {"kernel_size": ["3"]}, TypeError, "kernel_size must be an int, got '3' (str)"),
    ((7, 16), {"kernel_size": []}, GeometryError, "kernel_size must allow at least one value"),
    ((7, 16), {"padding": -1}, GeometryError, "padding must be at least 0, got -1; to add"),
    ((7, 16), {"padding": "same"}, TypeError, "padding must be an int, got 'same'"),
    ((7, 16), {"padding": [(1, 2, 3)]}, GeometryError, "a padding pair is (begin, end)"),
    ((7, 16), {"output_padding": -1}, GeometryError, "output_padding must be at least 0, got -1"),
    ((7, 16), {"dilation": 0}, GeometryError, "dilation must be at least 1, got 0"),
    (
        (10, 30),
        {"stride": [2, 3], "output_padding": 3},
        GeometryError,
        "output_padding must be smaller than stride or dilation, got output_padding 3 with stride "
        "up to 3 and dilation up to 1: 0 to 2 are allowed",
    ),
    (
        ((7, 7), (16, 16)),
        {"kernel_size": (1, 2, 3)},
        GeometryError,
        "a tuple for kernel_size must have 2 entries, one per axis, got (1, 2, 3); allowed values "
        "that serve every axis are written as a list",
    ),
    ((7, 16), {"limit": 0}, GeometryError, "limit must be at least 1, got 0"),
    ((7, 16), {"limit": None}, TypeError, "limit must be an int, got None"),
]


@pytest.mark.parametrize(("sizes", "freedom", "error", "text"), REFUSED, ids=str)
def test_bad_arguments_are_refused(sizes, freedom, error, text):
    with pytest.raises(error, match=re.escape(text)):
        solve(*sizes, **freedom)


@given(
    st.integers(1, 9), st.integers(1, 6), st.integers(1, 4), st.integers(0, 4), st.integers(1, 40)
)
def test_the_inverse_leads_back_and_has_the_output_padding_of_the_formula(k, s, d, p, size):
    conv = Geometry(k, s, padding=p, dilation=d)
    if size + 2 * p < conv.axes[0].extent:
        with pytest.raises(OutputSizeError, match="does not fit size"):
            inverse_of(conv, size)
        return
    back = inverse_of(conv, size)
    assert back.output_size(conv.conv_output_size(size)) == size
    assert back.output_padding == (size + 2 * p - conv.axes[0].extent) % s


def test_the_inverse_on_several_axes():
    conv = Geometry((3, 4), (2, 3), padding=(1, (0, 1)))
    back = inverse_of(conv, (12, 13))
    assert back == Geometry((3, 4), (2, 3), padding=(1, (0, 1)), output_padding=(1, 1))
    assert back.output_size(conv.conv_output_size((12, 13))) == (12, 13)
