"""A small vocabulary over ``llvmlite.ir``: what the kernels say, each with its scalar meaning.

Nothing but the words for pairs depends on a processor: the number of lanes and of registers comes
from the target, and LLVM chooses the instructions. Offsets are in elements, never in bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

from polyphase.engine.floats import Floats, suffix

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER = ir.PointerType()
VOID = ir.VoidType()
# storage types by dtype name; narrow floats are stored as such and computed in float32
STORAGE: dict[str, ir.Type] = {
    "f32": ir.FloatType(),
    "f64": ir.DoubleType(),
    "f16": ir.HalfType(),
    "bf16": ir.IntType(16),
}


# a line of a table
Record = dict[str, ir.Value]


class Loop:
    """State of a loop under construction: its index, the carried values, and what comes out."""

    def __init__(self, index: ir.Value, values: list[ir.Value]) -> None:
        self.index = index
        self.values = values
        self.results: list[ir.Value] = []
        self.following: list[ir.Value] = []

    def carry(self, values: Sequence[ir.Value]) -> None:
        """Give the carried values their content for the next round."""
        self.following = list(values)


class Emitter(Floats):
    """Builds one function. ``lanes`` is the number of accumulator elements in a vector."""

    def __init__(self, module: ir.Module, name: str, arguments: Sequence[str], lanes: int) -> None:
        self.module = module
        signature = ir.FunctionType(VOID, [POINTER if a.endswith("*") else I64 for a in arguments])
        self.function = ir.Function(module, signature, name)
        self.arguments: dict[str, ir.Value] = {}
        for value, argument in zip(self.function.args, arguments, strict=True):
            value.name = argument.rstrip("*")
            self.arguments[value.name] = value
        self.entry = self.function.append_basic_block("entry")
        self.builder = ir.IRBuilder(self.function.append_basic_block("body"))
        self.lanes = lanes

    def finish(self) -> None:
        """Close the function: entry holds the stack slots and falls into the body."""
        self.builder.ret_void()
        ir.IRBuilder(self.entry).branch(self.function.blocks[1])

    # integers

    def const(self, value: int) -> ir.Constant:
        """The constant ``value``."""
        return ir.Constant(I64, value)

    def add(self, a: ir.Value, b: ir.Value | int) -> ir.Value:
        """``a + b``; adding 0 emits nothing."""
        if isinstance(b, int):
            return a if b == 0 else self.builder.add(a, self.const(b))
        return self.builder.add(a, b)

    def mul(self, a: ir.Value, b: ir.Value | int) -> ir.Value:
        """``a * b``; multiplying by 1 emits nothing."""
        if isinstance(b, int):
            return a if b == 1 else self.builder.mul(a, self.const(b))
        return self.builder.mul(a, b)

    # control flow

    @contextmanager
    def loop(
        self,
        start: ir.Value | int,
        stop: ir.Value | int,
        step: ir.Value | int = 1,
        carried: Sequence[ir.Value] = (),
    ) -> Iterator[Loop]:
        """``for index in range(start, stop, step)``, with values carried from round to round."""
        start = self.const(start) if isinstance(start, int) else start
        stop = self.const(stop) if isinstance(stop, int) else stop
        step = self.const(step) if isinstance(step, int) else step
        before = self.builder.block
        head = self.builder.append_basic_block("for.head")
        body = self.builder.append_basic_block("for.body")
        end = self.builder.append_basic_block("for.end")
        # the test stands before and after the body, so that a round costs one branch
        self.builder.cbranch(self.builder.icmp_signed("<", start, stop), head, end)
        self.builder.position_at_end(head)
        index = self.builder.phi(I64, "index")
        index.add_incoming(start, before)
        phis = [self.builder.phi(value.type) for value in carried]
        for phi, value in zip(phis, carried, strict=True):
            phi.add_incoming(value, before)
        self.builder.branch(body)
        self.builder.position_at_end(body)
        state = Loop(index, [self._plain(phi) if phi.type == POINTER else phi for phi in phis])
        yield state
        following = state.following or state.values
        after = self.builder.add(index, step)
        last = self.builder.block
        index.add_incoming(after, last)
        for phi, value in zip(phis, following, strict=True):
            phi.add_incoming(value, last)
        self.builder.cbranch(self.builder.icmp_signed("<", after, stop), head, end)
        self.builder.position_at_end(end)
        for value, out in zip(carried, following, strict=True):
            result = self.builder.phi(value.type)
            result.add_incoming(value, before)
            result.add_incoming(out, last)
            state.results.append(result)

    @contextmanager
    def when(self, condition: ir.Value) -> Iterator[None]:
        """``if condition:``"""
        with self.builder.if_then(condition):
            yield

    @contextmanager
    def taken(self, counter: ir.Value, count: ir.Value) -> Iterator[ir.Value]:
        """``for index in range(count)``, shared with all threads that use the same counter.

        Each takes the next number from it until none is left; it must begin with 0.
        """
        head, body, end = (self.builder.append_basic_block(f"taken.{n}") for n in ("", "do", "end"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        index = self.take(counter)
        self.builder.cbranch(self.builder.icmp_signed("<", index, count), body, end)
        self.builder.position_at_end(body)
        yield index
        self.builder.branch(head)
        self.builder.position_at_end(end)

    def take(self, counter: ir.Value) -> ir.Value:
        """``*counter``, which is one more for the next thread that asks."""
        return self.builder.atomic_rmw("add", counter, self.const(1), "monotonic")

    def either(
        self,
        condition: ir.Value,
        then: Callable[[], list[ir.Value]],
        other: Callable[[], list[ir.Value]],
    ) -> list[ir.Value]:
        """``then() if condition else other()``, for lists of values."""
        branches = []
        with self.builder.if_else(condition) as blocks:
            for block, build in zip(blocks, (then, other), strict=True):
                with block:
                    values = build()
                    branches.append((values, self.builder.block))
        results = []
        for pair in zip(*(values for values, _ in branches), strict=True):
            phi = self.builder.phi(pair[0].type)
            for value, (_, origin) in zip(pair, branches, strict=True):
                phi.add_incoming(value, origin)
            results.append(phi)
        return results

    def slot(self, kind: ir.Type, count: int = 1) -> ir.Value:
        """Room for ``count`` values on the stack, taken once on entry."""
        return ir.IRBuilder(self.entry).alloca(kind, count)

    # memory

    def at(self, pointer: ir.Value, offset: ir.Value | int, kind: ir.Type) -> ir.Value:
        """``&pointer[offset]`` for elements of ``kind``."""
        if isinstance(offset, int):
            if offset == 0:
                return pointer
            return self.builder.gep(pointer, [self.const(offset)], source_etype=kind)
        return self._plain(self.builder.gep(pointer, [offset], source_etype=kind))

    def _plain(self, pointer: ir.Value) -> ir.Value:
        """The same pointer, of which LLVM does not ask how it came about.

        It would weigh all ways of carrying it through the loops, longer than it does all else.
        """
        name = "llvm.strip.invariant.group.p0"
        return self.builder.call(self._intrinsic(name, POINTER, [POINTER]), [pointer])

    def load(self, pointer: ir.Value, offset: ir.Value | int, kind: ir.Type) -> ir.Value:
        """``pointer[offset]``."""
        value = self.builder.load(self.at(pointer, offset, kind), typ=kind)
        value.align = _bytes(kind)
        return value

    def store(self, value: ir.Value, pointer: ir.Value, offset: ir.Value | int = 0) -> None:
        """``pointer[offset] = value``."""
        kind = value.type.element if isinstance(value.type, ir.VectorType) else value.type
        self.builder.store(value, self.at(pointer, offset, kind), align=_bytes(kind))

    def record(self, table: ir.Value, index: ir.Value, fields: Sequence[str]) -> Record:
        """Line ``index`` of a table of integers, by the names of its fields."""
        line = self.at(table, self.mul(index, len(fields)), I64)
        return {name: self.load(line, i, I64) for i, name in enumerate(fields)}

    def load_vector(
        self,
        pointer: ir.Value,
        offset: ir.Value | int,
        kind: ir.Type,
        mask: ir.Value | None = None,
        lanes: int | None = None,
    ) -> ir.Value:
        """``[pointer[offset + i] for i in range(lanes)]``; 0 where the mask is off."""
        vector = ir.VectorType(kind, lanes or self.lanes)
        where = self.at(pointer, offset, kind)
        if mask is None:
            value = self.builder.load(where, typ=vector)
            value.align = _bytes(kind)
            return value
        function = self._intrinsic(
            f"llvm.masked.load.{suffix(vector)}.p0", vector, [POINTER, I32, mask.type, vector]
        )
        zero = ir.Constant(vector, None)
        return self.builder.call(function, [where, ir.Constant(I32, _bytes(kind)), mask, zero])

    def store_vector(
        self,
        value: ir.Value,
        pointer: ir.Value,
        offset: ir.Value | int,
        mask: ir.Value | None = None,
    ) -> None:
        """``pointer[offset + i] = value[i]`` for every lane, or where the mask is on."""
        kind = value.type.element
        where = self.at(pointer, offset, kind)
        if mask is None:
            self.builder.store(value, where, align=_bytes(kind))
            return
        function = self._intrinsic(
            f"llvm.masked.store.{suffix(value.type)}.p0",
            VOID,
            [value.type, POINTER, I32, mask.type],
        )
        self.builder.call(function, [value, where, ir.Constant(I32, _bytes(kind)), mask])

    def prefetch(
        self, pointer: ir.Value, offset: ir.Value | int, kind: ir.Type, *, write: bool = False
    ) -> None:
        """Nothing, but ``pointer[offset]`` may soon be in cache, to ``write`` it. Any will do."""
        function = self._intrinsic("llvm.prefetch.p0", VOID, [POINTER, I32, I32, I32])
        how = [ir.Constant(I32, value) for value in (int(write), 2, 1)]
        self.builder.call(function, [self.at(pointer, offset, kind), *how])

    # vectors

    def splat(self, scalar: ir.Value, lanes: int | None = None) -> ir.Value:
        """``[scalar] * lanes``."""
        lanes = lanes or self.lanes
        vector = ir.VectorType(scalar.type, lanes)
        one = self.builder.insert_element(
            ir.Constant(vector, ir.Undefined), scalar, ir.Constant(I32, 0)
        )
        zeros = ir.Constant(ir.VectorType(I32, lanes), None)
        return self.builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

    def lanes_within(
        self, start: ir.Value | int, count: ir.Value, lanes: int | None = None
    ) -> ir.Value:
        """``[0 <= start + i < count for i in range(lanes)]``; none where ``count`` is negative.

        Both must fit 32 bits, which the extent of an axis does.
        """
        b = self.builder
        start = self.const(start) if isinstance(start, int) else start
        clamped = b.select(b.icmp_signed("<", count, self.const(0)), self.const(0), count)
        lanes = lanes or self.lanes
        lane = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
        place = b.add(self.splat(b.trunc(start, I32), lanes), lane)
        # one comparison without sign does for both ends
        return b.icmp_unsigned("<", place, self.splat(b.trunc(clamped, I32), lanes))

    def lanes_of_bits(self, bits: ir.Value, first: int) -> ir.Value:
        """``[bits >> (first + i) & 1 for i in range(lanes)]``."""
        kind = ir.IntType(self.lanes)
        part = self.builder.trunc(self.builder.lshr(bits, self.const(first)), kind)
        return self.builder.bitcast(part, ir.VectorType(I1, self.lanes))

    def first_lanes(self, vector: ir.Value, count: int) -> ir.Value:
        """``vector[:count]``."""
        if count == vector.type.count:
            return vector
        indices = ir.Constant(ir.VectorType(I32, count), list(range(count)))
        return self.builder.shuffle_vector(vector, vector, indices)

    def interleave(self, vectors: Sequence[ir.Value]) -> list[ir.Value]:
        """``out[j*n + i] = vectors[i][j]`` over the concatenation of the ``n`` results."""
        n = len(vectors)
        prime = next((p for p in range(2, n) if n % p == 0), n)
        if n == 1:
            return list(vectors)
        if prime == n:
            return [self._pick(vectors, part, apart=False) for part in range(n)]
        inner = [self.interleave(vectors[i::prime]) for i in range(prime)]
        return [
            out
            for part in range(n // prime)
            for out in self.interleave([group[part] for group in inner])
        ]

    def deinterleave(self, vectors: Sequence[ir.Value]) -> list[ir.Value]:
        """``out[i][j] = vectors[j*n + i]`` over the concatenation of the ``n`` vectors."""
        n = len(vectors)
        prime = next((p for p in range(2, n) if n % p == 0), n)
        if n == 1:
            return list(vectors)
        if prime == n:
            return [self._pick(vectors, part, apart=True) for part in range(n)]
        count = n // prime
        parts = [self.deinterleave(vectors[j * prime : (j + 1) * prime]) for j in range(count)]
        groups = [self.deinterleave([part[i] for part in parts]) for i in range(prime)]
        return [groups[i % prime][i // prime] for i in range(n)]

    def _pick(self, vectors: Sequence[ir.Value], part: int, *, apart: bool) -> ir.Value:
        """Vector ``part`` of the (de)interleaved sequence, gathered from its sources one by one."""
        n, lanes = len(vectors), self.lanes
        # which source each lane comes from, and which of its elements
        if apart:
            places = [divmod(lane * n + part, lanes) for lane in range(lanes)]
        else:
            places = [divmod(part * lanes + lane, n)[::-1] for lane in range(lanes)]
        result = vectors[0]
        for source in range(1, n):
            mask = [
                lanes + at if which == source else (at if source == 1 else lane)
                for lane, (which, at) in enumerate(places)
            ]
            indices = ir.Constant(ir.VectorType(I32, lanes), mask)
            result = self.builder.shuffle_vector(result, vectors[source], indices)
        return result


def _bytes(kind: ir.Type) -> int:
    sizes: dict[str, int] = {"float": 4, "double": 8, "half": 2, "i16": 2, "i64": 8, "i32": 4}
    return sizes[str(kind)]
