"""``polyphase check --measure``: PyTorch against polyphase, in one process, in turns.

The quickest call of each counts: what else the machine does can only add to it.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import Problem
from polyphase.engine import memory
from polyphase.engine.run import operation
from polyphase.tools.bench.contest import Runner, compete
from polyphase.tools.bench.machine import Gauge, load
from polyphase.tools.check.checking import LayerReport, Report
from polyphase.tools.check.torch_complex import ComplexAsOne
from polyphase.tools.check.torch_walk import is_transposed, meant
from polyphase.tools.progress import Say, silent

SECONDS_PER_LAYER = 0.6
# calls at least as long are timed one by one
LONG_SECONDS = 0.1
LONG_ROUNDS = 2
NAMES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}

Call = Callable[[], Any]


@dataclass(frozen=True)
class _Given:
    """The arguments of one call of a transposed convolution, and what PyTorch made of them."""

    arguments: tuple[Any, ...]
    result: Tensor


def measured(report: Report, progress: Say = silent) -> Report:
    """The report with the times of each layer and of the whole model.

    The maps that reach the layers are those of a run on random input; :func:`measured_on` takes
    real ones.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for shape, dtype in report.subject.inputs:
        kind = getattr(torch, dtype)
        is_number = kind.is_floating_point or kind.is_complex
        made = torch.randn(shape, generator=generator) if is_number else torch.zeros(shape)
        inputs.append(made.to(kind))
    return measured_on(report, inputs, progress)


def measured_on(report: Report, inputs: list[Tensor], progress: Say = silent) -> Report:
    """The report with the times on these inputs, whose shapes are those that were checked."""
    about: dict[str, Any] = {"threads": torch.get_num_threads(), "load": load() or 0.0}
    if report.is_partial or not report.subject.has_weights or not report.layers:
        return replace(report, measured={"reason": "Not measured: the model does not run whole."})
    if any(not meeting.fits for meeting in report.walk.meetings):
        reason = "Not measured: the model does not run at this input size."
        return replace(report, measured={"reason": reason})
    progress("Measuring what this machine can do at most")
    gauge = Gauge("f32", torch.get_num_threads())
    gauge.look()
    about["roof"] = {"gflops": gauge.roof.gflops, "gbytes": gauge.roof.gbytes}
    model = None if report.subject.is_onnx else report.subject.model
    if model is None:
        given = [_random(layer.layer.problem, layer.layer.weights()) for layer in report.layers]
    else:
        progress("Running the model for the maps that reach its layers")
        given = _captured(model, inputs)
    layers = []
    for place, (layer, one) in enumerate(zip(report.layers, given, strict=True)):
        progress(f"Measuring {layer.layer.name}", place, len(given))
        layers.append(_measured_layer(layer, one))
    if model is None:
        about["reason"] = "the whole model is no model of torch, so it was not measured"
    else:
        progress("Measuring the whole model")
        about |= _whole(model, inputs)
    return replace(report, layers=tuple(layers), measured=about)


class _Catcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the arguments and results of transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given: list[_Given] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if is_transposed(func, args):
            x, weight, bias, geometry, groups = meant(func, args)
            if x.dim() == geometry.rank + 1:
                x = x[None]
            self.given.append(_Given(_in_pytorch(x, weight, bias, geometry, groups), made.clone()))
        return made


def _captured(model: Any, inputs: list[Tensor]) -> list[_Given]:
    if isinstance(model, torch.nn.Module) and not isinstance(model, torch.fx.GraphModule):
        model.eval()
    catcher = _Catcher()
    with torch.no_grad(), ComplexAsOne(), catcher:
        model(*inputs)
    return catcher.given


def _random(problem: Problem, weights: Any) -> _Given:
    kind = NAMES.get(problem.dtype, torch.float32)
    x = torch.randn(problem.input_shape).to(kind)
    w = torch.randn(problem.weight_shape) if weights is None else torch.tensor(weights)
    arguments = _in_pytorch(x, w.to(kind), None, problem.geometry, problem.groups)
    return _Given(arguments, torch.ops.aten.convolution.default(*arguments) if arguments else x)


def _in_pytorch(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, groups: int
) -> tuple[Any, ...]:
    """The arguments of PyTorch's operator, () where it has no words for the crop."""
    axes = geometry.axes
    extra = [max(axis.begin - axis.end, 0) for axis in axes]
    allowed = zip(extra, axes, strict=True)
    if any(
        axis.begin < max(axis.end, 0) or op >= max(axis.stride, axis.dilation)
        for op, axis in allowed
    ):
        return ()
    return (
        x,
        weight,
        bias,
        [axis.stride for axis in axes],
        [axis.begin for axis in axes],
        [axis.dilation for axis in axes],
        True,
        extra,
        groups,
    )


def _measured_layer(layer: LayerReport, given: _Given) -> LayerReport:
    ours = _polyphase(layer.layer.problem, given)
    if ours is None:
        return layer

    def theirs() -> Tensor:
        with torch.inference_mode():
            return torch.ops.aten.convolution.default(*given.arguments)  # type: ignore[no-any-return]

    result = torch.from_numpy(ours().copy()).reshape(given.result.shape)
    difference = (result - given.result).abs().max().item() if result.numel() else 0.0
    first, second = compete([Runner(theirs), Runner(ours)], SECONDS_PER_LAYER)
    return replace(layer, seconds=(first.least, second.least), difference=difference)


def _polyphase(problem: Problem, given: _Given) -> Call | None:
    """polyphase on the same numbers, its weights packed beforehand, as in a module."""
    if problem.dtype not in ("f32", "f64") or not given.arguments:
        return None
    found = operation(problem)
    if found is None:
        return None
    x, weight = (tensor.detach().contiguous() for tensor in given.arguments[:2])
    bias = None if given.arguments[2] is None else given.arguments[2].detach().contiguous()
    panels = found.pack(weight.data_ptr(), None if bias is None else bias.data_ptr())
    kind = "f4" if problem.dtype == "f32" else "f8"

    def call(kept: Any = (x, weight, bias)) -> Any:
        y = memory.outputs.array(problem.output_shape, kind)
        found.run(kept[0].data_ptr(), panels, y.ctypes.data)
        return y

    return call


def _whole(model: Any, inputs: list[Tensor]) -> dict[str, Any]:
    from polyphase.acceleration import accelerate, enabled

    if isinstance(model, torch.fx.GraphModule):
        return {"reason": "the whole model calls ATen's operators, which nothing replaces"}
    try:
        fast = accelerate(copy.deepcopy(model), report=lambda _: None)
    except Exception as error:
        return {"reason": f"the whole model was not measured ({error})"}
    pairs = zip(model.modules(), fast.modules(), strict=True)
    # a model that calls the functions itself is routed as a whole
    changed = any(type(before) is not type(after) for before, after in pairs)

    def runner(net: Any) -> Call:
        around = nullcontext if net is model or changed else enabled

        def call() -> Any:
            with torch.inference_mode(), around():
                return net(*inputs)

        return call

    calls = [runner(model), runner(fast)]
    start = perf_counter()
    plain = _first_tensor(calls[0]())
    is_long = perf_counter() - start > LONG_SECONDS
    try:
        mended = _first_tensor(calls[1]())
    except Exception as error:
        return {"reason": f"the whole model was not measured ({error})"}
    times = _alternately(calls, is_long)
    return {
        "whole": {"torch": times[0], "polyphase": times[1]},
        "difference": (plain - mended).abs().max().item(),
        "largest": plain.abs().max().item(),
    }


def _alternately(calls: list[Call], is_long: bool) -> list[float]:
    if not is_long:
        return [found.least for found in compete([Runner(call) for call in calls], 2.0)]
    taken: list[list[float]] = [[] for _ in calls]
    for turn in range(LONG_ROUNDS):
        for place in range(len(calls)):
            who = (turn + place) % len(calls)
            start = perf_counter()
            calls[who]()
            taken[who].append(perf_counter() - start)
    return [min(samples) for samples in taken]


def _first_tensor(made: Any) -> Tensor:
    while not isinstance(made, Tensor):
        made = next(iter(made.values() if isinstance(made, dict) else made))
    return made
