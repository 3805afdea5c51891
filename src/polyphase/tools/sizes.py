"""The sizes around one transposed convolution, with the formula and its numbers."""

from dataclasses import dataclass
from typing import Any

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis, each, plain

PARAMETERS = ("kernel_size", "stride", "padding", "output_padding", "dilation")


@dataclass(frozen=True, slots=True)
class AxisSizes:
    """One axis: the sizes at both ends, those within reach, and the size law.

    ``reachable`` are the outputs that a legal output padding gives, ``conv_inputs`` the sizes that
    the convolution with the same parameters maps back to the input size.
    """

    axis: Axis
    output_padding: int
    input_size: int
    output_size: int
    reachable: range
    conv_inputs: range

    @property
    def largest_output_padding(self) -> int:
        """The largest output padding that is smaller than stride or dilation."""
        return max(self.axis.stride, self.axis.dilation) - 1

    @property
    def law(self) -> str:
        """The size law in letters, with the padding of each end where the two differ.

        >>> sizes(Geometry(3, padding=[(0, 1)]), 6).axes[0].law
        '(n - 1)*s - p0 - p1 + d*(k - 1) + op + 1'
        """
        first, last = self._padding
        return f"(n - 1)*s - {'2*p' if first == last else 'p0 - p1'} + d*(k - 1) + op + 1"

    @property
    def numbers(self) -> str:
        """The size law with its numbers put in.

        >>> sizes(Geometry(3, stride=2, padding=1), 6).axes[0].numbers
        '(6 - 1)*2 - 2*1 + 1*(3 - 1) + 0 + 1'
        """
        first, last = (f"({p})" if p < 0 else f"{p}" for p in self._padding)
        return (
            f"({self.input_size} - 1)*{self.axis.stride} - "
            f"{f'2*{first}' if first == last else f'{first} - {last}'} + "
            f"{self.axis.dilation}*({self.axis.kernel_size} - 1) + {self.output_padding} + 1"
        )

    @property
    def _padding(self) -> tuple[int, int]:
        return self.axis.begin, self.axis.end + self.output_padding


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of one geometry at one input size."""

    geometry: Geometry
    axes: tuple[AxisSizes, ...]

    def as_data(self) -> dict[str, Any]:
        """The sizes in dicts, lists, ints and strings, ready for JSON.

        Sizes within reach are given by the smallest and the largest; ``None`` where there is none.
        """
        return {
            **parameters(self.geometry),
            "input_size": plain(tuple(axis.input_size for axis in self.axes)),
            "output_size": plain(tuple(axis.output_size for axis in self.axes)),
            "output_sizes": plain(tuple(_ends(axis.reachable) for axis in self.axes)),
            "conv_input_sizes": plain(tuple(_ends(axis.conv_inputs) for axis in self.axes)),
            "formula": plain(tuple(f"{axis.numbers} = {axis.output_size}" for axis in self.axes)),
        }


def sizes(geometry: Geometry, input_size: PerAxis) -> Sizes:
    """The sizes around ``geometry`` at ``input_size``.

    >>> data = sizes(Geometry(3, stride=2, padding=1), 6).as_data()
    >>> data["output_size"], data["output_sizes"], data["conv_input_sizes"]
    (11, [11, 12], [11, 12])

    Raises :class:`~polyphase.OutputSizeError` where the padding removes more than there is.
    """
    columns = (
        geometry.axes,
        each(geometry.output_padding),
        geometry.sizes(input_size),
        each(geometry.output_size(input_size)),
        each(geometry.output_sizes(input_size)),
        each(geometry.conv_input_sizes(input_size)),
    )
    return Sizes(geometry, tuple(AxisSizes(*values) for values in zip(*columns, strict=True)))


def parameters(geometry: Geometry) -> dict[str, Any]:
    """The parameters of a geometry by name.

    >>> parameters(Geometry(3, stride=2))["stride"]
    2
    """
    return {name: getattr(geometry, name) for name in PARAMETERS}


def _ends(values: range) -> list[int] | None:
    return [values[0], values[-1]] if values else None
