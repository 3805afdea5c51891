"""The checked spatial parameters of a transposed convolution, and the sizes that follow."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from polyphase.arithmetic import phases as phase_law
from polyphase.arithmetic.axis import Axis, extent
from polyphase.arithmetic.repair import explain_unreachable
from polyphase.arithmetic.values import (
    PerAxis,
    PerAxisPadding,
    at_least,
    entries,
    pad_pair,
    plain,
    whole,
)
from polyphase.errors import GeometryError, OutputSizeError

LISTING_LIMIT = 1_000_000


@dataclass(frozen=True, init=False, repr=False)
class Geometry:
    """Kernel size, stride, padding, output padding and dilation of one or more spatial axes.

    Every argument is an int or one int per axis; if all are ints there is one axis. ``padding``
    removes that many positions from *both* ends of the full result, as in PyTorch; an entry may
    also be a ``(begin, end)`` pair, whose values may be negative (positions added that no tap
    reaches). ``output_padding`` computes that many further positions at the end and must be smaller
    than stride or dilation, which is PyTorch's rule.

    Methods and attributes take and return ints for one axis and tuples for several.

    >>> g = Geometry(kernel_size=3, stride=2, padding=1)
    >>> g.output_size(6), g.output_sizes(6), g.conv_output_size(12)
    (11, range(11, 13), 6)
    >>> Geometry((3, 5), stride=(2, 1), padding=(4, 2)).output_size((50, 100))
    (93, 100)

    Raises :class:`~polyphase.GeometryError` (a ``ValueError``) for a value out of range and
    ``TypeError`` for a value of the wrong kind.
    Formula: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning",
    arXiv 1603.07285, relation 14, with dilation and crops added.
    """

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int | tuple[int, int], ...] = 0
    output_padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    axes: tuple[Axis, ...] = field(init=False, compare=False)

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        *,
        padding: PerAxisPadding = 0,
        output_padding: PerAxis = 0,
        dilation: PerAxis = 1,
    ) -> None:
        if isinstance(padding, str):
            raise TypeError(
                f"padding must be numbers, got {padding!r}; "
                "for an output of exactly input * stride use Geometry.same(...)"
            )
        given = _per_axis(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            dilation=dilation,
        )
        kernels = _ints("kernel_size", given, low=1)
        strides = _ints("stride", given, low=1)
        pads = tuple(pad_pair(entry) for entry in given["padding"])
        output_pads = _ints("output_padding", given, low=0)
        dilations = _ints("dilation", given, low=1)
        for op, s, d in zip(output_pads, strides, dilations, strict=True):
            if op >= max(s, d):
                raise GeometryError(
                    f"output_padding must be smaller than stride or dilation, got "
                    f"output_padding {op} with stride {s} and dilation {d}: 0 to {max(s, d) - 1} "
                    "are allowed"
                )
        set_field = object.__setattr__
        set_field(self, "kernel_size", plain(kernels))
        set_field(self, "stride", plain(strides))
        set_field(self, "padding", _padding_form(pads))
        set_field(self, "output_padding", plain(output_pads))
        set_field(self, "dilation", plain(dilations))
        axes = tuple(
            Axis(k, s, d, a, b - op)
            for k, s, d, (a, b), op in zip(
                kernels, strides, dilations, pads, output_pads, strict=True
            )
        )
        set_field(self, "axes", axes)

    @classmethod
    def same(cls, kernel_size: PerAxis, stride: PerAxis = 1, *, dilation: PerAxis = 1) -> Self:
        """The geometry whose output is exactly ``input * stride`` for every input size.

        Where ``e - s`` is odd the end loses one position more than the beginning; where the kernel
        is shorter than the stride the end gains positions that no tap reaches. This is the ``SAME``
        of TensorFlow, Keras and JAX.

        >>> Geometry.same(kernel_size=4, stride=2)
        Geometry(kernel_size=4, stride=2, padding=1)
        >>> Geometry.same(kernel_size=3, stride=2)
        Geometry(kernel_size=3, stride=2, padding=((0, 1),))
        """
        given = _per_axis(kernel_size=kernel_size, stride=stride, dilation=dilation)
        kernels = _ints("kernel_size", given, low=1)
        strides = _ints("stride", given, low=1)
        dilations = _ints("dilation", given, low=1)
        pads = []
        for k, s, d in zip(kernels, strides, dilations, strict=True):
            surplus = extent(k, d) - s
            begin = max(surplus, 0) // 2
            pads.append((begin, surplus - begin))
        return cls(kernels, strides, padding=pads, dilation=dilations)

    def __repr__(self) -> str:
        """Constructor call, defaults left out."""
        defaults = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
        shown = [f"kernel_size={self.kernel_size}"]
        for name, default in defaults.items():
            value = getattr(self, name)
            if value not in (default, (default,) * self.rank):
                shown.append(f"{name}={value}")
        return f"Geometry({', '.join(shown)})"

    @property
    def rank(self) -> int:
        """Number of spatial axes.

        >>> Geometry((3, 3)).rank
        2
        """
        return len(self.axes)

    @cached_property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """Padding as ``(begin, end)`` per axis, before output padding.

        >>> Geometry(3, stride=2, padding=1, output_padding=1).pads
        ((1, 1),)
        """
        return tuple(
            pad_pair(entry)
            for entry in (self.padding if isinstance(self.padding, tuple) else (self.padding,))
        )

    @property
    def crops(self) -> tuple[tuple[int, int], ...]:
        """What the full result loses at each end of each axis: padding less output padding.

        >>> Geometry(3, stride=2, padding=1, output_padding=1).crops
        ((1, 0),)
        """
        return tuple((axis.begin, axis.end) for axis in self.axes)

    def sizes(self, size: PerAxis, name: str = "input_size") -> tuple[int, ...]:
        """``size`` as one checked int per axis.

        >>> Geometry((3, 3)).sizes([6, 8])
        (6, 8)
        """
        found = entries(name, size)
        values = (whole(name, size),) if found is None else tuple(whole(name, v) for v in found)
        if len(values) != self.rank:
            fix = " (give kernel_size one entry per axis)" if self.rank == 1 else ""
            raise GeometryError(
                f"{name} must have {self.rank} value{'s' if self.rank > 1 else ''}, one per axis "
                f"of {self!r}{fix}, got {size!r}"
            )
        at_least(name, values, 1)
        return values

    def output_size(self, input_size: PerAxis) -> Any:
        """Size that the transposed convolution produces: ``(n-1)*s - 2*p + d*(k-1) + op + 1``.

        >>> Geometry(4, stride=2, padding=1).output_size(7)
        14

        Raises :class:`~polyphase.OutputSizeError` where the padding removes more than there is.
        """
        values = self.sizes(input_size)
        result = tuple(axis.output_size(n) for axis, n in zip(self.axes, values, strict=True))
        if any(size < 0 for size in result):
            raise OutputSizeError(self._crop_too_large(values, result))
        return plain(result)

    def conv_output_size(self, size: PerAxis) -> Any:
        """Size that the ordinary convolution with the same parameters produces.

        ``output_padding`` is no parameter of a convolution and plays no part.

        >>> Geometry(3, stride=2, padding=1).conv_output_size((11,))
        6
        """
        return plain(conv_sizes(self._conv, self.sizes(size, "size")))

    def output_sizes(self, input_size: PerAxis) -> Any:
        """Every size that a legal ``output_padding`` reaches: one ``range`` per axis.

        PyTorch's layers refuse the part of this range at or above ``stride`` when dilation is
        larger, although its functions accept it.

        >>> Geometry(3, stride=2, padding=1).output_sizes(6)
        range(11, 13)
        """
        values = self.sizes(input_size)
        result = []
        for axis, n in zip(self._conv, values, strict=True):
            base = axis.output_size(n)
            stop = base + max(axis.stride, axis.dilation)
            result.append(range(max(base, 0), max(stop, 0)))
        return plain(tuple(result))

    def conv_input_sizes(self, size: PerAxis) -> Any:
        """Every size that the ordinary convolution maps to ``size``: one ``range`` per axis.

        >>> Geometry(4, stride=2, padding=1).conv_input_sizes(6)
        range(12, 14)
        """
        values = self.sizes(size, "size")
        return plain(
            tuple(axis.conv_input_sizes(n) for axis, n in zip(self._conv, values, strict=True))
        )

    def for_output_size(self, input_size: PerAxis, output_size: PerAxis) -> Self:
        """The same geometry with the ``output_padding`` that gives exactly ``output_size``.

        >>> Geometry(3, stride=2, padding=1).for_output_size(6, 12)
        Geometry(kernel_size=3, stride=2, padding=1, output_padding=1)

        Raises :class:`~polyphase.OutputSizeError`, which names the reachable sizes and the nearest
        changes of other parameters that do reach the target.
        """
        inputs = self.sizes(input_size)
        targets = self.sizes(output_size, "output_size")
        output_padding = tuple(
            target - axis.output_size(n)
            for axis, n, target in zip(self._conv, inputs, targets, strict=True)
        )
        for axis, op in zip(self._conv, output_padding, strict=True):
            if not 0 <= op < max(axis.stride, axis.dilation):
                raise OutputSizeError(explain_unreachable(self._conv, inputs, targets))
        return replace(self, output_padding=output_padding)

    def phases(self) -> Any:
        """The phase table: for one axis a tuple of :class:`~polyphase.Phase`, else one per axis.

        >>> [list(phase.taps) for phase in Geometry(4, stride=2, padding=1).phases()]
        [[1, 3], [0, 2]]
        """
        self._listable("stride", tuple(axis.stride for axis in self.axes))
        return plain(tuple(phase_law.axis_phases(axis) for axis in self.axes))

    def overlap(self, input_size: PerAxis) -> Any:
        """Contributions per output position, per axis: how many (input, tap) pairs meet there.

        >>> Geometry(3, stride=2, padding=1).overlap(4)
        (1, 2, 1, 2, 1, 2, 1)
        """
        values = self.sizes(input_size)
        self.output_size(values)
        self._listable(
            "the number of (input, tap) pairs",
            tuple(n * axis.kernel_size for axis, n in zip(self.axes, values, strict=True)),
        )
        return plain(
            tuple(phase_law.overlap(axis, n) for axis, n in zip(self.axes, values, strict=True))
        )

    @property
    def is_uniform(self) -> bool:
        """Whether every output position away from the border receives the same number of taps.

        If not, overlap alone draws a checkerboard (distill.pub/2016/deconv-checkerboard).

        >>> Geometry(4, stride=2).is_uniform, Geometry(3, stride=2).is_uniform
        (True, False)
        """
        return all(phase_law.is_uniform(axis) for axis in self.axes)

    @cached_property
    def _conv(self) -> tuple[Axis, ...]:
        """The axes without output padding: those of the convolution that this one transposes."""
        return tuple(
            replace(axis, end=end) for axis, (_, end) in zip(self.axes, self.pads, strict=True)
        )

    def _crop_too_large(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> str:
        """What is wrong on the first axis at fault, and what leaves an output on every axis."""
        pads, enough = list(self.pads), list(inputs)
        for i, (axis, n, size) in enumerate(zip(self.axes, inputs, outputs, strict=True)):
            if size < 1:
                extra = self.pads[i][1] - axis.end
                pads[i] = ((axis.full_size(n) + extra - 1) // 2,) * 2
                enough[i] = n - (size - 1) // axis.stride
        at = next(i for i, size in enumerate(outputs) if size < 0)
        axis, where = self.axes[at], f" on axis {at}" if self.rank > 1 else ""
        return (
            f"output size would be {outputs[at]}{where}: input {inputs[at]} gives a full result of "
            f"{axis.full_size(inputs[at])}, and padding removes {axis.begin} and {axis.end}; use "
            f"at most padding={_padding_form(tuple(pads))}, or an input of at least "
            f"{plain(tuple(enough))}"
        )

    def _listable(self, what: str, counts: tuple[int, ...]) -> None:
        if max(counts) > LISTING_LIMIT:
            raise GeometryError(
                f"{what} is {max(counts)}, too many to list one by one: at most {LISTING_LIMIT}"
            )


def conv_sizes(axes: tuple[Axis, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Size that a convolution with these axes produces; the kernel has to fit on each."""
    result = tuple(axis.conv_output_size(m) for axis, m in zip(axes, sizes, strict=True))
    for axis, m, out in zip(axes, sizes, result, strict=True):
        if out < 1:
            raise OutputSizeError(
                f"the kernel covers {axis.extent} positions and does not fit size {m} with "
                f"padding {axis.begin} and {axis.end}; size must be at least "
                f"{axis.extent - axis.begin - axis.end}"
            )
    return result


def _per_axis(**given: object) -> dict[str, tuple[Any, ...]]:
    """Every parameter with one entry per axis."""
    read = {name: entries(name, value) for name, value in given.items()}
    lengths = {name: len(found) for name, found in read.items() if found is not None}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise GeometryError(f"every parameter needs the same number of axes, but {told}")
    name, rank = lengths.popitem() if lengths else ("", 1)
    if rank == 0:
        raise GeometryError(f"{name} must have at least one entry, got {given[name]!r}")
    return {name: (given[name],) * rank if found is None else found for name, found in read.items()}


def _ints(name: str, given: Mapping[str, tuple[Any, ...]], low: int) -> tuple[int, ...]:
    values = tuple(whole(name, entry) for entry in given[name])
    at_least(name, values, low)
    return values


def _padding_form(pads: tuple[tuple[int, int], ...]) -> Any:
    """Ints where both ends agree, pairs elsewhere; one axis with a pair stays a 1-tuple."""
    form = tuple(a if a == b and a >= 0 else (a, b) for a, b in pads)
    return form[0] if len(form) == 1 and isinstance(form[0], int) else form
