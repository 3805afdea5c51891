"""Which inputs an interval of outputs needs, and which outputs an interval of inputs makes.

Input ``i`` and tap ``t`` meet in output ``o = s*i + d*t - a``. Tiles, streams and pictures ask
three things of this relation, on one axis; each answer is exact and takes a logarithmic number of
steps, however long the axis and the kernel are. For the ordinary convolution that an axis
transposes, read "inputs" and "outputs" the other way round.
"""

from typing import NamedTuple

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.values import at_least, whole
from polyphase.errors import GeometryError


class Interval(NamedTuple):
    """Indices ``start <= index < stop``; a ``stop`` of ``None`` means without end.

    >>> Interval(2, 5).is_empty, Interval(2, None).is_empty
    (False, False)
    """

    start: int
    stop: int | None

    @property
    def is_empty(self) -> bool:
        """Whether no index lies inside."""
        return self.stop is not None and self.stop <= self.start


EMPTY = Interval(0, 0)


def inputs_needed(axis: Axis, start: int, stop: int | None, size: int | None) -> Interval:
    """The smallest interval of inputs that holds every input of the outputs ``[start, stop)``.

    ``size`` is the input size, ``None`` where it is not known (a stream) or has no end. Outputs
    that do not exist need nothing; neither do outputs that no tap reaches.

    >>> inputs_needed(Axis(4, stride=2, begin=1, end=1), 4, 8, size=10)
    Interval(start=1, stop=5)
    >>> inputs_needed(Axis(1, stride=3), 4, 6, size=10)
    Interval(start=0, stop=0)
    """
    start, stop, size = _checked(start, stop, size)
    if size is not None:
        outputs = axis.output_size(size)
        stop = outputs if stop is None else min(stop, outputs)
    if stop is not None and stop <= start:
        return EMPTY
    low, high = start + axis.begin, None if stop is None else stop - 1 + axis.begin
    first = _first_input(axis, low, high)
    if first is None or (size is not None and first >= size):
        return EMPTY
    if high is None:
        return Interval(first, None)
    if size is None:
        # the last input belongs to the first tap that hits the interval
        tap = _first_hit(high, -axis.dilation, axis.stride, high - low + 1)
        assert tap is not None
        return Interval(first, (high - axis.dilation * tap) // axis.stride + 1)
    # seen from the far end, the last input is the first one
    span = axis.full_size(size) - 1
    last = _first_input(axis, span - high, span - low)
    assert last is not None
    return Interval(first, size - last)


def outputs_touched(axis: Axis, start: int, stop: int | None, size: int | None) -> Interval:
    """The smallest interval of outputs that holds every output to which inputs contribute.

    The inputs are ``[start, stop)``; those that do not exist contribute nothing.

    >>> outputs_touched(Axis(4, stride=2, begin=1, end=1), 4, 6, size=10)
    Interval(start=7, stop=13)
    """
    start, stop, size = _checked(start, stop, size)
    if size is not None:
        stop = size if stop is None else min(stop, size)
    if stop is not None and stop <= start:
        return EMPTY
    count = None if stop is None else stop - start
    shift = axis.stride * start - axis.begin
    first = _first_position(axis, count, -shift)
    if first is None:
        return EMPTY
    first += shift
    if count is None or stop is None:
        return Interval(first, None)
    far = axis.stride * (count - 1) + axis.dilation * (axis.kernel_size - 1)
    last = 0
    if size is not None:
        found = _first_position(axis, count, far + shift + 1 - axis.output_size(size))
        if found is None or first >= axis.output_size(size):
            return EMPTY
        last = found
    return Interval(first, far + shift - last + 1)


def outputs_complete(axis: Axis, start: int, stop: int | None, size: int | None) -> Interval:
    """The outputs that need no input outside ``[start, stop)``.

    They lie behind the last output that an earlier input touches, and before the first one that a
    later input touches; where dilation or empty phases leave gaps, single outputs elsewhere may be
    complete too. With ``size=None`` more input may follow or not, and only outputs that exist in
    either case count: what a stream can hand out after ``stop`` inputs.

    >>> outputs_complete(Axis(4, stride=2, begin=1, end=1), 4, 8, size=10)
    Interval(start=9, stop=15)
    >>> outputs_complete(Axis(4, stride=2, begin=1, end=1), 0, 8, size=None)
    Interval(start=0, stop=15)
    """
    start, stop, size = _checked(start, stop, size)
    before = outputs_touched(axis, 0, start, size)
    first = 0 if before.is_empty else before.stop
    assert first is not None
    if stop is None:
        if size is None:
            return Interval(first, None)
        stop = size
    known = stop if size is None else size
    last = max(0, axis.output_size(known)) if known else 0
    after = outputs_touched(axis, stop, None, size)
    if not after.is_empty:
        last = min(last, after.start)
    return Interval(first, last) if first < last else EMPTY


def _checked(start: int, stop: int | None, size: int | None) -> tuple[int, int | None, int | None]:
    start = whole("start", start)
    at_least("start", (start,), 0)
    if stop is not None:
        stop = whole("stop", stop)
        if stop < start:
            raise GeometryError(
                f"stop must be at least start, got the interval from {start} to {stop}; "
                "equal numbers are the empty interval"
            )
    if size is not None:
        size = whole("size", size)
        at_least("size", (size,), 1)
    return start, stop, size


def _first_input(axis: Axis, low: int, high: int | None) -> int | None:
    """Smallest ``i >= 0`` that some tap puts on a position ``low`` to ``high``, or ``None``."""
    s, d = axis.stride, axis.dilation
    if high is None:
        return max(0, -((d * (axis.kernel_size - 1) - low) // s))
    if high < 0:
        return None
    # later taps belong to earlier inputs
    tap = min(axis.kernel_size - 1, high // d)
    if d * tap >= low:
        return 0
    back = _first_hit(d * tap - low, -d, s, high - low + 1)
    if back is None or back > tap:
        return None
    return -((d * (tap - back) - low) // s)


def _first_position(axis: Axis, count: int | None, low: int) -> int | None:
    """Smallest position ``s*i + d*t >= low`` with ``0 <= i < count``, or ``None``."""
    s, d, k = axis.stride, axis.dilation, axis.kernel_size
    if low <= 0:
        return 0
    # taps from `beyond` on are past `low` even for the first input
    beyond = -(-low // d)
    begin = 0 if count is None else max(0, -((s * (count - 1) - low) // d))
    taps = min(beyond, k) - begin
    found = [d * beyond] if beyond < k else []
    if taps > 0:
        offset = d * begin - low
        # the least residue that these taps reach: the shortest window [0, r] that one of them hits
        least, most = 0, s - 1
        while least < most:
            middle = (least + most) // 2
            hit = _first_hit(offset, d, s, middle + 1)
            if hit is not None and hit < taps:
                most = middle
            else:
                least = middle + 1
        found.append(low + least)
    return min(found, default=None)


def _first_hit(offset: int, step: int, modulus: int, length: int) -> int | None:
    """Smallest ``j >= 0`` with ``(offset + step*j) % modulus < length``, or ``None``."""
    offset %= modulus
    if offset < length:
        return 0
    return _first_multiple(step % modulus, modulus, modulus - offset, modulus - offset + length - 1)


def _first_multiple(step: int, modulus: int, low: int, high: int) -> int | None:
    """Smallest ``j`` with ``low <= step*j % modulus <= high``, where ``0 < low <= high < modulus``.

    Euclid's algorithm: if no multiple of ``step`` lies inside before the first wrap, the question
    is the same one about the number of wraps, modulo ``step``.
    """
    if step == 0:
        return None
    j = -(-low // step)
    if step * j <= high:
        return j
    wraps = _first_multiple(modulus % step, step, step - high % step, step - low % step)
    return None if wraps is None else -(-(low + modulus * wraps) // step)
