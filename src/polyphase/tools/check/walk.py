"""What a model did with the sizes it was given: its steps, its transposed layers, its misfits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from polyphase.arithmetic.problem import Problem

Shape = tuple[int, ...]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: what kind it is, which values it read and wrote.

    ``kind`` is ``conv_transpose``, ``conv``, ``join``, ``crop``, ``pad``, ``resize``, ``norm``,
    ``pointwise`` or ``other``; ``change`` is what a crop or a pad adds at both ends of each spatial
    axis (negative: takes away).
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    change: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of a transposed convolution; ``weights`` reads them, ``None`` if there are none."""

    name: str
    problem: Problem
    has_bias: bool
    step: int
    weights: Callable[[], Array | None]
    # what the exchange format told about the node and runtimes may read in another way
    remarks: tuple[str, ...] = ()
    # the size that the call asked for; () where it left the size to the parameters
    asked: Shape = ()

    @property
    def is_reached(self) -> bool:
        """Whether the layer makes the size that it is asked for."""
        return self.asked in ((), self.problem.output_size)


def named(layers: Sequence[Layer], most: int = 6) -> str:
    """The names of some layers as people list them.

    Of more than ``most`` the rest are counted.
    """
    return listed([layer.name for layer in layers], most)


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names as people list them; of more than ``most`` the rest are counted.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], most=1)
    ('a, b and c', 'a and 2 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


@dataclass(frozen=True, slots=True)
class Meeting:
    """A layer's result joined with something else: sizes, and what was done to make them fit."""

    layer: int
    made: Shape
    other: Shape
    how: str
    # (kind, size before, size after) on the way of the layer's result, and on the other's
    repairs: tuple[tuple[str, Shape, Shape], ...] = ()
    other_repairs: tuple[tuple[str, Shape, Shape], ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the two sizes go together."""
        return self.made == self.other


@dataclass(slots=True)
class Walk:
    """A model on inputs of given shapes.

    ``multiply_adds`` counts what is not a transposed convolution; ``stopped`` says why the walk
    ended early, "" if it did not.
    """

    inputs: tuple[Shape, ...]
    steps: list[Step] = field(default_factory=list)
    shapes: dict[int, Shape] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    meetings: list[Meeting] = field(default_factory=list)
    outputs: tuple[Shape, ...] = ()
    multiply_adds: int = 0
    stopped: str = ""
    # kind of what went wrong: "inputs", "data", "model", "quantised", "onnx", "branch"
    stopped_by: str = ""
    # the transposed layer that refused its input, if it was one
    stopped_at: str = ""

    def readers(self, value: int) -> list[Step]:
        """The steps that read a value."""
        return [step for step in self.steps if value in step.inputs]


class Journal:
    """Collects steps in the order in which they run and sees where sizes meet.

    >>> journal = Journal(((1, 2, 4),))
    >>> journal.walk.inputs
    ((1, 2, 4),)
    """

    def __init__(self, inputs: tuple[Shape, ...]) -> None:
        self.walk = Walk(inputs)
        self._origin: dict[int, int] = {}
        self._repairs: dict[int, tuple[tuple[str, Shape, Shape], ...]] = {}

    def value(self, shape: Sequence[int]) -> int:
        """A new value of that shape."""
        key = len(self.walk.shapes)
        self.walk.shapes[key] = tuple(shape)
        return key

    def layer(
        self,
        name: str,
        problem: Problem,
        has_bias: bool,
        weights: Callable[[], Array | None],
        remarks: tuple[str, ...] = (),
        asked: Shape = (),
    ) -> None:
        """A transposed convolution, whose step is written next."""
        found = Layer(name, problem, has_bias, len(self.walk.steps), weights, remarks, asked)
        self.walk.layers.append(found)

    def origin(self, value: int) -> int:
        """The last transposed layer on the way to a value, -1 if there is none."""
        return self._origin.get(value, -1)

    def meet(self, inputs: Sequence[int], how: str) -> list[int]:
        """Note which layer's result meets what; the values that do not fit the others.

        ``how`` is the name of the joining operation.
        """
        shapes = self.walk.shapes
        rank = max((len(shapes[value]) for value in inputs), default=0)
        full = [v for v in inputs if len(shapes[v]) == rank and rank > 2 and any(shapes[v][2:])]
        sized = [v for v in full if any(n != 1 for n in shapes[v][2:])]
        if len(sized) < 2:
            return []
        made = max(sized, key=self.origin)
        misfits = []
        for other in sized:
            if other == made:
                continue
            ours, theirs = shapes[made][2:], shapes[other][2:]
            if how.lower() not in ("cat", "concat"):
                # one position serves a whole axis, in everything but a concatenation
                pairs = list(zip(ours, theirs, strict=True))
                theirs = tuple(n if m == 1 else m for n, m in pairs)
                ours = tuple(m if n == 1 else n for n, m in zip(ours, theirs, strict=True))
            if self.origin(made) > self.origin(other):
                repairs = self._repairs.get(made, ()), self._repairs.get(other, ())
                self.walk.meetings.append(Meeting(self.origin(made), ours, theirs, how, *repairs))
                if ours != theirs:
                    misfits.append(made)
        return misfits

    def step(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        change: tuple[tuple[int, int], ...] = (),
    ) -> None:
        """Write down a step; a new transposed layer must have been announced before."""
        walk = self.walk
        here = len(walk.steps)
        walk.steps.append(Step(kind, tuple(inputs), tuple(outputs), change))
        origin = max((self.origin(value) for value in inputs), default=-1)
        if kind == "conv_transpose":
            origin = len(walk.layers) - 1
            assert walk.layers[origin].step == here
        repairs: tuple[tuple[str, Shape, Shape], ...] = ()
        if kind not in ("conv", "conv_transpose", "join") and inputs:
            repairs = self._repairs.get(inputs[0], ())
        if kind in ("crop", "pad", "resize") and inputs and outputs:
            before, after = walk.shapes[inputs[0]][2:], walk.shapes[outputs[0]][2:]
            if before != after:
                repairs = (*repairs, (kind, before, after))
        for value in outputs:
            self._origin[value] = origin
            self._repairs[value] = repairs
