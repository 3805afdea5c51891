"""Minimal filtering on one axis: two outputs side by side, of two taps, from three products.

With taps ``a, b`` and inputs ``x0, x1, x2``, the outputs ``x0*a + x1*b`` and ``x1*a + x2*b`` are
``m0 + m1`` and ``m1 + m2``, with ``m0 = (x0 - x1)*a``, ``m1 = x1*(a + b)``, ``m2 = (x2 - x1)*b``.
Every factor has coefficients of 0 and 1 alone, so whole numbers stay exact; and an output meets
no input and no tap but its own. Over several axes the scheme is applied to each in turn.

Source: S. Winograd, Arithmetic Complexity of Computations, SIAM 1980, F(2, 2); A. Lavin and
S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016, arXiv 1509.09308.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from polyphase.arithmetic.phases import Phase


class Form(NamedTuple):
    """What a product reads at position ``q``: ``x[q + plus]``, less ``x[q + minus]`` if given."""

    plus: int
    minus: int | None = None

    @property
    def offsets(self) -> tuple[int, ...]:
        """The input offsets that are read."""
        return (self.plus,) if self.minus is None else (self.plus, self.minus)

    @property
    def opposite(self) -> "Form | None":
        """The form of the other sign, where there is one."""
        return None if self.minus is None else Form(self.minus, self.plus)


@dataclass(frozen=True, slots=True)
class Product:
    """One product: a form of the inputs, the taps whose sum is its factor, and where it goes.

    ``taps`` count within the phase; ``outputs`` are the positions after ``q`` that it is added to.
    """

    form: Form
    taps: tuple[int, ...]
    outputs: tuple[int, ...]


def products(offsets: Sequence[int], together: int, step: int = 1) -> tuple[Product, ...]:
    """The products that make ``together`` neighbouring positions of a phase, one or two.

    Neighbouring positions read ``step`` inputs apart, and so must two taps that share products. The
    product that serves two positions comes before the two that serve one of them each.

    >>> len(products([-1, 0], 1)), len(products([-1, 0], 2)), len(products([0], 2))
    (2, 3, 2)
    >>> len(products([-1, 0, 1, 2], 2, step=2)), len(products([-1, 0, 1], 2, step=2))
    (6, 5)
    """
    left = {offsets[tap]: tap for tap in sorted(range(len(offsets)), key=offsets.__getitem__)}
    found: list[Product] = []
    while left:
        first = next(iter(left))
        tap = left.pop(first)
        second, third = first + step, first + 2 * step
        other = left.pop(second, None) if together == 2 else None
        if other is not None:
            found += [
                Product(Form(second), (tap, other), (0, 1)),
                Product(Form(first, second), (tap,), (0,)),
                Product(Form(third, second), (other,), (1,)),
            ]
        else:
            found += [Product(Form(first + i * step), (tap,), (i,)) for i in range(together)]
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Group:
    """The phases of an axis that read at the same offsets, and the products that they share.

    ``phases`` are numbers of phases. ``taps[i]`` has for each product the taps of the ``i``-th.
    """

    phases: tuple[int, ...]
    products: tuple[Product, ...]
    taps: tuple[tuple[tuple[int, ...], ...], ...]

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The distinct forms of its products, in their order."""
        return tuple(dict.fromkeys(product.form for product in self.products))


def groups(phases: Sequence[Phase], together: int, step: int = 1) -> tuple[Group, ...]:
    """The phases of an axis by the offsets at which they read."""
    members: dict[tuple[int, ...], list[int]] = {}
    for number, phase in enumerate(phases):
        members.setdefault(tuple(sorted(phase.offsets)), []).append(number)
    found = []
    for offsets, numbers in members.items():
        shared = products(offsets, together, step)
        taps = []
        for number in numbers:
            # products count taps by ascending offset
            order = sorted(zip(phases[number].offsets, phases[number].taps, strict=True))
            taps.append(tuple(tuple(order[tap][1] for tap in p.taps) for p in shared))
        found.append(Group(tuple(numbers), shared, tuple(taps)))
    return tuple(found)
