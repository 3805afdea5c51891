"""Timing of several programs for the same work, in turns: disturbances meet them all."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median, quantiles
from typing import Protocol

from polyphase.engine.collector import paused

# shorter calls are timed several at once, so that the clock does not matter
LEAST_SAMPLE_SECONDS = 200e-6
# what a contestant computes before the next one has its turn
TURN_SECONDS = 0.01
LEAST_ROUNDS = 5

TRIALS = 3

Call = Callable[[], object]


class Contestant(Protocol):
    """Whoever can be asked for the seconds per call of several samples, time and again."""

    def turn(self) -> list[float]:
        """Compute for about ``TURN_SECONDS``; the samples of that time."""
        ...


class Runner:
    """A call in this process, timed by ``clock``."""

    def __init__(self, call: Call, clock: Callable[[], float] = time.perf_counter) -> None:
        self._call = call
        self._clock = clock
        # the first call may compile, allocate and start threads
        call()
        taken = max(1e-9, min(self._seconds(1) for _ in range(3)))
        self._calls = max(1, round(LEAST_SAMPLE_SECONDS / taken))
        self._samples = max(1, round(TURN_SECONDS / (self._calls * taken)))

    def turn(self) -> list[float]:
        """Samples of this turn; a first call brings back what the others drove out of caches."""
        self._call()
        return [self._seconds(self._calls) for _ in range(self._samples)]

    def _seconds(self, calls: int) -> float:
        call, clock = self._call, self._clock
        start = clock()
        for _ in range(calls):
            call()
        return (clock() - start) / calls


@dataclass(frozen=True)
class Times:
    """What the samples of one contestant come to, in seconds per call.

    ``spread`` is half the distance between the quartiles, as a share of the median.

    >>> Times.of([3.0, 1.0, 2.0])
    Times(median=2.0, least=1.0, spread=0.25, samples=3)
    """

    median: float
    least: float
    spread: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Times":
        """The times of at least one sample."""
        middle = median(samples)
        first, _, third = quantiles(samples, n=4, method="inclusive") if samples[1:] else (0, 0, 0)
        return cls(middle, min(samples), (third - first) / 2 / middle, len(samples))


def compete(contestants: Sequence[Contestant], seconds: float) -> list[Times]:
    """The times of the contestants, in their order, from turns that alternate for ``seconds``.

    Who begins changes from round to round. There are at least ``LEAST_ROUNDS``.

    >>> idle, asleep = compete([Runner(lambda: None), Runner(lambda: time.sleep(0.001))], 0.05)
    >>> idle.median < asleep.median
    True
    """
    samples: list[list[float]] = [[] for _ in contestants]
    end = time.perf_counter() + seconds
    with paused():
        for number in count():
            if number >= LEAST_ROUNDS and time.perf_counter() > end:
                break
            for place in range(len(contestants)):
                who = (number + place) % len(contestants)
                samples[who] += contestants[who].turn()
    return [Times.of(found) for found in samples]


def quickest(calls: Sequence[Call]) -> Call:
    """The call that takes the least time in a few trials.

    >>> quickest([lambda: time.sleep(0.01), lambda: None])() is None
    True
    """

    def trial(call: Call) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return min(calls, key=lambda call: min(trial(call) for _ in range(TRIALS)))
