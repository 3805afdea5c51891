"""Intervals of inputs and outputs against the pairs that really meet."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyphase import GeometryError
from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.windows import (
    EMPTY,
    Interval,
    inputs_needed,
    outputs_complete,
    outputs_touched,
)

axes = st.builds(
    Axis,
    kernel_size=st.integers(1, 7),
    stride=st.integers(1, 8),
    dilation=st.integers(1, 8),
    begin=st.integers(-8, 20),
    end=st.integers(-8, 20),
)
sizes = st.integers(1, 9)
# longer than anything that the intervals below can reach
STREAM = 60


@st.composite
def intervals(draw, open_end=True):
    start = draw(st.integers(0, 30))
    length = draw(st.integers(0, 14) | st.none() if open_end else st.integers(0, 14))
    return start, None if length is None else start + length


def pairs(axis, size, outputs):
    """Every (input, output) pair that some tap joins."""
    return {
        (i, axis.stride * i + axis.dilation * t - axis.begin)
        for i in range(size)
        for t in range(axis.kernel_size)
        if 0 <= axis.stride * i + axis.dilation * t - axis.begin < outputs
    }


def hull(numbers):
    return Interval(min(numbers), max(numbers) + 1) if numbers else EMPTY


def inside(interval, number):
    start, stop = interval
    return start <= number and (stop is None or number < stop)


@settings(max_examples=300)
@given(axes, sizes, intervals())
def test_inputs_needed_is_the_hull_of_those_that_meet_the_outputs(axis, size, interval):
    met = pairs(axis, size, axis.output_size(size))
    expected = hull({i for i, o in met if inside(interval, o)})
    assert inputs_needed(axis, *interval, size) == expected


@settings(max_examples=300)
@given(axes, sizes, intervals())
def test_outputs_touched_is_the_hull_of_those_that_meet_the_inputs(axis, size, interval):
    met = pairs(axis, size, axis.output_size(size))
    expected = hull({o for i, o in met if inside(interval, i)})
    assert outputs_touched(axis, *interval, size) == expected


@settings(max_examples=300)
@given(axes, sizes, intervals())
def test_outputs_complete_lie_between_what_other_inputs_touch(axis, size, interval):
    outputs = axis.output_size(size)
    met = pairs(axis, size, outputs)
    start, stop = interval
    before = [o for i, o in met if i < start]
    after = [o for i, o in met if stop is not None and i >= stop]
    first, last = max(before, default=-1) + 1, min(after, default=max(0, outputs))
    found = outputs_complete(axis, start, stop, size)
    assert found == (Interval(first, last) if first < last else EMPTY)
    # what that is for: no output inside needs an input outside
    assert all(inside(interval, i) for i, o in met if inside(found, o))
    if not found.is_empty:
        needed = inputs_needed(axis, *found, size)
        assert needed.is_empty or (
            inside(interval, needed.start) and inside(interval, needed.stop - 1)
        )


@settings(max_examples=200)
@given(axes, intervals(open_end=False))
def test_a_stream_has_no_end(axis, interval):
    met = pairs(axis, STREAM, 10**9)
    assert inputs_needed(axis, *interval, None) == hull({i for i, o in met if inside(interval, o)})
    assert outputs_touched(axis, *interval, None) == hull(
        {o for i, o in met if inside(interval, i)}
    )


@settings(max_examples=200)
@given(axes, intervals())
def test_open_intervals_of_a_stream_begin_where_the_pairs_begin(axis, interval):
    start, _ = interval
    met = pairs(axis, STREAM + start + 60, 10**9)
    needed = inputs_needed(axis, start, None, None)
    touched = outputs_touched(axis, start, None, None)
    assert needed == Interval(min(i for i, o in met if o >= start), None)
    assert touched == Interval(min(o for i, o in met if i >= start), None)


@settings(max_examples=200)
@given(axes, intervals(open_end=False))
def test_a_stream_hands_out_what_is_final_and_exists_whatever_follows(axis, interval):
    start, stop = interval
    found = outputs_complete(axis, start, stop, None)
    ends = range(max(stop, 1), stop + 30)
    met = pairs(axis, stop + 30, 10**9)
    touched_before = {o for i, o in met if i < start}
    touched_after = {o for i, o in met if i >= stop}
    exists = min((axis.output_size(n) for n in ends), default=0) if stop else 0
    first = max(touched_before, default=-1) + 1
    last = min(min(touched_after, default=10**9), exists)
    assert found == (Interval(first, last) if first < last else EMPTY)


@settings(max_examples=200)
@given(axes, st.integers(0, 12))
def test_a_stream_never_takes_back(axis, stop):
    now = outputs_complete(axis, 0, stop, None)
    later = outputs_complete(axis, 0, stop + 1, None)
    assert now.is_empty or (later.start == now.start and later.stop >= now.stop)
    if stop:
        whole = outputs_complete(axis, 0, stop, stop)
        assert now.is_empty or now.stop <= whole.stop
        assert whole.is_empty == (axis.output_size(stop) <= 0)


@given(axes, sizes)
def test_the_whole_needs_and_makes_the_whole(axis, size):
    outputs = axis.output_size(size)
    complete = outputs_complete(axis, 0, None, size)
    assert complete == (Interval(0, outputs) if outputs > 0 else EMPTY)


@given(axes, sizes, st.integers(1, 5))
@example(Axis(3, stride=2, begin=1, end=1), 9, 3)
def test_tiles_of_inputs_make_every_output_that_one_tile_can_make(axis, size, step):
    """Tiles of outputs, each from the inputs that it needs, give every output once."""
    outputs = max(0, axis.output_size(size))
    met = pairs(axis, size, outputs)
    for start in range(0, outputs, step):
        tile = Interval(start, min(start + step, outputs))
        needed = inputs_needed(axis, *tile, size)
        assert {(i, o) for i, o in met if inside(tile, o)} == {
            (i, o) for i, o in met if inside(tile, o) and inside(needed, i)
        }


def test_huge_axes_take_no_time():
    k, s = 10**12, 10**9
    dense = Axis(k, stride=s, begin=3, end=5)
    # without dilation, input i reaches positions s*i to s*i + k - 1
    low, high = 10**21 + 3, 10**21 + 7
    assert inputs_needed(dense, 10**21, 10**21 + 5, 10**15) == Interval(
        -((k - 1 - low) // s), high // s + 1
    )
    assert outputs_touched(dense, 10**12, 10**12 + 2, 10**15) == Interval(
        s * 10**12 - 3, s * (10**12 + 1) + k - 3
    )
    assert outputs_complete(dense, 0, 10**12, None) == Interval(0, s * 10**12 - 3)
    # taps s apart and inputs d apart: position u has tap -u modulo s
    sparse = Axis(k, stride=s, dilation=s - 1)
    (first, stop) = inputs_needed(sparse, 10**21 + 7, 10**21 + 8, None)
    smallest, largest = s - 7, s - 7 + (k - 1 - (s - 7)) // s * s
    assert (first, stop - 1) == tuple(
        (10**21 + 7 - (s - 1) * tap) // s for tap in (largest, smallest)
    )


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((-1, 4, 9), GeometryError, "start must be at least 0, got -1"),
        ((4, 3, 9), GeometryError, "stop must be at least start, got the interval from 4 to 3"),
        ((0, 4, 0), GeometryError, "size must be at least 1, got 0"),
        ((0.0, 4, 9), TypeError, "start must be an int, got 0.0 (float)"),
        ((0, "4", 9), TypeError, "stop must be an int, got '4' (str)"),
        ((0, 4, True), TypeError, "size must be an int, got True (bool)"),
        ((None, 4, 9), TypeError, "start must be an int, got None"),
    ],
)
@pytest.mark.parametrize("function", [inputs_needed, outputs_touched, outputs_complete])
def test_bad_intervals_are_refused(function, arguments, error, text):
    with pytest.raises(error, match=re.escape(text)):
        function(Axis(3), *arguments)
