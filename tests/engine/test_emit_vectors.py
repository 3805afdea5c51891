"""The words of the emit vocabulary for vectors against their scalar meaning, on every target."""

from itertools import product

import ml_dtypes
import numpy as np
import pytest
from llvmlite import ir

from polyphase.engine.emit import I64, STORAGE

KINDS = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
F32, F64 = STORAGE["f32"], STORAGE["f64"]
COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 25)


def kinds(machine):
    """The storage types that the target computes with."""
    return [dtype for dtype in KINDS if dtype != "f16" or machine.target.halves]


def test_load_vector__and_store_vector(machine):
    lanes = machine.lanes
    for dtype in kinds(machine):
        values = np.arange(1, lanes + 4).astype(KINDS[dtype])
        out = np.zeros(lanes + 4, KINDS[dtype])

        def build(e, values, out, kind=STORAGE[dtype]):
            # addresses need not be multiples of anything
            e.store_vector(e.load_vector(values, 1, kind), out, e.const(3))

        machine(build, values, out)
        assert out.tolist() == [0, 0, 0, *values[1 : lanes + 1], 0], dtype


def test_store_vector__and_load_vector__under_a_mask(machine):
    lanes = machine.lanes
    for dtype, (start, number) in product(kinds(machine), [(0, 0), (0, 1), (-2, 1), (1, 99)]):
        values = np.arange(1, lanes + 1).astype(KINDS[dtype])
        out = np.full(2 * lanes, 77, KINDS[dtype])

        def build(e, values, out, kind=STORAGE[dtype], start=start, number=number):
            mask = e.lanes_within(start, e.const(number))
            vector = e.load_vector(values, 0, kind, mask)
            e.store_vector(vector, out, 0)
            e.store_vector(e.load_vector(values, 0, kind), out, lanes, mask)

        machine(build, values, out)
        on = [0 <= start + i < number for i in range(lanes)]
        assert out[:lanes].tolist() == np.where(on, values, 0).tolist(), dtype
        assert out[lanes:].tolist() == np.where(on, values, 77).tolist(), dtype


def test_splat(machine):
    value, out = np.array([2.5], np.float32), np.zeros(machine.lanes + 4, np.float32)

    def build(e, value, out):
        scalar = e.load(value, 0, F32)
        e.store_vector(e.splat(scalar, 4), out, machine.lanes)
        e.store_vector(e.splat(scalar), out, 0)

    machine(build, value, out)
    assert (out == 2.5).all()


def test_first_lanes(machine):
    lanes = machine.lanes
    values, out = np.arange(lanes, dtype=np.float32), np.full(2 * lanes, -1, np.float32)

    def build(e, values, out):
        vector = e.load_vector(values, 0, F32)
        e.store(e.first_lanes(vector, 2), out, lanes)
        e.store(e.first_lanes(vector, lanes), out)

    machine(build, values, out)
    assert out.tolist() == [*range(lanes), 0, 1, *[-1] * (lanes - 2)]


def test_lanes_within(machine):
    lanes = machine.lanes
    edges = (0, 1, 2, lanes - 1, lanes, lanes + 1, 2**31 - 1)
    starts = sorted({0, 1, 2, lanes, -1, -lanes, 1 - lanes, -5, -(2**31), 2**31 - 1 - lanes})
    cases = [(s, n) for s in starts for n in (*edges, -1, -(2**31))]
    given = np.array(cases, np.int64)
    out = np.full((len(cases), lanes), 9, np.float32)

    def build(e, given, out):
        one = e.splat(ir.Constant(F32, 1.0))
        zero = ir.Constant(one.type, None)
        with e.loop(0, len(cases)) as loop:
            start, number = (e.load(given, e.add(e.mul(loop.index, 2), i), I64) for i in (0, 1))
            mask = e.lanes_within(start, number)
            e.store_vector(e.builder.select(mask, one, zero), out, e.mul(loop.index, lanes))

    machine(build, given, out)
    for (start, number), row in zip(cases, out, strict=True):
        assert row.tolist() == [0 <= start + i < number for i in range(lanes)], (start, number)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_lanes_of_bits(machine, dtype):
    lanes, kind = machine.target.lanes(dtype), STORAGE[dtype]
    patterns = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 40)
    firsts = sorted({0, 1, lanes, 64 - lanes})
    out = np.full((len(patterns), len(firsts), lanes), 9, KINDS[dtype])

    def build(e, patterns, out):
        one = e.splat(ir.Constant(kind, 1.0))
        zero = ir.Constant(one.type, None)
        with e.loop(0, out_shape[0]) as loop:
            bits = e.load(patterns, loop.index, I64)
            for i, first in enumerate(firsts):
                chosen = e.builder.select(e.lanes_of_bits(bits, first), one, zero)
                place = e.add(e.mul(loop.index, len(firsts) * lanes), i * lanes)
                e.store_vector(chosen, out, place)

    out_shape = out.shape
    machine(build, patterns, out, lanes=lanes)
    for pattern, rows in zip(patterns.tolist(), out, strict=True):
        expected = [[pattern >> (first + i) & 1 for i in range(lanes)] for first in firsts]
        assert rows.tolist() == expected


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_fma(machine, dtype):
    lanes, kind = machine.target.lanes(dtype), STORAGE[dtype]
    a, b, c = (np.arange(i, i + lanes).astype(KINDS[dtype]) for i in (1, -4, 100))
    out = np.zeros(lanes, KINDS[dtype])

    def build(e, *pointers):
        *factors, out = pointers
        e.store_vector(e.fma(*(e.load_vector(p, 0, kind) for p in factors)), out, 0)

    machine(build, a, b, c, out, lanes=lanes)
    assert out.tolist() == (a * b + c).tolist()


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("word", ["interleave", "deinterleave"])
def test_interleave__and_deinterleave(machine, word, dtype):
    lanes, kind = machine.target.lanes(dtype), STORAGE[dtype]
    for n in COUNTS:
        vectors = np.arange(n * lanes, dtype=KINDS[dtype])
        out = np.full_like(vectors, -1)

        def build(e, vectors, out, n=n):
            loaded = [e.load_vector(vectors, i * lanes, kind) for i in range(n)]
            for i, vector in enumerate(getattr(e, word)(loaded)):
                e.store_vector(vector, out, i * lanes)

        machine(build, vectors, out, lanes=lanes)
        shape = (n, lanes) if word == "interleave" else (lanes, n)
        assert out.tolist() == vectors.reshape(shape).T.ravel().tolist(), n


def every_pattern(dtype):
    return np.arange(2**16, dtype=np.uint16).view(KINDS[dtype])


def test_widen__and_widen_scalar(machine):
    for dtype in set(kinds(machine)) - {"f32", "f64"}:
        values = every_pattern(dtype)
        vectors, scalars = np.zeros((2, len(values)), np.float32)

        def build(e, values, vectors, scalars, kind=STORAGE[dtype]):
            with e.loop(0, 2**16, e.lanes) as loop:
                vector = e.load_vector(values, loop.index, kind)
                e.store_vector(e.widen(vector, F32), vectors, loop.index)
            with e.loop(0, 2**16) as loop:
                scalar = e.load(values, loop.index, kind)
                e.store(e.widen_scalar(scalar, F32), scalars, loop.index)

        machine(build, values, vectors, scalars)
        for result in (vectors, scalars):
            np.testing.assert_array_equal(result, values.astype(np.float32), err_msg=dtype)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_widen__leaves_what_is_wide(machine, dtype):
    kind = STORAGE[dtype]

    def build(e, out):
        vector = e.load_vector(out, 0, kind)
        assert e.widen(vector, kind) is vector
        assert e.narrow(vector, kind) is vector
        scalar = e.load(out, 0, kind)
        assert e.widen_scalar(scalar, kind) is scalar

    machine(build, np.zeros(machine.lanes, KINDS[dtype]))


def test_narrow(machine):
    for dtype in set(kinds(machine)) - {"f32", "f64"}:
        # every stored value, its neighbours, and the middles between it and the next, to the bit
        exact = every_pattern(dtype).astype(np.float32)
        following = np.roll(every_pattern(dtype), -1).astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            middles = exact + (following - exact) / 2
        around = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
        # and whatever else 32 bits can be, nans whose lowest bits alone are set among them
        others = np.random.default_rng(0).integers(0, 2**32, 2**14, np.uint32)
        nans = [0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001] * 4
        others = np.concatenate([others, np.array(nans, np.uint32)]).view(np.float32)
        values = np.concatenate([exact, middles, *around, others])
        out = np.zeros(len(values), KINDS[dtype])

        def build(e, values, out, kind=STORAGE[dtype], length=values.size):
            with e.loop(0, length, e.lanes) as loop:
                vector = e.load_vector(values, loop.index, F32)
                e.store_vector(e.narrow(vector, kind), out, loop.index)

        machine(build, values, out)
        with np.errstate(over="ignore", invalid="ignore"):
            expected = values.astype(KINDS[dtype])
        np.testing.assert_array_equal(
            out.astype(np.float32), expected.astype(np.float32), err_msg=dtype
        )
        numbers = ~np.isnan(expected)
        assert (out[numbers].view(np.uint16) == expected[numbers].view(np.uint16)).all(), dtype
