"""What makes the skips of a network fit: output paddings, a larger input, or both.

The axes of a network are independent, and no layer makes a smaller size from a larger one. So the
sizes that later output paddings can reach lie between two that are computed, and a search over
output paddings rarely meets a dead end. Sizes also repeat: an input larger by a period of the
strides gives sizes that are larger by fixed amounts, so one period shows which inputs fit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from polyphase.arithmetic.layers import Layer, SkipIn, SkipOut, Step, TransposedStep
from polyphase.arithmetic.values import plain

# output paddings and input sizes that are tried for one network before the search gives up
TRIALS = 4096


@dataclass(frozen=True, slots=True)
class LayerOutput:
    """The size that one transposed layer must give, and the output padding that does it."""

    name: str
    output_size: tuple[int, ...]
    output_padding: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OutputPaddings:
    """An output size for every transposed layer, in their order, such that all skips fit."""

    layers: tuple[LayerOutput, ...]

    def __str__(self) -> str:
        """One line per layer."""
        names = max(len(layer.name) for layer in self.layers)
        sizes = max(len(str(plain(layer.output_size))) for layer in self.layers)
        return "\n".join(
            f"  {layer.name:<{names}}  output_size={plain(layer.output_size)!s:<{sizes}}"
            f"  output_padding={plain(layer.output_padding)}"
            for layer in self.layers
        )


@dataclass(frozen=True, slots=True)
class InputPadding:
    """The smallest padding of the input, ``(begin, end)`` per axis, such that all skips fit."""

    padding: tuple[tuple[int, int], ...]
    input_size: tuple[int, ...]

    def __str__(self) -> str:
        """One line."""
        ends = [
            f"{begin} before and {end} after" + (f" on axis {i}" if len(self.padding) > 1 else "")
            for i, (begin, end) in enumerate(self.padding)
            if begin + end
        ]
        return f"  to {plain(self.input_size)}: {', '.join(ends)}"


@dataclass(frozen=True, slots=True)
class Fitting:
    """The input sizes of one axis at which all skips fit: ``period*j + r`` for some remainders.

    Holds from the smallest size on that every layer accepts.
    """

    period: int
    remainders: tuple[int, ...]

    def __str__(self) -> str:
        """The sizes in words."""
        if self.period == 1:
            return "every size" if self.remainders else "no size"
        if self.remainders == (0,):
            return f"multiples of {self.period}"
        return f"multiples of {self.period}, plus {' or '.join(map(str, self.remainders))}"


class Budget:
    """How many trials are left for the searches on one network."""

    def __init__(self) -> None:
        self.left = TRIALS
        self.is_exhausted = False

    def take(self) -> bool:
        """Use up one trial; false where none is left."""
        self.is_exhausted = not self.left
        self.left -= not self.is_exhausted
        return not self.is_exhausted


@dataclass(frozen=True, slots=True)
class Track:
    """One axis of a network: its layers, and what each does to the size of this axis."""

    layers: tuple[Layer, ...]
    steps: tuple[Step, ...]

    def fits(self, size: int) -> bool:
        """Whether every skip fits, and no layer is left without output."""
        stored: dict[str, int] = {}
        for layer, step in zip(self.layers, self.steps, strict=True):
            size = step.size(size)
            if size < 1 or (isinstance(layer, SkipIn) and stored[layer.name] != size):
                return False
            if isinstance(layer, SkipOut):
                stored[layer.name] = size
        return True

    def accepts(self, size: int) -> bool:
        """Whether every layer has output, skips aside."""
        for step in self.steps:
            size = step.size(size)
            if size < 1:
                return False
        return True

    def smallest_input(self) -> int | None:
        """The smallest size that every layer accepts, ``None`` where there is none below 2**64."""
        high = 1
        while not self.accepts(high):
            high *= 2
            if high > 2**64:
                return None
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            if self.accepts(middle):
                high = middle
            else:
                low = middle
        return high

    def rhythm(self) -> tuple[int, int | None]:
        """A period of the input size, and the first skip that grows unlike what it meets.

        An input that is larger by a period makes every size larger by a fixed amount. The skip is
        given by its place; ``None`` where all skips fit or not alike after a period.
        """
        growth, period, unlike = Fraction(1), 1, None
        stored: dict[str, Fraction] = {}
        for i, (layer, step) in enumerate(zip(self.layers, self.steps, strict=True)):
            growth *= step.growth
            period = lcm(period, growth.denominator)
            if isinstance(layer, SkipOut):
                stored[layer.name] = growth
            if isinstance(layer, SkipIn) and stored[layer.name] != growth and unlike is None:
                unlike = i
        return period, unlike

    def fitting(self) -> Fitting | None:
        """Which input sizes fit; ``None`` where they do not repeat within :data:`TRIALS` sizes."""
        (period, unlike), start = self.rhythm(), self.smallest_input()
        if unlike is not None or start is None or period > TRIALS:
            return None
        found = {n % period for n in range(start, start + period) if self.fits(n)}
        for shorter in range(1, period + 1):
            # the shortest period that the remainders have
            if period % shorter == 0 and found == {(r + shorter) % period for r in found}:
                return Fitting(shorter, tuple(sorted(r for r in found if r < shorter)))
        raise AssertionError("a period repeats after itself")

    def larger(self, size: int, budget: Budget) -> Iterator[int]:
        """The input sizes from ``size`` on that may fit, ascending."""
        period, unlike = self.rhythm()
        found = []
        for n in range(size, size + period):
            if not budget.take():
                return
            if unlike is None:
                yield n
                continue
            # what the skip is short of changes evenly from period to period: where is it nothing?
            short = self._short(n, unlike)
            periods, rest = divmod(-short, self._short(n + period, unlike) - short)
            if rest == 0 and periods >= 0:
                found.append(n + periods * period)
        yield from sorted(found)

    def _short(self, size: int, at: int) -> int:
        """How much the skip that comes in at a place is larger than what it meets."""
        stored: dict[str, int] = {}
        for layer, step in zip(self.layers[:at], self.steps[:at], strict=True):
            size = step.size(size)
            if isinstance(layer, SkipOut):
                stored[layer.name] = size
        return stored[self.layers[at].name] - size

    def output_paddings(self, size: int, budget: Budget) -> list[tuple[int, int]] | None:
        """(output size, output padding) of the transposed layers with which every skip fits."""
        return next(self._choices(0, size, {}, budget), None)

    def _choices(
        self, at: int, size: int, stored: dict[str, int], budget: Budget
    ) -> Iterator[list[tuple[int, int]]]:
        for i in range(at, len(self.layers)):
            layer, step = self.layers[i], self.steps[i]
            if isinstance(step, TransposedStep):
                base = step.size(size) - step.output_padding
                for op in self._promising(i + 1, base, step, stored):
                    if not budget.take():
                        return
                    for rest in self._choices(i + 1, base + op, stored, budget):
                        yield [(base + op, op), *rest]
                return
            size = step.size(size)
            if size < 1 or (isinstance(layer, SkipIn) and stored[layer.name] != size):
                return
            if isinstance(layer, SkipOut):
                stored = {**stored, layer.name: size}
        yield []

    def _promising(
        self, at: int, base: int, step: TransposedStep, stored: dict[str, int]
    ) -> Iterator[int]:
        """Output paddings from which the next skip can be met: what the layer has, then upwards."""

        def reach(op: int) -> tuple[bool, bool]:
            """Whether the skip is out of reach below, and above."""
            target, low, high = self._next_skip(at, base + op, stored)
            return target is not None and high < target, target is not None and low > target

        first, last = max(0, 1 - base), step.freedom
        while first < last:
            middle = (first + last) // 2
            if reach(middle)[0]:
                first = middle + 1
            else:
                last = middle
        own = step.output_padding
        if base + own >= 1 and not any(reach(own)):
            yield own
        for op in range(first, step.freedom):
            if reach(op)[1]:
                return
            if op != own:
                yield op

    def _next_skip(self, at: int, size: int, stored: dict[str, int]) -> tuple[int | None, int, int]:
        """Size of the next known skip, and the smallest and largest that can be made to meet it."""
        low = high = size
        for layer, step in zip(self.layers[at:], self.steps[at:], strict=True):
            if isinstance(layer, SkipIn) and layer.name in stored:
                return stored[layer.name], low, high
            low, high = step.size(low), step.size(high)
            if isinstance(step, TransposedStep):
                low -= step.output_padding
                high += step.freedom - 1 - step.output_padding
        return None, low, high


def by_output_paddings(
    tracks: Sequence[Track], size: Sequence[int], budget: Budget
) -> OutputPaddings | None:
    """Output paddings that make every skip fit; ``None`` where none were found."""
    found = [track.output_paddings(n, budget) for track, n in zip(tracks, size, strict=True)]
    chosen = [axis for axis in found if axis]
    if len(chosen) < len(found):
        return None
    names = [
        layer.name
        for layer, step in zip(tracks[0].layers, tracks[0].steps, strict=True)
        if isinstance(step, TransposedStep)
    ]
    return OutputPaddings(
        tuple(
            LayerOutput(name, tuple(size for size, _ in axes), tuple(op for _, op in axes))
            for name, axes in zip(names, zip(*chosen, strict=True), strict=True)
        )
    )


def by_input_padding(
    tracks: Sequence[Track], size: Sequence[int], budget: Budget, *, output_paddings: bool = False
) -> InputPadding | None:
    """The smallest larger input that makes every skip fit; ``None`` where none was found.

    The layers stay as they are, or may have other output paddings; the latter only where every
    skip grows like what it meets.
    """
    grown = []
    for track, n in zip(tracks, size, strict=True):
        if output_paddings and track.rhythm()[1] is not None:
            return None
        for m in track.larger(n, budget):
            if track.output_paddings(m, budget) if output_paddings else track.fits(m):
                grown.append(m)
                break
        else:
            return None
    padding = tuple(((m - n) // 2, (m - n + 1) // 2) for m, n in zip(grown, size, strict=True))
    return InputPadding(padding, tuple(grown))
