"""Minimal filtering on one axis: two outputs side by side, from fewer products than their taps.

With taps ``a, b`` and inputs ``x0, x1, x2``, the outputs ``x0*a + x1*b`` and ``x1*a + x2*b`` are
``m0 + m1`` and ``m1 + m2``, with ``m0 = (x0 - x1)*a``, ``m1 = x1*(a + b)``, ``m2 = (x2 - x1)*b``:
three products for four.

With taps ``a, b, c`` and inputs ``x0, x1, x2, x3``, they are ``m0 + m1 + m2`` and ``m1 - m2 + m3``,
with ``m0 = (x0 - x2)*a``, ``m1 = (x1 + x2)/2 * (a + b + c)``, ``m2 = (x2 - x1)/2 * (a - b + c)``,
``m3 = (x3 - x1)*c``: four products for six.

All coefficients are 0, 1, -1 and 1/2, so whole numbers stay exact; and an output meets no input and
no tap but its own. Over several axes the scheme is applied to each in turn.

Source: S. Winograd, Arithmetic Complexity of Computations, SIAM 1980, F(2, 2) and F(2, 3); A. Lavin
and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016, arXiv 1509.09308.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from polyphase.arithmetic.phases import Phase

# a tap or an output, and whether it is added or subtracted: 1 or -1
Signed = tuple[int, int]


class Form(NamedTuple):
    """What a product reads at position ``q``: the sum of ``factor * x[q + offset]``.

    One term of factor 1, or two, of factors 1 and -1, 1/2 and 1/2, or 1/2 and -1/2.
    """

    terms: tuple[tuple[int, float], ...]

    @property
    def first(self) -> int:
        """The offset of the first term."""
        return self.terms[0][0]

    @property
    def offsets(self) -> tuple[int, ...]:
        """The input offsets that are read."""
        return tuple(offset for offset, _ in self.terms)

    @property
    def opposite(self) -> "Form":
        """The form of the other sign."""
        return Form(tuple((offset, -factor) for offset, factor in self.terms[::-1]))


def alone(offset: int) -> Form:
    """One input."""
    return Form(((offset, 1.0),))


def difference(offset: int, less: int) -> Form:
    """One input less another."""
    return Form(((offset, 1.0), (less, -1.0)))


def mean(offset: int, other: int) -> Form:
    """Half the sum of two inputs."""
    return Form(((offset, 0.5), (other, 0.5)))


def half(offset: int, less: int) -> Form:
    """Half the difference of two inputs."""
    return Form(((offset, 0.5), (less, -0.5)))


@dataclass(frozen=True, slots=True)
class Product:
    """One product: a form of the inputs, the taps whose sum is its factor, and where it goes.

    ``taps`` count within the phase; ``outputs`` are the positions after ``q`` that it is added to.
    """

    form: Form
    taps: tuple[Signed, ...]
    outputs: tuple[Signed, ...]


def products(offsets: Sequence[int], together: int, step: int = 1) -> tuple[Product, ...]:
    """The products that make ``together`` neighbouring positions of a phase, one or two.

    Neighbouring positions read ``step`` inputs apart, and so must taps that share products. Those
    that serve two positions come before the two that serve one of them each, the first one first.

    >>> len(products([-1, 0], 1)), len(products([-1, 0], 2)), len(products([0], 2))
    (2, 3, 2)
    >>> len(products([-1, 0, 1], 2)), len(products([-1, 0, 1, 2], 2, step=2))
    (4, 6)
    """
    tap_at = {offsets[tap]: tap for tap in range(len(offsets))}
    found: list[Product] = []
    for run in _runs(sorted(offsets), step):
        for first, count in _shares(len(run)) if together == 2 else enumerate([1] * len(run)):
            taps = [tap_at[offset] for offset in run[first : first + count]]
            found += _SCHEMES[count](run[first], step, taps, together)
    return tuple(found)


def _runs(offsets: Sequence[int], step: int) -> Iterator[list[int]]:
    """Offsets, ascending, in runs of ``step`` from one to the next."""
    left = dict.fromkeys(offsets)
    while left:
        run = [next(iter(left))]
        while run[-1] in left:
            del left[run[-1]]
            run.append(run[-1] + step)
        yield run[:-1]


def _shares(count: int) -> Iterator[tuple[int, int]]:
    """A run of ``count`` taps in threes and twos: where each begins, and how many it has."""
    first = 0
    while first < count:
        left = count - first
        # four are two and two, which takes as many products as three and one
        share = 3 if left == 3 or left > 4 else min(left, 2)
        yield first, share
        first += share


def _one(first: int, step: int, taps: Sequence[int], together: int) -> list[Product]:
    """A tap on its own."""
    (a,) = taps
    return [Product(alone(first + i * step), ((a, 1),), ((i, 1),)) for i in range(together)]


def _two(first: int, step: int, taps: Sequence[int], _: int) -> list[Product]:
    """F(2, 2)."""
    a, b = taps
    x0, x1, x2 = range(first, first + 3 * step, step)
    return [
        Product(alone(x1), ((a, 1), (b, 1)), ((0, 1), (1, 1))),
        Product(difference(x0, x1), ((a, 1),), ((0, 1),)),
        Product(difference(x2, x1), ((b, 1),), ((1, 1),)),
    ]


def _three(first: int, step: int, taps: Sequence[int], _: int) -> list[Product]:
    """F(2, 3)."""
    a, b, c = taps
    x0, x1, x2, x3 = range(first, first + 4 * step, step)
    return [
        Product(mean(x1, x2), ((a, 1), (b, 1), (c, 1)), ((0, 1), (1, 1))),
        Product(half(x2, x1), ((a, 1), (b, -1), (c, 1)), ((0, 1), (1, -1))),
        Product(difference(x0, x2), ((a, 1),), ((0, 1),)),
        Product(difference(x3, x1), ((c, 1),), ((1, 1),)),
    ]


_SCHEMES = {1: _one, 2: _two, 3: _three}


def combinations(forms: Sequence[Form]) -> Iterator[tuple[Form, Form, bool]]:
    """How forms of two terms come out of planes that hold the first term of each, in place.

    In order: a form, the one whose plane is combined with its own, and whether both change then,
    into half their sum and half their difference; else the other one is subtracted.
    """
    halves = [form for form in forms if form.terms[0][1] == 0.5]
    untouched = {form.first: form for form in forms if len(form.terms) == 1 or form in halves}
    for form in forms:
        if len(form.terms) == 2 and form not in halves:
            yield form, untouched[form.offsets[1]], False
    for form in halves:
        if form.terms[1][1] > 0:
            yield form, half(*form.offsets[::-1]), True


@dataclass(frozen=True, eq=False)
class Group:
    """The phases of an axis that read at the same offsets, and the products that they share.

    ``phases`` are numbers of phases. ``taps[i]`` has for each product the taps of the ``i``-th.
    """

    phases: tuple[int, ...]
    products: tuple[Product, ...]
    taps: tuple[tuple[tuple[Signed, ...], ...], ...]

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
            taps.append(tuple(tuple((order[tap][1], sign) for tap, sign in p.taps) for p in shared))
        found.append(Group(tuple(numbers), shared, tuple(taps)))
    return tuple(found)
