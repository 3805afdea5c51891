"""The size law of one spatial axis, on crops ``(a, b)``.

Input ``i`` and tap ``t`` meet at position ``u = s*i + d*t`` of the full result, whose length is
``F = (n-1)*s + e`` with the extent ``e = (k-1)*d + 1``. Removing ``a`` positions at the beginning
and ``b`` at the end leaves ``O = F - a - b`` outputs. Every framework is some ``(a, b)``.

The functions are plain formulas: they also work on symbols that can only be added and multiplied
(``torch.SymInt``). :class:`Axis` is the checked form on real integers.
"""

from dataclasses import dataclass


def extent(kernel_size: int, dilation: int = 1) -> int:
    """Distance covered by a kernel: ``(k-1)*d + 1``.

    >>> extent(3, dilation=2)
    5
    """
    return (kernel_size - 1) * dilation + 1


def transposed_size(
    size: int, kernel_size: int, stride: int, dilation: int, begin: int, end: int
) -> int:
    """Output length of a transposed convolution, ``(n-1)*s + e - a - b``.

    >>> transposed_size(6, kernel_size=3, stride=2, dilation=1, begin=1, end=1)
    11
    """
    return (size - 1) * stride + extent(kernel_size, dilation) - begin - end


def conv_size(size: int, kernel_size: int, stride: int, dilation: int, begin: int, end: int) -> int:
    """Output length of the strided convolution, ``floor((m + a + b - e) / s) + 1``.

    >>> conv_size(12, kernel_size=3, stride=2, dilation=1, begin=1, end=1)
    6
    """
    return (size + begin + end - extent(kernel_size, dilation)) // stride + 1


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis in canonical form: kernel, stride, dilation and the crop ``(begin, end)``.

    Made by :class:`~polyphase.arithmetic.geometry.Geometry`, which has checked the values.

    >>> Axis(3, stride=2, begin=1, end=0).output_size(6)
    12
    """

    kernel_size: int
    stride: int = 1
    dilation: int = 1
    begin: int = 0
    end: int = 0

    @property
    def extent(self) -> int:
        """Distance covered by the kernel."""
        return extent(self.kernel_size, self.dilation)

    def full_size(self, size: int) -> int:
        """Length of the result before the crop."""
        return (size - 1) * self.stride + self.extent

    def output_size(self, size: int) -> int:
        """Length of the transposed convolution's output; negative where the crop is too large."""
        return self.full_size(size) - self.begin - self.end

    def conv_output_size(self, size: int) -> int:
        """Length of the strided convolution's output; below 1 where the kernel does not fit."""
        return (size + self.begin + self.end - self.extent) // self.stride + 1

    def conv_input_sizes(self, size: int) -> range:
        """Every length that the convolution maps to ``size``: one stride of them, 1 and up."""
        base = self.output_size(size)
        return range(max(base, 1), max(base + self.stride, 1))
