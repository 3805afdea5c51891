"""Layers in the place of PyTorch's ``torch.nn.ConvTranspose1d`` to ``3d`` and their lazy forms.

They are subclasses of PyTorch's own: the same constructor, parameters, initial values, ``repr`` and
``state_dict``, and ``isinstance`` goes on working.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import wraps
from math import gcd
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from polyphase.arithmetic.axis import transposed_size
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis, PerAxisPadding, at_least, has_entries, whole
from polyphase.errors import GeometryError, OutputSizeError, Unsupported
from polyphase.functional.arguments import hashable, named_padding, per_axis
from polyphase.functional.tensors.calls import are_symbols, check_kinds, run
from polyphase.functional.tensors.spatial import spatial

__all__ = [
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
]

# of the numbers of groups that a message lists
MOST_GROUPS = 1024


def _telling(construct: Callable[..., None]) -> Callable[..., None]:
    """A constructor that says which argument was meant by one that it does not have."""
    signature = inspect.signature(construct)
    names = list(signature.parameters)[1:]

    @wraps(construct)
    def telling(self: Any, *args: Any, **given: Any) -> None:
        try:
            construct(self, *args, **given)
        except TypeError:
            try:
                signature.bind(self, *args, **given)
            except TypeError as error:
                raise TypeError(f"{type(self).__name__}: {error}{meant(given)}") from None
            raise

    def meant(given: Iterable[str]) -> str:
        for unknown in (name for name in given if name not in names):
            near = get_close_matches(unknown, names, 1, 0.5)
            return f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(names)}"
        return ""

    return telling


class _Layer(_ConvTransposeNd):
    """What layers of one to three axes share; each class joins it with PyTorch's own."""

    _rank: ClassVar[int]
    _conv: ClassVar[type[_ConvNd]]

    @_telling
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxisPadding | str = 0,
        output_padding: PerAxis = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: PerAxis = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        given = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "dilation": dilation,
        }
        sizes = {
            name: per_axis(name, hashable(name, value), self._rank) for name, value in given.items()
        }
        geometry = _checked(**sizes)
        _check_channels(in_channels, out_channels, groups)
        # the signature is that of PyTorch's layer, which comes next in every class
        super().__init__(
            in_channels,
            out_channels,
            sizes["kernel_size"],
            sizes["stride"],
            0,
            sizes["output_padding"],
            groups,
            bias,
            sizes["dilation"],
            padding_mode,
            device,
            dtype,
        )
        pads = tuple(a if a == b and a >= 0 else (a, b) for a, b in geometry.pads)
        self.padding: Any = padding if isinstance(padding, str) else pads

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """The transposed convolution of ``input``, ``(N, C, *size)`` or ``(C, *size)``.

        ``output_size`` asks for one of the sizes that a legal output padding reaches, with or
        without batch and channels in front.
        """
        output_padding: Any = self.output_padding
        if output_size is not None:
            output_padding = self._output_padding(input, output_size)
        return run(
            "conv_transpose",
            self._rank,
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            output_padding,
            self.dilation,
            self.groups,
        )

    def _output_padding(  # type: ignore[override]
        self, input: Tensor, output_size: Sequence[int] | None, *_: Any
    ) -> tuple[int, ...]:
        """The output padding that gives ``output_size``; PyTorch passes the rest of the layer."""
        rank = self._rank
        if output_size is None:
            return self.output_padding
        if not is_dynamo_compiling():
            check_kinds(input=input)
            _check_sequence(output_size, rank)
        lead = input.dim() - rank
        wanted = tuple(output_size)
        if len(wanted) not in (rank, rank + lead):
            raise GeometryError(
                f"output_size must have {rank} entries, or {rank + lead} with those in front, for "
                f"an input of {input.dim()} axes, got {len(wanted)}: {wanted}"
            )
        wanted, given = wanted[-rank:], tuple(input.shape[-rank:])
        s = spatial(self.kernel_size, self.stride, self.padding, 0, self.dilation, self.groups)
        parameters = zip(given, self.kernel_size, s.stride, s.dilation, s.padding, strict=True)
        bases = [transposed_size(n, k, t, d, *ends) for n, k, t, d, ends in parameters]
        found = tuple(size - base for size, base in zip(wanted, bases, strict=True))
        # symbols must not be compared, which would fix them; the operator checks the numbers
        if not is_dynamo_compiling() and not are_symbols((*given, *wanted)):
            self._check_output_size(given, wanted, found)
        return found

    def _check_output_size(
        self, given: tuple[int, ...], wanted: tuple[int, ...], found: tuple[int, ...]
    ) -> None:
        if self.padding != "same":
            geometry = Geometry(
                self.kernel_size, self.stride, padding=self.padding, dilation=self.dilation
            )
            # says what can be reached, and what else reaches it
            geometry.for_output_size(given, wanted)
        elif any(found):
            same = tuple(size - op for size, op in zip(wanted, found, strict=True))
            raise OutputSizeError(
                f"output_size {wanted} cannot be reached: with padding 'same' an input of {given} "
                f"gives input * stride, {same}; give padding in numbers for other sizes"
            )

    @classmethod
    def inverse_of(cls, conv: _ConvNd) -> Self:
        """The layer that brings the output of a convolution back to the shape of its input.

        It has the convolution's parameters with channels swapped, fresh weights, and a bias where
        the convolution has one. Several input sizes give one output size: say which with
        ``output_size``.

        >>> conv = torch.nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
        >>> layer = ConvTranspose2d.inverse_of(conv)
        >>> x = torch.zeros(1, 3, 12, 11)
        >>> tuple(layer(conv(x), output_size=x.shape).shape)
        (1, 3, 12, 11)

        Raises ``TypeError`` for another kind of layer and :class:`~polyphase.Unsupported` for
        padding with anything but zeros.
        """
        if not isinstance(conv, cls._conv):
            raise TypeError(
                f"{cls.__name__}.inverse_of takes a torch.nn.{cls._conv.__name__}, "
                f"got {type(conv).__name__}"
            )
        if conv.padding_mode != "zeros":
            raise Unsupported(
                f"a convolution that pads with {conv.padding_mode!r} has no transposed form here; "
                "only padding_mode 'zeros' has"
            )
        pads: Any = conv.padding
        if isinstance(pads, str):
            sizes = conv.kernel_size, conv.stride, conv.dilation, (0,) * cls._rank
            pads = per_axis("padding", named_padding("conv", pads, *sizes), cls._rank)
        return cls(
            conv.out_channels,
            conv.in_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=pads,
            groups=conv.groups,
            bias=conv.bias is not None,
            dilation=conv.dilation,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )


def _checked(
    kernel_size: Any, stride: Any, padding: Any, output_padding: Any, dilation: Any
) -> Geometry:
    """The geometry of a layer, so that what is wrong is refused when it is made."""
    if isinstance(padding, str):
        padding = named_padding(
            "conv_transpose", padding, kernel_size, stride, dilation, output_padding
        )
    return Geometry(
        kernel_size,
        stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
    )


def _check_sequence(output_size: object, rank: int) -> None:
    if not has_entries(output_size):
        fix = f"; write {(output_size,) * rank}" if isinstance(output_size, int) else ""
        raise TypeError(
            f"output_size must be a sequence of {rank} ints, one per spatial axis, got "
            f"{output_size!r}{fix}"
        )


def _check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    """Refuse channels that groups do not divide, as PyTorch does; lazy layers have 0 at first."""
    channels = {"in_channels": in_channels, "out_channels": out_channels}
    for name, value in channels.items():
        at_least(name, (whole(name, value),), 0)
    # PyTorch refuses what is not positive
    if whole("groups", groups) > 0 and any(value % groups for value in channels.values()):
        told = " and ".join(f"{name} {value}" for name, value in channels.items() if value)
        common = gcd(*channels.values())
        able = [str(n) for n in range(1, min(common, MOST_GROUPS) + 1) if common % n == 0]
        raise GeometryError(
            f"{told} must be divisible by groups, got groups {groups}: it can be "
            f"{' or '.join(filter(None, (', '.join(able[:-1]), able[-1])))}"
        )


class ConvTranspose1d(_Layer, torch.nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` on polyphase; see :class:`ConvTranspose2d`.

    >>> layer = ConvTranspose1d(80, 40, kernel_size=16, stride=8, padding=4)
    >>> tuple(layer(torch.zeros(1, 80, 100)).shape)
    (1, 40, 800)
    """

    _rank = 1
    _conv = torch.nn.Conv1d


class ConvTranspose2d(_Layer, torch.nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` on polyphase.

    Takes ``(N, C_in, H, W)`` or ``(C_in, H, W)``. Beyond PyTorch, ``padding`` may be ``"same"`` (an
    output of exactly input times stride) or have ``(begin, end)`` pairs per axis, and
    ``output_size`` reaches every size that a legal output padding reaches.

    >>> layer = ConvTranspose2d(16, 8, kernel_size=3, stride=2, padding=1)
    >>> x = torch.zeros(1, 16, 6, 6)
    >>> tuple(layer(x).shape), tuple(layer(x, output_size=(12, 11)).shape)
    ((1, 8, 11, 11), (1, 8, 12, 11))
    >>> layer
    ConvTranspose2d(16, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))

    Raises :class:`~polyphase.GeometryError` (a ``ValueError``) for a parameter out of range, when
    the layer is made, and :class:`~polyphase.OutputSizeError` (likewise) for an ``output_size``
    that cannot be reached.
    """

    _rank = 2
    _conv = torch.nn.Conv2d


class ConvTranspose3d(_Layer, torch.nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` on polyphase; see :class:`ConvTranspose2d`.

    >>> layer = ConvTranspose3d(4, 2, kernel_size=(1, 2, 2), stride=(1, 2, 2))
    >>> tuple(layer(torch.zeros(1, 4, 3, 5, 5)).shape)
    (1, 2, 3, 10, 10)
    """

    _rank = 3
    _conv = torch.nn.Conv3d


class LazyConvTranspose1d(torch.nn.LazyConvTranspose1d, ConvTranspose1d):  # type: ignore[misc]
    """A :class:`ConvTranspose1d` that learns ``in_channels`` from its first input.

    >>> layer = LazyConvTranspose1d(40, kernel_size=16, stride=8, padding=4)
    >>> tuple(layer(torch.zeros(1, 80, 100)).shape), layer.in_channels
    ((1, 40, 800), 80)
    """

    __init__ = _telling(torch.nn.LazyConvTranspose1d.__init__)
    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(torch.nn.LazyConvTranspose2d, ConvTranspose2d):  # type: ignore[misc]
    """A :class:`ConvTranspose2d` that learns ``in_channels`` from its first input.

    >>> layer = LazyConvTranspose2d(8, kernel_size=2, stride=2)
    >>> tuple(layer(torch.zeros(1, 16, 6, 6)).shape), layer.in_channels
    ((1, 8, 12, 12), 16)
    """

    __init__ = _telling(torch.nn.LazyConvTranspose2d.__init__)
    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(torch.nn.LazyConvTranspose3d, ConvTranspose3d):  # type: ignore[misc]
    """A :class:`ConvTranspose3d` that learns ``in_channels`` from its first input.

    >>> layer = LazyConvTranspose3d(2, kernel_size=2, stride=2)
    >>> tuple(layer(torch.zeros(1, 4, 3, 3, 3)).shape), layer.in_channels
    ((1, 2, 6, 6, 6), 4)
    """

    __init__ = _telling(torch.nn.LazyConvTranspose3d.__init__)
    cls_to_become = ConvTranspose3d
