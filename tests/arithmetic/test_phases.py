"""The phase law against every (input, tap) pair, found one by one."""

from hypothesis import given
from hypothesis import strategies as st

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.phases import axis_phases, is_uniform, overlap, tap_windows

axes = st.builds(
    Axis,
    kernel_size=st.integers(1, 9),
    stride=st.integers(1, 9),
    dilation=st.integers(1, 9),
    begin=st.integers(-6, 20),
    end=st.integers(-6, 20),
)
sizes = st.integers(1, 12)


def meetings(axis, size):
    """For each output, its (tap, input) pairs; inputs outside the array included."""
    found = {o: set() for o in range(max(0, axis.output_size(size)))}
    reach = range(-60, size + 60)
    for tap in range(axis.kernel_size):
        for i in reach:
            o = axis.stride * i + axis.dilation * tap - axis.begin
            if o in found:
                found[o].add((tap, i))
    return found


@given(axes, sizes)
def test_the_phases_say_for_every_output_which_taps_meet_which_inputs(axis, size):
    phases = axis_phases(axis)
    assert [phase.start for phase in phases] == list(range(axis.stride))
    for o, expected in meetings(axis, size).items():
        phase = phases[o % axis.stride]
        m = o // axis.stride
        found = {(t, m + at) for t, at in zip(phase.taps, phase.offsets, strict=True)}
        assert found == expected
        assert phase.is_empty == (not expected)


@given(axes)
def test_every_tap_belongs_to_one_phase(axis):
    taps = sorted(tap for phase in axis_phases(axis) for tap in phase.taps)
    assert taps == list(range(axis.kernel_size))


@given(axes, sizes)
def test_every_output_belongs_to_one_phase(axis, size):
    outputs = max(0, axis.output_size(size))
    for phase in axis_phases(axis):
        assert phase.count(outputs) == len(range(phase.start, outputs, axis.stride))


@given(axes)
def test_overlap_is_uniform_where_every_phase_has_equally_many_taps(axis):
    assert is_uniform(axis) == (len({len(phase.taps) for phase in axis_phases(axis)}) == 1)


@given(axes, sizes)
def test_overlap_counts_the_pairs_inside(axis, size):
    expected = tuple(
        sum(0 <= i < size for _, i in pairs) for pairs in meetings(axis, size).values()
    )
    assert overlap(axis, size) == expected


@given(axes, sizes)
def test_tap_windows_hold_the_inputs_whose_product_lands_inside(axis, size):
    outputs = max(0, axis.output_size(size))
    found = dict(tap_windows(axis, size, outputs))
    assert sorted(found) == list(range(axis.kernel_size))
    for tap, inputs in found.items():
        assert list(inputs) == [
            i
            for i in range(size)
            if 0 <= axis.stride * i + axis.dilation * tap - axis.begin < outputs
        ]
