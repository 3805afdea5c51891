"""NumPy arrays of every kind of memory, in and out."""

import mmap

import numpy as np
import oracle
import pytest

import polyphase as pp
from polyphase import GeometryError, Problem
from polyphase.engine import arrays

FIRST = Problem.parse("n2 c3:4 i5x6 k3x3 s2x2 p1x1 o1x0")
RESULT = (2, 4, 10, 11)


@pytest.fixture(params=["f32", "int32", "c64"], ids=["kernel", "reference", "complex"])
def given(request):
    """A problem with arrays, and what must come out."""
    problem = Problem.parse(f"{str(FIRST).split(' f32')[0]} {request.param}")
    generator = np.random.default_rng(7)
    dtype = {"f32": np.float32, "int32": np.int32, "c64": np.complex64}[request.param]
    shapes = problem.input_shape, problem.weight_shape, (4,)
    x, w, b = (generator.integers(-4, 5, shape).astype(dtype) for shape in shapes)
    expected = oracle.conv_transpose(x, w, b, problem.geometry).astype(dtype)
    assert expected.shape == RESULT == problem.output_shape
    return problem, (x, w, b), expected


def unaligned(array):
    """The same values at an address that is no multiple of anything."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    moved = memory[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def mapped(array):
    pages = mmap.mmap(-1, array.nbytes)
    moved = np.frombuffer(pages, array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def last_first(array):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 0)), 0, -1)


def every_third(array):
    return np.repeat(array, 3, -1)[..., ::3]


MEMORY = {
    "dense": np.ascontiguousarray,
    "unaligned": unaligned,
    "read-only": read_only,
    "memory map": mapped,
    "reversed": lambda array: array[::-1].copy()[::-1],
    "fortran": np.asfortranarray,
    "channels last": lambda array: (
        np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
        if array.ndim > 1
        else array
    ),
    "last axis first": last_first,
    "strided": every_third,
    "subclass": lambda array: array.view(np.memmap),
}


@pytest.mark.parametrize("kind", MEMORY)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["input", "weight", "bias"])
def test_any_memory_in(given, kind, which):
    problem, operands, expected = given
    operands = list(operands)
    operands[which] = MEMORY[kind](operands[which])
    before = [array.copy() for array in operands]
    result = arrays.compute(problem, *operands)
    oracle.assert_same(result, expected, kind)
    assert type(result) is np.ndarray
    assert result.flags.writeable
    for array, old in zip(operands, before, strict=True):
        assert (array == old).all()


def test_expanded_inputs(given):
    problem, (x, w, b), _ = given
    for axis in range(x.ndim):
        expanded = np.broadcast_to(x.take([0], axis), x.shape)
        expected = oracle.conv_transpose(expanded, w, b, problem.geometry).astype(x.dtype)
        oracle.assert_same(arrays.compute(problem, expanded, w, b), expected, axis)
    one = np.broadcast_to(w.dtype.type(2), w.shape)
    expected = oracle.conv_transpose(x, one, b, problem.geometry).astype(x.dtype)
    oracle.assert_same(arrays.compute(problem, x, one, b), expected, "weights")


def test_the_result_lies_in_memory_as_the_input_does():
    x = np.ones(FIRST.input_shape, np.float32)
    w = np.ones(FIRST.weight_shape, np.float32)
    assert arrays.compute(FIRST, x, w, None).flags.c_contiguous
    result = arrays.compute(FIRST, MEMORY["channels last"](x), w, None)
    assert result.shape == RESULT
    assert np.moveaxis(result, 1, -1).flags.c_contiguous


def out_dense():
    return np.zeros(RESULT), slice(None)


def out_channels_last():
    whole = np.zeros((2, 10, 11, 4))
    return np.moveaxis(whole, -1, 1), slice(None)


def out_part():
    whole = np.zeros((2, 9, 10, 11))
    return whole, (slice(None), slice(3, 7))


def out_strided():
    whole = np.zeros((2, 4, 10, 33))
    return whole, (..., slice(1, None, 3))


def out_reversed():
    return np.zeros(RESULT), (slice(None), slice(None, None, -1))


@pytest.mark.parametrize("layout", ["dense", "channels last"])
@pytest.mark.parametrize(
    "make", [out_dense, out_channels_last, out_part, out_strided, out_reversed]
)
def test_any_memory_out(given, make, layout):
    problem, (x, w, b), expected = given
    whole, part = make()
    whole = whole.astype(x.dtype, order="K")
    whole[...] = 77
    out = whole[part]
    untouched = np.ones(whole.shape, bool)
    untouched[part] = False
    assert arrays.compute(problem, MEMORY[layout](x), w, b, out=out) is out
    oracle.assert_same(out, expected, make)
    assert (whole[untouched] == 77).all()


def test_out_at_any_address(given):
    problem, operands, expected = given
    out = unaligned(np.zeros(RESULT, expected.dtype))
    assert arrays.compute(problem, *operands, out=out) is out
    oracle.assert_same(out, expected)


def test_out_may_lie_beside_the_input_in_the_same_array():
    problem = Problem.parse("n3 c2:4 i7 k1")
    both = np.ones((3, 6, 7), np.float32)
    both[:, 2:] = np.nan
    w = np.ones((2, 4, 1), np.float32)
    arrays.compute(problem, both[:, :2], w, None, out=both[:, 2:])
    assert (both[:, :2] == 1).all()
    assert (both[:, 2:] == 2).all()
    # and between its elements
    woven = np.ones((3, 2, 14), np.float32)
    problem = Problem.parse("n3 c2:2 i7 k1")
    arrays.compute(problem, woven[..., ::2], np.ones((2, 2, 1), np.float32), None,
                   out=woven[..., 1::2])  # fmt: skip
    assert (woven == [1, 2] * 7).all()


@pytest.mark.parametrize(
    ("out", "told"),
    [
        (np.zeros((2, 4, 10, 10), np.float32), r"shape \(2, 4, 10, 11\).*got shape \(2, 4, 10, 10"),
        (np.zeros(RESULT[1:], np.float32), r"got shape \(4, 10, 11\)"),
        (np.zeros(RESULT), "dtype float32, got .* dtype float64"),
        (np.zeros(RESULT, ">f4"), "dtype float32, got .* dtype >f4"),
        (read_only(np.zeros(RESULT, np.float32)), "writable.*read-only.*copy"),
        (
            np.lib.stride_tricks.as_strided(
                np.zeros(RESULT[1:], np.float32), RESULT, (0, 440, 44, 4), writeable=True
            ),
            "overlap itself.*copy",
        ),
    ],
    ids=["size", "rank", "dtype", "byte order", "read-only", "broadcast"],
)
def test_other_out_is_refused(out, told):
    x, w = (np.ones(s, np.float32) for s in (FIRST.input_shape, FIRST.weight_shape))
    before = out.copy()
    with pytest.raises(GeometryError, match=told):
        arrays.compute(FIRST, x, w, None, out=out)
    assert (out == before).all()


@pytest.mark.parametrize("name", ["input", "weight", "bias"])
@pytest.mark.parametrize("dtype", ["f32", "int32", "c64"])
def test_out_that_overlaps_an_argument_is_refused(name, dtype):
    problem = Problem.parse(f"n1 c4:4 i4 k4 {dtype}")
    kind = {"f32": np.float32, "int32": np.int32, "c64": np.complex64}[dtype]
    memory = np.ones(64, kind)
    out = memory[20:48].reshape(1, 4, 7)
    operands = {
        "input": np.ones((1, 4, 4), kind),
        "weight": np.ones((4, 4, 4), kind),
        "bias": np.ones(4, kind),
    }
    # the last element of the one is the first of the other, or the other way round
    for start in (20 - operands[name].size + 1, 47):
        if not 0 <= start <= memory.size - operands[name].size:
            continue
        overlapping = memory[start : start + operands[name].size].reshape(operands[name].shape)
        with pytest.raises(GeometryError, match=f"out must not overlap {name}"):
            arrays.compute(problem, *(operands | {name: overlapping}).values(), out=out)
        assert (memory == 1).all()


def test_shapes_beyond_any_memory_are_refused_even_without_elements():
    x, w = np.zeros((0, 1, 2**40), np.float32), np.ones((1, 1, 2), np.float32)
    with pytest.raises(GeometryError, match="larger than any memory; make stride or input smaller"):
        pp.functional.conv_transpose1d(x, w, stride=2**30)


@pytest.mark.parametrize("line", ["n0 c2:3 i4 k2 s2", "n2 c2:3 i2 k2 p1,2", "conv n0 c2:3 i4 k2"])
def test_outputs_without_elements(line):
    problem = Problem.parse(line)
    x, w = (np.ones(s, np.float32) for s in (problem.input_shape, problem.weight_shape))
    result = arrays.compute(problem, x, w, None)
    assert (result.shape, result.dtype) == (problem.output_shape, np.float32)
    out = np.zeros(problem.output_shape, np.float32)
    assert arrays.compute(problem, x, w, None, out=out) is out
