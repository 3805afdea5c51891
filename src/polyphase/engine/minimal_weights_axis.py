"""Minimal filtering for the gradient of the weights on one axis: groups of positions and of taps.

Where taps ``a, b`` of a phase meet positions ``x0, x1`` at gradients ``g0, g1, g2`` of its outputs,
their gradients ``x0*g0 + x1*g1`` and ``x0*g1 + x1*g2`` are ``m0 + m1`` and ``m1 + m2``, with
``m0 = x0*(g0 - g1)``, ``m1 = (x0 + x1)*g1``, ``m2 = x1*(g2 - g1)``: three products for four. Two
taps and three positions, or three taps and two positions, take four products for six, with halves.

What is summed over positions are the products; they become gradients once, at the end. So the sums
and differences of the two sides are made for each box, and of the products for all of them together.

Source: S. Winograd, Arithmetic Complexity of Computations, SIAM 1980, F(2, 2), F(2, 3) and F(3, 2).
"""

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import NamedTuple

import numpy as np

from polyphase.engine.weights_reach import Places, Reach

# share of the products beyond which the sums and differences cost more than they save
WORTHWHILE = 0.95


class Term(NamedTuple):
    """A plane, read this many groups further on, times a factor."""

    plane: int
    factor: float = 1.0
    shift: int = 0


class Step(NamedTuple):
    """A plane becomes the sum of two terms."""

    target: int
    first: Term
    second: Term


class Product(NamedTuple):
    """Planes of both sides that are multiplied, the output's read ``shift`` groups further on.

    With no plane of ``x`` all positions are summed, each with its own output.
    """

    x: int | None
    y: int
    shift: int = 0


class Scheme(NamedTuple):
    """A group of taps: the products; what the output's planes and the sums go through before, after.

    Planes of the output begin as its residues. ``taps`` says which sum becomes which gradient.
    """

    products: tuple[Product, ...]
    prepare: tuple[Step, ...]
    finish: tuple[Step, ...]
    taps: tuple[int, ...]

    @property
    def planes(self) -> int:
        """Planes of the output."""
        return 1 + max(product.y for product in self.products)


SINGLE = Scheme((Product(None, 0),), (), (), (0,))
# planes of x: both positions, their sum, their difference
PAIR = Scheme(
    products=(Product(0, 0), Product(2, 1), Product(1, 2)),
    prepare=(Step(2, Term(0, shift=1), Term(1, -1)), Step(0, Term(0), Term(1, -1))),
    finish=(Step(0, Term(0), Term(1)), Step(2, Term(2), Term(1))),
    taps=(0, 2),
)
THREE_TAPS = Scheme(
    products=(Product(0, 0), Product(2, 2), Product(3, 3), Product(1, 1)),
    prepare=(
        Step(2, Term(1), Term(0, shift=1)),
        Step(3, Term(0, shift=1), Term(1, -1)),
        Step(0, Term(0), Term(0, -1, shift=1)),
        Step(1, Term(1, shift=1), Term(1, -1)),
    ),
    finish=(
        Step(1, Term(1, 0.5), Term(2, 0.5)),
        Step(2, Term(1), Term(2, -1)),
        Step(0, Term(0), Term(1)),
        Step(3, Term(3), Term(1)),
    ),
    taps=(0, 2, 3),
)
# planes of x: the first, the alternating sum, the last, the sum
THREE_POSITIONS = Scheme(
    products=(Product(0, 0), Product(3, 1), Product(1, 2), Product(2, 3)),
    prepare=(
        Step(3, Term(0, shift=1), Term(1, -1)),
        Step(0, Term(0), Term(2, -1)),
        Step(1, Term(1), Term(2)),
        Step(2, Term(1), Term(2, -2)),
    ),
    finish=(
        Step(1, Term(1, 0.5), Term(2, -0.5)),
        Step(2, Term(1), Term(2)),
        Step(0, Term(0), Term(1)),
        Step(3, Term(3), Term(2)),
    ),
    taps=(0, 3),
)


def _schemes(taps: int, positions: int) -> list[Scheme] | None:
    """How the taps of a phase are taken with groups of positions; ``None`` if they are not."""
    if positions == 1:
        return [SINGLE] * taps
    if taps == 1:
        return [SINGLE]
    if positions == 3:
        return [THREE_POSITIONS] if taps == 2 else None
    if taps == 3:
        return [THREE_TAPS]
    # the next pair of taps meets the next group of positions where the first pair met this one
    return [PAIR] * (taps // 2) if taps % 2 == 0 else None


@dataclass(frozen=True)
class _Phase:
    """Taps that reach outputs of one residue of the stride; ``low`` is where the first one does."""

    residue: int
    low: int
    taps: tuple[int, ...]


class GroupedAxis:
    """One axis of a problem, its positions in groups of ``positions`` and its taps by phase.

    Positions of a group lie ``apart``, as the taps of a phase do. A box keeps each position of its
    groups, and each residue of what its phases reach, in a plane of its own.
    """

    def __init__(self, reach: Reach, positions: int) -> None:
        self.reach = reach
        self.axis = reach.axis
        self.positions = positions
        s, d = self.axis.stride, self.axis.dilation
        self.apart = d // gcd(s, d) if positions > 1 else 1
        found: dict[int, list[int]] = {}
        for tap, start in enumerate(reach.starts):
            found.setdefault(start % s, []).append(tap)
        self._phases = [
            _Phase(residue, reach.starts[taps[0]] // s, tuple(taps))
            for residue, taps in found.items()
        ]
        self._schemes = [_schemes(len(phase.taps), positions) for phase in self._phases]

    @property
    def possible(self) -> bool:
        """Whether every phase can be taken in these groups."""
        return None not in self._schemes

    @property
    def group(self) -> int:
        """Positions after which the next groups begin."""
        return self.positions * self.apart

    @cached_property
    def phases(self) -> list[tuple[_Phase, list[Scheme]]]:
        """The phases and their schemes."""
        return [(p, s) for p, s in zip(self._phases, self._schemes, strict=True) if s is not None]

    def _uses(self, scheme: Scheme) -> bool:
        return any(scheme in schemes for _, schemes in self.phases)

    # the input

    @property
    def _keeps(self) -> bool:
        """Whether the position in the middle of three is needed by itself."""
        return self.positions == 3 and self._uses(SINGLE)

    @property
    def x_planes(self) -> int:
        """Planes of the input."""
        if self.positions == 2:
            return 4 if self._uses(THREE_TAPS) else 3
        return 1 if self.positions == 1 else 4 + self._keeps

    @property
    def x_steps(self) -> list[Step]:
        """What the planes of the input go through."""
        if self.positions == 1:
            return []
        if self.positions == 2:
            steps = [Step(2, Term(0), Term(1)), Step(3, Term(0), Term(1, -1))]
            return steps[: self.x_planes - 2]
        alternating = 4 if self._keeps else 1
        return [
            Step(3, Term(0), Term(2)),
            Step(3, Term(3), Term(1)),
            Step(alternating, Term(3), Term(1, -2)),
        ]

    def x_cells(self, length: int) -> int:
        """Cells of a plane of the input."""
        return -(-length // self.group) * self.apart

    def place(self, position: Places) -> tuple[Places, Places]:
        """Residue and cell of positions that count from where groups begin."""
        residue = position // self.apart % self.positions
        return residue, position // self.group * self.apart + position % self.apart

    # the output

    def _scheme_planes(self, schemes: list[Scheme]) -> int:
        return max(self.positions, *(scheme.planes for scheme in schemes))

    @cached_property
    def y_bases(self) -> list[int]:
        """The first plane of each phase, and behind them the number of all planes."""
        bases = [0]
        for _, schemes in self.phases:
            bases.append(bases[-1] + self._scheme_planes(schemes))
        return bases

    @property
    def y_planes(self) -> int:
        """Planes of the output."""
        return self.y_bases[-1]

    @cached_property
    def y_raw(self) -> list[int]:
        """Planes that hold the output itself, before they go through anything."""
        return [base + i for base in self.y_bases[:-1] for i in range(self.positions)]

    @cached_property
    def y_steps(self) -> list[Step]:
        """What the planes of the output go through."""

        def moved(term: Term, base: int) -> Term:
            return term._replace(plane=base + term.plane)

        return [
            Step(base + target, moved(first, base), moved(second, base))
            for base, (_, schemes) in zip(self.y_bases, self.phases, strict=False)
            for target, first, second in schemes[0].prepare
        ]

    @cached_property
    def _shift(self) -> int:
        """Cells by which the output reaches beyond the input."""
        if self.positions == 1:
            return max(self._last(phase) for phase in self._phases)
        return self.apart * max(len(s) - (s[0] is SINGLE) for _, s in self.phases)

    def _last(self, phase: _Phase) -> int:
        """How many outputs of a phase its last tap lies behind the first one."""
        return self.reach.starts[phase.taps[-1]] // self.axis.stride - phase.low

    def y_cells(self, length: int) -> int:
        """Cells of a plane of the output."""
        return self.x_cells(length) + self._shift

    def span(self, first: int, length: int) -> tuple[int, Places, bool]:
        """What a run reads: its first output, and for each from there on plane and cell.

        They are given as one number, ``plane * y_cells + cell``, or -1 for what no tap uses. The last
        value says whether the run lacks any.
        """
        s = self.axis.stride
        origin, starts = s * first, self.reach.starts
        low, high = origin + min(starts), origin + s * (length - 1) + max(starts) + 1
        start = max(low, 0)
        stop = max(min(high, self.reach.output_size), start)
        outputs = np.arange(start, stop)
        found = np.full(len(outputs), -1)
        for base, (phase, _) in zip(self.y_bases, self.phases, strict=False):
            at = outputs // s - first - phase.low
            mine = (outputs % s == phase.residue) & (at >= 0) & (at < length + self._last(phase))
            residue, cell = self.place(at[mine])
            found[mine] = (base + residue) * self.y_cells(length) + cell
        lacks = start > low or stop < high or length % self.group > 0
        return start, found, lacks

    def windows(self, first: int, length: int) -> list[range]:
        """No tap has positions of its own: what lies outside is zero."""
        return []

    # the products

    @cached_property
    def products(self) -> list[Product]:
        """All products, by phase; shifts are in cells."""
        found = []
        for base, (phase, schemes) in zip(self.y_bases, self.phases, strict=False):
            for number, scheme in enumerate(schemes):
                shift = number * self.apart
                if self.positions == 1:
                    shift = self.reach.starts[phase.taps[number]] // self.axis.stride - phase.low
                for x, y, _ in scheme.products:
                    kept = 4 if x == 1 and scheme is THREE_POSITIONS and self._keeps else x
                    found.append(Product(kept, base + y, shift))
        return found

    @cached_property
    def _first_products(self) -> list[tuple[int, Scheme, tuple[int, ...]]]:
        """For each group of taps its first product, its scheme and the taps."""
        found, at = [], 0
        for phase, schemes in self.phases:
            taps = list(phase.taps)
            for scheme in schemes:
                count = len(scheme.taps)
                found.append((at, scheme, tuple(taps[:count])))
                del taps[:count]
                at += len(scheme.products)
        return found

    @cached_property
    def w_steps(self) -> list[Step]:
        """What the sums of the products go through to become gradients."""
        return [
            Step(at + target, Term(at + a.plane, a.factor), Term(at + b.plane, b.factor))
            for at, scheme, _ in self._first_products
            for target, a, b in scheme.finish
        ]

    @cached_property
    def slots(self) -> Places:
        """Where each tap's gradient is, among the sums of the products."""
        found = np.zeros(self.axis.kernel_size, np.int64)
        for at, scheme, taps in self._first_products:
            found[list(taps)] = at + np.array(scheme.taps)
        return found

    @cached_property
    def work(self) -> float:
        """Products for each position, groups at the border made full."""
        size = self.reach.size
        full = -(-size // self.group) * self.group / size / self.positions
        return sum(1.0 if product.x is None else full for product in self.products)


def grouped(reach: Reach) -> GroupedAxis:
    """An axis in the groups that take the fewest products; in none where these save little."""
    plain = GroupedAxis(reach, 1)
    if len(reach.live) < reach.axis.kernel_size:
        return plain
    found = [axis for axis in (GroupedAxis(reach, n) for n in (2, 3)) if axis.possible]
    best = min(found, key=lambda axis: axis.work, default=plain)
    return best if best.work < WORTHWHILE * plain.work else plain
