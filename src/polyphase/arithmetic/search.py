"""Parameters of one axis that map given sizes to given sizes, best first.

One input size and one output size leave ``O - (n-1)*s = e - a - b + op``: for a stride, the extent
less the crop must be a known number. Kernels, paddings and output paddings follow from it by
arithmetic, so the search runs over strides, from the ratio of the sizes outwards, and stops when a
further stride costs more than what has been found.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from heapq import heappush, heapreplace, merge
from itertools import groupby
from math import gcd
from operator import itemgetter
from typing import NamedTuple

from polyphase.arithmetic.axis import Axis, extent

# parameter sets looked at per axis before the search gives up
TRIALS = 20_000
# what it costs to lose inputs: more than any other fault, so that it comes last
LOST = 10_000
# what outputs that receive the bias alone cost: more than uneven overlap and output padding
HOLES = 6
# of the allowed output paddings, those that say where to look for kernels when padding is free too
STARTS = 16


class Setting(NamedTuple):
    """Parameters of one axis; ``end`` is without output padding."""

    output_padding: int
    kernel_size: int
    stride: int
    dilation: int
    begin: int
    end: int

    @property
    def axis(self) -> Axis:
        """The axis whose crop has the output padding in it."""
        end = self.end - self.output_padding
        return Axis(self.kernel_size, self.stride, self.dilation, self.begin, end)

    @property
    def faults(self) -> int:
        """What an expert would hold against it, added up; 0 is spotless."""
        k, s, d, begin = self.kernel_size, self.stride, self.dilation, self.begin
        end, covered, common = self.end - self.output_padding, (k - 1) * d + 1, gcd(s, d)
        return (
            # uneven overlap
            (common > 1 or k % s > 0)
            # empty phases: holes in the output
            + HOLES * (k * common < s)
            + (self.output_padding > 0)
            # the output lies off the centre of the input
            + (begin != end)
            + (begin != self.end)
            # positions that no tap reaches, at the beginning or the end
            + 3 * (begin < 0 or end < 0)
            # border inputs that contribute nothing
            + LOST * (begin >= covered or end >= covered)
            # output shorter than the distance from the first input to the last
            + (begin + end >= covered)
        )


@dataclass(frozen=True)
class Freedom:
    """The allowed values of each parameter of one axis; ``None`` is free.

    Values ascend, and those of padding ascend in their sum.
    """

    kernel_size: tuple[int, ...] | None
    stride: tuple[int, ...] | None
    padding: tuple[tuple[int, int], ...] | None
    output_padding: tuple[int, ...] | None
    dilation: tuple[int, ...] | None

    def allows(self, output_padding: int) -> bool:
        """Whether an output padding is among the allowed ones."""
        return self.output_padding is None or output_padding in self._output_paddings

    @cached_property
    def _output_paddings(self) -> frozenset[int]:
        return frozenset(self.output_padding or ())

    @property
    def largest_output_padding(self) -> int:
        """The largest allowed output padding; 0 where it is free."""
        return self.output_padding[-1] if self.output_padding else 0

    @property
    def smallest_crop(self) -> int:
        """The least that padding can remove; 0 where it is free."""
        return sum(self.padding[0]) if self.padding else 0

    @property
    def largest_crop(self) -> int:
        """The most that padding can remove; 0 where it is free."""
        return sum(self.padding[-1]) if self.padding else 0


class Found(NamedTuple):
    """A setting with its cost and its faults; the smaller triple is the better one."""

    cost: Fraction
    faults: int
    setting: Setting


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found, best first, and the stride at which it gave up, if it did."""

    found: list[Found]
    stopped: int | None = None


def search(
    size: int, target: int, freedom: Freedom, limit: int, *, asymmetric: bool = False
) -> Outcome:
    """The ``limit`` best settings that map ``size`` to ``target``.

    ``asymmetric`` makes a free padding a ``(begin, end)`` pair with ends that differ by one or that
    add positions, in place of an int.
    """
    # costs are kept as whole multiples of 1/size; the heap holds the best ones, the worst on top
    best: list[int] = []
    found: list[tuple[int, int, Setting]] = []
    trials, stopped = 0, None
    for s in _strides(size, target, freedom, limit):
        far = 16 * abs(target - size * s)
        if len(best) == limit and far + 2 * size > -best[0]:
            break
        need = target - (size - 1) * s
        trials += 1
        for d in _dilations(need, s, freedom, limit):
            least = far + 2 * size * (d - 1)
            if len(best) == limit and least + 2 * size > -best[0]:
                break
            for setting in _settings(need, s, d, freedom, limit, asymmetric):
                trials += 1
                if trials > TRIALS:
                    break
                if setting is None:
                    continue
                # kernels come in ascending order, and each stride of them costs
                cost = least + 2 * size * -(-setting.kernel_size // s)
                if len(best) == limit and cost > -best[0]:
                    break
                faults = setting.faults
                cost += 2 * size * faults
                found.append((cost, faults, setting))
                if len(best) < limit:
                    heappush(best, -cost)
                elif cost < -best[0]:
                    heapreplace(best, -cost)
            trials += 1
            if trials > TRIALS:
                break
        if trials > TRIALS:
            stopped = s
            break
    found.sort()
    return Outcome([Found(Fraction(c, size), faults, x) for c, faults, x in found[:limit]], stopped)


def _strides(size: int, target: int, freedom: Freedom, limit: int) -> Iterable[int]:
    """Strides that may reach the target, nearest to ``target / size`` first."""
    if freedom.stride is not None:
        return sorted(freedom.stride, key=lambda s: (abs(target - size * s), s))
    low, high = _stride_bounds(size, target, freedom, limit)
    return _outwards(size, target, low, high)


def _stride_bounds(size: int, target: int, freedom: Freedom, limit: int) -> tuple[int, int]:
    """Strides outside cannot reach the target with the kernels and paddings that are allowed."""
    kernels, dilations = freedom.kernel_size or (1,), freedom.dilation or (1,)
    shortest = extent(kernels[0], dilations[0])
    if size == 1:
        # no stride changes the size: once output padding has room, further ones add nothing new
        room = freedom.largest_output_padding or target + freedom.largest_crop
        high = max(2 * target, room) + limit
    elif freedom.padding is None:
        # once it exceeds target and kernel, a stride does what the next but one does
        longest = max(target // (size - 1), kernels[-1], freedom.largest_output_padding)
        high = longest + 2 * limit + 2
    else:
        high = (target - shortest + freedom.largest_crop) // (size - 1)
    if freedom.kernel_size is None or freedom.dilation is None:
        return 1, high
    # the stride has to supply what the longest kernel and output padding leave open
    missing = target - extent(kernels[-1], dilations[-1]) + freedom.smallest_crop
    low = -(-(missing + 1) // size)
    if dilations[-1] > missing:
        low = 1
    elif size > 1:
        low = min(low, -((dilations[-1] - 1 - missing) // (size - 1)))
    if size > 1 and freedom.output_padding is not None:
        low = max(low, -((freedom.largest_output_padding - missing) // (size - 1)))
    return max(low, 1), high


def _outwards(size: int, target: int, low: int, high: int) -> Iterator[int]:
    down, up = min(target // size, high), max(target // size + 1, low)
    while down >= low or up <= high:
        if down >= low and (up > high or target - size * down <= size * up - target):
            yield down
            down -= 1
        else:
            yield up
            up += 1


def _dilations(need: int, s: int, freedom: Freedom, limit: int) -> Iterable[int]:
    """Dilations that may give ``e - a - b + op == need``, ascending."""
    if freedom.dilation is not None:
        return freedom.dilation
    shortest, longest = (freedom.kernel_size or (1,))[0], (freedom.kernel_size or (None,))[-1]
    low, room = 1, need + freedom.largest_crop
    if freedom.padding is None:
        # beyond, two taps spare every input, and a dilation does what the next but one does
        high = max(abs(need), freedom.largest_output_padding) + 2 * limit + 2
    elif shortest > 1:
        high = (room - 1) // (shortest - 1)
    else:
        # a single tap reaches no further for its dilation, which only makes output padding legal
        high = room + limit
    missing = need + freedom.smallest_crop
    if longest is not None and s < missing:
        low = -(-missing // longest)
        if longest > 1:
            low = min(low, -((s - missing) // (longest - 1)))
    return range(max(low, 1), high + 1)


def _settings(
    need: int, s: int, d: int, freedom: Freedom, limit: int, asymmetric: bool
) -> Iterator[Setting | None]:
    """Settings of one stride and dilation with ``e - a - b + op == need``, kernels ascending.

    ``None`` stands for a trial that came to nothing.
    """
    if freedom.padding is None:
        yield from _free_padding(need, s, d, freedom, limit, asymmetric)
    elif freedom.kernel_size is None:
        yield from _free_kernel(need, s, d, freedom, limit)
    else:
        legal = max(s, d)
        for k in freedom.kernel_size:
            # crop less output padding
            surplus = extent(k, d) - need
            yield None
            for a, b in freedom.padding[bisect_left(freedom.padding, surplus, key=sum) :]:
                op = a + b - surplus
                if op >= legal:
                    break
                yield Setting(op, k, s, d, a, b) if freedom.allows(op) else None


def _free_padding(
    need: int, s: int, d: int, freedom: Freedom, limit: int, asymmetric: bool
) -> Iterator[Setting | None]:
    legal = max(s, d)
    ops: Sequence[int] | None = freedom.output_padding
    if ops is not None:
        ops = ops[: bisect_left(ops, legal)]
    elif asymmetric:
        ops = (0,)
    for k in freedom.kernel_size or _kernels(need, s, d, ops or (0, 1), limit):
        surplus = extent(k, d) - need
        least = max(0, -surplus)
        # an int padding takes every second output padding
        every = range(least + (surplus + least) % 2, legal, 2)[:limit] if ops is None else ops
        if not every:
            yield None
        for op in every:
            crop = surplus + op
            begin = max(crop, 0) // 2
            fits = asymmetric != (crop == 2 * begin)
            yield Setting(op, k, s, d, begin, crop - begin) if fits else None


def _kernels(need: int, s: int, d: int, ops: Sequence[int], limit: int) -> Iterator[int]:
    """Kernel sizes worth a look where padding is free too: enough of each kind to fill a list."""
    # every second one may have the wrong parity
    enough = 2 * limit + 2
    spans: list[range] = []
    for op in ops[:STARTS]:
        # the first kernel that covers the output padding, the first without holes, the first
        # whose crop spares every input: from each on some kernels, and some multiples of s
        covering = max(1, -((1 - need - op) // d) + 1)
        whole = -(-s // gcd(s, d))
        sparing = -((need - op) // d) + 1
        for start in {covering, max(covering, whole), max(covering, sparing)}:
            even = -(-start // s) * s
            spans += [range(start, start + enough), range(even, even + enough * s, s)]
        spans.append(range(max(1, covering - enough), covering))
    return (k for k, _ in groupby(merge(*spans)))


def _free_kernel(
    need: int, s: int, d: int, freedom: Freedom, limit: int
) -> Iterator[Setting | None]:
    padding, allowed, legal = freedom.padding or (), freedom.output_padding, max(s, d)

    def kernels(crop: int) -> Iterable[int]:
        """Kernel sizes for one crop; output padding runs from the longest down to the shortest."""
        enough = limit + 1
        longest = (need + crop - 1) // d + 1
        shortest = max(1, -((legal - need - crop) // d) + 1)
        even = range(longest // s * s, shortest - 1, -s)[:enough]
        spans = (
            range(shortest, min(shortest + enough, longest + 1)),
            reversed(even),
            range(max(shortest, longest - enough), longest + 1),
        )
        return (k for k, _ in groupby(merge(*spans)))

    def settings(pad: tuple[int, int]) -> Iterator[tuple[int, Setting | None]]:
        crop = sum(pad)
        if allowed is None:
            for k in kernels(crop):
                yield k, Setting(crop - extent(k, d) + need, k, s, d, *pad)
            return
        for op in reversed(allowed[: bisect_left(allowed, min(legal, need + crop))]):
            taps, rest = divmod(need + crop - op - 1, d)
            yield taps + 1, None if rest else Setting(op, taps + 1, s, d, *pad)

    for _ in padding:
        yield None
    for _, setting in merge(*map(settings, padding), key=itemgetter(0)):
        yield setting
