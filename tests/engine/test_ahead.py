"""Input that is fetched while an earlier box is computed."""

import kernels
import numpy as np
import pytest

from polyphase import Problem
from polyphase.engine import reference, tiling
from polyphase.engine.ahead import LINE_BYTES
from polyphase.engine.kernels import driver
from polyphase.engine.kernels.cells import OUTSIDE
from polyphase.engine.methods import METHODS
from polyphase.engine.target import cpus

(CHANNELS,) = (method for method in METHODS if method.name == "channels")
AT = {name: number for number, name in enumerate(driver.TASK)}

LINES = """
conv n3 c20:40 i30x33 k2x2 s2x2 nhwc
conv n2 c30:33 i40x33 k3x5 s2x1 p4x2 nhwc f64
conv n2 c5:17 i9x20x21 k2x2x2 s2x2x2 p1x0x1 ndhwc
conv n40 c8:16 i30 k2 s2 nlc bf16
""".strip().splitlines()


@pytest.fixture(autouse=True)
def every_input_is_large(monkeypatch):
    monkeypatch.setattr(tiling, "LARGE_INPUT", 0)


def operation(line, target):
    found = kernels.operation(Problem.parse(line), target, CHANNELS)
    assert found.tables.shape.fetch_input
    return found


@pytest.mark.parametrize("line", LINES)
def test_results_are_the_same(line, monkeypatch):
    # many boxes
    monkeypatch.setattr("polyphase.engine.plan.cache_bytes", lambda: 1 << 18)
    for target in kernels.TARGETS:
        found = operation(line, target)
        problem = found.plan.problem
        x, w, b = kernels.operands(problem)
        expected = reference.conv(x, w, b, problem.geometry, problem.groups)
        np.testing.assert_array_equal(kernels.compute(found, x, w, b), expected)


@pytest.mark.parametrize("line", LINES)
def test_what_is_fetched_is_what_is_packed_later(line, monkeypatch):
    monkeypatch.setattr("polyphase.engine.plan.cache_bytes", lambda: 1 << 18)
    tables = operation(line, kernels.TARGETS[0]).tables
    problem = tables.tiling.problem
    rows = tables.joined("pack_rows", len(driver.PACK_ROW))
    width, pixel = problem.input_size[-1], problem.in_channels
    fetching = 0
    for task, later in zip(tables.tasks, tables.tasks[cpus() :], strict=False):
        if not task[AT["ahead_lines"]]:
            continue
        fetching += 1
        assert task[AT["box"]] != later[AT["box"]]
        # what the later task packs, element by element
        places = set()
        for source, _ in rows[later[AT["pack_start"]] : later[AT["pack_stop"]]].tolist():
            if source != OUTSIDE:
                first = later[AT["x"]] + source + max(later[AT["low"]], 0) * pixel
                places |= {first, first + width * pixel - 1}
        start, stop = task[AT["row_start"]], task[AT["row_stop"]]
        spans = tables.classes[task[AT["class_base"]] + tables.rows[start:stop, 4]]
        taps = np.diff(tables.rows[start:stop, 2:4]).ravel()
        steps = int((np.diff(spans).ravel() * taps).sum())
        reached = task[AT["ahead_lines"]] * steps * LINE_BYTES // problem.item_size
        assert task[AT["ahead"]] == min(places)
        # to the last whole line
        assert max(places) < min(places) + reached + LINE_BYTES // problem.item_size
    assert fetching


@pytest.mark.parametrize(
    "line",
    [
        "conv n2 c20:40 i30x33 k2x2 s2x2",
        "n2 c20:40 i30x33 k2x2 s2x2 nhwc",
        "conv g2 c20:40 i30x33 k2x2 s2x2 nhwc",
    ],
)
def test_where_nothing_is_fetched(line):
    for target in kernels.TARGETS:
        found = kernels.operation(Problem.parse(line), target, CHANNELS)
        assert not found.tables.shape.fetch_input
        assert not found.tables.tasks[:, [AT["ahead"], AT["ahead_lines"]]].any()
