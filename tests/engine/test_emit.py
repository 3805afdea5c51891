"""Every word of the emit vocabulary against its scalar meaning, on every target of this machine."""

import inspect
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from llvmlite import ir

from polyphase.engine.emit import I64, STORAGE, Emitter

KINDS = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
F32, F64 = STORAGE["f32"], STORAGE["f64"]


def integers(*values):
    return np.array(values, np.int64)


def test_every_word_has_a_test():
    words = {name for name, _ in inspect.getmembers(Emitter, inspect.isfunction) if name[0] != "_"}
    # this file, that of the vectors, and that of the pairs
    files = [*Path(__file__).parent.glob("test_emit*.py"), Path(__file__).parent / "test_pairs.py"]
    text = "".join(path.read_text() for path in files)
    names = [name.split("__") for name in re.findall(r"^def test_(\w+)", text, re.MULTILINE)]
    tested = {part.removeprefix("and_") for parts in names for part in parts}
    # without it no other test would compile
    assert words - tested == {"finish"}


@pytest.mark.parametrize("value", [0, 1, -1, 2**62, -(2**63)])
def test_const(machine, value):
    out = integers(5)
    machine(lambda e, out: e.store(e.const(value), out), out)
    assert out[0] == value


@pytest.mark.parametrize(("word", "meaning"), [("add", int.__add__), ("mul", int.__mul__)])
def test_add__and_mul(machine, word, meaning):
    numbers = integers(7, -3, 0, 1)
    out = np.zeros(6, np.int64)

    def build(e, numbers, out):
        a, b = e.load(numbers, 0, I64), e.load(numbers, 1, I64)
        for at, other in enumerate((b, 0, 1, -4, 9)):
            e.store(getattr(e, word)(a, other), out, at)

    machine(build, numbers, out)
    assert out[:5].tolist() == [meaning(7, other) for other in (-3, 0, 1, -4, 9)]


@pytest.mark.parametrize("bounds", [(0, 5, 1), (2, 9, 3), (-4, 4, 5), (3, 3, 1), (5, 2, 1)])
@pytest.mark.parametrize("known", [True, False])
def test_loop(machine, bounds, known):
    # the indices in order, then the carried values: a count and a sum
    out, given = np.full(12, -99, np.int64), integers(*bounds)

    def build(e, out, given):
        ends = bounds if known else [e.load(given, i, I64) for i in range(3)]
        start = [e.const(0), e.const(100)]
        with e.loop(*ends, carried=start) as loop:
            rounds, total = loop.values
            e.store(loop.index, out, rounds)
            loop.carry([e.add(rounds, 1), e.add(total, loop.index)])
        for at, value in enumerate(loop.results):
            e.store(value, out, 10 + at)

    machine(build, out, given)
    expected = list(range(*bounds))
    assert out[: len(expected)].tolist() == expected
    assert out[10:].tolist() == [len(expected), 100 + sum(expected)]
    assert (out[len(expected) : 10] == -99).all()


def test_loop__in_a_loop_carries_through(machine):
    out = integers(0)

    def build(e, out):
        with e.loop(0, 3, carried=[e.const(0)]) as outer:
            with e.loop(0, outer.index, carried=outer.values) as inner:
                inner.carry([e.add(inner.values[0], 1)])
            outer.carry(inner.results)
        e.store(outer.results[0], out)

    machine(build, out)
    assert out[0] == sum(1 for i in range(3) for _ in range(i))


def test_loop__without_carry_keeps_the_values(machine):
    out = integers(0)

    def build(e, out):
        with e.loop(0, 4, carried=[e.const(8)]) as loop:
            pass
        e.store(loop.results[0], out)

    machine(build, out)
    assert out[0] == 8


@pytest.mark.parametrize("value", [0, 1])
def test_when(machine, value):
    given, out = integers(value), integers(3)

    def build(e, given, out):
        with e.when(e.builder.icmp_signed("!=", e.load(given, 0, I64), e.const(0))):
            e.store(e.const(4), out)

    machine(build, given, out)
    assert out[0] == (4 if value else 3)


@pytest.mark.parametrize("value", [0, 1])
def test_either(machine, value):
    given, out = integers(value), integers(0, 0)

    def build(e, given, out):
        condition = e.builder.icmp_signed("!=", e.load(given, 0, I64), e.const(0))
        results = e.either(
            condition, lambda: [e.const(1), e.const(2)], lambda: [e.const(3), e.const(4)]
        )
        for at, result in enumerate(results):
            e.store(result, out, at)

    machine(build, given, out)
    assert out.tolist() == ([1, 2] if value else [3, 4])


def test_slot(machine):
    # taken once on entry: a loop does not eat up the stack
    out = integers(0)

    def build(e, out):
        with e.loop(0, 5_000_000) as loop:
            room = e.slot(I64, 4)
            e.store(loop.index, room, 3)
            e.store(e.load(room, 3, I64), out)

    machine(build, out)
    assert out[0] == 4_999_999


@pytest.mark.parametrize("dtype", KINDS)
def test_at(machine, dtype):
    kind, out = STORAGE[dtype], integers(0, 0, 0, 0)

    def build(e, out):
        places = (0, 3, -2, e.load(out, 3, I64))
        for at, place in enumerate(places):
            where = e.at(out, place, kind)
            e.store(e.builder.ptrtoint(where, I64), out, at)

    out[3] = 7
    machine(build, out)
    size = np.dtype(KINDS[dtype]).itemsize
    assert (out - out.ctypes.data).tolist() == [size * place for place in (0, 3, -2, 7)]


@pytest.mark.parametrize("dtype", KINDS)
def test_load__and_store(machine, dtype):
    kind = STORAGE[dtype]
    values = np.arange(1, 6).astype(KINDS[dtype])
    out = np.zeros(5, KINDS[dtype])

    def build(e, values, out):
        e.store(e.load(values, 4, kind), out)
        e.store(e.load(values, e.const(2), kind), out, e.const(3))

    machine(build, values, out)
    assert out.tolist() == [5, 0, 0, 3, 0]


def test_prefetch(machine):
    values, out = np.arange(4, dtype=np.float32), np.zeros(1, np.float32)

    def build(e, values, out):
        # also where there is nothing
        for place in (0, 2**40, -(2**50)):
            e.prefetch(values, place, F32)
        e.store(e.load(values, 3, F32), out)

    machine(build, values, out)
    assert out[0] == 3
    assert values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_taken__and_take(machine, count):
    counter, out = integers(0), np.full(6, -1, np.int64)

    def build(e, counter, out):
        with e.taken(counter, e.const(count)) as index:
            e.store(e.mul(index, 10), out, index)
        e.store(e.take(counter), out, 5)

    machine(build, counter, out)
    # one number more than there are tells that none is left
    assert out.tolist() == [*(10 * i for i in range(count)), *[-1] * (5 - count), count + 1]
    assert counter[0] == count + 2


def test_record(machine):
    table, out = integers(1, 2, 3, 4, 5, 6), np.zeros(2, np.int64)

    def build(e, table, out):
        line = e.record(table, e.const(1), ("a", "b", "c"))
        assert list(line) == ["a", "b", "c"]
        e.store(line["c"], out)
        e.store(line["a"], out, 1)

    machine(build, table, out)
    assert out.tolist() == [6, 4]


def test_names_of_functions_and_arguments_are_those_given():
    e = Emitter(ir.Module("test"), "name", ["address*", "number"], 4)
    assert [str(kind.type) for kind in e.arguments.values()] == ["ptr", "i64"]
    assert list(e.arguments) == ["address", "number"]
    assert e.function.name == "name"


def test_no_address_is_known_by_how_it_came_about():
    # LLVM would weigh all ways of carrying it through the loops, which takes longer than all else
    e = Emitter(ir.Module(), "run", ["line*", "out*", "count"], 4)
    line, out, count = e.arguments.values()
    with e.loop(0, count, carried=[line]) as rows:
        with e.loop(0, count, carried=rows.values) as loop:
            row = e.record(loop.values[0], loop.index, ["first", "second"])
            e.store(row["second"], out, loop.index)
            e.store(row["first"], e.at(loop.values[0], 1, I64))
            loop.carry([e.at(loop.values[0], 2, I64)])
        rows.carry(loop.results)
    e.finish()
    text = str(e.module)
    calls = set(re.findall(r'(%"[^"]+") = call ptr @"llvm.strip.invariant.group', text))
    steps = dict(re.findall(r'(%"[^"]+") = getelementptr \w+, ptr (%"[^"]+"), i64 \d+', text))
    used = re.findall(r'(?:load \w+|store \w+ \S+), ptr (%"[^"]+")', text)
    assert len(used) == 4
    assert {steps.get(pointer, pointer) for pointer in used} <= calls
