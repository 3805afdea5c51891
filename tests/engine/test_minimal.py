"""Minimal filtering: its algebra, what it leaves alone, and where it is taken."""

import kernels
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polyphase as pp
from polyphase import Problem
from polyphase.engine import plan, reference
from polyphase.engine.filtering import products
from polyphase.engine.methods import METHODS
from polyphase.engine.target import NEON

MINIMAL = [m for m in METHODS if m.filters and "conv" in m.operators]
# each has an axis with pairs of taps; the method is the one of its layout
LINES = (
    "c3:5 i9 k4 s2 p1",
    "n2 c3:5 i7x6 k3x3 s2x2 p1x1 o1x1",
    "conv c5:3 i12x11 k4x4 s2x2 p1x1",
    "c3:4 i4x5x3 k4x2x4 s2x2x2 p1x0x1",
    "c4:4 g2 i9x9 k3x3 p1x1",
)
LAYOUTS = {1: ("ncl", "nlc"), 2: ("nchw", "nhwc"), 3: ("ncdhw", "ndhwc")}


def problems():
    for line in LINES:
        for layout in LAYOUTS[Problem.parse(line).rank]:
            yield Problem.parse(f"{line} {layout}")


def operation(problem):
    """The operation of the method of minimal filtering that takes the problem."""
    target = kernels.TARGETS[0]
    (method,) = (method for method in MINIMAL if method.refuse(problem, target) is None)
    return kernels.operation(problem, target, method)


@given(
    st.lists(st.integers(-5, 5), min_size=0, max_size=5, unique=True),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_the_products_make_the_sums_of_the_definition(offsets, together, step, seed):
    generator = np.random.default_rng(seed)
    x = dict(enumerate(generator.integers(-9, 10, 40).tolist(), -15))
    weights = generator.integers(-9, 10, len(offsets)).tolist()
    made = [0] * together
    found = products(offsets, together, step)
    for product in found:
        value = sum(factor * x[offset] for offset, factor in product.form.terms)
        for output, sign in product.outputs:
            made[output] += sign * value * sum(by * weights[tap] for tap, by in product.taps)
    for position in range(together):
        terms = (x[o + position * step] * w for o, w in zip(offsets, weights, strict=True))
        assert made[position] == sum(terms)
    assert len(found) <= together * len(offsets)


@given(st.integers(-5, 5), st.integers(1, 3), st.integers(1, 9))
def test_threes_and_twos_of_taps_take_one_product_more_than_taps(first, step, taps):
    offsets = [first + i * step for i in range(taps)]
    found = products(offsets, 2, step)
    assert len(found) == taps + -(-taps // 3)
    for product in found:
        for output, _ in product.outputs:
            # no output meets an input that it does not read
            reads = {offset + output * step for offset in offsets}
            assert set(product.form.offsets) <= reads


# phases of one tap and of two, as many as a group has or not, in every order; no tap at all
UNEVEN = """
n2 c3:5 i23 k5 s3 p1
n2 c3:5 i23 k7 s4
c2:3 i5x19 k4x10 s2x6 p1x2
c2:3 i21 k9 s6 d2
c5:20 i23 k3 d2 p2
c5:20 i9x26 k3x3 d2x5 p1x3
conv n2 c5:20 i11x12 k3x2 d2x3 p2x1
c3:17 g1 i7x8x9 k3x2x3 s1x2x1 d2x1x2
c3:4 g1 i6x17 k6x5 s3x3 p2x1
c4:6 g2 i3x5x11 k2x4x5 s2x2x3
conv c2:3 i9x40 k2x7 s1x2 p0x3
c70:40 i6x7 k3x5 p1x2
conv c40:70 i5x9x6 k3x1x3 s1x2x1 p1x0x1
""".strip().splitlines()


def assert_exact(problem, target, method):
    x, w, b = kernels.operands(problem)
    result = kernels.compute(kernels.operation(problem, target, method), x, w, b)
    expected = getattr(reference, problem.operator)(x, w, b, problem.geometry, problem.groups)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("line", UNEVEN)
def test_phases_of_unequal_taps(line):
    for layout in LAYOUTS[Problem.parse(line).rank]:
        problem = Problem.parse(f"{line} {layout}")
        ways = [way for way in kernels.ways(problem) if way[1] in MINIMAL]
        assert ways
        for target, method in ways:
            assert_exact(problem, target, method)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_sums_rest_between_blocks_of_channels(layout, dtype, monkeypatch):
    monkeypatch.setattr(plan, "cache_bytes", lambda: 1 << 15)
    problem = Problem.parse(f"n2 c150:20 i7x9 k4x4 s2x2 p1x1 {dtype} {layout}")
    target = kernels.TARGETS[0]
    assert operation(problem).tables.depth < problem.in_channels
    for method in MINIMAL:
        if method.refuse(problem, target) is None:
            assert_exact(problem, target, method)


@pytest.mark.parametrize("problem", list(problems()), ids=str)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_meets_nothing_infinite_stays_as_it_is(problem, value):
    x, w, b = kernels.operands(problem)
    w[w == 0] = 1
    plain = kernels.compute(operation(problem), x, w, b)
    spot = tuple(size // 2 for size in x.shape)
    x[spot] = value
    marked = kernels.compute(operation(problem), x, w, b)
    with np.errstate(invalid="ignore"):
        true = getattr(reference, problem.operator)(x, w, b, problem.geometry, problem.groups)
    met = ~np.isfinite(true)
    assert met.any()
    assert not met.all()
    assert not np.isfinite(marked[met]).any()
    assert (marked[~met] == plain[~met]).all()


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_phases_of_a_dilated_axis_share_their_weights(layout):
    sizes = {}
    for line in ("k3x3 d1x1 p1x1", "k3x3 d2x2 p2x2"):
        problem = Problem.parse(f"n1 c64:64 i64x64 {line} {layout}")
        method = next(m for m in MINIMAL if m.refuse(problem, NEON) is None)
        tables = method.tables(method.tiling(problem, NEON, 1 << 20))
        sizes[line] = len(set(tables.rows[:, 0])), len(tables.rows)
    (plain, every), (dilated, more) = sizes.values()
    assert plain == every
    assert dilated <= more // 2


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    "kernel", ["k4x4 s2x2 p1x1", "k3x3 s2x2 p1x1 o1x1", "k3x3 p1x1", "k3x3 d2x2 p2x2"]
)
def test_large_layers_of_two_taps_are_filtered(kernel, layout, monkeypatch):
    # a target that is the same on every machine
    monkeypatch.setattr(plan, "current", lambda: NEON)
    problem = Problem.parse(f"n4 c256:256 i32x32 {kernel} {layout}")
    assert plan.planned.__wrapped__(problem).method in MINIMAL


def test_sums_of_many_taps_are_known_to_take_long():
    # they are made one by one, where squares of few taps are summed as vectors
    def each(line):
        problem = Problem.parse(line)
        (method,) = (m for m in MINIMAL if m.refuse(problem, NEON) is None)
        tiling = method.tiling(problem, NEON, 1 << 20)
        return tiling.packing_cycles / tiling.expansion / np.prod(problem.weight_shape)

    assert each("c32:32 i32x32 k32x32 s16x16 nhwc") > 3 * each("c32:32 i32x32 k16x16 s8x8 nhwc")


def test_one_tap_a_phase_leaves_nothing_to_save():
    for layout in ("nchw", "nhwc"):
        refusals = pp.plan(f"c64:64 i16x16 k2x2 s2x2 {layout}").refusals
        for method in MINIMAL:
            assert "share an input" in refusals[method.name]
