"""Boxes of positions: how their input is packed, and what that takes."""

from collections import Counter
from dataclasses import replace

import kernels
import numpy as np
import pytest

from polyphase import Problem
from polyphase.engine import reference
from polyphase.engine import tiling as tilings
from polyphase.engine.methods import METHODS
from polyphase.engine.target import NEON

pytestmark = pytest.mark.usefixtures("planned_for_two")

AVX512 = replace(NEON, name="avx512", vector_bytes=64)
BY_NAME = {method.name: method for method in METHODS}
CACHE_BYTES = 1 << 20


def tiling(line, method="channels"):
    return BY_NAME[method].tiling(Problem.parse(line), AVX512, CACHE_BYTES)


@pytest.mark.parametrize("channels", [16, 341, 512, 683, 1023, 1024, 1025, 1365, 2048, 4097])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_pixels_do_not_push_each_other_out_of_the_cache(channels, stride):
    found = tiling(f"conv c{channels}:16 i99x99 k3x3 s{stride}x{stride} nhwc")
    for depth in {channels, found.half(channels)}:
        apart = found.cell_elements(depth) * stride * found.compute_size
        # 64 sets of 8 lines of 64 bytes, and no register tile has more positions
        lines = {i * apart // 64 for i in range(AVX512.registers)}
        assert max(Counter(line % 64 for line in lines).values()) <= 8


def test_pixels_that_share_lines_need_no_room_between_them():
    assert tiling("conv g64 c64:128 i56x56 k3x3 p1x1 nhwc").cell_elements(1) == 1


def test_input_from_memory_is_read_in_long_runs(monkeypatch):
    line = "conv n16 c96:16 i104x96 k8x8 s8x8 nhwc"
    assert tiling(line).choice.depth == 96
    # from a cache, it may as well come a few channels at a time, which makes a box wider
    monkeypatch.setattr(tilings, "LARGE_INPUT", 1 << 40)
    assert tiling(line).choice.depth < 96


@pytest.mark.parametrize(
    ("method", "line"),
    [
        ("positions", "n1 c64:32 i128x128 k2x2 s2x2"),
        ("channels", "n1 c64:32 i128x128 k2x2 s2x2 nhwc"),
        ("channels", "n1 g64 c64:64 i64x64 k4x4 s2x2 p1x1 nhwc"),
    ],
)
def test_boxes_are_small_enough_for_one_task_each(method, line):
    found = tiling(line, method)
    assert found.box_count(found.choice.box) >= tilings.tasks()


def test_tasks_that_pack_the_same_are_counted():
    # blocks of channels are packed by every task; what one block holds, once in each thread
    found = tiling("conv n1 c100:80 i80x76 k4x4 s4x4")
    whole = found.whole
    assert found.packings(whole, found.in_channels // 2, 5) == 5
    assert found.packings(whole, found.in_channels, 5) == 2
    assert found.packings((1, 1, 1, 1), 1, 5) == 1


def test_an_idle_processor_counts():
    found = tiling("n1 c64:32 i30x30 k2x2 s2x2")
    # 30 rows are 15 rounds of two processors
    assert found.shared(3000.0, (1, 1, 1, 30), 1) < 3000 * 1.1 + 30 * tilings.TASK_CYCLES
    alone = found.shared(3000.0, found.whole, 1)
    assert alone > 2 * 3000


# planes of a few channels, in groups and with strides, whose last vectors reach beyond them
FEW_CHANNELS = """
conv n2 g24 c24:48 i9x8 k5x4 s3x2 p2x1 nhwc
conv n1 g16 c48:16 i17x13 k4x4 s4x4 nhwc
conv n1 g3 c15:9 i7x9x8 k3x3x3 s2x2x2 p1x1x1 ndhwc
conv n3 c2:17 i13x11 k8x8 s8x5 p4x4 nhwc
conv n2 c3:40 i40x33 k7x7 s3x3 p3x3 nhwc f64
n2 g33 c66:33 i6x5 k3x3 s2x2 p1x1 nhwc
conv n1 c17:8 i21x20 k5x5 s4x4 p2x2 nhwc
""".strip().splitlines()


@pytest.mark.parametrize("line", FEW_CHANNELS)
@pytest.mark.parametrize("cache", [1 << 14, 1 << 20])
def test_planes_do_not_reach_into_each_other(line, cache, monkeypatch):
    monkeypatch.setattr("polyphase.engine.plan.cache_bytes", lambda: cache)
    monkeypatch.setattr(tilings, "LARGE_INPUT", 0)
    problem = Problem.parse(line)
    x, w, b = kernels.operands(problem)
    definition = getattr(reference, problem.operator)
    expected = definition(x, w, b, problem.geometry, problem.groups)
    for target in kernels.TARGETS:
        operation = kernels.operation(problem, target, BY_NAME["channels"])
        np.testing.assert_array_equal(kernels.compute(operation, x, w, b), expected)
