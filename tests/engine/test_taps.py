"""Method ``taps``: long lines of taps, read as they lie."""

import os
import subprocess
import sys

import kernels
import numpy as np
import pytest
import repository

from polyphase import Problem
from polyphase.arithmetic.problem import LAYOUTS
from polyphase.engine import plan, reference
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


def ways(problem):
    return [way for way in kernels.ways(problem) if way[1] is TAPS]


@pytest.mark.parametrize("line", LINES)
def test_it_computes_the_definition(line):
    for layout in LAYOUTS[Problem.parse(line).rank]:
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


@pytest.mark.parametrize("line", ["conv c80:6 i2048 k1024 s256", "conv c700:5 i3x64 k3x64"])
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
    for layout in LAYOUTS[Problem.parse(line).rank]:
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
        [sys.executable, "-c", GUARDED.format(lines=LINES)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
    )
    assert process.stdout.splitlines()[-1:] == ["done"], process.stderr
