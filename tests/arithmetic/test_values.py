"""Per-axis values: what is read, and what is refused."""

from fractions import Fraction

import numpy as np
import pytest

from polyphase.arithmetic.values import at_least, entries, pad_pair, plain, spread, whole
from polyphase.errors import GeometryError


@pytest.mark.parametrize("value", [7, np.int64(7), np.uint8(7), np.array(7)])
def test_whole_numbers_of_every_kind_become_ints(value):
    assert type(whole("stride", value)) is int
    assert whole("stride", value) == 7


@pytest.mark.parametrize(
    "value", [True, np.True_, 2.0, np.float32(2), Fraction(2), "2", b"2", None, 2j, [2]], ids=repr
)
def test_nothing_else_is_a_whole_number(value):
    with pytest.raises(TypeError, match=r"stride must be an int, got .*\(\w+\)"):
        whole("stride", value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, None),
        (np.array(2), None),
        ([2, 1], (2, 1)),
        (range(2), (0, 1)),
        (np.array([2, 1]), (2, 1)),
        (iter([2]), (2,)),
        ((), ()),
    ],
    ids=repr,
)
def test_entries(value, expected):
    assert entries("stride", value) == expected


@pytest.mark.parametrize("value", ["21", b"21", None, 2.5, {2, 1}, {2: 1}], ids=repr)
def test_what_has_no_order_or_no_numbers_has_no_entries(value):
    with pytest.raises(TypeError, match="stride must be"):
        entries("stride", value)


def test_spread():
    assert spread("stride", 2, rank=3) == (2, 2, 2)
    assert spread("stride", [2, 1], rank=3) == (2, 1)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0,), "stride must be at least 1, got 0"),
        ((2, 0), r"stride must be at least 1 on every axis, got \(2, 0\)"),
    ],
)
def test_at_least(values, text):
    at_least("stride", (1, 2), 1)
    with pytest.raises(GeometryError, match=f"^{text}$"):
        at_least("stride", values, 1)


def test_plain():
    assert plain((3,)) == 3
    assert plain((3, 5)) == (3, 5)


@pytest.mark.parametrize(
    ("entry", "expected"), [(2, (2, 2)), ((0, 1), (0, 1)), ([-1, 2], (-1, 2)), ((-1, -1), (-1, -1))]
)
def test_pad_pair(entry, expected):
    assert pad_pair(entry) == expected


@pytest.mark.parametrize(
    ("entry", "error", "text"),
    [
        (-1, GeometryError, r"padding must be at least 0, got -1; .* write a pair \(-1, -1\)"),
        ((1, 2, 3), GeometryError, r"a padding pair is \(begin, end\), got \(1, 2, 3\)"),
        ((), GeometryError, r"a padding pair is \(begin, end\), got \(\)"),
        ("same", TypeError, "padding must be an int, got 'same'"),
        ((0, 1.5), TypeError, "padding must be an int, got 1.5"),
        ((0, True), TypeError, "padding must be an int, got True"),
    ],
)
def test_pad_pair_refuses(entry, error, text):
    with pytest.raises(error, match=text):
        pad_pair(entry)
