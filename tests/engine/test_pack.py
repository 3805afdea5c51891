"""Panels filled square by square are those filled entry by entry, bit for bit."""

from dataclasses import replace

import kernels
import numpy as np
import problem_files
import pytest

from polyphase import Problem
from polyphase.engine import pack
from polyphase.engine.methods import FLOATS, METHODS
from polyphase.engine.target import NEON

pytestmark = pytest.mark.usefixtures("planned_for_two")

LISTED = [p for p in problem_files.problems() if p.operator != "weight_grad" and p.dtype in FLOATS]
# output channels and taps around the lanes of every target; phases of unequal taps; groups
SQUARES = """
c33:37 i7x9 k4x4 s2x2
c5:65 i9x4 k5x4 s3x2 nhwc
c96:96 g96 i5x5 k9x9 s2x2 nhwc
n2 c130:37 i7 k11 s3
c34:48 g2 i5x5 k3x3 s2x2
conv c37:33 i9x9 k4x4 s2x2
conv c19:67 i37 k33 nlc
conv c16:60 g2 i9x9 k3x3 s2x2 nhwc
conv c200:20 i9x9 k1x1
c33:37 i8x9 k3x3 s2x2 p1x1 o1x1
c20:37 i8x9 k3x3 s2x2 p1x1 o1x1 nhwc
conv c20:40 i9x9 k3x3 p1x1 nhwc
conv c20:40 i12x12 k4x4 s2x2 p1x1
""".strip().splitlines()


def packing_ways(problem):
    """The targets and methods with panels that do not refuse the problem."""
    return [(target, method) for target, method in kernels.ways(problem) if method.name != "taps"]


def packed(problem, target, method, least, monkeypatch):
    """The panels, their memory NaN at first, and how many elements of them are squares."""
    monkeypatch.setattr(pack, "LEAST_SQUARES", least)
    operation = kernels.operation(problem, target, method)
    _, w, b = kernels.operands(problem)
    panels = operation.pack(w.ctypes.data, b.ctypes.data)
    panels.values[...] = np.nan
    operation._packing.fill(w.ctypes.data, b.ctypes.data, panels.address)
    return panels.values, operation.tables.recipe.squares.elements


def assert_alike(problem, target, method, monkeypatch):
    by_squares, count = packed(problem, target, method, 0, monkeypatch)
    by_entries, none = packed(problem, target, method, 1 << 60, monkeypatch)
    assert none == 0
    # not-a-number would differ from itself: everything has been written
    np.testing.assert_array_equal(by_squares.view(np.uint8), by_entries.view(np.uint8))
    assert not np.isnan(by_squares).any()
    return count


@pytest.mark.parametrize("number", range(len(SQUARES)), ids=SQUARES.__getitem__)
def test_squares_and_entries_make_the_same_panels(number, monkeypatch):
    problem = replace(Problem.parse(SQUARES[number]), dtype=FLOATS[number % len(FLOATS)])
    counts = [
        assert_alike(problem, target, method, monkeypatch)
        for target, method in packing_ways(problem)
    ]
    assert max(counts) > 0


@pytest.mark.slow
def test_squares_and_entries_agree_on_every_listed_problem(monkeypatch):
    for number, problem in enumerate(LISTED):
        found = packing_ways(problem)
        for target, method in found[number % max(len(found), 1) :][:1]:
            assert_alike(problem, target, method, monkeypatch)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("minimal_channels", "c6:6 i5x5 k{k}x{k} s{s}x{s} nhwc"),
        ("channels", "c6:6 i5x5 k{k}x{k} s{s}x{s} nhwc"),
        ("channels", "c6:6 i1x1 k{k}x{k}"),
    ],
)
def test_row_tiles_that_differ_in_their_first_tap_share_a_recipe(name, layer):
    method = next(method for method in METHODS if method.name == name)

    def entries(step):
        problem = Problem.parse(layer.format(k=2 * step, s=step))
        recipe = method.tables(method.tiling(problem, kernels.TARGETS[0], 1 << 20)).recipe
        assert len(recipe.runs) > step
        return len(recipe.entries)

    # four times as many phases or outputs, and no more to say
    assert entries(20) <= entries(10)


def test_woven_phases_come_in_squares_of_their_own():
    method = next(method for method in METHODS if method.name == "positions")
    wide = replace(NEON, name="avx512", vector_bytes=64)
    recipe = method.tables(
        method.tiling(Problem.parse("c64:64 i28x28 k2x2 s2x2"), wide, 1 << 20)
    ).recipe
    # all but the biases
    assert recipe.squares.elements == 64 * 64 * 4
