"""The sizes next to the given one: which are tried, which run, and which of them fit."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

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


def spatial(walk: Walk) -> Shape:
    """Size of the input that has spatial axes."""
    return next((shape[2:] for shape in walk.inputs if len(shape) > 2), ())


def works(walk: Walk) -> bool:
    """Whether the model runs to its end at this size, and everything fits."""
    return (
        not walk.stopped
        and all(meeting.fits for meeting in walk.meetings)
        and all(layer.is_reached for layer in walk.layers)
    )


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


def neighbours(first: Walk, run: Run, movable: Sequence[bool], say: Say) -> Neighbours:
    """Walk at larger inputs; ``run`` walks at one size, and ``movable`` axes may have others."""
    found, size = Neighbours(), spatial(first)
    listed = [
        one
        for one in offsets(len(size))
        if not any(more and not free for more, free in zip(one, movable, strict=True))
    ]
    few = min(len(listed), sum(max(one) == 1 for one in listed) + FURTHER)
    most = max(few, min(len(listed), STEPS // max(1, len(first.steps))))
    names = [layer.name for layer in first.layers]
    for count, more in enumerate(listed[:most]):
        say("Trying the sizes next to it", count, most)
        walk = run(tuple(n + m for n, m in zip(size, more, strict=True)))
        same = [layer.name for layer in walk.layers] == names
        if same and (not walk.stopped or walk.meetings):
            found.ran.append(walk)
        elif walk.stopped:
            found.stopped.append(walk)
        if count + 1 == few and not found.ran:
            break
    if all(movable) and not all(map(works, (first, *found.ran))):
        say("Looking for a size that fits")
        found.fitting = _fitting(first, found.ran, run)
    return found


def axes_that_fit(walks: Sequence[Walk]) -> dict[tuple[int, int], bool]:
    """For each axis and size that was tried, whether everything fits along that axis."""
    fits: dict[tuple[int, int], bool] = {}
    for seen in walks:
        pairs = [(m.made, m.other) for m in seen.meetings]
        pairs += [(one.problem.output_size, one.asked) for one in seen.layers if one.asked]
        for axis, n in enumerate(spatial(seen)):
            fine = all(made[axis] == other[axis] for made, other in pairs if axis < len(made))
            fits[axis, n] = fits.get((axis, n), True) and fine
    return fits


def rule(fits: dict[tuple[int, int], bool], strides: Iterable[int] = ()) -> str:
    """What sizes have in common that fit, as far as tried: "a multiple of 16", "16*k + 1", "".

    Divisors are powers of two, and what ``strides`` multiply to. Others would be found by chance.

    >>> rule({(0, n): n % 4 == 0 for n in range(30, 46)})
    'a multiple of 4'
    >>> rule({(0, n): n % 4 == 1 for n in range(30, 46)})
    '4*k + 1'
    """
    axes: dict[int, dict[int, bool]] = {}
    for (axis, n), fine in fits.items():
        axes.setdefault(axis, {})[n] = fine
    whole = prod(strides)
    divisors = [n for n in range(2, 4 * LARGEST + 1) if n & -n == n or whole % n == 0]
    common = _rule(list(axes.values()), divisors)
    if common:
        return common
    each = [_rule([axis], divisors) for axis in axes.values()]
    return " by ".join(each) if all(each) else ""


def _rule(axes: Sequence[dict[int, bool]], divisors: Sequence[int]) -> str:
    """What the sizes that fit have in common along all of these axes."""
    few = [(divisor, 0) for divisor in divisors]
    few += [(d, rest) for d in divisors if d <= LARGEST for rest in range(1, d)]
    for divisor, rest in few:
        # one size alone is no rule, except that it halves again and again
        enough = 1 if rest == 0 and divisor & -divisor == divisor else 2
        if all(
            len(alike := [fine for n, fine in axis.items() if n % divisor == rest]) >= enough
            and all(alike)
            for axis in axes
        ):
            return f"{divisor}*k + {rest}" if rest else f"a multiple of {divisor}"
    return ""


def strides(walk: Walk) -> list[int]:
    """The largest stride of each transposed layer."""
    return [max(axis.stride for axis in one.problem.geometry.axes) for one in walk.layers]


def _fitting(first: Walk, ran: Sequence[Walk], run: Run) -> Shape | None:
    """The least size that fits, verified by a walk."""
    if works(first):
        return spatial(first)
    for size in _candidates(first, ran):
        if works(run(size)):
            return size
    return None


def _candidates(first: Walk, ran: Sequence[Walk]) -> Iterator[Shape]:
    size = spatial(first)
    fits = axes_that_fit([first, *ran])
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
