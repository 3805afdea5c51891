"""The search on one axis against trying everything."""

from fractions import Fraction
from itertools import count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyphase.arithmetic import search as searching
from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.phases import axis_phases
from polyphase.arithmetic.search import HOLES, LOST, Freedom, Setting, search
from polyphase.arithmetic.windows import outputs_touched

# free parameters are tried up to these values
BOX = {"kernel_size": 26, "padding": 30, "stride": 16, "dilation": 6}


def values(low, high, most):
    """Some allowed values, ascending."""
    return st.lists(st.integers(low, high), min_size=1, max_size=most, unique=True).map(
        lambda found: tuple(sorted(found))
    )


pads = st.tuples(st.integers(-1, 5), st.integers(-1, 5)) | st.integers(0, 5).map(lambda p: (p, p))
freedoms = st.builds(
    Freedom,
    kernel_size=st.none() | values(1, 9, 3),
    stride=st.none() | values(1, 7, 2),
    padding=st.none()
    | st.lists(pads, min_size=1, max_size=3, unique=True).map(
        lambda found: tuple(sorted(found, key=lambda pad: (sum(pad), pad)))
    ),
    output_padding=st.none() | values(0, 3, 2),
    dilation=st.just((1,)) | st.none() | values(1, 3, 2),
)


def everything(size, target, freedom):
    """Every setting in the box that reaches the target."""
    for s in freedom.stride or range(1, BOX["stride"]):
        for d in freedom.dilation or range(1, BOX["dilation"]):
            ops = range(max(s, d))
            for k in freedom.kernel_size or range(1, BOX["kernel_size"]):
                for op in ops if freedom.output_padding is None else freedom.output_padding:
                    crop = Axis(k, s, d).output_size(size) + op - target
                    pads = freedom.padding or [(crop // 2, crop // 2)] * (crop >= 0)
                    for a, b in pads:
                        if op in ops and a + b == crop:
                            yield Setting(op, k, s, d, a, b)


def ranked(size, target, settings):
    """As the search ranks: cost, faults, and the setting itself."""
    return sorted(
        (
            Fraction(16 * abs(target - size * x.stride), size)
            + 2 * (x.faults - (-x.kernel_size // x.stride) + x.dilation - 1),
            x.faults,
            x,
        )
        for x in settings
    )


@settings(max_examples=120)
@given(st.integers(1, 6), st.integers(1, 20), freedoms, st.sampled_from((1, 3, 8)))
def test_the_search_finds_the_best_of_everything(size, target, freedom, limit):
    outcome = search(size, target, freedom, limit)
    assert outcome.stopped is None
    expected = ranked(size, target, everything(size, target, freedom))
    found = [tuple(each) for each in outcome.found]
    assert found == sorted(found)
    # the search is not confined to the box
    boxed = [each for each in found if not _outside(each[2])]
    assert boxed == expected[: len(boxed)]
    left = expected[len(boxed) :]
    assert not left or (len(found) == limit and left[0] > found[-1])


def _outside(setting):
    return (
        setting.kernel_size >= BOX["kernel_size"]
        or setting.begin >= BOX["padding"]
        or setting.stride >= BOX["stride"]
        or setting.dilation >= BOX["dilation"]
    )


@settings(max_examples=120)
@given(st.integers(1, 9), st.integers(1, 30), values(1, 9, 3), values(1, 6, 3), values(0, 5, 3))
def test_a_finite_freedom_is_searched_to_the_end(size, target, kernels, strides, paddings):
    freedom = Freedom(kernels, strides, tuple((p, p) for p in paddings), None, (1, 2))
    outcome = search(size, target, freedom, 10**6)
    assert outcome.stopped is None
    assert sorted(each.setting for each in outcome.found) == sorted(
        everything(size, target, freedom)
    )


@settings(max_examples=120)
@given(st.integers(1, 9), st.integers(1, 30), values(1, 6, 2), values(1, 5, 2))
def test_pairs_reach_whatever_ints_cannot(size, target, kernels, strides):
    freedom = Freedom(kernels, strides, None, (0,), (1,))
    outcome = search(size, target, freedom, 10**6, asymmetric=True)
    found = {(x.kernel_size, x.stride): x for _, _, x in outcome.found}
    for k in kernels:
        for s in strides:
            crop = Axis(k, s).output_size(size) - target
            setting = found.get((k, s))
            # an even crop needs no pair
            assert (setting is None) == (crop >= 0 and crop % 2 == 0)
            if setting is not None:
                assert setting.axis.output_size(size) == target
                assert setting.begin == max(crop, 0) // 2


@given(
    st.builds(
        Setting,
        kernel_size=st.integers(1, 9),
        stride=st.integers(1, 6),
        dilation=st.integers(1, 4),
        begin=st.integers(-2, 12),
        end=st.integers(-2, 12),
        output_padding=st.integers(0, 5),
    )
)
def test_faults_are_what_the_phases_show(setting):
    op, k, s, d, begin, end = setting
    axis = setting.axis
    taps = [len(phase.taps) for phase in axis_phases(axis)]
    lost = max(axis.begin, axis.end) >= axis.extent
    expected = [
        1 * (len(set(taps)) > 1),
        HOLES * (min(taps) == 0 and s > k * _common(s, d)),
        1 * (op > 0),
        1 * (axis.begin != axis.end),
        1 * (begin != end),
        3 * (min(axis.begin, axis.end) < 0),
        LOST * lost,
        1 * (axis.output_size(10) < axis.stride * 9 + 1),
    ]
    assert setting.faults == sum(expected)


def _common(s, d):
    return next(g for g in range(min(s, d), 0, -1) if s % g == 0 and d % g == 0)


def test_inputs_at_the_border_are_lost_where_faults_say_so():
    # the whole kernel of the first and of the last input is cropped away
    lost, kept = Setting(0, 3, 2, 1, 3, 3), Setting(0, 3, 2, 1, 2, 2)
    assert lost.faults >= LOST > kept.faults
    for end in ((0, 1), (8, 9)):
        assert outputs_touched(lost.axis, *end, 9).is_empty
        assert not outputs_touched(kept.axis, *end, 9).is_empty


@pytest.mark.parametrize(
    ("size", "target", "freedom"),
    [
        (10**9, 2 * 10**9, Freedom(None, None, None, None, (1,))),
        (7, 10**18, Freedom(None, None, None, None, (1,))),
        (10**18, 7, Freedom(None, None, None, None, (1,))),
        (1, 10**30, Freedom((3,), None, ((1, 1),), None, (1,))),
        (2, 10**30, Freedom((3,), None, ((1, 1),), (0,), (1,))),
        (10**30, 3 * 10**30, Freedom((5,), (3,), None, None, None)),
    ],
)
def test_huge_sizes_are_reached_without_a_stop(size, target, freedom):
    outcome = search(size, target, freedom, 10)
    assert outcome.stopped is None
    assert outcome.found
    assert all(x.axis.output_size(size) == target for _, _, x in outcome.found)


def test_an_endless_search_stops_and_says_where(monkeypatch):
    monkeypatch.setattr(searching, "TRIALS", 500)
    # a better one could always follow, for the cost of so long a kernel falls with the stride
    outcome = search(10**30, 3 * 10**30, Freedom((10**9,), None, None, (0,), (1,)), 10)
    assert len(outcome.found) == 10
    assert outcome.stopped is not None
    # strides were tried from the ratio outwards
    assert outcome.stopped < 1000


def test_that_no_stride_can_serve_is_proved_and_not_given_up(monkeypatch):
    monkeypatch.setattr(searching, "TRIALS", 500)
    # the parity is wrong for every stride
    outcome = search(3, 10**6 + 1, Freedom((2,), None, None, (0,), (1,)), 10)
    assert outcome.found == []
    assert outcome.stopped is None


def test_no_loop_goes_on_without_counting(monkeypatch):
    """Each of these walked for ever, or nearly so, before every step was counted."""
    monkeypatch.setattr(searching, "TRIALS", 2_000)
    many = tuple(islice(count(10**15, 7), 300))
    pads = tuple((p, p) for p in many)
    cases = [
        (1, 1, Freedom((232143801,), None, ((696273222, 696273222),), None, None)),
        (895, 10**28, Freedom(None, None, pads, (10**29,), (1993,))),
        (2, 80, Freedom(None, None, None, (3740, 6107, 10**29), None)),
        (10, 5000, Freedom(many, None, pads, many, None)),
        (10**17, 4, Freedom(many, many, pads, None, (1,))),
    ]
    for size, target, freedom in cases:
        outcome = search(size, target, freedom, 10)
        assert not outcome.found
