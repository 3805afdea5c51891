"""Parameters as the three operators take them, and how one operator's give those of the others.

Everything here is a plain formula, so that it also works on sizes that are symbols.
"""

from typing import Any, NamedTuple

from polyphase.arithmetic.axis import extent, transposed_size


class Spatial(NamedTuple):
    """One entry per axis; ``padding`` is ``(begin, end)``, before output padding is taken off."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def begins_and_ends(self) -> tuple[list[int], list[int]]:
        """Padding as registered operators take it."""
        return [begin for begin, _ in self.padding], [end for _, end in self.padding]

    def folded(self) -> "Spatial":
        """The same crops with no output padding, as the gradients of a transposed convolution.

        >>> Spatial((2,), ((1, 1),), (1,), (1,), 1).folded().padding
        ((1, 0),)
        """
        pads = tuple(
            (begin, end - op)
            for (begin, end), op in zip(self.padding, self.output_padding, strict=True)
        )
        return self._replace(padding=pads, output_padding=(0,) * len(pads))

    def reaching(self, small: Any, large: Any, kernel_size: Any) -> "Spatial":
        """With ends such that the transposed convolution of size ``small`` gives exactly ``large``.

        A strided convolution may leave positions at the end that no output reads; its gradient
        must still produce them.

        >>> Spatial((2,), ((1, 1),), (0,), (1,), 1).reaching((3,), (6,), (3,)).padding
        ((1, 0),)
        """
        pads = tuple(
            (begin, transposed_size(n, k, s, d, begin, 0) - m)
            for n, m, k, s, d, (begin, _) in zip(
                small,
                large,
                kernel_size,
                self.stride,
                self.dilation,
                self.padding,
                strict=True,
            )
        )
        return self._replace(padding=pads)


def spatial(
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
) -> Spatial:
    """The arguments of a call, spread over the axes; what they are worth is checked elsewhere.

    >>> spatial((4, 4), 2, "same", 0, 1, 1).padding
    ((1, 1), (1, 1))
    """
    rank = len(kernel_size)
    strides, dilations = _spread(stride, rank), _spread(dilation, rank)
    if padding == "same":
        # input times stride; for a convolution the stride is 1, and so the size is kept
        surplus = [
            extent(k, d) - s for k, s, d in zip(kernel_size, strides, dilations, strict=True)
        ]
        begins = [max(total, 0) // 2 for total in surplus]
        pads = tuple((a, total - a) for a, total in zip(begins, surplus, strict=True))
    else:
        given = _spread(0 if padding == "valid" else padding, rank)
        pads = tuple((p, p) if not isinstance(p, tuple | list) else (p[0], p[1]) for p in given)
    return Spatial(strides, pads, _spread(output_padding, rank), dilations, groups)


def _spread(value: Any, rank: int) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        return (value,) * rank
    return tuple(value) * rank if len(value) == 1 else tuple(value)
