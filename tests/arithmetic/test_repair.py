"""What is said when a size is out of reach: every offer is tried, and the numbers are checked."""

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyphase import Geometry, GeometryError, OutputSizeError, solve
from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.repair import Goal, changes, explain_unreachable, written
from polyphase.arithmetic.search import Setting

GIVEN = {"kernel_size": 3, "stride": 2, "padding": 1}


def refusal(input_size, output_size, **given_):
    with pytest.raises(OutputSizeError) as caught:
        Geometry(**given_).for_output_size(input_size, output_size)
    return str(caught.value)


def offers(text):
    """The keyword arguments of each offer in a message."""
    _, _, listed = text.partition(" is reached by ")
    found = [re.sub(r" \((exactly|keeps|loses).*?\)$", "", offer) for offer in listed.split(" | ")]
    return [eval(f"dict({offer})") for offer in found] if listed else []


def check_offers(text, input_size, output_size, given_):
    """Written into the call as they stand, the offers reach the size."""
    found = offers(text)
    assert len({frozenset(offer) for offer in found}) == len(found)
    for offer in found:
        assert Geometry(**{**given_, **offer}).output_size(input_size) == output_size
        assert offer.items() - given_.items() or "padding" in offer
    return found


def test_the_message_in_full():
    assert refusal(10, 30, **GIVEN) == (
        "output_size 30 cannot be reached from input_size 10: kernel_size=3, stride=2, padding=1 "
        "gives 19 (reachable with output_padding: 19 and 20); 30 is reached by "
        "stride=3, padding=0 (exactly 3 times every size) | "
        "kernel_size=5, stride=3 (exactly 3 times every size) | "
        "kernel_size=4, stride=3, output_padding=1 (exactly 3 times every size)"
    )


def test_the_message_for_several_axes():
    given_ = {"kernel_size": (4, 3), "stride": 2, "padding": (1, 1)}
    text = refusal((4, 6), (10, 12), **given_)
    assert "output_size (10, 12) cannot be reached from input_size (4, 6): " in text
    assert (
        "kernel_size=(4, 3), stride=2, padding=1 gives 8 on axis 0 (reachable with output_padding: "
        "8 and 9); (10, 12) is reached by padding=(0, 1), output_padding=(0, 1) | " in text
    )
    check_offers(text, (4, 6), (10, 12), given_)
    both = refusal((4, 4), (10, 10), kernel_size=(4, 4), stride=2, padding=1)
    assert "gives 8 on axis 0 and 1 (reachable with output_padding: 8 and 9)" in both
    assert "(10, 10) is reached by padding=0 | kernel_size=6 | " in both
    differing = refusal((4, 5), (10, 20), kernel_size=(4, 4), stride=2, padding=1)
    assert "gives 8 on axis 0 (reachable" in differing
    assert ") and 10 on axis 1 (reachable with output_padding: 10 and 11)" in differing


@pytest.mark.parametrize(
    ("sizes", "given_", "text"),
    [
        ((10, 12), {"kernel_size": 3, "padding": 1}, "gives 10 (output_padding must be 0 where"),
        ((3, 4), {"kernel_size": 5, "stride": 4}, "(reachable with output_padding: 13 to 16)"),
        ((1, 1), {"kernel_size": 1, "padding": 5}, "gives -9 (no output)"),
        ((4, 9), {"kernel_size": 3, "dilation": 3}, "(reachable with output_padding: 10 to 12)"),
        ((1, 3), {"kernel_size": 3, "stride": 3, "padding": 2}, "gives -1 (reachable with"),
    ],
)
def test_reachable_sizes_are_told(sizes, given_, text):
    found = refusal(*sizes, **given_)
    assert text in found
    check_offers(found, *sizes, given_)


@st.composite
def misses(draw):
    """Parameters with a target that they do not reach."""
    given_ = {
        "kernel_size": draw(st.integers(1, 7)),
        "stride": draw(st.integers(1, 5)),
        "padding": draw(st.integers(0, 4) | st.tuples(st.integers(-2, 4), st.integers(-2, 4))),
        "dilation": draw(st.integers(1, 3)),
    }
    if isinstance(given_["padding"], tuple):
        given_["padding"] = (given_["padding"],)
    return draw(st.integers(1, 9)), draw(st.integers(1, 60)), given_


@settings(max_examples=300)
@given(misses())
def test_every_offer_reaches_the_size(miss):
    size, target, given_ = miss
    try:
        Geometry(**given_).for_output_size(size, target)
    except OutputSizeError as error:
        found = check_offers(str(error), size, target, given_)
        # something always helps, for the kernel may grow and the crop may
        assert 1 <= len(found) <= 3


@settings(max_examples=300)
@given(misses())
def test_a_single_step_that_helps_is_offered(miss):
    size, target, given_ = miss
    geometry = Geometry(**given_)
    if target in geometry.output_sizes(size) or not isinstance(given_["padding"], int):
        return
    near = False
    for name, step in product(("kernel_size", "stride", "padding"), (-1, 1)):
        try:
            moved = Geometry(**{**given_, name: given_[name] + step})
            near |= moved.output_size(size) == target and faults(moved) <= faults(geometry)
        except GeometryError:
            continue
    if near:
        found = offers(refusal(size, target, **given_))
        assert any(len(offer) == 1 for offer in found)


def faults(geometry):
    (axis,) = geometry.axes
    return Setting(0, axis.kernel_size, axis.stride, axis.dilation, axis.begin, axis.end).faults


@given(misses(), st.integers(1, 9))
def test_a_change_for_several_inputs_serves_them_all(miss, more):
    size, target, given_ = miss
    axis = Geometry(**given_).axes[0]
    other = size + more
    pairs = ((size, target), (other, target + more * (axis.stride + 1)))
    setting = Setting(0, axis.kernel_size, axis.stride, axis.dilation, axis.begin, axis.end)
    goal = Goal(setting, pairs)
    assert not goal.is_reached
    for (change,) in changes([goal]):
        assert [change.axis.output_size(n) for n, _ in pairs] == [out for _, out in pairs]


def test_what_loses_inputs_is_not_advised_where_something_else_is():
    given_ = {"kernel_size": 4, "stride": 3, "padding": 0}
    for target in range(1, 40):
        if 13 <= target <= 15:
            continue
        text = refusal(4, target, **given_)
        lost = []
        for offer in offers(text):
            (axis,) = Geometry(**{**given_, **offer}).axes
            lost.append(max(axis.begin, axis.end) >= axis.extent)
        assert text.count(" (loses inputs at the border)") == sum(lost)
        assert all(lost) or not any(lost)


def test_axes_that_reach_their_size_stay_as_they_are():
    fine = Goal(Setting(0, 3, 2, 1, 1, 1), ((6, 12),))
    failing = Goal(Setting(0, 3, 2, 1, 1, 1), ((6, 13),))
    for first, second in changes([fine, failing]):
        assert first == Setting(1, 3, 2, 1, 1, 1)
        assert second.axis.output_size(6) == 13


def test_a_multiple_of_every_size_comes_before_a_hit_at_one():
    found = offers(refusal(10, 30, **GIVEN))
    assert all(offer["stride"] == 3 for offer in found)
    # 31 is no multiple of 10, so the nearest hit will do
    assert offers(refusal(10, 31, **GIVEN))[0].keys() != {"stride", "padding"}


def test_parameters_as_users_write_them():
    one = [Setting(0, 3, 2, 1, 1, 1)]
    assert written(one) == "kernel_size=3, stride=2, padding=1"
    assert written([Setting(1, 3, 2, 2, 0, 1)]) == (
        "kernel_size=3, stride=2, padding=((0, 1),), output_padding=1, dilation=2"
    )
    two = [Setting(0, 3, 2, 1, 1, 1), Setting(0, 5, 2, 1, 0, 1)]
    assert written(two) == "kernel_size=(3, 5), stride=2, padding=(1, (0, 1))"
    assert written(two, instead_of=[one[0], one[0]]) == "kernel_size=(3, 5), padding=(1, (0, 1))"
    assert written(one, instead_of=one) == ""
    negative = [Setting(0, 3, 2, 1, -1, -1)] * 2
    assert "padding=((-1, -1), (-1, -1))" in written(negative)


def test_what_the_solver_was_allowed_is_told():
    with pytest.raises(OutputSizeError, match="nearest of what is allowed, kernel_size=3, stride"):
        solve(10, 30, kernel_size=[2, 3], stride=2, padding=1)
    with pytest.raises(OutputSizeError, match=r"gives 19 \(with output_padding=0\); 20 is reached"):
        solve(10, 20, 3, 2, 1, output_padding=0)
    with pytest.raises(OutputSizeError, match=r"gives 21 \(reachable with output_padding 1: 22\)"):
        solve(10, 23, 3, 2, 0, output_padding=1)
    with pytest.raises(OutputSizeError, match=r": for example kernel_size="):
        solve(3, 10**6, range(1, 100), range(1, 100), range(2))


def test_huge_sizes_are_explained_at_once():
    text = explain_unreachable((Axis(3, 2, 1, 1, 1),), (10**30,), (3 * 10**30,))
    assert "is reached by stride=3, padding=0 (exactly 3 times every size)" in text
    assert f"gives {2 * 10**30 - 1} (reachable" in text
