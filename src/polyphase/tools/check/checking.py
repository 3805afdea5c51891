"""The check itself: walk at the given size and at its neighbours, then look for faults."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from polyphase.arithmetic.cost import cost
from polyphase.arithmetic.values import each
from polyphase.tools.check.evenness import Evenness, evenness
from polyphase.tools.check.finding import SEVERITIES, Finding, by_severity
from polyphase.tools.check.layer_faults import layer_faults
from polyphase.tools.check.loading import CheckError, Input, Subject
from polyphase.tools.check.neighbours import POWERS, Neighbours, neighbours
from polyphase.tools.check.overlap_faults import overlapping
from polyphase.tools.check.rules import spatial
from polyphase.tools.check.size_faults import size_faults, sized
from polyphase.tools.check.walk import Layer, Walk
from polyphase.tools.progress import Say, silent


@dataclass(frozen=True)
class LayerReport:
    """One transposed layer: what it does and how evenly."""

    layer: Layer
    multiply_adds: int
    bytes: int
    share: float
    evenness: Evenness | None
    # along which results of several inputs overlap; elsewhere evenness does not matter
    overlaps: bool
    seconds: tuple[float, float] | None = None
    difference: float | None = None

    def as_data(self) -> dict[str, Any]:
        """The layer as plain data."""
        problem = self.layer.problem
        uneven = self.evenness if self.overlaps else None
        data: dict[str, Any] = {
            "name": self.layer.name,
            "problem": str(problem),
            "input_shape": list(problem.input_shape),
            "output_shape": list(problem.output_shape),
            "reachable": [[sizes[0], sizes[-1]] for sizes in each(_reachable(self.layer))],
            "multiply_adds": self.multiply_adds,
            "bytes": self.bytes,
            "share": self.share,
            "unevenness": uneven.unevenness if uneven else 0.0,
            "unevenness_measured": bool(uneven and uneven.measured),
        }
        if self.seconds:
            data["milliseconds"] = {
                "torch": 1e3 * self.seconds[0],
                "polyphase": 1e3 * self.seconds[1],
            }
            data["difference"] = self.difference
        return data


@dataclass(frozen=True)
class Report:
    """What a check found. ``measured`` is empty unless speed was measured."""

    subject: Subject
    walk: Walk
    layers: tuple[LayerReport, ...]
    findings: tuple[Finding, ...]
    sizes_tried: tuple[tuple[int, ...], ...]
    measured: dict[str, Any] = field(default_factory=dict)
    is_computed: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether the walk ended early."""
        return bool(self.walk.stopped)

    @property
    def stops_at(self) -> str:
        """The layer at which a run stops, "" where it does not; the walk goes on behind it."""
        return next(
            (
                layer.layer.name
                for place, layer in enumerate(self.layers)
                if not layer.layer.is_reached
                or any(m.layer == place and not m.fits for m in self.walk.meetings)
            ),
            "",
        )

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the whole model, as far as it was seen."""
        return self.walk.multiply_adds + sum(layer.multiply_adds for layer in self.layers)

    def count(self, severity: str) -> int:
        """Number of findings of that severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def fails(self, least: str) -> bool:
        """Whether there is a finding at least as severe."""
        allowed = SEVERITIES[: SEVERITIES.index(least) + 1]
        return any(finding.severity in allowed for finding in self.findings)

    def as_data(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "model": self.subject.name,
            "title": self.subject.title,
            "inputs": [list(shape) for shape in self.walk.inputs],
            "outputs": [] if self.stops_at else [list(shape) for shape in self.walk.outputs],
            "partial": self.is_partial,
            "stopped": self.walk.stopped,
            "stops_at": self.stops_at,
            "sizes_tried": [list(size) for size in self.sizes_tried],
            "multiply_adds": self.multiply_adds,
            "layers": [layer.as_data() for layer in self.layers],
            "findings": [finding.as_data() for finding in self.findings],
            "measured": self.measured,
        }


def check(subject: Subject, *, compute: bool = False, progress: Say = silent) -> Report:
    """Check a model at its inputs and at the sizes next to them.

    >>> from polyphase.tools.check.loading import load
    >>> [finding.code for finding in check(load("vae", ())).findings]
    ['uneven-overlap', 'nondeterminism']

    Raises :class:`CheckError` where nothing at all could be seen.
    """
    progress("Running shapes through the model")
    first = _walk(subject, subject.inputs, compute)
    if first.stopped and not first.layers:
        raise CheckError(_why(subject, first, _larger(subject, first, compute)))
    others = _neighbours(subject, first, compute, progress)
    progress("Looking for faults")
    findings = [*size_faults(first, others), *layer_faults(first, sized(first, others))]
    if compute and _walk(subject, subject.inputs, False).stopped_by == "data":
        # an output whose size depends on values is not meant to follow the input
        findings = [finding for finding in findings if finding.code != "output-size"]
    if first.layers and not subject.is_onnx:
        findings.append(_nondeterminism())
    if first.stopped:
        findings.insert(0, _partial(first))
    total = first.multiply_adds + sum(
        cost(layer.problem).phases.multiplications for layer in first.layers
    )
    return Report(
        subject,
        first,
        tuple(_layer_report(layer, total) for layer in first.layers),
        tuple(by_severity(findings)),
        tuple(map(spatial, (*others.ran, *others.stopped))),
        is_computed=compute,
    )


def _walk(subject: Subject, inputs: Sequence[Input], compute: bool) -> Walk:
    if subject.is_onnx:
        from polyphase.tools.check import onnx_walk

        return onnx_walk.walk(subject.model, inputs)
    from polyphase.tools.check import torch_walk

    return torch_walk.walk(subject.model, inputs, compute=compute)


def _neighbours(subject: Subject, first: Walk, compute: bool, say: Say) -> Neighbours:
    """Walk at larger inputs; those of half the size and the like grow in the same proportion."""
    size = spatial(first)
    moving = [shape[2:] for shape, _ in subject.inputs if len(shape) == len(size) + 2]
    least = tuple(map(min, zip(*moving, strict=True)))
    if any(n % m for one in moving for n, m in zip(one, least, strict=True)):
        # in no simple proportion
        return Neighbours()
    if max(least, default=1) == 1 or not first.layers or first.stopped:
        return Neighbours()
    movable = (True,) * len(size)
    if subject.is_onnx:
        from polyphase.tools.check import onnx_walk

        movable = onnx_walk.movable(subject.model)
    steps = tuple(n // m for n, m in zip(size, least, strict=True))

    def run(other: tuple[int, ...]) -> Walk:
        moved = [
            (
                (*shape[:2], *(k * n // s for k, n, s in zip(other, shape[2:], size, strict=True)))
                if len(shape) == len(size) + 2
                else shape,
                dtype,
            )
            for shape, dtype in subject.inputs
        ]
        return _walk(subject, moved, compute)

    return neighbours(first, run, movable, say, steps)


def _layer_report(layer: Layer, total: int) -> LayerReport:
    adds = cost(layer.problem).phases.multiplications
    return LayerReport(
        layer,
        adds,
        layer.problem.bytes,
        adds / total if total else 0.0,
        evenness(layer.problem.geometry, layer.weights()),
        bool(overlapping(layer.problem))
        and prod(axis.stride for axis in overlapping(layer.problem)) > 1,
    )


def _nondeterminism() -> Finding:
    return Finding(
        "nondeterminism",
        "note",
        "",
        "On CUDA, cuDNN may choose algorithms for transposed convolutions whose results differ "
        "from run to run; on the CPU they do not.",
        "torch.backends.cudnn.deterministic = True where runs must agree to the bit.",
    )


def _partial(walk: Walk) -> Finding:
    advice = _next(walk)
    return Finding(
        "partial",
        "error",
        "",
        f"What follows is partial, for the model stopped early: {walk.stopped}.",
        advice[:1].upper() + advice[1:],
    )


def _why(subject: Subject, walk: Walk, larger: Sequence[Input]) -> str:
    mend = _next(walk)
    if larger:
        mend = f"the next larger input that it takes is {_shapes([one for one, _ in larger])}."
    return f"{subject.name} does not run with input {_shapes(walk.inputs)} ({walk.stopped}): {mend}"


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(",".join(map(str, shape)) for shape in shapes)


def _larger(subject: Subject, walk: Walk, compute: bool) -> Sequence[Input]:
    """Larger inputs with which a model runs that stopped at these, () if none was found."""
    if walk.stopped_by not in ("model", "inputs"):
        return ()
    for power in POWERS:
        moved = [
            ((*shape[:2], *(-(-n // power) * power for n in shape[2:])), dtype)
            for shape, dtype in subject.inputs
        ]
        if tuple(moved) != tuple(subject.inputs) and not _walk(subject, moved, compute).stopped:
            return moved
    return ()


def _next(walk: Walk) -> str:
    if walk.stopped_at:
        return f"mend the parameters of {walk.stopped_at}, or what reaches it, first."
    if walk.stopped_by == "data":
        return "its shapes depend on values, so give --compute, which runs it on random numbers."
    if walk.stopped_by == "quantised":
        return "check the model as it is before it is quantised."
    if walk.stopped_by == "branch":
        return "check the model without the branch or the loop, or the part inside by itself."
    if walk.stopped_by == "onnx":
        return "give --input of fixed sizes, or fold the shapes with onnxsim or onnxruntime first."
    if walk.stopped_by == "inputs":
        return (
            "give each argument of forward its shape, in order, with --input; one that is not "
            "float32 its type, too, as in 1,77:int64; for one that goes by keyword write a module "
            "around the model."
        )
    return "give --input shapes that the model takes, or --compute if it needs real values."


def _reachable(layer: Layer) -> Any:
    return layer.problem.geometry.output_sizes(layer.problem.input_size)
