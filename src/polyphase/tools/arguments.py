"""What people type on the command line, read into sizes, geometries and problems."""

import re
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import Problem
from polyphase.arithmetic.values import each, plain
from polyphase.errors import GeometryError, PolyphaseError

MAX_AXES = 3
MAX_DIGITS = 18
LINE_EXAMPLE = "'n2 c64:32 i8x8 k4x4 s2x2 p1x1'"
# \d would let in the digits of every script
_NUMBER = "-?[0-9]+"
_NUMBERS = f"{_NUMBER}(x{_NUMBER})*"
_PAD = f"{_NUMBER}(,{_NUMBER})?"
_PADS = f"{_PAD}(x{_PAD})*"

LETTERS = {
    "kernel_size": "k",
    "stride": "s",
    "padding": "p",
    "output_padding": "o",
    "dilation": "d",
}
_TUPLE = r"\((?:-?\d+|\(-?\d+, -?\d+\))(?:, (?:-?\d+|\(-?\d+, -?\d+\)))*,?\)"
_ASSIGNMENT = rf"\b(?:{'|'.join(LETTERS)})=(?:-?\d+|{_TUPLE})"
_SPELLED = re.compile(
    rf"(?P<parameters>{_ASSIGNMENT}(?:, {_ASSIGNMENT})*)|a pair (?P<pair>\(-?\d+, -?\d+\))"
    rf"|(?P<sizes>\[(?:\d+|{_TUPLE})(?:, (?:\d+|{_TUPLE}))*\])|(?P<size>{_TUPLE})"
)


def reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader whose refusals click ties to the argument or option that was read."""

    def reading(text: str) -> Any:
        try:
            return read(text)
        except PolyphaseError as error:
            raise click.BadParameter(str(error)) from None

    return reading


def numbers(text: str) -> tuple[int, ...]:
    """One whole number per axis, or one for all.

    >>> numbers("50x100")
    (50, 100)

    This and the other readers raise :class:`~polyphase.GeometryError` for what they cannot read.
    """
    if not re.fullmatch(_NUMBERS, text):
        raise GeometryError(f"{short(text)} is not whole numbers joined by x, such as 6 or 50x100")
    return tuple(map(int, _entries(text)))


def sizes(text: str) -> list[tuple[int, ...]]:
    """One size, or several with commas between them.

    >>> sizes("5x5,7x7")
    [(5, 5), (7, 7)]
    """
    found = [numbers(size) for size in text.split(",")]
    if len({len(size) for size in found}) > 1:
        raise GeometryError(f"the sizes in {short(text)} differ in their number of axes")
    return found


def pads(text: str) -> str | tuple[int | tuple[int, int], ...]:
    """One number or begin,end per axis, or one for all; ``same`` stays as it is.

    >>> pads("0,1x2"), pads("same")
    (((0, 1), 2), 'same')
    """
    if text == "same":
        return text
    if not re.fullmatch(_PADS, text):
        raise GeometryError(
            f"{short(text)} is neither whole numbers joined by x, such as 1, 4x2 or 0,1x0,1, "
            "nor the word same"
        )
    pairs = [[int(number) for number in entry.split(",")] for entry in _entries(text)]
    return tuple((pair[0], pair[1]) if len(pair) == 2 else pair[0] for pair in pairs)


def geometry(rank: int, given: dict[str, Any]) -> Geometry:
    """The geometry of the options given, the others at their defaults.

    >>> geometry(2, {"kernel_size": (3,), "stride": (2, 1), "padding": None})
    Geometry(kernel_size=(3, 3), stride=(2, 1))
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if "kernel_size" not in chosen:
        raise GeometryError("the kernel size is missing: add -k, for example -k 3")
    make: Callable[..., Geometry] = Geometry
    if chosen.get("padding") == "same":
        if "output_padding" in chosen:
            raise GeometryError("padding same fixes the output size: leave out -o")
        del chosen["padding"]
        make = Geometry.same
    with spelled():
        return make(**{name: _spread(name, value, rank) for name, value in chosen.items()})


def freedom(rank: int, given: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The allowed values of each option that was given, as :func:`polyphase.solve` takes them.

    >>> freedom(1, {"kernel_size": ((3,), (5,)), "stride": ()})
    {'kernel_size': [3, 5]}
    >>> freedom(2, {"kernel_size": ((3,),), "stride": ((2, 1), (2, 2))})
    {'kernel_size': ([3], [3]), 'stride': ([2], [1, 2])}
    """
    if "same" in given.get("padding", ()):
        raise GeometryError("padding same has nothing left to solve: use polyphase size -p same")
    allowed = {}
    for name, values in given.items():
        by_axis = list(zip(*(_spread(name, value, rank) for value in values), strict=True))
        if values:
            allowed[name] = plain(tuple(list(dict.fromkeys(axis)) for axis in by_axis))
    return allowed


def problem(text: str, given: dict[str, Any]) -> Problem:
    """The problem of a line, or of an input size with options, one channel and one sample.

    >>> print(problem("6", {"kernel_size": (3,)}))
    conv_transpose n1 c1:1 g1 i6 k3 s1 p0 o0 d1 f32 ncl
    """
    _check_digits(text)
    if re.fullmatch(_NUMBERS, text):
        input_size = numbers(text)
        with spelled():
            return Problem(geometry(len(input_size), given), input_size, 1, 1)
    if len(text.split()) == 1:
        raise GeometryError(
            f"{short(text)} is neither an input size such as 6 or 50x100 "
            f"nor a problem line such as {LINE_EXAMPLE}"
        )
    if any(value is not None for value in given.values()):
        raise GeometryError(
            "a problem line holds every parameter: write k, s, p, o and d into it, not as options"
        )
    with spelled(line=True):
        return Problem.parse(text)


@contextmanager
def spelled(line: bool = False) -> Iterator[None]:
    """Errors say what to type instead of what to write in Python: options, or a problem line."""
    try:
        yield
    except PolyphaseError as error:
        error.args = (typed(str(error), line),)
        raise


def typed(message: str, line: bool = False) -> str:
    """A message with Python's parameters and sizes as people type them.

    >>> typed("use padding=((0, 1),), output_padding=1 for an output of (12, 9)")
    'use -p 0,1 -o 1 for an output of 12x9'
    >>> typed("use kernel_size=(3, 5)", line=True)
    'use k3x5'
    """

    def option(name: str, value: Any) -> str:
        return f"{LETTERS[name]}{joined(value)}" if line else f"-{LETTERS[name]} {joined(value)}"

    def spell(found: re.Match[str]) -> str:
        if found["parameters"]:
            assignments = re.findall(rf"(\w+)=(-?\d+|{_TUPLE})", found["parameters"])
            return " ".join(option(name, literal_eval(value)) for name, value in assignments)
        if found["pair"]:
            return option("padding", (literal_eval(found["pair"]),))
        if found["sizes"]:
            return ",".join(map(joined, literal_eval(found["sizes"])))
        return joined(literal_eval(found["size"]))

    return _SPELLED.sub(spell, message)


def joined(value: Any) -> str:
    """A parameter as it is typed: a value per axis, or one for all.

    >>> joined((1, (0, 1)))
    '1x0,1'
    """
    return "x".join(",".join(map(str, each(entry))) for entry in each(value))


def short(text: str) -> str:
    """A text in quotes, cut where it is long.

    >>> short("6")
    "'6'"
    """
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _entries(text: str) -> list[str]:
    _check_digits(text)
    entries = text.split("x")
    if len(entries) > MAX_AXES:
        raise GeometryError(
            f"{short(text)} has {len(entries)} axes: at most {MAX_AXES} are possible"
        )
    return entries


def _check_digits(text: str) -> None:
    if re.search(rf"\d{{{MAX_DIGITS + 1}}}", text):
        raise GeometryError(f"a number has at most {MAX_DIGITS} digits, got {short(text)}")


def _spread(name: str, values: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    if len(values) not in (1, rank):
        raise GeometryError(
            f"{name} has {len(values)} values and the size has {rank}: give one for every axis, "
            "or one for all"
        )
    return values * (rank // len(values))
