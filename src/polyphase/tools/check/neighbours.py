"""The sizes next to the given one: which are tried, which run, and which of them fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from polyphase.tools.check.rules import axes_that_fit, common, spatial, strides, works
from polyphase.tools.check.walk import Shape, Walk
from polyphase.tools.progress import Say

LARGEST = 16
# operations of all walks together, some seconds of work; counted, so that no report depends on time
STEPS = 12_000
# a model that runs at none of so many sizes behind the first ones is one of fixed size
FURTHER = 2
# multiples that are tried where no size nearby fits
POWERS = tuple(2**power for power in range(1, 9))

Run = Callable[[Shape], Walk]


def offsets(rank: int) -> list[Shape]:
    """What is added to the sizes: all combinations of 0 and 1, all axes alike, each axis alone.

    >>> offsets(2)[:5]
    [(0, 1), (1, 0), (1, 1), (16, 16), (8, 8)]
    """
    few = [one for one in product((0, 1), repeat=rank) if any(one)]
    # the powers of two first, for whatever has to divide
    order = sorted(range(2, LARGEST + 1), key=lambda n: (-(n & -n), n))
    alike = [(more,) * rank for more in order]
    alone = [
        tuple(more if axis == place else 0 for axis in range(rank))
        for more in order
        for place in range(rank)
    ]
    return list(dict.fromkeys([*few, *alike, *alone]))


@dataclass
class Neighbours:
    """Walks at other sizes: those that ran, and those at which the model stopped.

    ``fitting`` is the least size from the given one on at which everything fits, ``None`` if none
    was found.
    """

    ran: list[Walk] = field(default_factory=list)
    stopped: list[Walk] = field(default_factory=list)
    fitting: Shape | None = None

    @property
    def tried(self) -> int:
        """Number of other sizes."""
        return len(self.ran) + len(self.stopped)

    def fits(self, first: Walk) -> dict[tuple[int, int], bool]:
        """For each axis and size, whether everything fits; ``first`` is at the given size."""
        return axes_that_fit([first, *self.ran], self.stopped)

    def note(self, first: Walk, walk: Walk) -> None:
        """Keep a walk at another size, if it did what the one at the given size does."""
        same = [one.name for one in walk.layers] == [one.name for one in first.layers]
        if same and (not walk.stopped or walk.meetings):
            self.ran.append(walk)
        elif walk.stopped:
            self.stopped.append(walk)


def neighbours(
    first: Walk, run: Run, movable: Sequence[bool], say: Say, steps: Sequence[int]
) -> Neighbours:
    """Walk at larger inputs; ``run`` walks at one size, and ``movable`` axes may have others.

    ``steps`` are the differences of sizes, more than 1 where smaller inputs go with this one.
    """
    found, size = Neighbours(), spatial(first)
    listed = [
        one
        for one in offsets(len(size))
        if not any(more and not free for more, free in zip(one, movable, strict=True))
    ]
    few = min(len(listed), sum(max(one) == 1 for one in listed) + FURTHER)
    most = max(few, min(len(listed), STEPS // max(1, len(first.steps))))
    for count, more in enumerate(listed[:most]):
        say("Trying the sizes next to it", count, most)
        found.note(
            first, run(tuple(n + m * step for n, m, step in zip(size, more, steps, strict=True)))
        )
        if count + 1 == few and not found.ran:
            break
    if found.ran:
        _further(first, found, run, movable, steps)
    if all(movable) and not all(map(works, (first, *found.ran))):
        say("Looking for a size that fits")
        found.fitting = _fitting(first, found, run, steps)
    return found


def _further(
    first: Walk, found: Neighbours, run: Run, movable: Sequence[bool], steps: Sequence[int]
) -> None:
    """Larger sizes, for networks so deep that the sizes nearby do not tell what they divide by."""
    size = spatial(first)
    outputs = {seen.outputs[0][2:] for seen in (first, *found.ran) if seen.outputs}
    if len(outputs) == 1 and first.outputs:
        found.note(
            first, run(tuple(2 * n if free else n for n, free in zip(size, movable, strict=True)))
        )
    for _ in POWERS:
        fits = found.fits(first)
        held = common(fits, strides(first))
        if all(fits.values()) or not held:
            return
        tried = [max(n for place, n in fits if place == axis) for axis in range(len(size))]
        # the next size behind all that were tried which keeps to the rule
        kept = [
            next(n for n in range(last + step, last + d * step + 1, step) if n % d == rest)
            for last, (d, rest), step in zip(tried, held, steps, strict=True)
        ]
        walk = run(tuple(k if free else n for k, n, free in zip(kept, size, movable, strict=True)))
        found.note(first, walk)
        if works(walk) and all(found.fits(first)[axis, k] for axis, k in enumerate(spatial(walk))):
            return


def _fitting(first: Walk, found: Neighbours, run: Run, steps: Sequence[int]) -> Shape | None:
    """The least size that fits, verified by a walk."""
    if works(first):
        return spatial(first)
    for size in _candidates(first, found):
        if all(n % step == 0 for n, step in zip(size, steps, strict=True)) and works(run(size)):
            return size
    return None


def _candidates(first: Walk, found: Neighbours) -> Iterator[Shape]:
    size = spatial(first)
    fits = found.fits(first)
    least = [
        min((n for (place, n), fine in fits.items() if place == axis and fine), default=0)
        for axis in range(len(size))
    ]
    if all(least):
        yield tuple(least)
    for power in POWERS:
        yield tuple(-(-n // power) * power for n in size)
    for power in POWERS:
        yield tuple(-(-(n - 1) // power) * power + 1 for n in size)
