"""Pairs of bfloat16: two input channels in a cell, multiplied by one instruction."""

import re
from dataclasses import replace

import kernels
import ml_dtypes
import numpy as np
import pytest
from kernels import SERVER, WITH_PAIRS, needs_pairs

from polyphase import Problem
from polyphase.engine import jit, reference
from polyphase.engine.emit import STORAGE
from polyphase.engine.kernels import pairs, peak
from polyphase.engine.methods import METHODS
from polyphase.engine.target import available

BF16, F32 = ml_dtypes.bfloat16, np.float32
CACHE = 1 << 20
PAIRING = [method for method in METHODS if method.name in ("channels", "positions")]
# each with one channel, two, an odd number and many to a group, in both layouts
LINES = """
n2 c2:5 i7x9 k4x4 s2x2 p1x1
n2 c3:20 i7x9 k3x3 s2x2 p1x1 o1x0
n1 c33:17 i11x6 k5x3 s2x1 p2x1
n3 c40:33 i8x8 k2x2 s2x2
n2 c9:6 g3 i9x5 k4x5 s1x2 p3x4
n2 c6:3 g3 i7x9 k4x5 s1x2 p3x4
n2 c10:4 g2 i5x6 k3x3 d2x1
conv n2 c5:7 i20x19 k3x5 s2x3 p1x2
conv n1 c21:40 i9x33 k4x4 s2x2 p1x1
conv n3 c34:4 g2 i12x12 k3x3 p-1,2x1
n2 c7:3 i4x5x6 k3x2x4 s2x2x2 p1x0x1
n4 c19:11 i13 k16 s8 p4
n130 c35:8 i1x1 k4x4
""".strip().splitlines()


def ways():
    for line in LINES:
        first = Problem.parse(f"{line} bf16")
        for layout in {1: ("ncl", "nlc"), 2: ("nchw", "nhwc"), 3: ("ncdhw", "ndhwc")}[first.rank]:
            problem = replace(first, layout=layout)
            for method in PAIRING:
                if method.refuse(problem, SERVER) is None:
                    yield pytest.param(problem, method, id=f"{method.name} {problem}")


@needs_pairs
@pytest.mark.parametrize(("problem", "method"), [*ways()])
def test_results_are_exact(problem, method):
    found = kernels.operation(problem, WITH_PAIRS[0], method)
    channels = problem.in_channels // problem.groups
    assert found.plan.tiling.in_channels == -(-channels // 2)
    define = getattr(reference, problem.operator)
    for seed in range(2):
        x, w, b = kernels.operands(problem, seed)
        expected = define(x, w, b, problem.geometry, problem.groups)
        np.testing.assert_array_equal(kernels.compute(found, x, w, b), expected)


@needs_pairs
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("method", PAIRING, ids=lambda method: method.name)
def test_a_channel_without_a_partner_meets_nothing_else(layout, method):
    # whatever lies behind the last channel, and weights and inputs that zeros must not meet
    problem = Problem.parse(f"n2 c3:8 i6x6 k2x2 s2x2 bf16 {layout}")
    found = kernels.operation(problem, WITH_PAIRS[0], method)
    x, w, b = kernels.operands(problem)
    x[:, 2], w[2] = np.inf, 1
    assert np.isinf(kernels.compute(found, x, w, b).astype(F32)).all()


@needs_pairs
def test_long_sums_are_as_exact_as_others():
    problem = Problem.parse("n1 c4096:4 i3x3 k3x3 bf16")
    generator = np.random.default_rng(0)
    x, w = (
        generator.standard_normal(shape).astype(BF16)
        for shape in (problem.input_shape, problem.weight_shape)
    )
    b = np.zeros(4, BF16)
    exact = reference.conv_transpose(
        *(a.astype(np.float64) for a in (x, w, b)), problem.geometry, problem.groups
    )
    for method in PAIRING:
        result = kernels.compute(kernels.operation(problem, WITH_PAIRS[0], method), x, w, b)
        # half a unit of the last place of bfloat16, and what float32 loses
        assert np.abs(result.astype(np.float64) - exact).max() < 2**-8 * np.abs(exact).max()


@needs_pairs
@pytest.mark.parametrize("method", PAIRING, ids=lambda method: method.name)
@pytest.mark.parametrize("channels", [2, 3])
def test_a_panel_holds_two_channels_in_a_word(method, channels):
    problem = Problem.parse(f"n1 c{channels}:16 i40x40 k1x1 bf16")
    found = kernels.operation(problem, WITH_PAIRS[0], method)
    w = np.arange(1, 16 * channels + 1).astype(BF16).reshape(problem.weight_shape)
    b = -np.arange(1, 17).astype(BF16)
    panels = found.pack(w.ctypes.data, b.ctypes.data).values
    words = set(panels.view(np.uint32).tolist())
    given = np.zeros((channels + channels % 2, 16), BF16)
    given[:channels] = w.reshape(channels, 16)
    for low, high in zip(given[::2], given[1::2], strict=True):
        bits = low.view(np.uint16).astype(np.uint32) | high.view(np.uint16).astype(np.uint32) << 16
        assert set(bits.tolist()) <= words
    assert set(b.astype(F32).view(np.uint32).tolist()) <= words


@pytest.mark.parametrize("channels", [63, 64])
def test_a_plan_speaks_of_channels(channels):
    problem = Problem.parse(f"c{channels}:64 i8x8 k2x2 s2x2 bf16")
    for method in PAIRING:
        assert f" {channels} channels at a time" in method.tiling(problem, SERVER, CACHE).describe()


@pytest.mark.parametrize("line", ["c8:40 i9x9 k4x4 s2x2 p1x1", "c8:40 i9x9 k4x4 s2x2 p1x1 nhwc"])
def test_there_is_code_for_a_processor_that_need_not_be_here(line):
    problem = Problem.parse(f"{line} bf16")
    seen = 0
    for method in PAIRING:
        if method.refuse(problem, SERVER) is None:
            shape = method.tiling(problem, SERVER, CACHE).kernel_shape
            assembly = jit.assembly(method.kernel.build(shape, SERVER), SERVER)
            assert shape.name(SERVER).endswith("_paired_avx512")
            assert re.search(r"vdpbf16ps\s.*%zmm", assembly), method.name
            assert "vcvtneps2bf16" in assembly, method.name
            # one number at a time is what other targets multiply
            assert "vfmadd" not in assembly, method.name
            seen += 1
    assert seen
    assert jit.emit(pairs.build(SERVER), SERVER)
    assert "vdpbf16ps" in jit.assembly(peak.build("bf16", SERVER), SERVER)


def test_only_what_the_processor_reports_is_used(monkeypatch):
    here = dict.fromkeys("avx512f avx512bw avx512dq avx512vl avx2 fma f16c bmi2".split(), True)
    for has in (False, True):
        triple = "x86_64-unknown-linux-gnu", "cooperlake", {**here, "avx512bf16": has}
        monkeypatch.setattr(jit, "host", lambda triple=triple: triple)
        found = available()
        assert [target.pairs for target in found] == [has, False, False]
        assert found[0].together("bf16") == 1 + has
        assert {target.together("f32") for target in found} == {1}


def test_other_types_methods_and_lone_channels_have_cells_of_their_own():
    (channels, positions) = PAIRING
    for line in ("c8:8 i9x9 k4x4 s2x2", "c8:8 i9x9 k4x4 s2x2 f16", "c1:8 i9x9 k4x4 s2x2 bf16"):
        for method in (channels, positions):
            assert method.tiling(Problem.parse(line), SERVER, CACHE).cell_channels == 1
    # channels that meet one by one are lanes
    depthwise = Problem.parse("c32:32 g32 i9x9 k4x4 s2x2 bf16 nhwc")
    tiling = channels.tiling(depthwise, SERVER, CACHE)
    assert tiling.lanewise
    assert not tiling.kernel_shape.paired
    minimal = next(method for method in METHODS if method.name == "minimal_positions")
    layer = Problem.parse("c8:8 i9x9 k4x4 s2x2 p1x1 bf16")
    assert minimal.tiling(layer, SERVER, CACHE).cell_channels == 1


# the words of the vocabulary


@pytest.fixture
def numbers():
    """Two vectors of pairs and one of sums, small integers."""
    generator = np.random.default_rng(0)
    a, b = generator.integers(-9, 10, (2, 16, 2)).astype(BF16)
    return a, b, generator.integers(-99, 100, 16).astype(F32)


@needs_pairs
@pytest.mark.parametrize("machine", WITH_PAIRS, indirect=True, ids=lambda target: target.name)
def test_add_pairs(machine, numbers):
    a, b, c = numbers
    out = np.zeros(16, F32)

    def build(e, a, b, c, out):
        factors = [e.load_vector(p, 0, STORAGE["f32"]) for p in (a, b)]
        e.store_vector(e.add_pairs(*factors, e.load_vector(c, 0, STORAGE["f32"])), out, 0)

    machine(build, a, b, c, out)
    assert out.tolist() == (c + (a.astype(F32) * b.astype(F32)).sum(1)).tolist()


def test_paired(machine, numbers):
    lanes = machine.lanes
    low, high = (np.ascontiguousarray(part[:lanes]) for part in numbers[0].T)
    out = np.zeros((lanes, 2), BF16)

    def build(e, low, high, out):
        halves = [e.load_vector(p, 0, STORAGE["bf16"]) for p in (low, high)]
        e.store_vector(e.paired(*halves, STORAGE["f32"]), out, 0)

    machine(build, low, high, out)
    assert out.T.tolist() == [low.tolist(), high.tolist()]


@needs_pairs
@pytest.mark.parametrize("machine", WITH_PAIRS, indirect=True, ids=lambda target: target.name)
def test_narrow_pairs(machine):
    bits = np.random.default_rng(0).integers(0, 2**32, 2**16, np.uint32)
    nans = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001] * 4, np.uint32)
    values = np.concatenate([bits, nans]).view(F32)
    out = np.zeros(len(values), BF16)

    def build(e, values, out):
        with e.loop(0, len(bits) + len(nans), e.lanes) as loop:
            vector = e.load_vector(values, loop.index, STORAGE["f32"])
            e.store_vector(e.narrow_pairs(vector), out, loop.index)

    machine(build, values, out)
    tiny = np.abs(values) < np.finfo(F32).tiny
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.where(tiny, 0 * values, values).astype(BF16)
    np.testing.assert_array_equal(out.astype(F32), expected.astype(F32))
    assert tiny.any()
    assert np.isnan(out[-16:].astype(F32)).all()
