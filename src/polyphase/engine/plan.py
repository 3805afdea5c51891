"""The plan of a problem: its method, target and tiling, and why the other methods refused."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

from polyphase.arithmetic.cost import cost
from polyphase.arithmetic.problem import Problem
from polyphase.engine.methods import METHODS, Method
from polyphase.engine.target import Target, cache_bytes, current
from polyphase.engine.threads import undivided
from polyphase.engine.tiling import Tiling
from polyphase.engine.weights_tiling import WeightsTiling

# what a core moves between memory and caches in a cycle, for predictions only
BYTES_PER_CYCLE = 5.0
# share of packing the weights that a call bears: they are packed anew when they have changed, and
# those of a gradient always have
PACKING_SHARE = {"conv_transpose": 0.1, "conv": 1.0, "weight_grad": 0.0}
# fused multiply-adds that a core begins in a cycle
FMAS_PER_CYCLE = 2


@dataclass(frozen=True)
class Plan:
    """What the engine does for one problem; ``print`` shows it.

    >>> plan("n1 c1:1 i4 k2 s2 int32").method.name
    'reference'
    """

    problem: Problem
    target: Target
    method: Method
    refusals: dict[str, str]

    @cached_property
    def tiling(self) -> Tiling | WeightsTiling | None:
        """Decisions of the method; ``None`` for the reference."""
        if self.method.tiling is None:
            return None
        return self.method.tiling(self.problem, self.target, cache_bytes())

    @property
    def kernel(self) -> str:
        """Name of the kernel: type, method, tile, target."""
        return self.tiling.kernel_name if self.tiling else f"{self.problem.dtype}_reference"

    @property
    def predicted_share(self) -> float | None:
        """Predicted share of the roofline: the time of arithmetic or memory over that expected.

        The roofline is the larger of multiply-adds at two vectors a cycle, of pairs where the
        target has them, and bytes at ``BYTES_PER_CYCLE`` a cycle. Minimal filtering multiplies less
        and can exceed it.
        """
        if self.tiling is None or self.tiling.cycles == 0:
            return None
        found = cost(self.problem)
        arithmetic = _least_cycles(self.problem, self.target)
        memory = found.bytes / BYTES_PER_CYCLE
        return max(arithmetic, memory) / max(self.tiling.cycles, memory)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Labels and texts: method, kernel, tiling, cost, prediction, refusals."""
        found = cost(self.problem)
        work = f"{found.phases.multiplications:,} multiplications, {found.bytes:,} bytes"
        facts = [("method", f"{self.method.name} on {self.target.name}"), ("kernel", self.kernel)]
        if self.tiling:
            facts.append(("tiling", self.tiling.describe()))
        facts.append(("cost", work))
        if self.predicted_share is not None:
            facts.append(("predicted", f"{self.predicted_share:.0%} of the roofline"))
        return facts + [("refused", f"{name}: {why}") for name, why in self.refusals.items()]

    def __str__(self) -> str:
        """The problem line and the facts, one a line."""
        return "\n".join([str(self.problem), *(f"{label:9} {text}" for label, text in self.facts)])


def plan(problem: Problem | str) -> Plan:
    """The plan of a problem, or of a problem line.

    >>> print(plan("n1 c16:16 i6x6 k3x3 s2x2 int64").refusals["positions"])
    int64 is computed by the plain path
    """
    return planned(Problem.parse(problem) if isinstance(problem, str) else problem)


@lru_cache(maxsize=1024)
def planned(problem: Problem) -> Plan:
    """The plan of a problem on the current target, remembered."""
    target = current()
    with undivided:
        return _best(problem, target)


def _best(problem: Problem, target: Target) -> Plan:
    refusals: dict[str, str] = {}
    able: list[Method] = []
    for method in METHODS:
        if problem.operator not in method.operators:
            continue
        reason = method.refuse(problem, target)
        if reason is not None:
            refusals[method.name] = reason
        elif method.tiling is not None or not able:
            able.append(method)
    found: list[Plan] = []
    # what multiplies less comes first: then others may be slower whatever their tiling
    for method in sorted(able, key=lambda method: not method.filters):
        if found and not method.filters:
            share = _least_cycles(problem, target) / max(min(map(_score, found)), 1)
            if share > 1:
                refusals[method.name] = f"it would take at least {share:.2f} times as long"
                continue
        found.append(Plan(problem, target, method, refusals))
    best = min(found, key=_score)
    for other in found:
        if other is not best and other.tiling:
            share = _score(other) / max(_score(best), 1)
            refusals[other.method.name] = f"it would take an estimated {share:.2f} times as long"
    return best


def _least_cycles(problem: Problem, target: Target) -> float:
    """Cycles for the products of the definition, as the methods count them."""
    multiplications = cost(problem).phases.multiplications
    products = target.lanes(problem.dtype) * target.together(problem.dtype)
    return multiplications / (FMAS_PER_CYCLE * products)


def _score(plan: Plan) -> float:
    """Estimated cycles of a call, and the share that it bears of those to pack the weights."""
    tiling = plan.tiling
    if tiling is None:
        return 0
    return tiling.cycles + PACKING_SHARE[plan.problem.operator] * tiling.packing_cycles
