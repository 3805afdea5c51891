"""The layers of a network as plain data, and what each does to the size of one axis."""

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import floor, isfinite
from operator import index
from typing import Any, ClassVar

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import (
    PerAxis,
    PerAxisPadding,
    at_least,
    entries,
    has_entries,
    spread,
    whole,
)
from polyphase.errors import GeometryError

# beyond this a float no longer tells neighbouring integers apart
EXACT_FLOAT = 2**53


@dataclass(frozen=True, slots=True)
class Step:
    """What one layer does to the size of one axis; by itself it changes nothing.

    No step makes a smaller size from a larger one.
    """

    def size(self, size: int) -> int:
        """Size after the layer, from the size before it; below 1 where the layer does not fit."""
        return size

    @property
    def growth(self) -> Fraction:
        """Outputs per further input, in the long run; exact for steps of its denominator."""
        return Fraction(1)


@dataclass(frozen=True, slots=True)
class ConvStep(Step):
    """A strided window; ``ceil`` is PyTorch's ``ceil_mode``."""

    axis: Axis
    ceil: bool = False

    def size(self, size: int) -> int:
        """Number of windows."""
        axis = self.axis
        if not self.ceil:
            return axis.conv_output_size(size)
        result = axis.conv_output_size(size + axis.stride - 1)
        # the last window must start inside the input or the padding before it
        return result - ((result - 1) * axis.stride >= size + axis.begin)

    @property
    def growth(self) -> Fraction:
        """One output per stride."""
        return Fraction(1, self.axis.stride)


@dataclass(frozen=True, slots=True)
class TransposedStep(Step):
    """A transposed convolution; ``axis`` is without output padding."""

    axis: Axis
    output_padding: int

    @property
    def freedom(self) -> int:
        """How many values ``output_padding`` may take, from 0."""
        return max(self.axis.stride, self.axis.dilation)

    def size(self, size: int) -> int:
        """Size with the output padding that the layer has."""
        return self.axis.output_size(size) + self.output_padding

    @property
    def growth(self) -> Fraction:
        """One stride per input."""
        return Fraction(self.axis.stride)


@dataclass(frozen=True, slots=True)
class ResizeStep(Step):
    """Multiplication by a scale, rounded down as PyTorch does, or a fixed size."""

    scale: int | float = 1
    fixed: int | None = None

    def size(self, size: int) -> int:
        """The fixed size, or the scaled one."""
        if self.fixed is not None:
            return self.fixed
        if max(size, self.scale * size if size < EXACT_FLOAT else 0) < EXACT_FLOAT:
            return floor(self.scale * size)
        return floor(Fraction(self.scale) * size)

    @property
    def growth(self) -> Fraction:
        """The scale; none for a fixed size."""
        return Fraction(0 if self.fixed is not None else self.scale)


@dataclass(frozen=True, slots=True)
class Conv:
    """An ordinary convolution.

    Parameters as in :class:`~polyphase.Geometry`; an int serves every axis of the network.

    >>> Conv("down", kernel_size=3, stride=2, padding=1)
    Conv(name='down', kernel_size=3, stride=2, padding=1, dilation=1)
    """

    kind: ClassVar[str] = "conv"
    name: str
    kernel_size: PerAxis
    stride: PerAxis = 1
    padding: PerAxisPadding = 0
    dilation: PerAxis = 1

    def __post_init__(self) -> None:
        freeze(self)
        geometry(self, None)

    def steps(self, rank: int) -> tuple[Step, ...]:
        """One step per axis."""
        return tuple(ConvStep(axis) for axis in geometry(self, rank).axes)


@dataclass(frozen=True, slots=True)
class ConvTranspose:
    """A transposed convolution.

    >>> ConvTranspose("up", kernel_size=2, stride=2).stride
    2
    """

    kind: ClassVar[str] = "conv_transpose"
    name: str
    kernel_size: PerAxis
    stride: PerAxis = 1
    padding: PerAxisPadding = 0
    output_padding: PerAxis = 0
    dilation: PerAxis = 1

    def __post_init__(self) -> None:
        freeze(self)
        geometry(self, None)

    def steps(self, rank: int) -> tuple[Step, ...]:
        """One step per axis."""
        extra = spread("output_padding", self.output_padding, rank)
        return tuple(
            TransposedStep(replace(axis, end=axis.end + op), op)
            for axis, op in zip(geometry(self, rank).axes, extra, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """Max or average pooling; the stride is the kernel size unless it is given.

    >>> Pool("pool", 2).stride
    2
    """

    kind: ClassVar[str] = "pool"
    name: str
    kernel_size: PerAxis
    stride: PerAxis | None = None
    padding: PerAxisPadding = 0
    dilation: PerAxis = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        freeze(self)
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        if not isinstance(self.ceil_mode, bool):
            raise TypeError(f"ceil_mode must be True or False, got {self.ceil_mode!r}")
        checked = geometry(self, None)
        for axis, pads in zip(checked.axes, checked.pads, strict=True):
            if max(pads) > axis.kernel_size // 2 or min(pads) < 0:
                raise GeometryError(
                    f"layer {self.name!r}: padding of a pool must be at least 0 and at most half "
                    f"of kernel_size, got {self.padding} with kernel_size {self.kernel_size}"
                )

    def steps(self, rank: int) -> tuple[Step, ...]:
        """One step per axis."""
        return tuple(ConvStep(axis, self.ceil_mode) for axis in geometry(self, rank).axes)


@dataclass(frozen=True, slots=True)
class Resize:
    """Interpolation or pixel shuffle: a ``scale`` (int, float or Fraction), or a fixed ``size``.

    >>> Resize("up", scale=2)
    Resize(name='up', scale=2, size=None)
    """

    kind: ClassVar[str] = "resize"
    name: str
    scale: float | tuple[float, ...] | None = None
    size: PerAxis | None = None

    def __post_init__(self) -> None:
        freeze(self)
        if (self.scale is None) == (self.size is None):
            raise GeometryError(
                f"layer {self.name!r} needs either scale or size, "
                f"got scale {self.scale!r} and size {self.size!r}"
            )
        if self.size is not None:
            sizes = spread("size", self.size, 1)
            at_least("size", tuple(whole("size", value) for value in sizes), 1)
            return
        for value in self.scale if isinstance(self.scale, tuple) else (self.scale,):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"scale must be an int or a float, got {value!r}")
            if not (isfinite(value) and value > 0):
                raise GeometryError(f"scale must be positive and finite, got {value!r}")

    def steps(self, rank: int) -> tuple[Step, ...]:
        """One step per axis."""
        given: Any = self.size if self.scale is None else self.scale
        values = given if isinstance(given, tuple) else (given,) * rank
        _same_rank(self, len(values), rank)
        if self.scale is None:
            return tuple(ResizeStep(fixed=value) for value in values)
        return tuple(ResizeStep(value) for value in values)


@dataclass(frozen=True, slots=True)
class SkipOut:
    """Remembers the size at this place under ``name``.

    >>> SkipOut("level 1").name
    'level 1'
    """

    kind: ClassVar[str] = "skip_out"
    name: str

    def __post_init__(self) -> None:
        freeze(self)

    def steps(self, rank: int) -> tuple[Step, ...]:
        """One step per axis."""
        return (Step(),) * rank


@dataclass(frozen=True, slots=True)
class SkipIn:
    """The skip called ``name`` comes back: both sizes must be equal here.

    ``how`` is ``"concat"``, ``"add"`` or ``"compare"``; the last is for an output that must have
    the size of what it is compared with, for instance the input of an autoencoder.

    >>> SkipIn("level 1").how
    'concat'
    """

    kind: ClassVar[str] = "skip_in"
    name: str
    how: str = "concat"

    def __post_init__(self) -> None:
        freeze(self)
        if self.how not in ("concat", "add", "compare"):
            raise GeometryError(f"how must be concat, add or compare, got {self.how!r}")

    def steps(self, rank: int) -> tuple[Step, ...]:
        """One step per axis."""
        return (Step(),) * rank


Layer = Conv | ConvTranspose | Pool | Resize | SkipOut | SkipIn
KINDS = {kind.kind: kind for kind in (Conv, ConvTranspose, Pool, Resize, SkipOut, SkipIn)}


def freeze(layer: Any) -> None:
    """Turn lists into tuples and NumPy integers into ints; refuse a name that is no text."""
    if not isinstance(layer.name, str) or not layer.name:
        raise TypeError(f"the name of a layer must be text, got {layer.name!r}")
    for field in fields(layer):
        object.__setattr__(layer, field.name, _frozen(field.name, getattr(layer, field.name)))


def _frozen(name: str, value: Any) -> Any:
    if has_entries(value):
        return tuple(_frozen(name, entry) for entry in entries(name, value) or ())
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return index(value)
    return value


def geometry(layer: Any, rank: int | None) -> Geometry:
    """The layer's parameters, checked, on ``rank`` axes; ``None`` takes as many as are given."""
    names = ("kernel_size", "stride", "padding", "output_padding", "dilation")
    given = {name: getattr(layer, name) for name in names if hasattr(layer, name)}
    lengths = [len(value) for value in given.values() if isinstance(value, tuple)]
    if rank is not None:
        for length in lengths:
            _same_rank(layer, length, rank)
        given = {name: spread(name, value, rank) for name, value in given.items()}
    try:
        return Geometry(**given)
    except (GeometryError, TypeError) as error:
        raise type(error)(f"layer {layer.name!r}: {error}") from None


def _same_rank(layer: Any, length: int, rank: int) -> None:
    if length != rank:
        raise GeometryError(
            f"layer {layer.name!r} has parameters for {length} axes, but the input size has {rank}"
        )
