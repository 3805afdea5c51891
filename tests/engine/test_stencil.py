"""The view that kernels have of an axis: all that meets, once, and nothing that meets nothing."""

from math import prod

import oracle
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from polyphase import Problem
from polyphase.engine.stencil import dealt, stencils, step_counts

SIZES = st.sampled_from(("conv_transpose", "conv")).flatmap(strategies.problems)


def meetings(stencil):
    """``(output, tap, input)`` of everything that meets, as a kernel would find it."""
    found = []
    for phase in stencil.phases:
        for position in range(phase.count(stencil.output_size)):
            output = stencil.out_step * position + phase.start
            for tap, offset in zip(phase.taps, phase.offsets, strict=True):
                source = stencil.in_step * position + offset
                if 0 <= source < stencil.input_size:
                    found.append((output, tap, source))
    return sorted(found)


def expected(problem):
    """The same by brute force, axis by axis."""
    for axis, n, m in zip(
        oracle._axes(problem.geometry), problem.input_size, problem.output_size, strict=True
    ):
        if problem.operator == "conv":
            yield sorted((small, tap, large) for large, tap, small in oracle._gather(axis, m, n))
        else:
            yield sorted(oracle._gather(axis, n, m))


@settings(max_examples=300)
@given(SIZES)
def test_what_meets_is_what_meets_by_brute_force(problem):
    found = [meetings(stencil) for stencil in stencils(problem)]
    # axes that the problem lacks have one input, one tap, one output
    assert found == [[(0, 0, 0)]] * (3 - problem.rank) + list(expected(problem))


@settings(max_examples=300)
@given(SIZES)
def test_positions_that_are_dealt_meet_what_they_met(problem):
    for stencil in stencils(problem):
        if stencil.output_size == 0:
            continue
        other = dealt(stencil)
        assert meetings(other) == meetings(stencil)
        assert [phase.start for phase in other.phases] == list(range(other.out_step))
        assert other.in_step * stencil.out_step == stencil.in_step * other.out_step


@pytest.mark.parametrize("line", ["c1:1 i40 k3 d2", "conv c1:1 i40 k3 d2", "c1:1 i40 k5 s2 d6"])
def test_dealt_positions_read_inputs_as_far_apart_as_their_taps(line):
    stencil = stencils(Problem.parse(line))[2]
    other = dealt(stencil)
    assert other.out_step > stencil.out_step
    apart = {abs(p.offsets.step) for p in other.phases if len(p.offsets) > 1}
    assert apart == {other.in_step}


@settings(max_examples=300)
@given(SIZES)
def test_every_tap_meets_an_input_and_every_phase_has_an_output(problem):
    for stencil in stencils(problem):
        if stencil.output_size == 0:
            continue
        assert [phase.start for phase in stencil.phases] == list(range(stencil.out_step))
        assert stencil.out_step <= stencil.output_size
        assert stencil.positions * stencil.out_step >= stencil.output_size
        for phase in stencil.phases:
            reached = [
                -stencil.in_step * (phase.count(stencil.output_size) - 1) <= o < stencil.input_size
                for o in phase.offsets
            ]
            assert all(reached)
        offsets = {o for phase in stencil.phases for o in phase.offsets} or {0}
        assert stencil.offsets == tuple(sorted(offsets))
        assert stencil.reach == max(offsets) - min(offsets)


@settings(max_examples=300)
@given(SIZES)
def test_steps_are_counted_without_listing_them(problem):
    found = stencils(problem)
    inward = prod(stencil.in_step for stencil in found)
    assert step_counts(problem) == (inward, prod(stencil.out_step for stencil in found))


@pytest.mark.parametrize(
    ("line", "steps", "taps"),
    [
        # one phase per output where there are fewer outputs than the stride
        (f"c1:1 i4 k2 s{2**40} p{2**40 + 2**39}", (1, 2), 0),
        ("c1:1 i4 k3 s9 p9,16", (1, 5), 3),
        # one input: the stride plays no part
        (f"c1:1 i1 k4 s{2**40}", (1, 4), 4),
        # one output, likewise
        (f"conv c1:1 i4 k2 s{2**40}", (1, 1), 2),
        ("conv c1:1 i4 k2 s2", (2, 1), 2),
        # taps so far apart that they never meet an input
        (f"c1:1 i4 k2 s2 d{2**40} p{2**39}", (1, 2), 0),
        (f"conv c1:1 i4 k2 d{2**40} p{2**39}", (1, 1), 0),
    ],
)
def test_steps_and_taps_of_extreme_axes(line, steps, taps):
    width = stencils(Problem.parse(line))[2]
    assert (width.in_step, width.out_step) == steps
    assert sum(len(phase.taps) for phase in width.phases) == taps
