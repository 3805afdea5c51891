"""One concrete operation: a geometry with batch, channels, groups, input size, dtype and layout.

Its text form is one line, the same in tests, benchmarks, the command line and bug reports::

    conv_transpose n2 c64:32 g1 i8x8 k4x4 s2x2 p1x1 o0x0 d1x1 f32 nchw @dcgan-3
"""

import re
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Self

from polyphase.arithmetic.geometry import Geometry, conv_sizes
from polyphase.arithmetic.values import at_least, each, whole
from polyphase.errors import GeometryError

OPERATORS = ("conv_transpose", "conv", "weight_grad")
# integers are written out: i8 is an input of 8 positions
ITEM_SIZES = {
    "f32": 4,
    "f64": 8,
    "bf16": 2,
    "f16": 2,
    "c32": 4,
    "c64": 8,
    "c128": 16,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
}
# channels first and channels last, by number of spatial axes
LAYOUTS = {1: ("ncl", "nlc"), 2: ("nchw", "nhwc"), 3: ("ncdhw", "ndhwc")}


@dataclass(frozen=True)
class Problem:
    """A transposed convolution, or its adjoint, on concrete sizes.

    ``input_size``, ``in_channels`` and ``out_channels`` are those of the operator that is named:
    for ``conv`` the input is the large side. ``weight_grad`` is described by the transposed
    convolution whose weights it differentiates.

    >>> problem = Problem.parse("conv_transpose n2 c64:32 i8x8 k4x4 s2x2 p1x1 @dcgan-3")
    >>> problem.output_size, problem.weight_shape
    ((16, 16), (64, 32, 4, 4))
    >>> print(problem)
    conv_transpose n2 c64:32 g1 i8x8 k4x4 s2x2 p1x1 o0x0 d1x1 f32 nchw @dcgan-3

    Raises :class:`~polyphase.GeometryError` for values that do not fit together.
    """

    geometry: Geometry
    input_size: tuple[int, ...]
    in_channels: int
    out_channels: int
    batch: int = 1
    groups: int = 1
    dtype: str = "f32"
    layout: str = ""
    operator: str = "conv_transpose"
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.geometry, Geometry):
            raise TypeError(f"geometry must be a Geometry, got {self.geometry!r}")
        set_field = object.__setattr__
        set_field(self, "input_size", self.geometry.sizes(self.input_size))
        for field in ("in_channels", "out_channels", "groups", "batch"):
            value = whole(field, getattr(self, field))
            at_least(field, (value,), 0 if field == "batch" else 1)
            set_field(self, field, value)
        for field in ("in_channels", "out_channels"):
            if getattr(self, field) % self.groups:
                raise GeometryError(
                    f"groups must divide {field}, got groups {self.groups} and "
                    f"{field} {getattr(self, field)}"
                )
        _one_of("dtype", self.dtype, tuple(ITEM_SIZES))
        _one_of("operator", self.operator, OPERATORS)
        if self.geometry.rank not in LAYOUTS:
            raise GeometryError(f"a problem has 1 to 3 spatial axes, got {self.geometry.rank}")
        layouts = LAYOUTS[self.geometry.rank]
        set_field(self, "layout", self.layout or layouts[0])
        axes = f"{self.rank} spatial ax{'is' if self.rank == 1 else 'es'}"
        _one_of(f"layout of {axes}", self.layout, layouts)
        if not isinstance(self.name, str):
            raise TypeError(f"name must be text, got {self.name!r}")
        if re.search(r"\s", self.name):
            raise GeometryError(f"name must have no spaces, got {self.name!r}")
        _ = self.output_size

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return self.geometry.rank

    @property
    def channels_last(self) -> bool:
        """Whether the channels vary fastest in memory."""
        return self.layout == LAYOUTS[self.rank][1]

    @property
    def item_size(self) -> int:
        """Bytes of one element."""
        return ITEM_SIZES[self.dtype]

    @property
    def output_size(self) -> tuple[int, ...]:
        """Spatial size that the operator produces."""
        if self.operator == "conv":
            return conv_sizes(self.geometry.axes, self.input_size)
        return each(self.geometry.output_size(self.input_size))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights as PyTorch stores them, the same array for all three operators."""
        small, large = self.in_channels, self.out_channels
        if self.operator == "conv":
            small, large = large, small
        return (small, large // self.groups, *(axis.kernel_size for axis in self.geometry.axes))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, channels first."""
        return (self.batch, self.in_channels, *self.input_size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, channels first."""
        return (self.batch, self.out_channels, *self.output_size)

    @property
    def bytes(self) -> int:
        """Bytes of input, weights, bias and output, each counted once.

        >>> Problem.parse("c1:1 i4 k2 s2").bytes
        60
        """
        shapes = (self.input_shape, self.weight_shape, self.output_shape, (self.out_channels,))
        return self.item_size * sum(prod(shape) for shape in shapes)

    def __str__(self) -> str:
        """The problem line."""
        g = self.geometry
        pads = "x".join(f"{a}" if a == b and a >= 0 else f"{a},{b}" for a, b in g.pads)
        tokens = [
            self.operator,
            f"n{self.batch}",
            f"c{self.in_channels}:{self.out_channels}",
            f"g{self.groups}",
            f"i{_by_axis(self.input_size)}",
            f"k{_by_axis(g.kernel_size)}",
            f"s{_by_axis(g.stride)}",
            f"p{pads}",
            f"o{_by_axis(g.output_padding)}",
            f"d{_by_axis(g.dilation)}",
            self.dtype,
            self.layout,
        ]
        return " ".join(tokens + ([f"@{self.name}"] if self.name else []))

    @classmethod
    def parse(cls, line: str) -> Self:
        """The problem that a line describes; tokens in any order.

        ``c``, ``i`` and ``k`` are required. What is left out is 1 (``n g s d``), 0 (``p o``),
        ``f32``, channels first, ``conv_transpose``.

        >>> Problem.parse("k3 c1:1 i5 p0,1").geometry
        Geometry(kernel_size=3, padding=((0, 1),))
        """
        if not isinstance(line, str):
            raise TypeError(f"a problem line is text, got {line!r}")
        found: dict[str, str] = {}
        for token in line.split():
            key, value = _token(token, line)
            if key in found:
                raise GeometryError(f"{token!r} gives {key} a second time in {line!r}")
            found[key] = value
        missing = [key for key in "cik" if key not in found]
        if missing:
            needs = ", ".join(f"{k} ({_KEYS[k][0]}, such as {_KEYS[k][2]})" for k in missing)
            dtype = found.get("dtype", "")
            remark = f": {dtype} is a dtype" if "c" in missing and dtype.startswith("c") else ""
            raise GeometryError(f"the problem line needs {needs}, got {line!r}{remark}")
        rank = found["i"].count("x") + 1
        for key in "kspod":
            entries = found.setdefault(key, "x".join(_DEFAULTS.get(key, "") * rank)).count("x") + 1
            if entries != rank:
                raise GeometryError(
                    f"every size needs the same number of axes, but i has {rank} and {key} has "
                    f"{entries} in {line!r}"
                )
        in_channels, out_channels = found["c"].split(":")
        geometry = Geometry(
            _ints(found["k"]),
            _ints(found["s"]),
            padding=[_pair(entry) for entry in found["p"].split("x")],
            output_padding=_ints(found["o"]),
            dilation=_ints(found["d"]),
        )
        return cls(
            geometry,
            _ints(found["i"]),
            _int(in_channels),
            _int(out_channels),
            batch=_int(found.get("n", "1")),
            groups=_int(found.get("g", "1")),
            dtype=found.get("dtype", "f32"),
            layout=found.get("layout", ""),
            operator=found.get("operator", "conv_transpose"),
            name=found.get("@", ""),
        )


# what a size is on each axis where the line says nothing
_DEFAULTS = {"s": "1", "p": "0", "o": "0", "d": "1"}
# more digits than Python itself turns into a number
_DIGITS = 1000
# what the letters of a line mean, what they take, and an example
_PER_AXIS = "whole numbers joined by x"
_KEYS = {
    "n": ("batch", "a whole number", "n2"),
    "c": ("in:out channels", "two numbers", "c64:32"),
    "g": ("groups", "a whole number", "g2"),
    "i": ("input size", _PER_AXIS, "i8x8"),
    "k": ("kernel size", _PER_AXIS, "k4x4"),
    "s": ("stride", _PER_AXIS, "s2x2"),
    "p": ("padding", "whole numbers or begin,end pairs joined by x", "p1x1 or p0,1x0,1"),
    "o": ("output padding", _PER_AXIS, "o1x1"),
    "d": ("dilation", _PER_AXIS, "d2x2"),
}
# what people write for the words of a line
_WORDS = {word: word for word in (*OPERATORS, *ITEM_SIZES, *chain(*LAYOUTS.values()))} | {
    "float32": "f32",
    "float64": "f64",
    "bfloat16": "bf16",
    "float16": "f16",
    "complex64": "c64",
    "complex128": "c128",
}
_TOKENS = {
    "operator": re.compile("|".join(OPERATORS)),
    "dtype": re.compile("|".join(ITEM_SIZES)),
    "layout": re.compile("|".join(chain(*LAYOUTS.values()))),
    "c": re.compile(r"c(?P<value>\d+:\d+)"),
    "p": re.compile(r"p(?P<value>-?\d+(,-?\d+)?(x-?\d+(,-?\d+)?)*)"),
    "@": re.compile(r"@(?P<value>\S+)"),
    **{key: re.compile(rf"{key}(?P<value>\d+(x\d+)*)") for key in "iksod"},
    **{key: re.compile(rf"{key}(?P<value>\d+)") for key in "ng"},
}


def _token(token: str, line: str) -> tuple[str, str]:
    for key, pattern in _TOKENS.items():
        match = pattern.fullmatch(token)
        if match:
            return key, match.groupdict().get("value", token)
    # only mistakes need it
    from difflib import get_close_matches

    where = f"cannot read {token!r} in the problem line {line!r}:"
    key = token[0]
    # a word that begins with such a letter is followed by no number
    if key in _KEYS and (len(token) == 1 or not token[1:].isidentifier() or key == "p"):
        told, takes, example = _KEYS[key]
        raise GeometryError(f"{where} {key} ({told}) takes {takes}, such as {example}")
    near = get_close_matches(token.lower(), _WORDS, 1, 0.75)
    meant = f" did you mean {_WORDS[near[0]]}?" if near else ""
    needed, other = (", ".join(f"{k} ({_KEYS[k][0]})" for k in keys) for keys in ("cik", "ngspod"))
    raise GeometryError(
        f"{where}{meant} a line has {needed}, and may have {other}, an operator "
        f"({', '.join(OPERATORS)}), a dtype ({', '.join(ITEM_SIZES)}), a layout "
        f"({', '.join(chain(*LAYOUTS.values()))}), @name; an example is "
        "'conv_transpose n2 c64:32 g1 i8x8 k4x4 s2x2 p1x1 o0x0 d1x1 f32 nchw @name'"
    )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise GeometryError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _by_axis(value: Any) -> str:
    return "x".join(map(str, each(value)))


def _int(text: str) -> int:
    if len(text) > _DIGITS:
        raise GeometryError(f"a number has at most {_DIGITS} digits, got one of {len(text)}")
    return int(text)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(map(_int, text.split("x")))


def _pair(text: str) -> int | tuple[int, int]:
    values = tuple(map(_int, text.split(",")))
    return values[0] if len(values) == 1 else (values[0], values[1])
