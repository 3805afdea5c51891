"""Minimal filtering for the gradient of the weights on one axis: groups of positions and of taps.

Where taps ``a, b`` of a phase meet positions ``x0, x1`` at gradients ``g0, g1, g2`` of its outputs,
their gradients ``x0*g0 + x1*g1`` and ``x0*g1 + x1*g2`` are ``m0 + m1`` and ``m1 + m2``, with
``m0 = x0*(g0 - g1)``, ``m1 = (x0 + x1)*g1``, ``m2 = x1*(g2 - g1)``: three products for four. Two
taps and three positions, or three taps and two positions, take four products for six, with halves.

What is summed over positions are the products; they become gradients once, at the end. So sums and
differences of the two sides are made for each box, those of the products for all boxes together.

Source: S. Winograd, Arithmetic Complexity of Computations, SIAM 1980, F(2, 2), F(2, 3), F(3, 2).
"""

from functools import cached_property
from math import gcd
from typing import NamedTuple

import numpy as np

from polyphase.engine.kernels.weights_context import Sum
from polyphase.engine.weights_reach import Places, Reach

# share of the products beyond which the sums and differences cost more than they save
WORTHWHILE = 0.95
# positions that a group spans: boxes have whole groups, and must stay small
LONGEST_GROUP = 8


class Term(NamedTuple):
    """One of the sums of products, times a factor."""

    product: int
    factor: float = 1.0


class Step(NamedTuple):
    """A sum of products becomes the sum of two terms."""

    target: int
    first: Term
    second: Term


class Scheme(NamedTuple):
    """Some taps of a phase with a group of positions: pairs of a sum of each side.

    The sums of the pairs' products go through steps, and then ``taps`` says which one is the
    gradient of which tap.
    """

    pairs: tuple[tuple[Sum, Sum], ...]
    steps: tuple[Step, ...]
    taps: tuple[int, ...]


# of two products in the middle half their sum, and half their difference; the first gets the sum
_HALVES = (
    Step(1, Term(1, 0.5), Term(2, 0.5)),
    Step(2, Term(1), Term(2, -1)),
    Step(0, Term(0), Term(1)),
)
_FIRST, _SECOND, _THIRD = (((offset, 1),) for offset in range(3))
PAIR = Scheme(
    pairs=(
        (_FIRST, ((0, 1), (1, -1))),
        (((0, 1), (1, 1)), _SECOND),
        (_SECOND, ((2, 1), (1, -1))),
    ),
    steps=(Step(0, Term(0), Term(1)), Step(2, Term(2), Term(1))),
    taps=(0, 2),
)
THREE_TAPS = Scheme(
    pairs=(
        (_FIRST, ((0, 1), (2, -1))),
        (((0, 1), (1, 1)), ((1, 1), (2, 1))),
        (((0, 1), (1, -1)), ((2, 1), (1, -1))),
        (_SECOND, ((3, 1), (1, -1))),
    ),
    steps=(*_HALVES, Step(3, Term(3), Term(1))),
    taps=(0, 2, 3),
)
THREE_POSITIONS = Scheme(
    pairs=(
        (_FIRST, ((0, 1), (2, -1))),
        (((0, 1), (2, 1), (1, 1)), ((1, 1), (2, 1))),
        (((0, 1), (2, 1), (1, -1)), ((2, 1), (1, -1))),
        (_THIRD, ((3, 1), (1, -1))),
    ),
    steps=(*_HALVES, Step(3, Term(3), Term(2))),
    taps=(0, 3),
)
# by the number of positions of a group and of taps
_SCHEMES = {(2, 2): PAIR, (2, 3): THREE_TAPS, (3, 2): THREE_POSITIONS}


def _shares(taps: int, positions: int) -> list[int]:
    """The taps of a phase in threes, twos and ones, as groups of positions take them."""
    if positions == 1:
        return [1] * taps
    shares = []
    while taps:
        # four are two and two, which takes as many products as three and one
        three = positions == 2 and (taps == 3 or taps > 4)
        shares.append(3 if three else min(taps, 2))
        taps -= shares[-1]
    return shares


class Product(NamedTuple):
    """Which sums of both sides are multiplied.

    With no ``x`` every position of a group is multiplied by the output it meets: those of the
    output are ``y`` and what follows it.
    """

    x: int | None
    y: int


class Phase:
    """Taps whose outputs have the same residue of the stride, with groups of positions.

    ``sums`` are those of the output, counted from where the first tap meets the first position.
    """

    def __init__(self, taps: list[int], positions: int, x_sums: list[Sum]) -> None:
        self.taps = taps
        self.sums: list[Sum] = []
        self.products: list[Product] = []
        self.steps: list[Step] = []
        self.slots: list[int] = []
        first = 0
        for count in _shares(len(taps), positions):
            at = len(self.products)
            if count == 1:
                self.products.append(Product(None, len(self.sums)))
                self.sums += [((first + i, 1),) for i in range(positions)]
                self.slots.append(at)
            else:
                scheme = _SCHEMES[positions, count]
                for x, y in scheme.pairs:
                    self.products.append(Product(x_sums.index(x), len(self.sums)))
                    self.sums.append(tuple((first + offset, sign) for offset, sign in y))
                for step in scheme.steps:
                    terms = (Term(at + t.product, t.factor) for t in step[1:])
                    self.steps.append(Step(at + step.target, *terms))
                self.slots += [at + slot for slot in scheme.taps]
            first += count


class GroupedAxis:
    """One axis of a problem, its positions in groups of ``positions`` and its taps by phase.

    Positions of a group lie ``apart``, as the taps of a phase do.
    """

    def __init__(self, reach: Reach, positions: int) -> None:
        self.reach = reach
        self.axis = reach.axis
        self.positions = positions
        s, d = self.axis.stride, self.axis.dilation
        # outputs of a phase between those that neighbouring taps reach
        self.tap_step = d // gcd(s, d)
        self.apart = self.tap_step if positions > 1 else 1
        found: dict[int, list[int]] = {}
        for tap, start in enumerate(reach.starts):
            found.setdefault(start % s, []).append(tap)
        counts = {count for taps in found.values() for count in _shares(len(taps), positions)}
        # every position by itself, if that is needed, comes first
        sums: list[Sum] = [((i, 1),) for i in range(positions)] if 1 in counts else []
        sums += [x for n in sorted(counts - {1}) for x, _ in _SCHEMES[positions, n].pairs]
        self.x_sums = list(dict.fromkeys(sums))
        self.phases = [Phase(taps, positions, self.x_sums) for taps in found.values()]

    @property
    def group(self) -> int:
        """Positions after which the next groups begin."""
        return self.positions * self.apart

    def full(self, length: int) -> int:
        """Positions of a run whose last groups are made full."""
        return -(-length // self.group) * self.group

    def count(self, length: int) -> int:
        """Groups of a run."""
        groups, rest = divmod(length, self.group)
        return groups * self.apart + min(rest, self.apart)

    def origins(self, length: int) -> Places:
        """The first positions of the groups of a run."""
        starts = np.arange(0, length, self.group)
        origins = np.add.outer(starts, np.arange(self.apart)).ravel()
        return origins[origins < length]

    def span(self, first: int, length: int) -> tuple[int, Places, bool]:
        """What a run reads, see :meth:`Reach.span`; what its groups have beyond it is lacking."""
        start, cells, lacks = self.reach.span(first, length, self.full(length))
        return start, cells, lacks or self.full(length) > length

    def windows(self, first: int, length: int) -> list[range]:
        """No tap has positions of its own: what lies outside is zero."""
        return []

    @property
    def products(self) -> list[tuple[Phase, Product]]:
        """All products, by phase."""
        return [(phase, product) for phase in self.phases for product in phase.products]

    @cached_property
    def steps(self) -> list[Step]:
        """What the sums of all products go through to become gradients."""
        found, at = [], 0
        for phase in self.phases:
            for target, *terms in phase.steps:
                moved = (Term(at + t.product, t.factor) for t in terms)
                found.append(Step(at + target, *moved))
            at += len(phase.products)
        return found

    @cached_property
    def slots(self) -> Places:
        """Where each tap's gradient is then, among all products."""
        found, at = np.zeros(self.axis.kernel_size, np.int64), 0
        for phase in self.phases:
            found[phase.taps] = at + np.array(phase.slots)
            at += len(phase.products)
        return found

    @cached_property
    def work(self) -> float:
        """Products for each position."""
        size = self.reach.size
        shared = self.count(size) / size
        return sum(1.0 if product.x is None else shared for _, product in self.products)


def grouped(reach: Reach, most: int = 3) -> GroupedAxis:
    """An axis in the groups that take the fewest products; in none where these save little.

    Groups are of ``most`` positions at the most.
    """
    plain, *others = (GroupedAxis(reach, positions) for positions in range(1, most + 1))
    near = [axis for axis in others if axis.group <= LONGEST_GROUP]
    best = min(near, key=lambda axis: axis.work, default=plain)
    return best if best.work < WORTHWHILE * plain.work else plain
