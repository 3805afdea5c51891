"""How a framework writes a transposed convolution: as data, for its module, the page and the tests.

In the crop rules and in the code of this package ``n`` is the input size of an axis, ``k`` the
kernel size, ``s`` the stride, ``d`` the dilation, ``p`` a padding, ``op`` an output padding,
``e = (k-1)*d + 1`` the extent, ``F = (n-1)*s + e`` the full result, ``O`` the output size and
``T = F + op - O``; ``a`` and ``b`` are what is removed at the beginning and the end of the full
result.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis, at_least, entries, whole
from polyphase.errors import GeometryError

Crop = tuple[int, int]


class Meaning(NamedTuple):
    """What a call of some framework means.

    ``geometry`` has the sizes. ``weight.transpose(permutation)`` puts the weights of one group into
    PyTorch's order ``(C_in, C_out/groups, *kernel_size)``; where ``flip`` is true the kernel then
    has to be reversed along every spatial axis. :func:`polyphase.interop.convert` does both, for
    any number of groups.

    >>> from polyphase import interop
    >>> geometry, permutation, flip = interop.jax.geometry((3,), (2,), "SAME")
    >>> geometry, permutation, flip
    (Geometry(kernel_size=3, stride=2, padding=((0, 1),)), (1, 2, 0), True)
    """

    geometry: Geometry
    permutation: tuple[int, ...]
    flip: bool


@dataclass(frozen=True)
class Layout:
    """The axes of the weights: ``i`` input channels, ``o`` output channels, ``k`` spatial axes.

    Of the channels, those that come first are all there are, the others are those of one group.

    >>> Layout("koi").permutation(rank=2)
    (3, 2, 0, 1)
    """

    axes: str
    flip: bool = False

    def permutation(self, rank: int) -> tuple[int, ...]:
        """The order in which PyTorch has these axes."""
        places = {"i": self.axes.index("i"), "o": self.axes.index("o")}
        spatial = self.axes.index("k")
        shift = {name: at + (rank - 1 if at > spatial else 0) for name, at in places.items()}
        return shift["i"], shift["o"], *range(spatial, spatial + rank)

    def shape(self, groups: bool) -> str:
        """The shape in words."""
        first = min("io", key=self.axes.index)
        names = {"i": "C_in", "o": "C_out", "k": "*kernel"}
        if groups:
            other = "o" if first == "i" else "i"
            names[other] += "/g"
        return f"({', '.join(names[axis] for axis in self.axes)})"


class Rule(NamedTuple):
    """What a setting removes from the full result, as formulas in the letters above."""

    setting: str
    begin: str
    end: str


@dataclass(frozen=True)
class Convention:
    """One framework: its names, the order of its weights, its rules, and what is known about it."""

    name: str
    title: str
    # how a call is written; the parameters go where the braces are, and {rank} is 1, 2 or 3
    call: str
    layout: Layout
    rules: tuple[Rule, ...]
    # which output paddings it takes, in words; empty where it has no such parameter
    output_padding: str = ""
    # its name for groups, empty where it has none; some have them as an axis of the weights
    groups: str = ""
    group_axis: bool = False
    grouped_call: str = ""
    # how input and result lie in a written call, and whether it takes a bias
    channels_last: bool = False
    takes_bias: bool = True
    # what stands in the call for a bias, and what stands there for none
    bias: tuple[str, str] = (", bias", "")
    # what gives a written call a result, what applies a layer, and whether slices cut results
    result: str = "y = "
    applied: str = ""
    slices: bool = True
    ranks: tuple[int, ...] = (1, 2, 3)
    grouped_ranks: tuple[int, ...] = (1, 2, 3)
    # its names for kernel size, stride, padding, output padding and dilation
    names: dict[str, str] = field(default_factory=dict)
    # parameters that a written call leaves out
    defaults: dict[str, Any] = field(default_factory=dict)
    needs_sizes: bool = False
    # for the page: what goes wrong, where it stands, and the real package it was compared with
    trap: str = ""
    source: str = ""
    checked: str = ""
    # how a written call shows a value; by default as Python does
    shown: Callable[[Any], str] = repr
    assignment: str = "{}={}"

    def written(
        self, parameters: dict[str, Any], rank: int, groups: int = 1, bias: bool = True
    ) -> str:
        """The call with these parameters, as text; ``bias`` says whether it adds one."""
        told = [
            self.assignment.format(name, self.shown(value))
            for name, value in parameters.items()
            if not self._is_default(name, value)
        ]
        call = self.grouped_call if groups > 1 and self.group_axis else self.call
        call = call.replace("{rank}", str(rank))
        if self.takes_bias and not bias:
            call = call.replace(*self.bias)
        before, _, after = call.partition("{}")
        return (before if told else before.removesuffix(", ")) + ", ".join(told) + after

    def _is_default(self, name: str, value: Any) -> bool:
        if name not in self.defaults:
            return False
        default = self.defaults[name]
        if isinstance(value, list | tuple) and not isinstance(default, list | tuple):
            return all(entry == default for entry in value)
        return bool(value == default)


def frame(kernel_size: PerAxis, stride: PerAxis = 1, dilation: PerAxis = 1) -> Geometry:
    """A geometry that removes nothing, to ask for its axes and to give it crops afterwards."""
    return Geometry(kernel_size, stride, dilation=dilation)


def meaning(
    frame: Geometry,
    crops: Iterable[Crop],
    layout: Layout,
    output_padding: Sequence[int] | None = None,
) -> Meaning:
    """The frame with these crops; ``output_padding`` is added to what the crops leave."""
    geometry = Geometry(
        frame.kernel_size,
        frame.stride,
        padding=list(crops),
        output_padding=output_padding or 0,
        dilation=frame.dilation,
    )
    return Meaning(geometry, layout.permutation(frame.rank), layout.flip)


def padded(frame: Geometry, pads: Iterable[Crop], extra: Sequence[int], layout: Layout) -> Meaning:
    """Meaning of ``(begin, end)`` pads and ``extra`` output padding of any size.

    Output padding stays what it is where polyphase has it too, so that the convolution which is
    transposed can still be recognised; a larger one becomes part of the crop.
    """
    pads = list(pads)
    legal = all(
        op < max(axis.stride, axis.dilation) for op, axis in zip(extra, frame.axes, strict=True)
    )
    if legal:
        return meaning(frame, pads, layout, extra)
    return meaning(frame, [(a, b - op) for (a, b), op in zip(pads, extra, strict=True)], layout)


def per_axis(name: str, value: object, rank: int, low: int | None = None) -> tuple[int, ...]:
    """One int per axis, checked; one int serves every axis."""
    found = entries(name, value)
    values = (value,) * rank if found is None else found
    if len(values) != rank:
        raise GeometryError(
            f"{name} must have {rank} value{'s' if rank > 1 else ''}, one per spatial axis, "
            f"got {value!r}"
        )
    checked = tuple(whole(name, entry) for entry in values)
    if low is not None:
        at_least(name, checked, low)
    return checked


def input_sizes(frame: Geometry, input_size: object, why: str) -> tuple[int, ...]:
    """The input size, which some rules need."""
    if input_size is None:
        raise GeometryError(f"input_size is missing: {why}")
    return frame.sizes(input_size)  # type: ignore[arg-type]


def below_stride(name: str, values: tuple[int, ...], strides: Iterable[int]) -> None:
    """Refuse an output padding that is not smaller than the stride."""
    for op, s in zip(values, strides, strict=True):
        if op >= s:
            raise GeometryError(
                f"{name} must be smaller than the stride, got {op} with stride {s}: "
                f"0 to {s - 1} are allowed"
            )


def checked_groups(name: str, groups: object) -> int:
    """The number of groups, at least 1."""
    value = whole(name, groups)
    at_least(name, (value,), 1)
    return value


def one_of(name: str, value: object, words: Sequence[str]) -> str:
    """A word from a list."""
    if not isinstance(value, str) or value not in words:
        raise GeometryError(f"{name} must be {' or '.join(map(repr, words))}, got {value!r}")
    return value


def split_total(total: int, begin_first: bool) -> Crop:
    """``total`` removed positions as a crop, the odd one at the beginning or at the end.

    Less than nothing cannot be removed from the beginning: the end then gains it all.
    """
    half = max(total, 0) // 2
    begin = max(total, 0) - half if begin_first else half
    return begin, total - begin


def columns(geometry: Geometry) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Kernel sizes, strides and dilations, one entry per axis."""
    kernel, stride, dilation = zip(
        *((axis.kernel_size, axis.stride, axis.dilation) for axis in geometry.axes), strict=True
    )
    return kernel, stride, dilation


def effective_dilation(geometry: Geometry) -> tuple[int, ...]:
    """Dilations, 1 where there is a single tap, which has no distance to another."""
    return tuple(axis.dilation if axis.kernel_size > 1 else 1 for axis in geometry.axes)


def removed(crops: Iterable[Crop]) -> str:
    """Crops in words, once where all axes have the same.

    >>> removed([(1, 0), (1, 0)]), removed([(1, 0), (1, 1)])
    ('1 and 0', '1 and 0, 1 and 1')
    """
    told = [f"{begin} and {end}" for begin, end in crops]
    return told[0] if len(set(told)) == 1 else ", ".join(told)


def same_crop(axis: Axis) -> Crop:
    """The crop that leaves ``n*s``: TensorFlow's, and of all who follow it."""
    return split_total(axis.extent - axis.stride, begin_first=False)


def valid_crop(axis: Axis) -> Crop:
    """Keras' and JAX's crop for ``valid``: nothing, but never less than one stride per input."""
    return 0, min(axis.extent - axis.stride, 0)
