"""What experts make of torch: memory that is kept, packed weights, phases written by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from polyphase.arithmetic.phases import Phase, axis_phases
from polyphase.arithmetic.problem import Problem
from polyphase.errors import Unsupported
from polyphase.tools.bench import engines
from polyphase.tools.bench.contest import quickest
from polyphase.tools.bench.data import Array, Arrays, as_tensors, torch_package
from polyphase.tools.bench.engines import Call

Read = Callable[[Any], Array]


def kept(problem: Problem, arrays: Arrays, threads: int) -> tuple[Call, Read]:
    """torch's function in its better layout, in a process that keeps the memory of outputs."""
    given = _tensors(arrays, threads)
    layouts = [engines.in_layout(problem, last) for last in (False, True)]
    return quickest([engines.torch_call(layout, given) for layout in layouts]), _read


def packed(problem: Problem, arrays: Arrays, threads: int) -> tuple[Call, Read]:
    """The same with weights in oneDNN's own order."""
    torch = torch_package()
    given = _tensors(arrays, threads)
    if problem.rank == 1:
        raise Unsupported("torch packs the weights of two and three axes only")
    if any(begin != end for begin, end in problem.geometry.pads):
        raise Unsupported("torch removes as much from either end")
    parameters = engines.torch_parameters(problem)
    listed = [
        list(parameters[name]) for name in ("padding", "output_padding", "stride", "dilation")
    ]
    reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight
    weight = reorder(given.weight, *listed, problem.groups, list(problem.input_shape))

    layouts = [engines.in_layout(problem, last) for last in (False, True)]
    placed = [engines.in_memory(layout, given.x) for layout in layouts]

    def with_input(x: Any) -> Call:
        def call() -> Any:
            with torch.inference_mode():
                return torch.ops.mkldnn._convolution_transpose_pointwise(
                    x, weight, given.bias, *listed, problem.groups, "none", [], ""
                )

        return call

    return quickest([with_input(x) for x in placed]), _read


def phases(problem: Problem, arrays: Arrays, threads: int) -> tuple[Call, Read]:
    """Each phase an ordinary convolution, or all of them one, whichever is quicker."""
    given = _tensors(arrays, threads)
    return quickest([_phase_by_phase(problem, given), _all_at_once(problem, given)]), _read


@dataclass(frozen=True)
class _Part:
    """A dense convolution: inputs before the first position and behind the last, and dilation."""

    weight: Any
    bias: Any
    pads: tuple[int, ...]
    dilation: tuple[int, ...]

    def __call__(self, problem: Problem, x: Any) -> Any:
        functional = torch_package().nn.functional
        convolution = getattr(functional, f"conv{problem.rank}d")
        if any(self.pads):
            x = functional.pad(x, self.pads)
        return convolution(x, self.weight, self.bias, dilation=self.dilation, groups=problem.groups)


def _phase_by_phase(problem: Problem, given: Arrays) -> Call:
    torch = torch_package()
    steps: list[tuple[Any, _Part | None]] = []
    by_axis = [
        [phase for phase in axis_phases(axis) if phase.count(size)]
        for axis, size in zip(problem.geometry.axes, problem.output_size, strict=True)
    ]
    for chosen in product(*by_axis):
        where = (..., *(slice(phase.start, None, phase.stride) for phase in chosen))
        steps.append(
            (where, None if any(p.is_empty for p in chosen) else _part(problem, given, chosen))
        )
    bias = given.bias.reshape(-1, *(1,) * problem.rank)

    def call() -> Any:
        with torch.inference_mode():
            y = torch.empty(problem.output_shape)
            for where, part in steps:
                y[where] = bias if part is None else part(problem, given.x)
            return y

    return call


def _part(problem: Problem, given: Arrays, chosen: tuple[Phase, ...]) -> _Part:
    """The convolution of one phase; its taps are read backwards, for offsets fall."""
    weight = given.weight
    pads: list[int] = []
    dilation: list[int] = []
    for number, (phase, n, o) in enumerate(
        zip(chosen, problem.input_size, problem.output_size, strict=True)
    ):
        taps = torch_package().tensor(list(reversed(phase.taps)))
        weight = weight.index_select(2 + number, taps)
        step = -phase.offsets.step if len(phase.taps) > 1 else 1
        last = phase.count(o) - 1 + phase.offsets[0]
        pads = [-phase.offsets[-1], last - (n - 1), *pads]
        dilation.append(step)
    return _Part(_as_convolution(problem, weight), given.bias, tuple(pads), tuple(dilation))


def _all_at_once(problem: Problem, given: Arrays) -> Call:
    """One convolution whose channels are all phases of an output channel, woven afterwards."""
    torch = torch_package()
    axes = [
        (axis_phases(axis), n, o)
        for axis, n, o in zip(
            problem.geometry.axes, problem.input_size, problem.output_size, strict=True
        )
    ]
    strides = [len(found) for found, _, _ in axes]
    lows = [min((min(p.offsets) for p in found if p.taps), default=0) for found, _, _ in axes]
    highs = [max((max(p.offsets) for p in found if p.taps), default=0) for found, _, _ in axes]
    reach = [high - low + 1 for low, high in zip(lows, highs, strict=True)]
    plain = _as_convolution(problem, given.weight)
    wide = torch.zeros(*plain.shape[:1], *strides, plain.shape[1], *reach)
    for chosen in product(*(found for found, _, _ in axes)):
        for places in product(*(zip(p.taps, p.offsets, strict=True) for p in chosen)):
            taps = tuple(tap for tap, _ in places)
            at = tuple(offset - low for (_, offset), low in zip(places, lows, strict=True))
            starts = tuple(p.start for p in chosen)
            wide[(slice(None), *starts, slice(None), *at)] = plain[(..., *taps)]
    counts = [-(-o // s) for (_, _, o), s in zip(axes, strides, strict=True)]
    pads: list[int] = []
    for (_, n, _), low, high, count in zip(axes, lows, highs, counts, strict=True):
        pads = [-low, count - 1 + high - (n - 1), *pads]
    part = _Part(
        wide.reshape(-1, plain.shape[1], *reach),
        given.bias.repeat_interleave(prod(strides)),
        tuple(pads),
        (1,) * problem.rank,
    )
    rank = problem.rank
    woven = [0, 1, *(a for axis in range(rank) for a in (2 + rank + axis, 2 + axis))]
    full = [c * s for c, s in zip(counts, strides, strict=True)]
    kept = (..., *(slice(0, o) for _, _, o in axes))

    def call() -> Any:
        with torch.inference_mode():
            y = part(problem, given.x)
            y = y.reshape(problem.batch, problem.out_channels, *strides, *counts)
            return y.permute(woven).reshape(problem.batch, problem.out_channels, *full)[kept]

    return call


def _as_convolution(problem: Problem, weight: Any) -> Any:
    """Weights ``(c_in, c_out / groups, ...)`` as those of a convolution, taps where they are."""
    taps = weight.shape[2:]
    split = weight.reshape(problem.groups, -1, weight.shape[1], *taps)
    return split.transpose(1, 2).reshape(problem.out_channels, -1, *taps).contiguous()


def _tensors(given: Arrays, threads: int) -> Arrays:
    torch_package().set_num_threads(threads)
    return as_tensors(given)


def _read(y: Any) -> Array:
    return np.ascontiguousarray(y.numpy())
