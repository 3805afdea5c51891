"""What three ways of computing a transposed convolution cost: multiplications and bytes.

Zero insertion spreads the input apart and convolves every output with every tap. The column buffer
multiplies every input by every tap and adds the products up afterwards, cropped or not. Phases use
exactly the (input, tap) pairs that land inside the output.

Convolution and weight gradient are the adjoints: each uses the same pairs, and the same
intermediate array, as the transposed convolution between the same two sizes.
"""

from dataclasses import dataclass
from math import prod

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.problem import Problem


@dataclass(frozen=True, slots=True)
class Work:
    """Multiplications, and bytes of the array that is written between input and output.

    Both are for the whole batch; an implementation that goes sample by sample holds only one
    sample's share of the bytes at a time.

    >>> from polyphase import Problem
    >>> cost(Problem.parse("c1:1 i4 k3 s2")).column_buffer
    Work(multiplications=12, intermediate_bytes=48)
    """

    multiplications: int
    intermediate_bytes: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Work of the three ways, and the bytes of input, weights, bias and output.

    >>> from polyphase import Problem
    >>> cost(Problem.parse("c1:1 i4 k2 s2")).phases
    Work(multiplications=8, intermediate_bytes=0)
    """

    zero_insertion: Work
    column_buffer: Work
    phases: Work
    bytes: int


def cost(problem: Problem) -> Cost:
    """Exact multiplications and bytes of zero insertion, column buffer and phases.

    The time taken does not depend on the sizes.

    >>> from polyphase import Problem
    >>> found = cost(Problem.parse("n2 c64:32 i8x8 k4x4 s2x2 p1x1"))
    >>> found.zero_insertion
    Work(multiplications=16777216, intermediate_bytes=184832)
    >>> found.column_buffer
    Work(multiplications=4194304, intermediate_bytes=262144)
    >>> found.phases
    Work(multiplications=3686400, intermediate_bytes=0)
    >>> found.bytes
    229504
    """
    small, large = problem.input_size, problem.output_size
    small_channels, large_channels = problem.in_channels, problem.out_channels
    if problem.operator == "conv":
        small, large = large, small
        small_channels, large_channels = large_channels, small_channels
    axes = problem.geometry.axes
    products = problem.batch * small_channels * large_channels // problem.groups
    element = problem.batch * problem.item_size
    return Cost(
        zero_insertion=Work(
            products * prod(o * axis.kernel_size for axis, o in zip(axes, large, strict=True)),
            # the array of which an ordinary convolution leaves `large`
            element
            * small_channels
            * prod(o + axis.extent - 1 for axis, o in zip(axes, large, strict=True)),
        ),
        column_buffer=Work(
            products * prod(n * axis.kernel_size for axis, n in zip(axes, small, strict=True)),
            element
            * large_channels
            * prod(n * axis.kernel_size for axis, n in zip(axes, small, strict=True)),
        ),
        phases=Work(
            products
            * prod(pairs(axis, n, o) for axis, n, o in zip(axes, small, large, strict=True)),
            0,
        ),
        bytes=problem.bytes,
    )


def pairs(axis: Axis, size: int, output_size: int) -> int:
    """Number of (input, tap) pairs of one axis that land inside the output.

    >>> pairs(Axis(3, stride=2, begin=1, end=1), 3, 5)
    7
    """
    s, d, n, k = axis.stride, axis.dilation, size, axis.kernel_size

    def before(bound: int) -> int:
        # pairs in the box i < n, t < k with s*i + d*t < bound, by inclusion and exclusion
        return (
            _below(s, d, bound)
            - _below(s, d, bound - s * n)
            - _below(s, d, bound - d * k)
            + _below(s, d, bound - s * n - d * k)
        )

    return before(axis.begin + output_size) - before(axis.begin)


def _below(s: int, d: int, bound: int) -> int:
    """Number of pairs ``i, t >= 0`` with ``s*i + d*t < bound``."""
    if bound <= 0:
        return 0
    # i counted down from the largest, so that the sum has positive terms
    last, rest = divmod(bound - 1, s)
    return last + 1 + _floor_sum(last + 1, d, s, rest)


def _floor_sum(count: int, divisor: int, step: int, start: int) -> int:
    """Sum of ``(step*i + start) // divisor`` for ``i < count``, by Euclid's algorithm.

    Source: Graham, Knuth, Patashnik, "Concrete Mathematics", section 3.5.
    """
    total = 0
    while count:
        total += count * (count - 1) // 2 * (step // divisor) + count * (start // divisor)
        step, start = step % divisor, start % divisor
        # count the lattice points under the line by rows instead of columns
        count, start = divmod(step * count + start, divisor)
        divisor, step = step, divisor
    return total
