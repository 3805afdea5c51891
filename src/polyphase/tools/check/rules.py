"""What input sizes have in common at which everything fits."""

from collections.abc import Iterable, Sequence
from math import prod
from statistics import linear_regression

from polyphase.tools.check.walk import Shape, Walk

LARGEST_DIVISOR = 1024
# of rules that are no plain multiple
LARGEST_OFFSET = 16


def spatial(walk: Walk) -> Shape:
    """Size of the first input that has the most spatial axes."""
    sizes = [shape[2:] for shape in walk.inputs if len(shape) > 2]
    return max(sizes, key=len, default=())


def works(walk: Walk) -> bool:
    """Whether the model runs to its end at this size, and everything fits."""
    return (
        not walk.stopped
        and all(meeting.fits for meeting in walk.meetings)
        and all(layer.is_reached for layer in walk.layers)
    )


def axes_that_fit(
    walks: Sequence[Walk], stopped: Sequence[Walk] = ()
) -> dict[tuple[int, int], bool]:
    """For each axis and size that was tried, whether everything fits along that axis.

    Everything is what meets, what is asked for, and the output. Of the sizes at which the model
    ``stopped`` nothing else is known, so that an axis is to blame unless it ran elsewhere.
    """
    fits: dict[tuple[int, int], bool] = {}
    unknown = list(stopped)
    for seen in walks:
        pairs = [(m.made, m.other) for m in seen.meetings]
        pairs += [(one.problem.output_size, one.asked) for one in seen.layers if one.asked]
        if seen.stopped and all(made == other for made, other in pairs):
            unknown.append(seen)
            continue
        for axis, n in enumerate(spatial(seen)):
            fine = all(made[axis] == other[axis] for made, other in pairs if axis < len(made))
            fits[axis, n] = fits.get((axis, n), True) and fine
    for seen in unknown:
        for axis, n in enumerate(spatial(seen)):
            fits.setdefault((axis, n), False)
    for place, excess in excesses(walks).items():
        fits[place] = fits[place] and not excess
    return fits


def excesses(walks: Sequence[Walk]) -> dict[tuple[int, int], int]:
    """For each axis and size, how far the output is from what the input means it to be.

    Empty where the output is not meant to follow the input. The first walk is at the given size.
    """
    walk, size = walks[0], spatial(walks[0])
    made = {
        spatial(seen): seen.outputs[0][2:]
        for seen in walks
        if seen.outputs and len(seen.outputs[0]) == len(size) + 2
    }
    if not walk.layers or size not in made or len(made) < 2:
        return {}
    lines = [{n[axis]: out[axis] for n, out in made.items()} for axis in range(len(size))]
    if any(lines[axis][n[axis]] != out[axis] for n, out in made.items() for axis in range(len(n))):
        # an output axis that depends on several input axes follows no rule of one axis
        return {}
    if any(o < 0.75 * n for o, n in zip(made[size], size, strict=True)) and any(
        _slope(line) < 0.75 for line in lines
    ):
        # the output is meant to be smaller than the input
        return {}
    whole = prod(strides(walk))
    return {
        (axis, n): one for axis, line in enumerate(lines) for n, one in _excess(line, whole).items()
    }


def _slope(line: dict[int, int]) -> float:
    return linear_regression(list(line), list(line.values())).slope if len(line) > 1 else 1.0


def _excess(line: dict[int, int], whole: int) -> dict[int, int]:
    """How far each output size of one axis is from ``scale * n``, or from what is meant instead.

    Where no size gives just that, and not because the remainder of a division by ``whole`` is
    lost, the input that divides best says what is meant. An output of one size is meant to be so.
    """
    if len(set(line.values())) == 1:
        return dict.fromkeys(line, 0)
    scale = max(1, round(_slope(line)))
    off = {n: out - scale * n for n, out in line.items()}
    if len(set(off.values())) > 1 and all(abs(one) < whole for one in off.values()):
        return off
    best = max(line, key=lambda n: (line[n] == scale * n, n & -n))
    return {n: one - off[best] for n, one in off.items()}


def rule(fits: dict[tuple[int, int], bool], strides: Iterable[int] = ()) -> str:
    """What sizes have in common that fit, as far as tried: "a multiple of 16", "16*k + 1", "".

    Divisors are powers of two, and what ``strides`` multiply to. Others would be found by chance.

    >>> rule({(0, n): n % 4 == 0 for n in range(30, 46)})
    'a multiple of 4'
    >>> rule({(0, n): n % 4 == 1 for n in range(30, 46)})
    '4*k + 1'
    """
    told = [
        f"{d}*k + {rest}" if rest else f"a multiple of {d}" for d, rest in common(fits, strides)
    ]
    return " by ".join(told if len(set(told)) > 1 else told[:1])


def common(fits: dict[tuple[int, int], bool], strides: Iterable[int] = ()) -> list[tuple[int, int]]:
    """For each axis the divisor and the rest of sizes that fit; empty if there is no such rule.

    >>> common({(0, n): n % 4 == 1 for n in range(30, 46)})
    [(4, 1)]
    """
    axes: dict[int, dict[int, bool]] = {}
    for (axis, n), fine in fits.items():
        axes.setdefault(axis, {})[n] = fine
    whole = prod(strides)
    divisors = [n for n in range(2, LARGEST_DIVISOR + 1) if n & -n == n or whole % n == 0]
    together = _common(list(axes.values()), divisors)
    if together:
        return [together] * len(axes)
    each = [_common([axis], divisors) for axis in axes.values()]
    return [one for one in each if one] if all(each) else []


def _common(axes: Sequence[dict[int, bool]], divisors: Sequence[int]) -> tuple[int, int] | None:
    """What the sizes that fit have in common along all of these axes."""
    few = [(divisor, 0) for divisor in divisors]
    few += [(d, rest) for d in divisors if d <= LARGEST_OFFSET for rest in range(1, d)]
    for divisor, rest in few:
        # one size alone is no rule, except that it halves again and again
        enough = 1 if rest == 0 and divisor & -divisor == divisor else 2
        if all(
            len(alike := [fine for n, fine in axis.items() if n % divisor == rest]) >= enough
            and all(alike)
            for axis in axes
        ):
            return divisor, rest
    return None


def strides(walk: Walk) -> list[int]:
    """The largest stride of each transposed layer."""
    return [max(axis.stride for axis in one.problem.geometry.axes) for one in walk.layers]
