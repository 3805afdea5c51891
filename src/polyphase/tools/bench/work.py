"""What is measured of a layer: one operator by itself, or a whole step of training."""

from typing import Any, Protocol

from polyphase import functional
from polyphase.arithmetic.problem import Problem
from polyphase.tools.bench import engines
from polyphase.tools.bench.data import (
    Arrays,
    allowed_error,
    converted,
    error,
    torch_arrays,
    torch_package,
)
from polyphase.tools.bench.engines import Call
from polyphase.tools.bench.suite import gradients


class Work(Protocol):
    """The numbers that are given, calls of polyphase and torch, and when a result is right."""

    def given(self, problem: Problem) -> Arrays:
        """The operands, as torch tensors."""
        ...

    def truth(self, problem: Problem, given: Arrays) -> Any:
        """What torch computes in float64, channels first."""
        ...

    def ours(self, problem: Problem, given: Arrays) -> Call | None:
        """A call of polyphase in the layout of ``problem``; ``None`` without a kernel."""
        ...

    def torch(self, problem: Problem, given: Arrays) -> Call:
        """The same of torch."""
        ...

    def error(self, problem: Problem, result: Any, true: Any) -> tuple[float, float]:
        """How far a result is from the truth, and how far it may be."""
        ...


class Operator:
    """The operator of the problem."""

    def __init__(self, kernel: bool = False) -> None:
        """``kernel`` leaves out what the function of polyphase does around its kernel."""
        self._kernel = kernel

    def given(self, problem: Problem) -> Arrays:
        """The operands, as torch tensors."""
        return torch_arrays(problem)

    def truth(self, problem: Problem, given: Arrays) -> Any:
        """What torch computes in float64, channels first."""
        return engines.truth(problem, given)

    def ours(self, problem: Problem, given: Arrays) -> Call | None:
        """A call of polyphase in the layout of ``problem``; ``None`` without a kernel."""
        make = engines.kernel_call if self._kernel else engines.polyphase_call
        return make(problem, given)

    def torch(self, problem: Problem, given: Arrays) -> Call:
        """The same of torch."""
        return engines.torch_call(problem, given)

    def error(self, problem: Problem, result: Any, true: Any) -> tuple[float, float]:
        """How far a result is from the truth, and how far it may be."""
        return error(engines.as_tensor(problem, result), true), allowed_error(problem)


class Step:
    """Forward and backward pass by autograd, as a layer in the middle of a network has them."""

    def given(self, problem: Problem) -> Arrays:
        """Input, weights, bias and the gradient of the output, as torch tensors."""
        _, of_weights = gradients(problem)
        return torch_arrays(of_weights)

    def truth(self, problem: Problem, given: Arrays) -> Any:
        """What torch computes in float64, channels first."""
        return self.torch(problem, converted(given, torch_package().float64))()

    def ours(self, problem: Problem, given: Arrays) -> Call | None:
        """A call of polyphase in the layout of ``problem``; ``None`` without a kernel."""
        return _step(functional, problem, given)

    def torch(self, problem: Problem, given: Arrays) -> Call:
        """The same of torch."""
        return _step(torch_package().nn.functional, problem, given)

    def error(self, problem: Problem, result: Any, true: Any) -> tuple[float, float]:
        """How far the worse gradient, of input or weights, is from the truth, and may be."""
        found = [
            (error(one, other), allowed_error(of))
            for one, other, of in zip(result[:2], true[:2], gradients(problem), strict=True)
        ]
        return max(found, key=lambda pair: pair[0] / pair[1])


def _step(home: Any, problem: Problem, given: Arrays) -> Call:
    """The gradients of input, weights and bias, which lie in memory as the layout says."""
    torch, parameters = torch_package(), engines.torch_parameters(problem)
    function = getattr(home, f"conv_transpose{problem.rank}d")
    placed = (
        engines.in_memory(problem, given.x),
        engines.weights_in_memory(problem, given.weight),
        given.bias,
    )
    leaves = [tensor.detach().requires_grad_() for tensor in placed]
    y = engines.in_memory(problem, given.y)
    return lambda: torch.autograd.grad(function(*leaves, **parameters), leaves, y)
