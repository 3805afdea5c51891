"""What a transposed convolution does with its numbers, as data: phases, overlap, cost and plan.

Terminal output is made of this data in :mod:`polyphase.tools.terminal`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, Any

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.cost import Cost, cost, pairs
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.phases import Phase, axis_phases, is_uniform
from polyphase.arithmetic.problem import Problem
from polyphase.arithmetic.values import plain
from polyphase.errors import GeometryError

if TYPE_CHECKING:
    from polyphase.engine.plan import Plan

LISTING_LIMIT = 100_000
# what is drawn
PICTURE_ROWS = 16
LITTLE = 2


@dataclass(frozen=True, slots=True)
class AxisView:
    """One axis between its small size (``input_size``) and its large size (``output_size``).

    >>> from polyphase import Problem
    >>> view = explain(Problem.parse("c1:1 i6 k3 s2 p1")).axes[0]
    >>> [list(phase.taps) for phase in view.phases]
    [[1], [0, 2]]
    """

    axis: Axis
    input_size: int
    output_size: int
    phases: tuple[Phase, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is no input or no output at all."""
        return not (self.input_size and self.output_size)

    @property
    def is_all_border(self) -> bool:
        """Whether the input is too short for any output to receive all its taps."""
        inputs = max(
            abs(phase.offsets[0] - phase.offsets[-1]) + 1 for phase in self.phases if phase.taps
        )
        return self.input_size < inputs


@dataclass(frozen=True, slots=True)
class Picture:
    """Part of one axis, drawn: which tap takes which input to which output.

    ``rows[r][c]`` is the tap from input ``inputs[r]`` to position ``outputs[c]``, or ``None``.
    Positions below 0, or at and above the output size, are those that padding removes.
    ``counts[c]`` counts the contributions of all inputs, shown or not.
    """

    outputs: range
    inputs: range
    rows: tuple[tuple[int | None, ...], ...]
    counts: tuple[int, ...]
    hidden_inputs: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Phases, overlap, cost and plan of one problem.

    The axes are those of the transposed convolution, also where the problem is one of its adjoints.

    >>> from polyphase import Problem
    >>> explained = explain(Problem.parse("c1:1 i8x8 k4x4 s2x2 p1x1"))
    >>> explained.is_even, explained.contributions
    (True, (4, 4))
    >>> print(explained.verdict)
    Away from the border every output receives 4 contributions: overlap makes no checkerboard.
    """

    problem: Problem
    axes: tuple[AxisView, ...]
    cost: Cost

    @property
    def is_even(self) -> bool:
        """Whether all outputs away from the border receive equally many contributions."""
        return all(is_uniform(view.axis) for view in self.axes)

    @property
    def contributions(self) -> tuple[int, int]:
        """Fewest and most contributions per output away from the border, all axes together."""
        return contributions(self.problem.geometry)

    @property
    def verdict(self) -> str:
        """What the overlap means for checkerboards, and what would even it out."""
        fewest, most = self.contributions
        if self.is_even:
            text = (
                "Nothing overlaps: an output receives 1 contribution, so there is no checkerboard."
                if most == 1
                else f"Away from the border every output receives {most} contributions: "
                "overlap makes no checkerboard."
            )
        else:
            found = (
                "Gaps: some outputs receive the bias alone, others "
                f"{f'up to {most} contributions' if most > 1 else '1 contribution'}."
                if fewest == 0
                else "Checkerboard: away from the border outputs receive "
                f"{between(fewest, most)} contributions."
            )
            text = f"{found} {' '.join(self._mends())}"
        if any(view.is_all_border for view in self.axes):
            text += " This input is so small that every output is at the border and receives fewer."
        return text

    @property
    def plan(self) -> "Plan":
        """How this machine computes the problem."""
        # sizes and phases are explained without the engine
        from polyphase.engine.plan import plan

        return plan(self.problem)

    def as_data(self) -> dict[str, Any]:
        """The explanation in dicts, lists, ints and strings, ready for JSON."""
        problem, plan = self.problem, self.plan
        return {
            "problem": str(problem),
            "input_size": plain(problem.input_size),
            "output_size": plain(problem.output_size),
            "axes": [
                {
                    "input_size": view.input_size,
                    "output_size": view.output_size,
                    "kernel_size": view.axis.kernel_size,
                    "stride": view.axis.stride,
                    "dilation": view.axis.dilation,
                    "crop": [view.axis.begin, view.axis.end],
                    "phases": [
                        {
                            "start": phase.start,
                            "outputs": phase.count(view.output_size),
                            "taps": list(phase.taps),
                            "offsets": list(phase.offsets),
                        }
                        for phase in view.phases
                    ],
                }
                for view in self.axes
            ],
            "overlap": {
                "even": self.is_even,
                "fewest": self.contributions[0],
                "most": self.contributions[1],
                "verdict": self.verdict,
            },
            "cost": asdict(self.cost),
            "plan": {
                "method": plan.method.name,
                "target": plan.target.name,
                "kernel": plan.kernel,
                "tiling": plan.tiling.describe() if plan.tiling else None,
                "predicted_share": plan.predicted_share,
                "refusals": plan.refusals,
            },
        }

    def _mends(self) -> Iterator[str]:
        # equal axes need the same advice, once
        for axis in dict.fromkeys(view.axis for view in self.axes):
            where = ""
            if len(self.axes) > 1:
                numbers = [str(n) for n, view in enumerate(self.axes) if view.axis == axis]
                where = f" on ax{'is' if len(numbers) == 1 else 'es'} {' and '.join(numbers)}"
            k, s, common = axis.kernel_size, axis.stride, gcd(axis.stride, axis.dilation)
            if common > 1:
                yield (
                    f"Stride {s} and dilation {axis.dilation} share the factor {common}{where}, so "
                    f"only one output in {common} is reached: choose a dilation that shares none."
                )
            if k % s:
                below = k // s * s
                sizes = f"{below} or {below + s}" if below else f"{s}"
                yield f"Even overlap needs a kernel_size that stride {s} divides{where}: {sizes}."


def explain(problem: Problem) -> Explanation:
    """Phases, overlap and cost of a problem.

    >>> from polyphase import Problem
    >>> explain(Problem.parse("c1:1 i6 k3 s2 p1")).cost.phases.multiplications
    16

    Raises :class:`~polyphase.GeometryError` where there are more phases or taps than can be listed.
    """
    small, large = problem.input_size, problem.output_size
    if problem.operator == "conv":
        small, large = large, small
    views = []
    for axis, n, o in zip(problem.geometry.axes, small, large, strict=True):
        for name in ("kernel_size", "stride"):
            value = getattr(axis, name)
            if value > LISTING_LIMIT:
                raise GeometryError(
                    f"{name} {value} is too large to list taps and phases one by one: "
                    f"at most {LISTING_LIMIT}"
                )
        # a convolution may leave inputs over: with this crop its transpose gives all of them
        exact = replace(axis, end=axis.full_size(n) - axis.begin - o)
        views.append(AxisView(exact, n, o, axis_phases(exact)))
    return Explanation(problem, tuple(views), cost(problem))


def contributions(geometry: Geometry) -> tuple[int, int]:
    """Fewest and most contributions per output away from the border, all axes together.

    >>> contributions(Geometry((3, 3), stride=2)), contributions(Geometry(4, stride=2, dilation=2))
    ((1, 4), (0, 4))
    """
    fewest, most = 1, 1
    for axis in geometry.axes:
        # of the residues modulo the stride, every common-th is reached, by taps this far apart
        common = gcd(axis.stride, axis.dilation)
        tap_step = axis.stride // common
        fewest *= 0 if common > 1 else axis.kernel_size // tap_step
        most *= -(-axis.kernel_size // tap_step)
    return fewest, most


def between(fewest: int, most: int) -> str:
    """A count that lies between two numbers, in words.

    >>> between(2, 2), between(1, 2), between(1, 4)
    ('2', '1 or 2', '1 to 4')
    """
    if fewest == most:
        return str(fewest)
    return f"{fewest} {'or' if most == fewest + 1 else 'to'} {most}"


def picture(view: AxisView, positions: int) -> Picture:
    """The part of an axis that fits into ``positions`` columns, from its beginning.

    What padding removes is shown if all of it fits, and else at the beginning if it is little.
    Where nothing is left there is nothing to show: both sizes must be at least 1.

    >>> from polyphase import Problem
    >>> drawn = picture(explain(Problem.parse("c1:1 i2 k3 s2 p1")).axes[0], positions=10)
    >>> drawn.outputs, drawn.rows
    (range(-1, 4), ((0, 1, 2, None, None), (None, None, 0, 1, 2)))
    """
    axis, n, o = view.axis, view.input_size, view.output_size
    removed, removed_at_end = max(axis.begin, 0), max(axis.end, 0)
    start, stop = -removed, o + removed_at_end
    if stop - start > positions:
        start = -removed if removed <= LITTLE else 0
        stop = min(o, start + positions)
    first = max(0, -((axis.extent - 1 - axis.begin - start) // axis.stride))
    last = min(n - 1, (stop - 1 + axis.begin) // axis.stride)
    if last - first + 1 > PICTURE_ROWS:
        # drop columns whose inputs are not all shown, unless few would be left
        complete = (first + PICTURE_ROWS) * axis.stride - axis.begin
        if complete - start >= PICTURE_ROWS // 2:
            stop = min(stop, complete)
        last = min(n - 1, (stop - 1 + axis.begin) // axis.stride)
    touching = range(first, max(first, last + 1))
    inputs = touching[:PICTURE_ROWS]
    outputs = range(start, stop)
    return Picture(
        outputs,
        inputs,
        tuple(tuple(_tap(axis, i, position) for position in outputs) for i in inputs),
        overlap_counts(view, outputs),
        len(touching) - len(inputs),
    )


def overlap_counts(view: AxisView, outputs: range) -> tuple[int, ...]:
    """Contributions at the given output positions.

    >>> from polyphase import Problem
    >>> overlap_counts(explain(Problem.parse("c1:1 i6 k3 s2 p1")).axes[0], range(5))
    (1, 2, 1, 2, 1)
    """
    axis = view.axis
    return tuple(
        pairs(replace(axis, begin=axis.begin + position), view.input_size, 1)
        for position in outputs
    )


def _tap(axis: Axis, i: int, position: int) -> int | None:
    """The tap that takes input ``i`` to ``position``, if there is one."""
    tap, rest = divmod(position + axis.begin - axis.stride * i, axis.dilation)
    return tap if rest == 0 and 0 <= tap < axis.kernel_size else None
