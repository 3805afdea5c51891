"""What both methods of minimal filtering decide alike: how many positions share their products.

Where a phase has taps side by side, two neighbouring positions share products (see ``filtering``);
so a cell is one position of an axis, or two.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from typing import TypeVar

from polyphase.arithmetic.problem import Problem
from polyphase.engine.filtering import Form, Group, groups
from polyphase.engine.kernels import transpose
from polyphase.engine.stencil import Stencil, dealt, stencils
from polyphase.engine.target import Target
from polyphase.engine.tiling import ENTRY_CYCLES, Corner, Tiling, tasks

Together = tuple[int, int, int]
Section = tuple[Group, ...]
Kind = TypeVar("Kind", bound="MinimalTiling")

# planes are packed for input strides up to this
LONGEST_MINIMAL_STEP = 4
# packing unrolls the window of the last axis: no longer one than this
LONGEST_WINDOW = 8
# blocks of fewer input channels would spend their time on adding to the totals
LEAST_DEPTH = 32
# vectors of totals that stay in the first-level cache beside what a product reads
MOST_TOTALS = 320
# cycles to add a vector to a total, of which all but the first piece of a sum take twice as many
ADD_CYCLES = 2.0
# cycles to open and store a total
TOTAL_CYCLES = 7.0
# cycles to begin a product, and a column of a row tile
PRODUCT_CYCLES = 8.0
COLUMN_CYCLES = 30.0
# cycles of a sum of weights that kernel ``gather`` makes
SINGLE_SUM_CYCLES = 17.0
# cycles to combine a packed vector with another
LESS_CYCLES = 1.5
# cycles more for a line of weights that no column of the box has read before
FRESH_WEIGHT_CYCLES = 2.0


@dataclass(frozen=True, slots=True)
class Work:
    """Of a section: phases, products, how often these go to totals, forms, those of two terms."""

    phases: int
    products: int
    added: int
    forms: int
    combined: int


class MinimalTiling(Tiling):
    """Decisions about one problem once ``together``, the positions of a cell, is settled."""

    def __init__(
        self, problem: Problem, target: Target, cache_bytes: int, together: Together
    ) -> None:
        super().__init__(problem, target, cache_bytes)
        near = zip(axes_of(problem), self.axes, together, strict=True)
        depth, height, width = (one if count > 1 else plain for one, plain, count in near)
        self.axes = depth, height, width
        self.together = together
        self.parts = tuple(
            groups(axis.phases, count, axis.in_step)
            for axis, count in zip(self.axes, together, strict=True)
        )
        # inputs from a cell to the next
        self.spans = tuple(
            axis.in_step * count for axis, count in zip(self.axes, together, strict=True)
        )

    @cached_property
    def whole(self) -> Corner:
        """Images, depth, height and width of the output in cells."""
        depth, height, width = (
            -(-axis.positions // count)
            for axis, count in zip(self.axes, self.together, strict=True)
        )
        return self.problem.batch, depth, height, width

    def step_cycles(self, fmas: int, loads: int, fetch: float) -> float:
        """As in the other methods, but slower arithmetic hides no loads."""
        return max(super().step_cycles(fmas, loads, fetch), loads / 2)

    @property
    def expansion(self) -> float:
        """At most three products for two taps, on each axis whose positions are taken together."""
        return prod(1.5 for count in self.together if count > 1)

    @property
    def entry_cycles(self) -> float:
        """As in the other methods, but of many taps sums are made singly."""
        singly = prod(self.kernel_sizes) > transpose.MOST_SUMMED
        return super().entry_cycles * (SINGLE_SUM_CYCLES / ENTRY_CYCLES if singly else 1.0)

    @property
    @abstractmethod
    def products(self) -> int:
        """Products of a cell, of all phases."""

    @property
    def least_cycles(self) -> float:
        """Cycles for the products alone."""
        channels = self.groups * self.in_channels * self.out_channels
        return prod(self.whole) * self.products * channels / (2 * self.lanes)

    @property
    @abstractmethod
    def row_tiles(self) -> int:
        """About how many rows of register tiles every box goes through."""

    @property
    @abstractmethod
    def sections(self) -> Sequence[Section]:
        """Groups of phases that share a packed input: one group for each tabled axis.

        Tabled are the axes, depth first, whose products come in through the tables.
        """

    @cached_property
    def pairs(self) -> list[int]:
        """The tabled axes whose cells are two positions."""
        return [axis for axis in range(len(self.sections[0])) if self.together[axis] == 2]

    @cached_property
    def outputs(self) -> int:
        """Combinations of positions of those axes in a cell."""
        return 1 << len(self.pairs)

    @property
    def cell_text(self) -> str:
        """The positions of a cell, for people."""
        return "x".join(map(str, self.together[3 - self.problem.rank :]))

    def boxes_of(self, width: int) -> Iterator[tuple[Corner, int]]:
        """Boxes for register tiles of ``width`` cells, and the input channels packed at a time.

        From all channels down; fewer are of use where the box is a larger one.
        """
        total = prod(self.whole) * self.groups
        # the smaller ones are packed by one task each
        shares = total * self.row_tiles // tasks(), total * self.packed_parts // tasks()
        depth = self.in_channels
        found: set[Corner] = set()
        while True:
            for share in shares:
                box = self._largest(width, False, depth, max(share, width))
                if box not in found and self._fits(box, depth):
                    found.add(box)
                    yield box, depth
            if depth <= LEAST_DEPTH:
                return
            depth = self.half(depth)

    @property
    def packed_parts(self) -> int:
        """One for each section."""
        return len(self.sections)

    def pieces(self, depth: int, longest: int) -> int:
        """Pieces of a sum over all channels, ``longest`` each, of blocks of ``depth`` channels."""
        blocks = range(0, self.in_channels, depth)
        return sum(-(-min(depth, self.in_channels - first) // longest) for first in blocks)

    def _fits(self, box: Corner, depth: int) -> bool:
        """Whether the packed input of a box stays in cache, as far as fewer channels would help."""
        cells = self.packing(box, False).channel
        return depth <= LEAST_DEPTH or cells * self.cell_elements(depth) <= self.budget

    @cached_property
    def work(self) -> list[Work]:
        """What each section asks for, in products and planes."""
        found = []
        for section in self.sections:
            outputs = [[len(one.outputs) for one in group.products] for group in section]
            forms = forms_of(section)
            found.append(
                Work(
                    phases=prod(len(group.phases) for group in section),
                    products=prod(map(len, outputs)),
                    added=prod(map(sum, outputs)),
                    forms=len(forms),
                    combined=sum(len(f.terms) > 1 for combined in forms for f in combined),
                )
            )
        return found


def forms_of(section: Section) -> list[tuple[Form, ...]]:
    """The forms of a section: those of its axes, combined."""
    return list(product(*(group.forms for group in section)))


@lru_cache(maxsize=16)
def axes_of(problem: Problem) -> tuple[Stencil, Stencil, Stencil]:
    """The axes (depth, height, width), dealt where that makes neighbours that share inputs."""
    depth, height, width = stencils(problem)
    along = _dealt(width)
    short = len(along.offsets) <= LONGEST_WINDOW
    return _dealt(depth), _dealt(height), along if short else width


def _dealt(axis: Stencil) -> Stencil:
    other = dealt(axis)
    return other if max(other.in_step, other.out_step) <= LONGEST_MINIMAL_STEP else axis


def paired(axis: Stencil) -> bool:
    """Whether two positions of an axis can share products."""
    return axis.positions > 1 and any(
        offset + axis.in_step in phase.offsets for phase in axis.phases for offset in phase.offsets
    )


def quickest(
    kind: Callable[[Problem, Target, int, Together], Kind],
    problem: Problem,
    target: Target,
    cache_bytes: int,
) -> Kind:
    """The quickest tiling over all ways to take positions together."""
    ways = [(1, 2) if paired(axis) else (1,) for axis in axes_of(problem)]
    found = [
        kind(problem, target, cache_bytes, (d, h, w))
        for d, h, w in product(*ways)
        if max(d, h, w) > 1
    ]
    best, *others = sorted(found, key=lambda one: one.least_cycles)
    for other in others:
        # what cannot be quicker is not looked at
        if other.least_cycles < best.cycles:
            best = min(best, other, key=lambda one: one.cycles)
    return best
