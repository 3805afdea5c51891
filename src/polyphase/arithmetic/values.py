"""Reading of per-axis values: an int for every axis, or one entry per axis."""

from collections.abc import Iterable, Mapping, Set
from operator import index
from typing import Any, TypeGuard

from polyphase.errors import GeometryError

# an int serves every axis; a padding entry may be a (begin, end) pair
PerAxis = int | Iterable[int]
PerAxisPadding = int | Iterable[int | tuple[int, int]]


def whole(name: str, value: object) -> int:
    """``value`` as an ``int``; NumPy integers pass, bools, floats and strings do not.

    >>> whole("stride", 2)
    2
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, got {value!r} ({type(value).__name__})")
    return index(value)


def has_entries(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether a value is a collection of values, and no text.

    >>> has_entries([2, 1]), has_entries("21"), has_entries(2)
    (True, False, False)
    """
    # an array without axes claims to be iterable
    is_number = getattr(value, "ndim", None) == 0
    return isinstance(value, Iterable) and not isinstance(value, str | bytes) and not is_number


def entries(name: str, value: object) -> tuple[Any, ...] | None:
    """The entries of a per-axis value, or ``None`` where one int serves every axis.

    >>> entries("stride", [2, 1]), entries("stride", 2)
    ((2, 1), None)
    """
    if not has_entries(value):
        whole(name, value)
        return None
    if isinstance(value, Set | Mapping):
        raise TypeError(f"{name} must be an int or a sequence in order of axes, got {value!r}")
    return tuple(value)


def spread(name: str, value: object, rank: int) -> tuple[Any, ...]:
    """One entry per axis.

    >>> spread("stride", 2, rank=2)
    (2, 2)
    """
    found = entries(name, value)
    return (value,) * rank if found is None else found


def at_least(name: str, values: tuple[int, ...], low: int) -> None:
    """Refuse values below ``low``, with the name, the rule and what was given."""
    if any(value < low for value in values):
        where = " on every axis" if len(values) > 1 else ""
        raise GeometryError(f"{name} must be at least {low}{where}, got {plain(values)}")


def plain(values: tuple[Any, ...]) -> Any:
    """The public form: the bare entry for one axis, a tuple for several.

    >>> plain((3,)), plain((3, 5))
    (3, (3, 5))
    """
    return values[0] if len(values) == 1 else values


def each(value: Any) -> tuple[Any, ...]:
    """One entry per axis of what :func:`plain` made.

    >>> each(3), each((3, 5))
    ((3,), (3, 5))
    """
    return value if isinstance(value, tuple) else (value,)


def brief(values: tuple[Any, ...]) -> Any:
    """The shortest form that PyTorch reads alike: one entry where all axes have the same.

    >>> brief((3, 3)), brief((3, 5))
    (3, (3, 5))
    """
    return values[0] if len(set(values)) == 1 else values


def pad_pair(entry: object) -> tuple[int, int]:
    """The crop ``(begin, end)`` that a padding entry stands for: an int, or such a pair.

    >>> pad_pair(1), pad_pair((0, -1))
    ((1, 1), (0, -1))
    """
    pair = entries("padding", entry)
    if pair is None:
        value = whole("padding", entry)
        if value < 0:
            raise GeometryError(
                f"padding must be at least 0, got {value}; "
                f"to add positions instead of removing them write a pair ({value}, {value})"
            )
        return value, value
    if len(pair) != 2:
        raise GeometryError(f"a padding pair is (begin, end), got {entry!r}")
    return whole("padding", pair[0]), whole("padding", pair[1])
