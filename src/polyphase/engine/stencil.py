"""One view of both operators, per axis: output positions, each a sum of taps at input offsets.

Position ``q`` of a phase writes output ``out_step*q + start`` and reads inputs
``in_step*q + offset``. A transposed convolution has ``stride`` phases and reads densely; the
strided convolution, its adjoint, has one phase and writes densely. Kernels know only this view.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.phases import Phase, axis_phase
from polyphase.arithmetic.problem import Problem


@dataclass(frozen=True)
class Stencil:
    """One axis of an operator on concrete sizes; every tap of its phases meets some input."""

    in_step: int
    out_step: int
    phases: tuple[Phase, ...]
    input_size: int
    output_size: int

    @cached_property
    def positions(self) -> int:
        """Number of positions that cover the output."""
        return -(-self.output_size // self.out_step)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Distinct input offsets of all phases, ascending; (0,) where no phase has a tap."""
        return tuple(sorted({o for phase in self.phases for o in phase.offsets})) or (0,)

    @cached_property
    def even(self) -> bool:
        """Whether all phases that have taps have equally many."""
        return len({len(phase.taps) for phase in self.phases if phase.taps}) <= 1

    @cached_property
    def reach(self) -> int:
        """Distance between the first and the last input offset."""
        return self.offsets[-1] - self.offsets[0]


def dealt(axis: Stencil) -> Stencil:
    """The same axis with its positions dealt to more phases, where taps lie apart.

    Of an undilated axis neighbouring positions read neighbouring taps' inputs. With taps ``d``
    positions apart, that holds of positions ``d`` apart, which are neighbours within one of ``d``
    phases; these make no other output than before.

    >>> from polyphase.arithmetic.problem import Problem
    >>> [phase.offsets for phase in dealt(stencils(Problem.parse("c1:1 i9 k3 d2"))[2]).phases]
    [range(0, -6, -2), range(1, -5, -2)]
    """
    apart = {abs(phase.offsets.step) for phase in axis.phases if len(phase.offsets) > 1}
    hands, rest = divmod(min(apart, default=0), axis.in_step)
    out_step = axis.out_step * hands
    if hands < 2 or rest or axis.output_size < 2 * out_step:
        return axis
    in_step = axis.in_step * hands
    phases = []
    for hand in range(hands):
        for phase in axis.phases:
            moved = phase.offsets
            moved = range(
                moved.start + hand * axis.in_step, moved.stop + hand * axis.in_step, moved.step
            )
            one = Phase(phase.start + hand * axis.out_step, out_step, phase.taps, moved)
            phases.append(_met(one, in_step, axis.input_size, axis.output_size))
    return Stencil(in_step, out_step, tuple(phases), axis.input_size, axis.output_size)


@lru_cache(maxsize=16)
def stencils(problem: Problem) -> tuple[Stencil, Stencil, Stencil]:
    """The three axes (depth, height, width) of a problem; missing leading axes have size 1."""
    trivial = Stencil(1, 1, (Phase(0, 1, range(1), range(1)),), 1, 1)
    found = [
        _stencil(problem.operator, axis, n, o)
        for axis, n, o in zip(
            problem.geometry.axes, problem.input_size, problem.output_size, strict=True
        )
    ]
    depth, height, width = [trivial] * (3 - len(found)) + found
    return depth, height, width


def step_counts(problem: Problem) -> tuple[int, int]:
    """Input positions per output position and phases, of all axes together, without listing them.

    >>> step_counts(Problem.parse("c1:1 i9x9 k4x4 s2x3"))
    (1, 6)
    """
    sizes = zip(problem.geometry.axes, problem.input_size, problem.output_size, strict=True)
    steps = [_steps(problem.operator, *entry) for entry in sizes]
    return prod(inward for inward, _ in steps), prod(outward for _, outward in steps)


def _steps(operator: str, axis: Axis, size: int, output_size: int) -> tuple[int, int]:
    """Distance between neighbouring positions in the input and in the output."""
    if operator == "conv":
        # with one output the stride plays no part
        return axis.stride if output_size > 1 else 1, 1
    # nor with one input, each output then being a phase; none begins beyond the output
    return 1, max(1, output_size if size == 1 else min(axis.stride, output_size))


def _stencil(operator: str, axis: Axis, size: int, output_size: int) -> Stencil:
    in_step, out_step = _steps(operator, axis, size, output_size)
    phases: tuple[Phase, ...]
    if operator == "conv":
        first, step = -axis.begin, axis.dilation
        offsets = range(first, first + axis.kernel_size * step, step)
        phases = (Phase(0, 1, range(axis.kernel_size), offsets),)
    elif size == 1:
        phases = _single_input(axis, output_size)
    else:
        phases = tuple(axis_phase(axis, start) for start in range(out_step))
    met = tuple(_met(phase, in_step, size, output_size) for phase in phases)
    return Stencil(in_step, out_step, met, size, output_size)


def _single_input(axis: Axis, output_size: int) -> tuple[Phase, ...]:
    """One phase of at most one tap for each output."""
    phases = []
    for start in range(output_size):
        tap, rest = divmod(start + axis.begin, axis.dilation)
        reached = rest == 0 and 0 <= tap < axis.kernel_size
        taps = range(tap, tap + 1) if reached else range(0)
        phases.append(Phase(start, output_size, taps, range(len(taps))))
    return tuple(phases)


def _met(phase: Phase, in_step: int, size: int, output_size: int) -> Phase:
    """The phase without the taps that meet no input at any of its positions."""
    lowest = -in_step * (phase.count(output_size) - 1)
    kept = [i for i, offset in enumerate(phase.offsets) if lowest <= offset < size]
    span = slice(kept[0], kept[-1] + 1) if kept else slice(0)
    return replace(phase, taps=phase.taps[span], offsets=phase.offsets[span])
