"""Method ``taps``: long lines of taps, read as they lie."""

import os
import subprocess
import sys

import kernels
import numpy as np
import pytest
import repository
import torch

from polyphase import Problem, functional
from polyphase.arithmetic.problem import LAYOUTS
from polyphase.engine import arrays, plan, reference
from polyphase.engine.methods import METHODS

(TAPS,) = (method for method in METHODS if method.name == "taps")

# lines of whole vectors, of less than one, of one and a bit; cut off by borders; strides longer
# than lines; rows with dilation; few and many channels and positions
LINES = """
conv c3:5 i99 k16 s8
conv n2 c3:5 i199 k20 s7 p3
conv c5:3 i40x33 k3x16 s2x8 p1x4
conv c40:3 i500 k100 s50 f64
conv c300:2 i90 k32 s16
conv c17:9 i90 k9 s16
conv c5:3 i40x40 k17x33 s3x5 p3x2 d2x1 f16
conv n9 c3:5 i40x33x20 k5x4x16 s3x2x4 p0x1x8 bf16
conv c2:3 i3x50 k9x40 s2x3 p5x20
conv c7:20 i15 k15
conv c1:1 i9 k9 p8
conv n2 c6:3 i2x20 k2x16 s2x3 p2x3 d4x1
""".strip().splitlines()
# in channels-last memory lines are taps and channels, and rows of taps are taken like channels:
# such as meet no input, with strides and dilation, in blocks; vectors of few and of many channels
LAST = """
conv n2 c40:3 i9x8 k3x3 s1x2 p1x1
conv c16:5 i5x6x7 k2x3x2 s2x2x2 p0x1x1 d2x1x1
conv n3 c9:4 i1x30 k1x2
conv c21:17 i7x9 k16x16 s8x8 p6x6
conv c33:9 i40x20 k5x3 s2x1 p9x2 d3x1 f64
conv n5 c8:1 i6x6 k4x1 s3x2 p3x0 d2x5 bf16
conv c16:33 i4x4x4 k4x4x4 s4x4x4 p3x2x1 f16
conv n40 c70:6 i1x1 k1x1
conv n2 c70:6 i2x3 k4x5 p2x3
""".strip().splitlines()


def ways(problem):
    return [way for way in kernels.ways(problem) if way[1] is TAPS]


def layouts(line):
    return LAYOUTS[Problem.parse(line).rank][line in LAST :]


@pytest.mark.parametrize("line", LINES + LAST)
def test_it_computes_the_definition(line):
    for layout in layouts(line):
        problem = Problem.parse(f"{line} {layout}")
        assert ways(problem)
        for target, method in ways(problem):
            operation = kernels.operation(problem, target, method)
            assert not operation.packs
            for seed, bias in ((0, True), (1, False)):
                x, w, b = kernels.operands(problem, seed, bias)
                expected = reference.conv(x, w, b, problem.geometry, problem.groups)
                np.testing.assert_array_equal(kernels.compute(operation, x, w, b), expected)


@pytest.mark.parametrize("layout", ["ncl", "nlc"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_sums_rest_between_blocks_of_channels(layout, dtype, monkeypatch):
    monkeypatch.setattr(plan, "cache_bytes", lambda: 1 << 15)
    problem = Problem.parse(f"conv n2 c150:20 i99 k16 s8 {dtype} {layout}")
    for target, method in ways(problem):
        operation = kernels.operation(problem, target, method)
        assert operation.tables.depth < problem.in_channels
        x, w, b = kernels.operands(problem)
        expected = reference.conv(x, w, b, problem.geometry, problem.groups)
        np.testing.assert_array_equal(kernels.compute(operation, x, w, b), expected)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_sums_rest_between_rows_of_taps(dtype, monkeypatch):
    monkeypatch.setattr(plan, "cache_bytes", lambda: 1 << 15)
    problem = Problem.parse(f"conv n2 c50:20 i3x60x30 k3x20x4 s1x9x2 p1x2x1 {dtype} ndhwc")
    for target, method in ways(problem):
        operation = kernels.operation(problem, target, method)
        assert operation.weights_last
        assert operation.tables.depth < operation.tables.tiling.in_channels == 60
        x, w, b = kernels.operands(problem)
        expected = reference.conv(x, w, b, problem.geometry, problem.groups)
        np.testing.assert_array_equal(kernels.compute(operation, x, w, b), expected)


LARGE = "conv c16:17 i60x40 k16x16 s8x8 p4x4"


def test_channels_last_arrays_meet_weights_in_any_order():
    problem = Problem.parse(f"{LARGE} nhwc")
    assert plan.planned(problem).method is TAPS
    x, w, b = kernels.operands(problem)
    x = np.moveaxis(kernels.in_layout(x, problem), -1, 1)
    expected = reference.conv(x, w, b, problem.geometry, problem.groups)
    last = np.moveaxis(kernels.in_layout(w, problem), -1, 1)
    for weights in (w, last, np.repeat(w, 2, axis=3)[..., ::2]):
        first = Problem.parse(LARGE)
        np.testing.assert_array_equal(arrays.compute(first, x, weights, b), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_last_tensors_meet_weights_in_any_order(dtype):
    x = torch.randint(-4, 5, (1, 16, 60, 40)).to(dtype)
    w = torch.randint(-2, 3, (17, 16, 16, 16)).to(dtype)
    expected = torch.nn.functional.conv2d(x.double(), w.double(), None, 8, 4).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    last = w.contiguous(memory_format=torch.channels_last)
    for weights in (w, last, w.repeat_interleave(2, 2)[:, :, ::2], torch.nn.Parameter(last)):
        with torch.no_grad():
            found = functional.conv2d(x, weights, None, 8, 4)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("layout", ["ncl", "nlc"])
def test_what_lies_beyond_a_line_does_not_enter(layout, value):
    # 9 taps leave lanes of a vector that would reach the next output's inputs and weights
    problem = Problem.parse(f"conv c3:4 i40 k9 s9 {layout}")
    for target, method in ways(problem):
        operation = kernels.operation(problem, target, method)
        x, w, b = kernels.operands(problem)
        w[w == 0] = 1
        plain = kernels.compute(operation, x, w, b)
        x[:, :, 9] = value
        marked = kernels.compute(operation, x, w, b)
        assert not np.isfinite(marked[:, :, 1]).any()
        rest = [0, 2, 3]
        np.testing.assert_array_equal(marked[:, :, rest], plain[:, :, rest])


@pytest.mark.parametrize(
    "line",
    [
        "conv c80:6 i2048 k1024 s256",
        "conv c700:5 i3x64 k3x64",
        "conv c64:5 i64x64 k64x64 nhwc",
    ],
)
def test_no_chain_of_sums_is_long(line):
    # numbers of one sign: their sums only grow, and what is added to long ones is lost
    problem = Problem.parse(line)
    generator = np.random.default_rng(0)
    x = generator.random(problem.input_shape, np.float32)
    w = generator.random(problem.weight_shape, np.float32)
    exact = reference.conv(x.astype(np.float64), w.astype(np.float64), None, problem.geometry, 1)
    for target in kernels.TARGETS:
        off = {}
        for method in METHODS:
            if method.kernel is not None and method.refuse(problem, target) is None:
                operation = kernels.operation(problem, target, method)
                result = kernels.compute(operation, x, w, None)
                off[method.name] = float((abs(result - exact) / exact).max())
        assert off["taps"] <= max(2e-7, off["channels"]), target


def test_what_it_refuses():
    target = kernels.TARGETS[0]
    lanes = target.lanes("f32")
    for line, part in (
        ("c3:5 i9 k64 s32", "along the taps of a convolution"),
        ("conv g2 c4:4 i99 k64 s8", "of one group as they lie, and there are 2"),
        ("conv c3:5 i999 k64 s8 d2", "lie 2 inputs apart"),
        (f"conv c3:5 i99 k{lanes // 2 - 1}", f"a line of {lanes // 2 - 1} taps"),
        ("conv c3:5 i9x9 k2x2 nhwc d1x2", "lie 2 inputs apart"),
        (f"conv c2:5 i99x99 k3x{lanes // 4 - 1} nhwc", f"a line of {lanes // 2 - 2} taps"),
        ("conv c5000:1 i3x9 k1x7 nhwc", "lines of 35000 taps are longer than the 32768"),
        (f"conv c4096:1 i1x{1 << 20} k1x1 nhwc", f"an axis of {1 << 32} positions and"),
        ("conv c8:1 i3999x9 k2000x3 nhwc", "4000000 pairs of a row of taps"),
        ("conv c3:5 i99 k64 s8 int32", "plain path"),
    ):
        assert part in TAPS.refuse(Problem.parse(line), target), line


GUARDED = """
import guarded, kernels
from polyphase import Problem
from polyphase.arithmetic.problem import LAYOUTS
from polyphase.engine.methods import METHODS
(method,) = (method for method in METHODS if method.name == "taps")
for line in {lines}:
    for layout in LAYOUTS[Problem.parse(line).rank][line in {last} :]:
        problem = Problem.parse(f"{{line}} {{layout}}")
        for target in kernels.TARGETS:
            if method.refuse(problem, target) is None:
                for seed, at_end in ((0, True), (1, False)):
                    guarded.check(problem, target, method, at_end, seed)
print("done")
"""


@pytest.mark.slow
def test_nothing_outside_of_a_buffer_is_touched():
    folders = [str(repository.ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.run(
        [sys.executable, "-c", GUARDED.format(lines=LINES + LAST, last=LAST)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
    )
    assert process.stdout.splitlines()[-1:] == ["done"], process.stderr
