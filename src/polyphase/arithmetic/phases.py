"""The phase law: which taps and which inputs make each output position.

With ``g = gcd(s, d)``, output ``o`` sits at ``u = o + a`` of the full result and receives the taps
``d*t = u (mod s)``. Those are ``t0, t0 + s/g, ...``, and consecutive ones read inputs ``d/g``
apart, so all outputs of one phase are a small dense convolution of the original input.
Positions that are no multiple of ``g``, or that no tap hits because ``k < s/g``, receive nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

from polyphase.arithmetic.axis import Axis


@dataclass(frozen=True, slots=True)
class Phase:
    """Outputs ``start, start + stride, ...`` of one axis.

    Output ``start + stride*m`` is the sum over ``j`` of ``w[taps[j]] * x[m + offsets[j]]``, where
    inputs outside the array count as zero.

    >>> import polyphase as pp
    >>> for phase in pp.Geometry(3, stride=2, padding=1).phases():
    ...     print(phase.start, list(phase.taps), list(phase.offsets))
    0 [1] [0]
    1 [0, 2] [1, 0]
    """

    start: int
    stride: int
    taps: range
    offsets: range

    @property
    def is_empty(self) -> bool:
        """Whether no tap reaches this phase: its outputs are the bias alone."""
        return not self.taps

    def count(self, output_size: int) -> int:
        """Number of outputs that belong to this phase."""
        return max(0, -((self.start - output_size) // self.stride))


def axis_phases(axis: Axis) -> tuple[Phase, ...]:
    """Phases of one axis, one per stride, ordered by their first output.

    >>> [len(phase.taps) for phase in axis_phases(Axis(5, stride=3))]
    [2, 2, 1]
    """
    return tuple(axis_phase(axis, start) for start in range(axis.stride))


def axis_phase(axis: Axis, start: int) -> Phase:
    """The phase of outputs ``start, start + stride, ...``.

    >>> axis_phase(Axis(3, stride=2), 1).taps
    range(1, 3, 2)
    """
    common = gcd(axis.stride, axis.dilation)
    tap_step, offset_step = axis.stride // common, axis.dilation // common
    quotient, remainder = divmod(start + axis.begin, common)
    if remainder:
        return Phase(start, axis.stride, range(0), range(0))
    # smallest tap with d*t = u (mod s); pow(_, -1, 1) is 0, which is right: every tap matches
    first = quotient * pow(offset_step, -1, tap_step) % tap_step
    taps = range(first, axis.kernel_size, tap_step)
    offset = (start + axis.begin - axis.dilation * first) // axis.stride
    return Phase(
        start, axis.stride, taps, range(offset, offset - len(taps) * offset_step, -offset_step)
    )


def is_uniform(axis: Axis) -> bool:
    """Whether every phase has the same number of taps, so that overlap alone makes no checkerboard.

    >>> is_uniform(Axis(4, stride=2)), is_uniform(Axis(3, stride=2))
    (True, False)
    """
    # g > 1 leaves residues that no tap can reach
    return gcd(axis.stride, axis.dilation) == 1 and axis.kernel_size % axis.stride == 0


def tap_windows(axis: Axis, size: int, output_size: int) -> Iterator[tuple[int, range]]:
    """For each tap, the inputs whose product with it lands inside the output.

    >>> for tap, inputs in tap_windows(Axis(3, stride=2, begin=1, end=1), 3, 5):
    ...     print(tap, list(inputs))
    0 [1, 2]
    1 [0, 1, 2]
    2 [0, 1]
    """
    for tap in range(axis.kernel_size):
        shift = axis.dilation * tap - axis.begin
        first = max(0, -(shift // axis.stride))
        last = min(size - 1, (output_size - 1 - shift) // axis.stride)
        yield tap, range(first, max(first, last + 1))


def overlap(axis: Axis, size: int) -> tuple[int, ...]:
    """Contributions per output position: how many (input, tap) pairs meet there.

    >>> overlap(Axis(3, stride=2, begin=1, end=1), 3)
    (1, 2, 1, 2, 1)
    """
    outputs = max(0, axis.output_size(size))
    counts = [0] * outputs
    for tap, inputs in tap_windows(axis, size, outputs):
        shift = axis.dilation * tap - axis.begin
        for i in inputs:
            counts[axis.stride * i + shift] += 1
    return tuple(counts)
