"""Gradients of weights and bias against the oracle, exactly: every kind of tile on every target."""

import os
import subprocess
import sys
from dataclasses import replace

import guarded_weights as guarded
import kernels
import numpy as np
import oracle
import problem_files
import pytest
import repository
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from polyphase import Problem, get_num_threads, plan, set_num_threads
from polyphase.arithmetic.problem import LAYOUTS
from polyphase.engine import reference, weights_tiling
from polyphase.engine.plan import Plan
from polyphase.engine.sums import BiasOperation
from polyphase.engine.weights import WeightOperation
from polyphase.engine.weights_arrays import bias_gradient, weight_gradient

DTYPES = tuple(strategies.DTYPES)
LISTED = [
    replace(problem, operator="weight_grad")
    for problem in problem_files.problems()
    if problem.operator == "conv_transpose"
]
# sizes past one vector, register tile, block, box and chunk; the reference is the oracle
LARGER = """
n3 c37:29 i13x17 k4x4 s2x2 p1x1
c131:17 i11x23 k2x2 s2x2
c131:67 i7x5 k3x3 s2x2 p1x1 o1x1 nhwc
n67 c70:33 i1x1 k4x4
c31:33 i127 k16 s8 p4
c20:20 i9x9 k5x5 s2x2
n2 c20:20 i9x40 k3x3 p12x1 d12x1
c17:3 i61 k16 s8 p4 nlc
c67:1 i53 k128 s32
c35:1 i31x29 k9x9 s3x3 p4x4 o2x2
c35:3 i31x29 k4x4 s2x2 p1x1 nhwc
c23:23 i5x7x11 k2x2x2 s2x2x2
c19:7 i3x5x9 k4x4x4 s2x2x2 p1x1x1 ndhwc
c70:70 g70 i33x31 k4x4 s2x2 p1x1
c70:70 g70 i33x31 k4x4 s2x2 p1x1 nhwc
n2 c34:51 g17 i9x35 k3x3 s2x2 p1x1
c17:19 i37x41 k3x3 p2x2 d2x2
c9:9 i40 k9 s13 p4
c7:11 i101 k3 s5 d4 p2
n2 c33:17 i3x129 k5x1 s4x1 f16
n5 c33:40 i4x4 k4x4 s2x2 p1x1 bf16
c21:21 i9x8 k16x16 s8x8 p4x4 f64
""".strip().splitlines()


def assert_exact(problem, target, kind=None, seed=0):
    operation = guarded.operation(problem, target, kind)
    x, y = guarded.operands(problem, seed)
    wide = [array.astype(np.float64) for array in (x, y)]
    expected = reference.weight_grad(*wide, problem.geometry, problem.groups).astype(x.dtype)
    for last in (False, True):
        result = guarded.compute(operation, x, y, last)
        oracle.assert_same(result, expected, f"{operation.plan.kernel}: {problem} {last}")


def expected(problem, x, y):
    return oracle.weight_grad(x, y, problem.geometry, problem.groups).astype(x.dtype)


@pytest.mark.parametrize("problem", LISTED, ids=str)
def test_every_listed_problem(problem):
    x, y = guarded.operands(problem)
    oracle.assert_same(weight_gradient(problem, x, y), expected(problem, x, y), problem)


@settings(max_examples=50)
@given(strategies.cases("weight_grad", dtypes=DTYPES), st.integers(0, 2**32 - 1))
def test_any_arrays_through_the_front(case, seed):
    # complex numbers, integers, and every kind of memory
    problem, x, *_ = case
    _, y = guarded.operands(problem, seed)
    if seed % 2:
        y = np.moveaxis(np.ascontiguousarray(np.moveaxis(y, 1, -1)), -1, 1)
    result = weight_gradient(replace(problem, layout=LAYOUTS[problem.rank][0]), x, y)
    assert result.dtype == x.dtype
    oracle.assert_same(result, expected(problem, x, y), problem)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(LARGER)), ids=lambda number: LARGER[number])
def test_larger_problems_in_every_kind_of_tile(number, monkeypatch):
    problem = replace(Problem.parse(LARGER[number]), operator="weight_grad")
    best, *others = [t for t in kernels.TARGETS if t.halves or problem.dtype != "f16"]
    for kind in guarded.kinds(problem, best):
        assert_exact(problem, best, kind)
    # the same in many boxes, chunks and tasks
    monkeypatch.setattr(weights_tiling, "SMALLEST_TASK", 1)
    monkeypatch.setattr(weights_tiling, "BOX_POSITIONS", (7 + number, 40))
    monkeypatch.setattr(weights_tiling, "LONGEST_LISTS", (0, 1 << 19)[number % 2])
    for kind in guarded.kinds(problem, best):
        assert_exact(problem, best, kind, seed=1)
    for target in others:
        kinds = guarded.kinds(problem, target)
        assert_exact(problem, target, kinds[number % len(kinds)], seed=2)


@pytest.mark.parametrize("target", kernels.TARGETS, ids=lambda target: target.name)
def test_every_kind_of_tile_on_every_target(target):
    seen = set()
    for line in (
        "n3 c19:21 i4x5 k4x4 s2x2 p1x1 f64",
        "n2 c5:2 i30 k9 s3 p2",
        "c18:18 g18 i7x6 k3x3 s2x2 p1x1 nhwc bf16",
        "n2 c19:5 i6x5 k3x3 s2x1 p1x2 nhwc",
    ):
        problem = replace(Problem.parse(line), operator="weight_grad")
        for kind in guarded.kinds(problem, target):
            assert_exact(problem, target, kind)
            seen.add(kind)
    assert {kind for _, kind, _ in seen} == {"outputs", "inputs", "taps", "groups"}
    methods = {"weights", "weights_in_lines", "minimal_weights"}
    assert {method for method, *_ in seen} == methods
    assert ("weights_in_lines", "taps", True) in seen
    assert ("weights", "inputs", True) in seen


@pytest.mark.parametrize(
    "line",
    [
        "n7 c40:40 i16x16 k3x3 s2x2 p1x1",
        "n7 c40:40 i16x16 k3x3 s2x2 p1x1 nhwc f64",
        "c300:200 i40 k16 s8 p4",
        "n3 c64:64 g64 i24x24 k4x4 s2x2 p1x1",
        "c20:6 g2 i5x30x30 k2x2x2 s2x2x2",
    ],
)
def test_the_same_bits_for_every_number_of_threads(line):
    problem = replace(Problem.parse(line), operator="weight_grad")
    generator = np.random.default_rng(0)
    x, y = (
        generator.standard_normal(shape).astype(strategies.DTYPES[problem.dtype])
        for shape in (problem.input_shape, problem.output_shape)
    )
    for method in ("weights", "weights_in_lines", "minimal_weights"):
        if guarded.BY_NAME[method].refuse(problem, kernels.TARGETS[0]) is None:
            assert_same_bits(problem, method, x, y)


def assert_same_bits(problem, method, x, y):
    plan = Plan(problem, kernels.TARGETS[0], guarded.BY_NAME[method], {})
    operation = WeightOperation(plan)
    # otherwise one thread would do it all anyway
    assert len(operation.tables.tasks) >= 4
    before = get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 4, 4):
            set_num_threads(count)
            sums = guarded.bias(BiasOperation(problem, kernels.TARGETS[0]), problem, y)
            results.append((guarded.compute(operation, x, y).tobytes(), sums.tobytes()))
    finally:
        set_num_threads(before)
    assert len(set(results)) == 1


@settings(max_examples=50)
@given(strategies.problems(dtypes=DTYPES))
def test_any_bias(problem):
    _, y = guarded.operands(problem)
    if problem.channels_last:
        y = np.moveaxis(np.ascontiguousarray(np.moveaxis(y, 1, -1)), -1, 1)
    result = bias_gradient(problem, y)
    wide = y.astype(np.float64) if problem.dtype in ("bf16", "f16") else y
    sums = wide.sum(axis=(0, *range(2, y.ndim)), dtype=wide.dtype)
    oracle.assert_same(result, sums.astype(y.dtype), problem)


@pytest.mark.parametrize("target", kernels.TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize(
    "line",
    [
        "n3 c1:37 i50x40 k2x2 s2x2",
        "n3 c1:37 i50x40 k2x2 s2x2 nhwc",
        "n70 c1:5 i3 k3 nlc bf16",
        "n70 c1:150 i3 k3 nlc f64",
        "n2 c1:2 i30000 k2 s2",
        # pixels that are taken together, and some that are left over
        "n1 c1:21 i57x61 k1x1 nhwc",
        "n1 c1:3 i4099 k1 nlc f64",
        "n1 c1:33 i15 k1 nlc",
        "n1 c1:40 i999 k1 nlc bf16",
    ],
)
def test_bias_in_many_parts(line, target):
    problem = Problem.parse(line)
    _, y = guarded.operands(problem)
    result = guarded.bias(BiasOperation(problem, target), problem, y)
    sums = y.astype(np.float64).sum(axis=(0, *range(2, y.ndim)))
    oracle.assert_same(result, sums.astype(y.dtype), problem)


def test_the_plan_tells_method_and_refusals():
    shown = str(plan("weight_grad n2 c64:32 i8x8 k2x2 s2x2"))
    assert "method    weights" in shown
    assert "minimal_weights: no axis has taps and positions that share enough products" in shown
    assert "chunks of the sum" in shown
    shown = str(plan("weight_grad n16 c128:128 i32x32 k4x4 s2x2 p1x1"))
    assert "method    minimal_weights" in shown
    assert "positions in groups of 3x3" in shown
    refusals = plan("weight_grad c2:3 i2 k2 p1,2").refusals
    assert refusals["weights"] == "no tap leads from an input to an output"
    assert plan("weight_grad c2:3 i2 k2 int32").method.name == "reference"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_nothing_outside_of_a_buffer_is_touched(seed):
    script = repository.ROOT / "tests" / "guarded_weights.py"
    folders = [str(script.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.run(
        [sys.executable, script, str(seed), "30"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
    )
    last = process.stdout.splitlines()[-1:]
    assert process.returncode == 0, f"{last} {process.stderr}"
    assert last == ["done"]


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_the_largest_error_is_no_larger_than_that_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    kind = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    ours, theirs = [], []
    for line in (
        "n2 c20:9 i40x50 k3x3 s2x2 p1x1",
        "c9:40 i70x70 k2x2 s2x2",
        "n3 c17:20 i700 k16 s8 p4",
        "c6:6 g6 i60x60 k4x4 s2x2 p1x1",
    ):
        problem = replace(Problem.parse(line), operator="weight_grad", dtype=dtype)
        generator = torch.Generator().manual_seed(len(ours))
        x, y = (
            torch.randn(shape, generator=generator).to(kind)
            for shape in (problem.input_shape, problem.output_shape)
        )
        g = problem.geometry
        per_axis = [[axis.stride, axis.begin, axis.dilation] for axis in g.axes]

        def gradient(x, y, problem=problem, per_axis=per_axis):
            w = torch.empty(problem.weight_shape, dtype=x.dtype)
            stride, padding, dilation = zip(*per_axis, strict=True)
            none = [0] * problem.rank
            return torch.ops.aten.convolution_backward(
                y, x, w, None, stride, padding, dilation, True, none, problem.groups,
                [False, True, False],
            )[1]  # fmt: skip

        exact = gradient(x.double(), y.double()).numpy()
        # NumPy gets bfloat16 from ml_dtypes, and torch does not know of it
        bits = {2: torch.int16, 4: torch.int32}[x.element_size()]
        stored = [t.view(bits).numpy().view(strategies.DTYPES[dtype]) for t in (x, y)]
        for errors, result in (
            (ours, weight_gradient(problem, *stored).astype(np.float64)),
            (theirs, gradient(x, y).double().numpy()),
        ):
            errors.append(abs(result - exact).max() / abs(exact).max())
    assert 0 < max(ours) <= max(theirs)
