"""Words of the emit vocabulary for floats: products, and narrow numbers in memory.

Narrow floats are stored as such and computed in float32, bfloat16 as 16-bit integers.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

I16, I32 = ir.IntType(16), ir.IntType(32)


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's own type of bfloat16, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_BFLOAT = _BFloat()


class Floats:
    """What an emitter says about floats."""

    module: ir.Module
    builder: ir.IRBuilder
    lanes: int

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """``a * b + c``, fused where the machine can."""
        kind = a.type
        function = self._intrinsic(f"llvm.fmuladd.{suffix(kind)}", kind, [kind, kind, kind])
        return self.builder.call(function, [a, b, c])

    def add_pairs(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """``c + a[0]*b[0] + a[1]*b[1]`` in every lane of float32, ``a`` and ``b`` being bfloat16.

        Only for targets with ``pairs``, whose vectors are 64 bytes long.
        """
        halves = ir.VectorType(_BFLOAT, 2 * self.lanes)
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        function = self._intrinsic(name, c.type, [c.type, halves, halves])
        pairs = (self.builder.bitcast(value, halves) for value in (a, b))
        return self.builder.call(function, [c, *pairs])

    def paired(self, low: ir.Value, high: ir.Value, kind: ir.Type) -> ir.Value:
        """Two vectors of 16-bit elements as one of ``kind``, which holds a pair in every lane."""
        b = self.builder
        wide = ir.VectorType(I32, low.type.count)
        upper = b.shl(b.zext(high, wide), ir.Constant(wide, [16] * wide.count))
        return b.bitcast(b.or_(b.zext(low, wide), upper), ir.VectorType(kind, wide.count))

    def narrow_pairs(self, vector: ir.Value) -> ir.Value:
        """Float32 as stored bfloat16, rounded to nearest; numbers below the normal ones become 0.

        Only for targets with ``pairs``, whose products treat them alike.
        """
        narrow = ir.VectorType(_BFLOAT, self.lanes)
        name = "llvm.x86.avx512bf16.cvtneps2bf16.512"
        function = self._intrinsic(name, narrow, [vector.type])
        stored = ir.VectorType(I16, self.lanes)
        return self.builder.bitcast(self.builder.call(function, [vector]), stored)

    def widen(self, vector: ir.Value, kind: ir.Type) -> ir.Value:
        """Stored elements as accumulator elements: exact."""
        b, stored = self.builder, vector.type.element
        if stored == kind:
            return vector
        wide = ir.VectorType(kind, vector.type.count)
        if stored == ir.HalfType():
            return b.fpext(vector, wide)
        bits = ir.VectorType(I32, vector.type.count)
        high = b.shl(b.zext(vector, bits), ir.Constant(bits, [16] * bits.count))
        return b.bitcast(high, wide)

    def widen_scalar(self, value: ir.Value, kind: ir.Type) -> ir.Value:
        """One stored element as an accumulator element: exact."""
        if value.type == kind:
            return value
        if value.type == ir.HalfType():
            return self.builder.fpext(value, kind)
        bits = self.builder.shl(self.builder.zext(value, I32), ir.Constant(I32, 16))
        return self.builder.bitcast(bits, kind)

    def narrow(self, vector: ir.Value, stored: ir.Type) -> ir.Value:
        """Accumulator elements as stored elements: rounded to nearest, ties to even."""
        b, lanes = self.builder, vector.type.count
        if stored == vector.type.element:
            return vector
        if stored == ir.HalfType():
            return b.fptrunc(vector, ir.VectorType(stored, lanes))
        kind = ir.VectorType(I32, lanes)
        bits = b.bitcast(vector, kind)

        def constant(value: int) -> ir.Constant:
            return ir.Constant(kind, [value] * lanes)

        odd = b.and_(b.lshr(bits, constant(16)), constant(1))
        rounded = b.add(b.add(bits, constant(0x7FFF)), odd)
        # a nan must stay one: the sum above could carry it to infinity
        quiet = b.or_(bits, constant(0x400000))
        chosen = b.select(b.fcmp_unordered("uno", vector, vector), quiet, rounded)
        return b.trunc(b.lshr(chosen, constant(16)), ir.VectorType(stored, lanes))

    def _intrinsic(self, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
        """A function that LLVM provides."""
        found = self.module.globals.get(name)
        return found or ir.Function(self.module, ir.FunctionType(result, arguments), name)


def suffix(kind: Any) -> str:
    """A type in the name of an intrinsic function."""
    names = {"float": "f32", "double": "f64", "half": "f16", "i16": "i16"}
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{names[str(kind.element)]}"
    return names[str(kind)]
