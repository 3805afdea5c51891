"""Gradients of weights by pairs of bfloat16: two images to a cell, or the halves of one."""

from dataclasses import replace

import guarded_weights as guarded
import numpy as np
import oracle
import pytest
from kernels import SERVER, WITH_PAIRS, needs_pairs

from polyphase import Problem
from polyphase.arithmetic.problem import LAYOUTS
from polyphase.engine import jit, reference, weights_tiling
from polyphase.engine.kernels import weights
from polyphase.engine.weights_sizes import Sizes
from polyphase.engine.weights_tiling import WeightsTiling

CACHE = 1 << 20
# images by twos, an image that falls apart along each axis, and what is left alone
LINES = {
    "n2 c5:17 i7x9 k4x4 s2x2 p1x1": (1, None),
    "n4 c33:3 i5x6 k3x5 s2x1 p2x1": (2, None),
    "n6 c6:9 g3 i9x5 k3x3 p1x1": (3, None),
    "n2 c20:1 i33 k16 s8 p4": (1, None),
    "n1 c17:20 i6x9 k2x2 s2x2": (1, 1),
    "n1 c4:33 i5x8 k2x3 s2x3": (1, 2),
    "n1 c6:4 g2 i4x3x6 k2x1x2 s2x1x3": (1, 0),
    "n1 c3:2 i40 k5 s5": (1, 2),
    # cropped, overlapping, of odd size; of images left over
    "n1 c5:7 i6x8 k2x2 s2x2 p1x1": None,
    "n1 c5:7 i7x8 k2x3 s2x2": None,
    "n1 c5:7 i7x9 k2x2 s2x2": None,
    "n3 c5:7 i6x8 k2x2 s2x2": None,
    "n2 c8:8 g8 i6x8 k2x2 s2x2": None,
}


def problems():
    for line in LINES:
        first = Problem.parse(f"weight_grad {line} bf16")
        for layout in LAYOUTS[first.rank]:
            yield pytest.param(replace(first, layout=layout), LINES[line], id=f"{line} {layout}")


@pytest.mark.parametrize(("problem", "pairs"), [*problems()])
def test_what_is_paired(problem, pairs):
    tiling = WeightsTiling(problem, SERVER, CACHE)
    if pairs is None:
        assert tiling.cell_images == 1
        assert tiling.positions[0] == problem.batch
    else:
        assert tiling.cell_images == 2
        assert (tiling.positions[0], tiling.halved) == pairs
        assert 2 * np.prod(tiling.positions) == problem.batch * np.prod(problem.input_size)
    # other types, and methods that multiply sums
    assert WeightsTiling(replace(problem, dtype="f32"), SERVER, CACHE).cell_images == 1
    assert Sizes(problem, SERVER).cell_images == 1


@needs_pairs
@pytest.mark.parametrize(("problem", "pairs"), [*problems()])
def test_gradients_are_exact_in_every_kind_of_tile(problem, pairs, monkeypatch):
    target = WITH_PAIRS[0]
    x, y = guarded.operands(problem, 3)
    wide = [array.astype(np.float64) for array in (x, y)]
    expected = reference.weight_grad(*wide, problem.geometry, problem.groups).astype(x.dtype)
    for positions in ((64, 1024), (5,)):
        # many boxes, chunks and tasks the second time
        monkeypatch.setattr(weights_tiling, "BOX_POSITIONS", positions)
        if len(positions) == 1:
            monkeypatch.setattr(weights_tiling, "SMALLEST_TASK", 1)
        for kind in guarded.kinds(problem, target):
            found = guarded.operation(problem, target, kind)
            paired = kind[0] != "minimal_weights" and pairs is not None
            assert found.plan.kernel.endswith("_paired_avx512") == paired
            for last in (False, True):
                result = guarded.compute(found, x, y, last)
                oracle.assert_same(result, expected, f"{found.plan.kernel}: {problem} {last}")


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_there_is_code_for_a_processor_that_need_not_be_here(layout):
    problem = Problem.parse(f"weight_grad n2 c40:33 i9x9 k4x4 s2x2 p1x1 bf16 {layout}")
    tiling = WeightsTiling(problem, SERVER, CACHE)
    shapes = {tile.shape.kind: tile.shape for tile in tiling.register_tiles()}
    assert set(shapes) == {"outputs", "inputs", "taps"}
    for kind, shape in shapes.items():
        assembly = jit.assembly(weights.build(shape, SERVER), SERVER)
        assert "vdpbf16ps" in assembly, kind
        assert "vfmadd" not in assembly, kind
