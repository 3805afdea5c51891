"""Every method on every target against the oracle, exactly: small integers, NaN-born outputs."""

from dataclasses import replace

import kernels
import numpy as np
import oracle
import problem_files
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from polyphase import Problem
from polyphase.arithmetic.problem import LAYOUTS
from polyphase.engine import arrays, plan, reference
from polyphase.engine.methods import FLOATS

LISTED = [p for p in problem_files.problems() if p.operator != "weight_grad" and p.dtype in FLOATS]
# sizes past one vector, register tile, box, task and block of channels, prime and one off powers
# of two; the reference is the oracle, for plain loops would take minutes
LARGER = """
n3 c37:29 i13x17 k4x4 s2x2 p1x1
c131:17 i11x23 k2x2 s2x2
c131:67 i7x5 k3x3 s2x2 p1x1 o1x1 nhwc
n2 c200:5 i3x3 k3x3 s2x2
n67 c70:33 i1x1 k4x4
n5 c33:127 i4x4 k4x4 s2x2 p1x1
c31:33 i127 k16 s8 p4
c17:3 i61 k16 s8 p4 nlc
c67:1 i53 k128 s32
c5:1 i31x29 k9x9 s3x3 p4x4 o2x2
c23:23 i5x7x11 k2x2x2 s2x2x2
c19:7 i3x5x9 k4x4x4 s2x2x2 p1x1x1 ndhwc
c64:64 g64 i33x31 k4x4 s2x2 p1x1
c64:64 g64 i33x31 k4x4 s2x2 p1x1 nhwc
n2 c34:51 g17 i9x35 k3x3 s2x2 p1x1
c17:19 i37x41 k3x3 p2x2 d2x2
c40:40 i9x257 k3x7 s1x2 p1x3 d1x3
c9:9 i40 k9 s13 p4
c7:11 i101 k3 s5 d4 p2
n2 c33:17 i3x129 k5x1 s4x1
conv n2 c29:37 i27x35 k4x4 s2x2 p1x1
conv c67:131 i23x9 k3x3 p1x1 nhwc
conv c3:65 i47x61 k8x8 s8x8
conv c3:65 i47x61 k8x8 s8x8 nhwc
conv c131:5 i331 k16 s8 p4
conv c23:5 i11x13x17 k2x3x4 s2x1x3
conv n3 c34:51 g17 i19x33 k3x3 s2x2 p1x1
conv c33:33 i5x130 k3x5 s1x3 d2x1
conv n67 c70:33 i4x4 k4x4
conv n67 c70:33 i4x4 k4x4 nhwc
conv n13 c40:70 i7x5 k3x3 s2x2 p1x1 nhwc
n11 c40:70 i2x3 k3x2 s1x2 nhwc
""".strip().splitlines()


def assert_exact(problem, target, method, arrays, expected):
    x, w, b = arrays
    result = kernels.compute(kernels.operation(problem, target, method), x, w, b)
    assert result.dtype == x.dtype
    oracle.assert_same(
        result, expected.astype(x.dtype), f"{method.name} on {target.name}: {problem}"
    )


def gathered(problem, x, w, b):
    return getattr(oracle, problem.operator)(x, w, b, problem.geometry, problem.groups)


def variants(problem, number):
    """The problem in the other layout, and its adjoint; the dtype changes from line to line."""
    dtype = FLOATS[number % len(FLOATS)]
    first, last = LAYOUTS[problem.rank]
    yield replace(problem, layout=first if problem.channels_last else last, dtype=dtype)
    if problem.operator == "conv_transpose" and min(problem.output_size) > 0:
        yield replace(
            problem,
            operator="conv",
            dtype=dtype,
            input_size=problem.output_size,
            in_channels=problem.out_channels,
            out_channels=problem.in_channels,
        )


@pytest.mark.parametrize("problem", LISTED, ids=str)
def test_every_listed_problem(problem):
    operands = kernels.operands(problem)
    expected = gathered(problem, *operands)
    found = kernels.ways(problem)
    for target, method in found:
        assert_exact(problem, target, method, operands, expected)
    empty = problem.batch == 0 or min(problem.output_size) == 0
    needs_halves = problem.dtype == "f16"
    capable = [t for t in kernels.TARGETS if t.halves or not needs_halves]
    # channels refuses nothing that has a result, so that each line really ran on each target
    assert {t for t, _ in found} == (set() if empty else set(capable))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(LISTED)), ids=lambda number: str(LISTED[number]))
def test_every_listed_problem_in_other_layouts_and_backwards(number):
    for variant in variants(LISTED[number], number):
        found = kernels.ways(variant)
        if found:
            # compiling takes the time: one way each, another one for the next line
            target, method = found[number % len(found)]
            operands = kernels.operands(variant, seed=number, bias=number % 3 > 0)
            assert_exact(variant, target, method, operands, gathered(variant, *operands))


@settings(max_examples=50)
@given(
    st.sampled_from(("conv_transpose", "conv")).flatmap(
        lambda operator: strategies.problems(operator, dtypes=FLOATS)
    ),
    st.integers(0, 2**32 - 1),
)
def test_any_problem(problem, seed):
    operands = kernels.operands(problem, seed, bias=seed % 2 > 0)
    expected = gathered(problem, *operands)
    for target, method in kernels.ways(problem):
        assert_exact(problem, target, method, operands, expected)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(LARGER)), ids=lambda number: LARGER[number])
def test_larger_problems_in_boxes_of_every_size(number, monkeypatch):
    problem = Problem.parse(LARGER[number])
    operands = kernels.operands(problem)
    wide = [array.astype(np.float64) for array in operands]
    definition = getattr(reference, problem.operator)
    expected = definition(*wide, problem.geometry, problem.groups)
    found = kernels.ways(problem)
    best = [way for way in found if way[0] is kernels.TARGETS[0]]
    others = [way for way in found if way not in best] or best
    # with a small cache the same problem falls into many boxes and blocks of channels
    for cache_bytes, ways in (
        (1 << 20, best),
        (1 << 13, best),
        (1 << 13, [others[number % len(others)]]),
    ):
        monkeypatch.setattr(plan, "cache_bytes", lambda size=cache_bytes: size)
        for target, method in ways:
            assert_exact(problem, target, method, operands, expected)


@pytest.mark.parametrize(
    "line",
    [
        # phases by the million of millions, two of them with an output
        f"c1:1 i4 k2 s{2**40} p{2**40 + 2**39}",
        f"c2:3 i4x3 k2x2 s{2**40}x2 p{2**40 + 2**39}x0 nhwc",
        f"c2:3 i1 k4 s{2**40}",
        # a stride that a single output never takes
        f"conv c1:1 i4 k2 s{2**40}",
        f"conv c2:3 i5x6 k3x2 s{2**20}x2 nhwc",
        # outputs so far apart that few meet an input
        f"conv c2:3 i4 k2 s{2**40} p{2**40}",
        # taps so far apart that few meet an input
        f"c2:3 i4 k2 s2 d{2**40} p{2**39}",
        f"conv c2:3 i4 k2 d{2**40} p{2**39}",
        # more taps, phases and steps than are listed
        "c1:1 i4 k40000 p20000",
        "c1:1 i3 k2 s40000 p20000,59990",
        "conv c1:1 i40000 k2 s39000",
    ],
)
def test_extreme_parameters_cost_neither_time_nor_memory(line):
    problem = Problem.parse(line)
    operands = kernels.operands(problem)
    oracle.assert_same(arrays.compute(problem, *operands), gathered(problem, *operands), problem)


def containing(x, seed):
    """The input as floats that are no numbers here and there, infinite elsewhere."""
    generator = np.random.default_rng(seed)
    if x.size:
        x.flat[generator.integers(0, x.size, 2)] = np.nan
        x.flat[generator.integers(0, x.size, 1)] = np.inf
    return x


@settings(max_examples=60)
@given(
    st.sampled_from(("conv_transpose", "conv")).flatmap(
        lambda operator: strategies.problems(operator, dtypes=("f32", "f64"))
    ),
    st.integers(0, 2**32 - 1),
)
def test_what_is_not_finite_stays_where_it_belongs(problem, seed):
    assert_contained(problem, seed)


@pytest.mark.parametrize("line", [*LARGER, *map(str, problem_files.problems("regress"))])
def test_what_is_not_finite_stays_where_it_belongs_in_larger_problems(line):
    assert_contained(Problem.parse(line), 0)


def assert_contained(problem, seed):
    x, w, b = kernels.operands(problem, seed)
    # no weight is 0, for 0 * inf would be right then
    w = np.where(w == 0, w.dtype.type(1), w)
    x = containing(x, seed)
    definition = getattr(reference, problem.operator)
    with np.errstate(invalid="ignore"):
        expected = definition(x, w, b, problem.geometry, problem.groups)
    found = kernels.ways(problem)
    # one way each, another one for the next problem
    for target, method in found[seed % len(found) :][:1] if found else []:
        result = kernels.compute(kernels.operation(problem, target, method), x, w, b)
        np.testing.assert_array_equal(result, expected, f"{method.name} {target.name} {problem}")


@pytest.mark.parametrize("target", kernels.TARGETS, ids=lambda target: target.name)
def test_any_arrays_through_the_front(target):
    # complex numbers, integers, float16 without instructions for it, and every kind of memory
    @settings(max_examples=50)
    @given(
        st.sampled_from(("conv_transpose", "conv")).flatmap(
            lambda operator: strategies.cases(operator, dtypes=tuple(strategies.DTYPES))
        )
    )
    def check(case):
        problem, x, w, b = case
        first = replace(problem, layout=LAYOUTS[problem.rank][0])
        result = arrays.compute(first, x, w, b)
        assert result.dtype == x.dtype
        oracle.assert_same(result, gathered(problem, x, w, b).astype(x.dtype), problem)

    with kernels.engine_on(target):
        check()


@pytest.mark.parametrize("target", kernels.TARGETS, ids=lambda target: target.name)
def test_every_dtype_through_the_front(target):
    with kernels.engine_on(target):
        for dtype in strategies.DTYPES:
            problem = Problem.parse(f"n2 c6:4 g2 i5x6 k3x4 s2x2 p1x1 {dtype}")
            operands = kernels.operands(problem)
            result = arrays.compute(problem, *operands)
            expected = gathered(problem, *operands).astype(operands[0].dtype)
            oracle.assert_same(result, expected, problem)
