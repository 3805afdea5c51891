"""Arrays in, arrays out: from a problem to a compiled operation, and its calls.

An :class:`Operation` depends on the problem alone and is kept. It packs weights into panels, unless
its kernel reads them as they lie, and runs on addresses; whoever calls it has checked shapes,
dtypes and layout.
"""

import hashlib
import struct
from collections.abc import Callable
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.problem import Problem
from polyphase.engine import jit, memory, threads
from polyphase.engine.kernels import driver, gather, pairs, transpose
from polyphase.engine.pack import Recipe
from polyphase.engine.plan import Plan, planned
from polyphase.engine.target import Target
from polyphase.engine.tiling import WEIGHTS_PER_THREAD, Tiling

# work that is worth waking another thread for, in multiply-adds
WORK_PER_THREAD = 200_000

Array = NDArray[Any]
# what changes from call to call stands at the head of each context
_CALL = struct.Struct("7q")
_PACKING = struct.Struct("4q")
assert driver.CONTEXT[:7] == ["x", "y", "weights", "biases", "scratch", "next", "ticket"]
_SQUARES = struct.Struct("3q")
assert gather.CONTEXT[:4] == ["weights", "biases", "panels", "next"]
assert transpose.CONTEXT[:3] == ["weights", "panels", "next"]
_PAIRS = struct.Struct("3q")
assert pairs.CONTEXT[:3] == ["source", "panels", "next"]


class Panels:
    """Packed weights and biases; or the arrays of both, where the kernel reads them as they lie.

    The arrays are not kept: whoever runs an operation on them has them still.
    """

    __slots__ = ("address", "biases", "values")

    def __init__(self, address: int, biases: int = 0, values: Array | None = None) -> None:
        self.address = address
        self.biases = biases
        self.values = values

    @property
    def nbytes(self) -> int:
        """Bytes that are packed."""
        return 0 if self.values is None else self.values.nbytes


class Operation:
    """A compiled problem.

    ``weights_last`` tells whether it takes weights as they lie in channels-last memory, and not as
    in the definition.
    """

    def __init__(self, plan: Plan) -> None:
        tiling = plan.tiling
        if not isinstance(tiling, Tiling) or not plan.method.tables or not plan.method.kernel:
            raise ValueError(f"the {plan.method.name} has no kernel")
        self.plan = plan
        self.weights_last = tiling.weights_last
        n, c, *size = plan.problem.output_shape
        # as the output lies in memory
        self.output_shape = (n, *size, c) if plan.problem.channels_last else (n, c, *size)
        self.tables = plan.method.tables(tiling)
        self._code = compiled(plan.method.kernel, self.tables.shape, plan.target)
        self._contexts = Contexts(self.tables.context)
        self._packing = None
        if self.tables.recipe:
            self._packing = Packing(self.tables.recipe, plan.problem.dtype, plan.target)
        self._zeros = np.zeros(plan.problem.out_channels, np.float64)
        self._no_bias: int = self._zeros.ctypes.data
        work = self.tables.multiply_adds
        self._most_threads = max(1, min(len(self.tables.tasks), work // WORK_PER_THREAD))

    @property
    def packs(self) -> bool:
        """Whether weights are packed, which is worth keeping."""
        return self._packing is not None

    @property
    def recipe(self) -> bytes:
        """Digest of how panels are filled: what is equal here may share them."""
        return self._packing.digest if self._packing else b""

    def pack(self, weight: int, bias: int | None) -> Panels:
        """Panels of the contiguous weights and biases at these addresses."""
        biases = self._no_bias if bias is None else bias
        if self._packing is None:
            return Panels(weight, biases)
        values: Array = memory.outputs.array((self._packing.elements,), self._packing.kind)
        panels = Panels(values.ctypes.data, values=values)
        self._packing.fill(weight, biases, panels.address)
        return panels

    def run(self, x: int, panels: Panels, y: int) -> None:
        """Compute from the contiguous input at ``x`` into the contiguous output at ``y``."""
        count = _threads(self._most_threads)
        buffer = memory.scratch.borrow(self.tables.scratch_bytes * count)
        self._run(x, panels.address, panels.biases, y, buffer.address, count)
        memory.scratch.give_back(buffer)

    def compute(self, x: int, weight: int, bias: int | None, y: int) -> None:
        """Pack and run: for weights that do not come again."""
        packing = self._packing
        if packing is None or packing.bytes >= memory.SMALLEST_KEPT:
            self.run(x, self.pack(weight, bias), y)
            return
        count = _threads(self._most_threads)
        size = self.tables.scratch_bytes * count
        buffer = memory.scratch.borrow(size + packing.bytes)
        panels = buffer.address + size
        packing.fill(weight, self._no_bias if bias is None else bias, panels)
        self._run(x, panels, 0, y, buffer.address, count)
        memory.scratch.give_back(buffer)

    def _run(self, x: int, weights: int, biases: int, y: int, scratch: int, count: int) -> None:
        values, context = self._contexts.borrow()
        _CALL.pack_into(values, 0, x, y, weights, biases, scratch, 0, 0)
        threads.run(self._code.call, self._code.address, context, count)
        self._contexts.give_back((values, context))


class Packing:
    """A compiled recipe: weights and biases into panels."""

    def __init__(self, recipe: Recipe, dtype: str, target: Target) -> None:
        self._recipe = recipe
        self._dtype = dtype
        self.elements = recipe.elements // recipe.together
        self.kind = np.dtype(np.float64 if dtype == "f64" else np.float32)
        self.bytes = self.elements * self.kind.itemsize
        squares = recipe.squares
        self._gather = _gather(dtype, target)
        self._packings = Contexts(recipe.context)
        self._transpose = transposing(dtype, target) if squares.elements else None
        self._squares = Contexts(squares.context)
        self._square_threads = _pack_threads(squares.elements)
        self._pack_threads = _pack_threads(recipe.elements - squares.elements)
        self._pairs = None
        if recipe.together > 1:
            self._pairs = _pairs(target)
            self._pairings = Contexts(recipe.pairs_context)
            self._pair_threads = min(_pack_threads(self.elements), len(recipe.pairs))

    @cached_property
    def digest(self) -> bytes:
        """What is equal in all recipes that fill panels alike."""
        recipe = self._recipe
        told = (*(table.tobytes() for table in recipe.arrays), str(recipe.strides).encode())
        kind = f"{self._dtype} {recipe.elements}".encode()
        return hashlib.sha256(b"".join((*told, kind))).digest()

    def fill(self, weight: int, biases: int, panels: int) -> None:
        """Fill the panels at an address."""
        if self._pairs is None:
            self._fill(weight, biases, panels)
            return
        every = memory.outputs.array((self._recipe.elements,), self.kind)
        address = memory.address(every)
        self._fill(weight, biases, address)
        values, context = self._pairings.borrow()
        _PAIRS.pack_into(values, 0, address, panels, 0)
        threads.run(self._pairs.call, self._pairs.address, context, _threads(self._pair_threads))
        self._pairings.give_back((values, context))

    def _fill(self, weight: int, biases: int, panels: int) -> None:
        """The same with every channel by itself."""
        values, context = self._packings.borrow()
        _PACKING.pack_into(values, 0, weight, biases, panels, 0)
        count = _threads(self._pack_threads)
        threads.run(self._gather.call, self._gather.address, context, count)
        self._packings.give_back((values, context))
        if self._transpose is not None:
            values, context = self._squares.borrow()
            _SQUARES.pack_into(values, 0, weight, panels, 0)
            count = _threads(self._square_threads)
            threads.run(self._transpose.call, self._transpose.address, context, count)
            self._squares.give_back((values, context))


class Contexts:
    """Copies of a context and their addresses, each for one call at a time."""

    def __init__(self, template: Array) -> None:
        self._template = template
        self._idle: list[tuple[memoryview, int]] = []

    def borrow(self) -> tuple[memoryview, int]:
        """A context nobody else uses: its values, and their address."""
        try:
            return self._idle.pop()
        except IndexError:
            values = self._template.copy()
            return values.data, values.ctypes.data

    def give_back(self, context: tuple[memoryview, int]) -> None:
        """Keep a context for the next call."""
        self._idle.append(context)


@lru_cache(maxsize=256)
def compiled(kernel: ModuleType, shape: Any, target: Target) -> jit.Code:
    """A method's kernel for a shape of the work in registers."""
    build: Callable[[], str] = lambda: kernel.build(shape, target)  # noqa: E731
    return jit.load(f"{kernel.__name__} {shape!r}", target, build)


@lru_cache(maxsize=16)
def _gather(dtype: str, target: Target) -> jit.Code:
    return jit.load(f"gather {dtype}", target, lambda: gather.build(dtype, target))


@lru_cache(maxsize=4)
def _pairs(target: Target) -> jit.Code:
    return jit.load("pairs", target, lambda: pairs.build(target))


@lru_cache(maxsize=16)
def transposing(dtype: str, target: Target) -> jit.Code:
    """Kernel ``transpose``."""
    return jit.load(f"transpose {dtype}", target, lambda: transpose.build(dtype, target))


def _threads(most: int) -> int:
    return 1 if most == 1 else min(most, threads.get_num_threads())


def _pack_threads(elements: int) -> int:
    return max(1, min(64, elements // WEIGHTS_PER_THREAD))


@lru_cache(maxsize=1024)
def operation(problem: Problem) -> Operation | None:
    """The compiled operation of a problem; ``None`` where only the reference computes it."""
    plan = planned(problem)
    with threads.undivided:
        return None if plan.method.kernel is None else Operation(plan)
