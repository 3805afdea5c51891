"""polyphase and torch as contestants: the same numbers, called as their users call them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from polyphase import functional
from polyphase.arithmetic.problem import LAYOUTS, Problem
from polyphase.engine import memory
from polyphase.engine.run import operation
from polyphase.engine.weights import weight_operation
from polyphase.errors import Unsupported
from polyphase.tools.bench.data import Arrays, converted, torch_dtype, torch_package

Call = Callable[[], Any]


def polyphase_call(problem: Problem, given: Arrays) -> Call | None:
    """A call of polyphase on tensors in the layout of ``problem``; ``None`` without a kernel.

    A transposed convolution is the function on a parameter, in inference, as a layer calls it. The
    gradients are what a backward pass computes, into a new array or tensor.
    """
    if problem.operator == "weight_grad":
        return _weight_gradient_call(problem, given)
    if operation(problem) is None:
        return None
    if problem.operator == "conv":
        return _input_gradient_call(problem, given)
    torch, g = torch_package(), problem.geometry
    function = getattr(functional, f"conv_transpose{problem.rank}d")
    x, bias = in_memory(problem, given.x), given.bias
    weight = torch.nn.Parameter(weights_in_memory(problem, given.weight))
    parameters = (g.stride, g.padding, g.output_padding, problem.groups, g.dilation)

    def call() -> Any:
        with torch.inference_mode():
            return function(x, weight, bias, *parameters)

    return call


def kernel_call(problem: Problem, given: Arrays) -> Call | None:
    """The same without the function: packed weights in, a new array out."""
    if problem.operator != "conv_transpose" or (found := operation(problem)) is None:
        return polyphase_call(problem, given)
    x = in_memory(problem, given.x)
    panels = found.pack(given.weight.data_ptr(), given.bias.data_ptr())
    shape, kind = _memory_shape(problem), np.dtype(f"V{problem.item_size}")

    def call() -> Any:
        y = memory.outputs.array(shape, kind)
        found.run(x.data_ptr(), panels, y.ctypes.data)
        return y

    return call


def _input_gradient_call(problem: Problem, given: Arrays) -> Call:
    # torch is there, having made the numbers
    from polyphase.functional.tensors import native

    # the tensors say which layout it is
    first = replace(problem, layout=LAYOUTS[problem.rank][0])
    compute = native.Native(first, torch_dtype(problem), batched=True)
    y, weight = in_memory(problem, given.y), weights_in_memory(problem, given.weight)
    # weights are new in every step of training, so nothing of them is kept
    return lambda: compute(y, weight, None)


def _weight_gradient_call(problem: Problem, given: Arrays) -> Call | None:
    last = problem.channels_last and problem.rank > 1
    found = weight_operation(problem, last)
    if found is None:
        return None
    x, y = in_memory(problem, given.x), in_memory(problem, given.y)
    kind = np.dtype(f"V{problem.item_size}")
    shape = _last_shape(problem.weight_shape) if last else problem.weight_shape

    def call() -> Any:
        w = memory.outputs.array(shape, kind)
        found.run(x.data_ptr(), y.data_ptr(), w.ctypes.data, last)
        return w

    return call


def as_tensor(problem: Problem, result: Any) -> Any:
    """What a call of polyphase returned, as a channels-first tensor."""
    torch = torch_package()
    if isinstance(result, torch.Tensor):
        return result
    bits = {2: np.int16, 4: np.int32, 8: np.int64}[problem.item_size]
    tensor = torch.from_numpy(result.view(bits).copy()).view(torch_dtype(problem))
    weights = problem.operator == "weight_grad"
    last = problem.channels_last and not (weights and problem.rank == 1)
    return tensor.movedim(-1, 1) if last else tensor


def torch_call(problem: Problem, given: Arrays) -> Call:
    """A call of torch on tensors in the layout of ``problem``.

    With channels last the weights lie so, too, as in a module that was moved to that format, which
    torch has for two axes and three.
    """
    torch, compute = torch_package(), _torch_function(problem)
    x, y = (None if tensor is None else in_memory(problem, tensor) for tensor in (given.x, given.y))
    weight = None if given.weight is None else weights_in_memory(problem, given.weight)
    placed = Arrays(x, weight, given.bias, y)

    def call() -> Any:
        with torch.inference_mode():
            return compute(placed)

    return call


def truth(problem: Problem, given: Arrays) -> Any:
    """What torch computes in float64, channels first."""
    return _torch_function(problem)(converted(given, torch_package().float64))


def torch_parameters(problem: Problem) -> dict[str, Any]:
    """Arguments of torch's function, one number per axis; ends are cut as far as both are.

    Raises :class:`~polyphase.Unsupported` for what torch's function does not compute.
    """
    axes, pads = problem.geometry.axes, problem.geometry.pads
    if any(min(pair) < 0 for pair in pads):
        raise Unsupported(f"torch has no negative padding to hold this problem against: {problem}")
    padding = tuple(min(pair) for pair in pads)
    # the geometry has counted the output padding as a smaller crop at the end
    output_padding = tuple(end - axis.end for (_, end), axis in zip(pads, axes, strict=True))
    return {
        "stride": tuple(axis.stride for axis in axes),
        "padding": padding,
        "output_padding": output_padding,
        "groups": problem.groups,
        "dilation": tuple(axis.dilation for axis in axes),
    }


def _torch_function(problem: Problem) -> Callable[[Arrays], Any]:
    """torch's function with the parameters of a problem; ends that differ are cut afterwards."""
    torch, given = torch_package(), torch_parameters(problem)
    pads = problem.geometry.pads
    even = all(begin == end for begin, end in pads)
    if problem.operator != "conv_transpose":
        if not even:
            raise Unsupported(f"torch has no gradient with ends that differ: {problem}")
        wanted = [problem.operator == "conv", problem.operator == "weight_grad", False]
        parameters = [given[name] for name in ("stride", "padding", "dilation")]
        tail = [True, given["output_padding"], given["groups"], wanted]
        backward = torch.ops.aten.convolution_backward
        place = wanted.index(True)
        return lambda a: backward(a.y, a.x, a.weight, None, *parameters, *tail)[place]
    forward = getattr(torch.nn.functional, f"conv_transpose{problem.rank}d")
    if even:
        return lambda a: forward(a.x, a.weight, a.bias, **given)
    kept = tuple(
        slice(begin - min(begin, end), begin - min(begin, end) + size)
        for (begin, end), size in zip(pads, problem.output_size, strict=True)
    )
    return lambda a: forward(a.x, a.weight, a.bias, **given)[(..., *kept)]


def in_layout(problem: Problem, last: bool) -> Problem:
    """The problem with channels first or last in memory."""
    return replace(problem, layout=LAYOUTS[problem.rank][int(last)])


def in_memory(problem: Problem, tensor: Any) -> Any:
    """A channels-first tensor that lies in memory as the layout of ``problem`` says."""
    if not problem.channels_last:
        return tensor
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def weights_in_memory(problem: Problem, weight: Any) -> Any:
    """The same of weights; nothing moves those of one axis out of their order."""
    return weight if problem.rank == 1 else in_memory(problem, weight)


def _memory_shape(problem: Problem) -> tuple[int, ...]:
    """The shape of the output in the order of the layout."""
    return _last_shape(problem.output_shape) if problem.channels_last else problem.output_shape


def _last_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *shape[2:], shape[1])
