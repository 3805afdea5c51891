"""Measured layers: one row each, and what a table of them comes to."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import exp, log
from typing import Any, Self

from polyphase.arithmetic.cost import cost
from polyphase.arithmetic.problem import Problem
from polyphase.tools.bench.contest import Times
from polyphase.tools.bench.machine import Roof
from polyphase.tools.bench.probe import FirstCall, Memory
from polyphase.tools.bench.suite import Known, gradients

OURS, TORCH, TORCH_LAST = "polyphase", "torch", "torch channels-last"
# layers with less arithmetic do not count towards the mean share of the roofline
LEAST_GFLOP = 0.5


@dataclass(frozen=True)
class Row:
    """One layer in one layout: times and errors by engine, or why an engine has none.

    ``errors`` are largest differences from float64 over the largest value. ``known`` is the best
    engine known for the layer, where there is one. ``step`` says that the layer was measured with
    its backward pass, as a step of training computes it.
    """

    problem: Problem
    method: str
    kernel: str
    predicted_share: float | None
    times: dict[str, Times]
    errors: dict[str, float]
    failures: dict[str, str] = field(default_factory=dict)
    known: Known | None = None
    first_call: FirstCall | None = None
    memory: Memory | None = None
    step: bool = False

    @property
    def kind(self) -> str:
        """The operator, or ``step``."""
        return "step" if self.step else self.problem.operator

    @property
    def layout(self) -> str:
        """How tensors lie in memory, in words."""
        return "channels-last" if self.problem.channels_last else "channels-first"

    @property
    def parts(self) -> tuple[Problem, ...]:
        """The problems that were computed one after the other."""
        return (self.problem, *gradients(self.problem)) if self.step else (self.problem,)

    @property
    def gflop(self) -> float:
        """Billions of operations that reach the output, a multiply-add being two."""
        return 2e-9 * sum(cost(problem).phases.multiplications for problem in self.parts)

    @property
    def ours(self) -> Times | None:
        """The times of polyphase."""
        return self.times.get(OURS)

    @property
    def peers(self) -> dict[str, Times]:
        """The times of the engines besides polyphase and plain torch."""
        return {k: v for k, v in self.times.items() if k not in (OURS, TORCH, TORCH_LAST)}

    @property
    def spread(self) -> float:
        """The largest spread of polyphase and torch."""
        return max(self.times[k].spread for k in (OURS, TORCH, TORCH_LAST) if k in self.times)

    def share(self, roof: Roof) -> float | None:
        """Share of the roofline that polyphase reaches."""
        return sum(map(roof.seconds, self.parts)) / self.ours.median if self.ours else None

    def against(self, engine: str) -> float | None:
        """How many times faster polyphase is than another engine."""
        if not self.ours or engine not in self.times:
            return None
        return self.times[engine].median / self.ours.median

    @property
    def against_torch(self) -> float | None:
        """Against the better of torch's layouts."""
        return _least([self.against(TORCH), self.against(TORCH_LAST)])

    @property
    def against_torch_at_best(self) -> float | None:
        """The same from the fastest call of each, which disturbances spare longest."""
        torch = [self.times[name].least for name in (TORCH, TORCH_LAST) if name in self.times]
        return min(torch) / self.ours.least if self.ours and torch else None

    @property
    def rivals(self) -> dict[str, float]:
        """Seconds of the engines measured, and of the best known if it is none of them."""
        found = {name: times.median for name, times in self.times.items() if name != OURS}
        if self.known and TORCH in found:
            found.setdefault(self.known.engine, found[TORCH] / self.known.ratio)
        return found

    @property
    def best(self) -> str | None:
        """The fastest rival; ``None`` where only torch was measured and no other is known."""
        if not self.peers and not self.known:
            return None
        return min(self.rivals, key=lambda name: self.rivals[name], default=None)

    @property
    def against_best(self) -> float | None:
        """Against the fastest rival."""
        return self.rivals[self.best] / self.ours.median if self.ours and self.best else None

    def as_data(self, roof: Roof) -> dict[str, Any]:
        """The row for a file of results, with what follows from it for those who only read."""
        ours = self.ours
        return {
            **asdict(self),
            "problem": str(self.problem),
            "gflop": self.gflop,
            "gflops": self.gflop / ours.median if ours else None,
            "bound": roof.bound(self.problem),
            "roofline_share": self.share(roof),
            "against_torch": self.against(TORCH),
            "against_torch_channels_last": self.against(TORCH_LAST),
            "best": self.best,
            "against_best": self.against_best,
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """The row that :meth:`as_data` wrote."""
        return cls(
            Problem.parse(data["problem"]),
            data["method"],
            data["kernel"],
            data["predicted_share"],
            {name: Times(**times) for name, times in data["times"].items()},
            data["errors"],
            data["failures"],
            Known(**data["known"]) if data["known"] else None,
            FirstCall(**data["first_call"]) if data["first_call"] else None,
            Memory(**data["memory"]) if data["memory"] else None,
            # files of earlier versions have none
            data.get("step", False),
        )


@dataclass(frozen=True)
class Extent:
    """Geometric mean and least value of a column, and the layer of the latter."""

    mean: float
    least: float
    where: str
    count: int


def summary(rows: Sequence[Row], roof: Roof) -> dict[str, Extent]:
    """Mean and least of every ratio, and of the roofline's share over the large layers."""
    large = [row for row in rows if row.gflop >= LEAST_GFLOP]
    columns = {
        "torch": [(row, row.against(TORCH)) for row in rows],
        "torch channels-last": [(row, row.against(TORCH_LAST)) for row in rows],
        "torch's better layout": [(row, row.against_torch) for row in rows],
        "the same by fastest calls": [(row, row.against_torch_at_best) for row in rows],
        "best engine": [(row, row.against_best) for row in rows],
        f"roofline, >= {LEAST_GFLOP} GFLOP": [(row, row.share(roof)) for row in large],
    }
    found = {}
    for title, column in columns.items():
        values = [(value, row.problem.name) for row, value in column if value is not None]
        if values:
            least, where = min(values)
            mean = geometric_mean(value for value, _ in values)
            found[title] = Extent(mean, least, where, len(values))
    return found


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios.

    >>> geometric_mean([0.5, 2.0])
    1.0
    """
    logs = [log(value) for value in values]
    return exp(sum(logs) / len(logs))


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)
