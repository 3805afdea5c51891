"""The numbers that engines are given, and how far what they return is from the truth."""

from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.cost import cost
from polyphase.arithmetic.problem import Problem
from polyphase.errors import Unsupported

Array = NDArray[Any]

SEED = 20
# half the distance from 1 to the next number: of sums, and of what is stored
SUM_ROUNDING = {"f32": 2.0**-24, "f64": 2.0**-53, "bf16": 2.0**-24, "f16": 2.0**-24}
STORE_ROUNDING = {"f32": 2.0**-24, "f64": 2.0**-53, "bf16": 2.0**-8, "f16": 2.0**-11}
# the error of a sum grows about with the root of its length; a wrong tap is far above
LEEWAY = 4


@dataclass(frozen=True)
class Arrays:
    """Operands of a transposed layer, channels first: its input, weights, bias, and output.

    The output is its gradient, for the two gradients; ``None`` where it is not needed.
    """

    x: Any
    weight: Any
    bias: Any
    y: Any = None


def arrays(problem: Problem) -> Arrays:
    """Random numbers, the same in every run, in float32, or float64 for problems of that type.

    Results have about the deviation of what they are made of.
    """
    kind = np.float64 if problem.dtype == "f64" else np.float32
    random = np.random.default_rng(SEED)

    def normal(shape: tuple[int, ...], deviation: float = 1.0) -> Array:
        values = random.standard_normal(shape, np.float32)
        return np.multiply(values, deviation, out=values).astype(kind, copy=False)

    small, large = problem.input_shape, problem.output_shape
    if problem.operator == "conv":
        small, large = large, small
    y = None if problem.operator == "conv_transpose" else normal(large)
    weight = normal(problem.weight_shape, max(1.0, products(problem)) ** -0.5)
    return Arrays(normal(small), weight, normal((large[1],)), y)


def torch_arrays(problem: Problem) -> Arrays:
    """The same as torch tensors of the problem's type."""
    kind = torch_dtype(problem)
    return converted(as_tensors(arrays(problem)), kind)


def torch_dtype(problem: Problem) -> Any:
    """The problem's type, as torch calls it."""
    torch = torch_package()
    kinds = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16}
    kinds |= {"f16": torch.float16}
    if problem.dtype not in kinds:
        raise Unsupported(f"{problem.dtype} is not measured: choose one of {', '.join(kinds)}")
    return kinds[problem.dtype]


def as_tensors(given: Arrays) -> Arrays:
    """Torch tensors on the memory of NumPy arrays."""
    torch = torch_package()
    values = (given.x, given.weight, given.bias, given.y)
    return Arrays(*(None if value is None else torch.from_numpy(value) for value in values))


def converted(given: Arrays, kind: Any) -> Arrays:
    """Torch tensors of another type."""
    values = (given.x, given.weight, given.bias, given.y)
    return Arrays(*(None if value is None else value.to(kind) for value in values))


def products(problem: Problem) -> float:
    """Multiply-adds for each element of the result, on average."""
    result = problem.output_shape
    if problem.operator == "weight_grad":
        result = problem.weight_shape
    return cost(problem).phases.multiplications / prod(result)


def error(y: Any, true: Any) -> float:
    """Largest difference from the true values over the largest of these; both channels first.

    Infinite where the shape is another, and not a number where the result has one.
    """
    if tuple(y.shape) != tuple(true.shape):
        return float("inf")
    return float((y.double() - true).abs().max() / true.abs().max())


def allowed_error(problem: Problem) -> float:
    """What the error of a correct engine stays below.

    >>> f"{allowed_error(Problem.parse('c64:1 i9 k1')):.1e}"
    '3.9e-06'
    """
    sums = LEEWAY * (8 + sqrt(products(problem))) * SUM_ROUNDING[problem.dtype]
    # twice, for some engines round a sum before they add the bias
    return sums + 2 * STORE_ROUNDING[problem.dtype]


def torch_package() -> Any:
    """The torch package; a sentence about how to get it where it is missing."""
    try:
        import torch
    except ImportError:
        raise Unsupported(
            "the benchmark compares with torch, which is not installed: pip install "
            "'polyphase[torch]'"
        ) from None
    return torch
