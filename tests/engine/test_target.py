"""Targets: those of this machine, one forced by name, and code for one that is elsewhere."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import kernels
import pytest

from polyphase import Problem, Unsupported
from polyphase.engine import jit, target
from polyphase.engine.kernels import checksum, gather, sums
from polyphase.engine.methods import METHODS
from polyphase.engine.target import NEON

CACHE = 1 << 20
# several shapes of each method: layouts, windows, strides of the input, small and large tiles
SHAPES = (
    "c64:32 i24x24 k4x4 s2x2 p1x1",
    "c64:32 i24x24 k4x4 s2x2 p1x1 nhwc",
    "c32:64 i56x56 k2x2 s2x2",
    "c8:3 i5 k3 s2 p1",
    "c512:256 i100 k16 s8 p4",
    "c16:16 g16 i6x6 k4x4 s2x2 p1x1",
    "n4 c100:512 i1x1 k4x4",
    "c4:4 i4x5x6 k2x2x2 s2x2x2",
    "conv c32:64 i56x56 k3x3 s2x2 p1x1",
    "conv c32:64 i56x56 k3x3 p1x1 nhwc",
    "weight_grad n2 c64:32 i24x24 k4x4 s2x2 p1x1",
    "weight_grad n2 c64:32 i24x24 k4x4 s2x2 p1x1 nhwc",
    "weight_grad n2 c64:5 i24x24 k4x4 s2x2 p1x1 nhwc",
)
# one of the multiply-adds of each target, and registers that only a wider one has
INSTRUCTIONS = {
    "avx512": (r"vfmadd\w+p[sd]\s.*%zmm", None),
    "avx2": (r"vfmadd\w+p[sd]\s.*%ymm", "%zmm"),
    "sse2": (r"mulp[sd]\s.*%xmm", "%ymm"),
    "neon": (r"fmla\s+v\d+\.(4s|2d)", None),
}
ELF = b"\x7fELF"
AARCH64 = 183


def sources(chosen, line, dtype):
    """IR of every kernel that may compute the problem, each with the name of its method."""
    problem = replace(Problem.parse(line), dtype=dtype)
    for method in METHODS:
        if method.kernel is not None and method.refuse(problem, chosen) is None:
            shape = method.tiling(problem, chosen, CACHE).kernel_shape
            yield method.name, method.kernel.build(shape, chosen)


def calls(assembly):
    """Functions that are called and not part of the same code."""
    called = set(re.findall(r"^\s+(?:bl|callq?)\s+([\w.$@]+)", assembly, re.MULTILINE))
    defined = set(re.findall(r"^([\w.$]+):", assembly, re.MULTILINE))
    return called - defined


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("line", SHAPES)
def test_every_kernel_has_code_for_a_processor_that_is_not_here(line, dtype):
    seen = 0
    for name, source in sources(NEON, line, dtype):
        assembly = jit.assembly(source, NEON)
        lanes = {"f32": "4s", "f64": "2d"}[dtype]
        assert re.search(rf"fmla\s+v\d+\.{lanes}", assembly), name
        # nothing that a linker would have to find, such as conversions in software
        assert not calls(assembly), name
        seen += 1
    assert seen


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16"])
@pytest.mark.parametrize("line", [SHAPES[0], SHAPES[1], SHAPES[-1]])
def test_its_code_is_an_object_of_that_processor(line, dtype):
    for name, source in sources(NEON, line, dtype):
        image = jit.emit(source, NEON)
        assert image[:4] == ELF, name
        assert int.from_bytes(image[18:20], "little") == AARCH64, name


def test_the_shapes_reach_every_method_with_a_kernel():
    seen = {name for line in SHAPES for name, _ in sources(NEON, line, "f32")}
    assert seen == {method.name for method in METHODS} - {"reference"}


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16"])
def test_what_surrounds_the_methods_has_code_for_it_too(dtype):
    for source in (gather.build(dtype, NEON), *sums_sources(dtype), checksum.build(NEON)):
        assert jit.emit(source, NEON)[:4] == ELF
        assert not calls(jit.assembly(source, NEON))


def sums_sources(dtype):
    for channels_last in (False, True):
        yield sums.build(sums.Shape(dtype, channels_last), NEON)


@pytest.mark.parametrize("chosen", kernels.TARGETS, ids=lambda chosen: chosen.name)
def test_code_is_of_its_target(chosen):
    multiply_add, too_wide = INSTRUCTIONS[chosen.name]
    for line in SHAPES:
        for name, source in sources(chosen, line, "f32"):
            assembly = jit.assembly(source, chosen)
            assert re.search(multiply_add, assembly), name
            assert too_wide is None or too_wide not in assembly, name
            assert not calls(assembly), name


def test_the_first_target_is_the_best_and_the_last_runs_everywhere():
    widths = [chosen.vector_bytes for chosen in kernels.TARGETS]
    assert widths == sorted(widths, reverse=True)
    assert kernels.TARGETS[-1].vector_bytes == 16
    names = [chosen.name for chosen in kernels.TARGETS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("triple", "features", "names"),
    [
        ("x86_64-unknown-linux-gnu", "avx512f avx512bw avx512dq avx512vl avx2 fma f16c bmi2",
         "avx512 avx2 sse2"),
        ("x86_64-unknown-linux-gnu", "avx512f avx512bw avx512dq avx2 fma f16c bmi2", "avx2 sse2"),
        ("x86_64-apple-darwin21", "avx2 fma f16c bmi2", "avx2 sse2"),
        ("x86_64-pc-windows-msvc", "avx2 fma", "sse2"),
        ("aarch64-unknown-linux-gnu", "neon", "neon"),
        ("arm64-apple-darwin22", "", "neon"),
        ("riscv64-unknown-linux-gnu", "", "portable"),
    ],
)  # fmt: skip
def test_targets_of_other_machines(triple, features, names, monkeypatch):
    found = dict.fromkeys(features.split(), True) | {"sse4a": False}
    monkeypatch.setattr(jit, "host", lambda: (triple, "some-processor", found))
    chosen = target.available()
    assert [each.name for each in chosen] == names.split()
    assert {each.triple for each in chosen} == {triple}


def test_what_a_virtual_machine_hides_is_not_used(monkeypatch):
    # the processor is known to have it, this machine does not
    here = "avx512f avx512bw avx512dq avx512vl avx2 fma f16c bmi2".split()
    found = dict.fromkeys(here, True) | {"avx512fp16": False}
    triple = "x86_64-unknown-linux-gnu"
    monkeypatch.setattr(jit, "host", lambda: (triple, "sapphirerapids", found))
    best = target.available()[0]
    assert best.name == "avx512"
    layer = "c32:64 i56x56 k4x4 s2x2 p1x1 f16"
    halves = [Problem.parse(line) for line in (layer, f"{layer} nhwc", "conv c3:5 i99 k16 s8 f16")]
    for method in kernels.FORWARD:
        half = next(half for half in halves if method.refuse(half, best) is None)
        shape = method.tiling(half, best, CACHE).kernel_shape
        assembly = jit.assembly(method.kernel.build(shape, best), best)
        # conversions of that extension end in x
        assert "vcvtph2ps" in assembly
        assert not re.search(r"vcvtph2psx|vcvtps2phx", assembly)


def test_lanes_are_those_of_the_sums():
    for chosen in (*kernels.TARGETS, NEON):
        assert chosen.lanes("f64") * 8 == chosen.vector_bytes
        for dtype in ("f32", "f16", "bf16"):
            assert chosen.lanes(dtype) * 4 == chosen.vector_bytes


def in_process(name):
    source = (
        "import numpy as np, polyphase as pp\n"
        "x, w = np.ones((1, 3, 5), np.float32), np.ones((3, 2, 4), np.float32)\n"
        "print(pp.functional.conv_transpose1d(x, w, stride=2).sum())\n"
        "print(pp.plan('c3:2 i5 k4 s2').kernel)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        env=os.environ | {"POLYPHASE_TARGET": name},
    )


@pytest.mark.parametrize("chosen", kernels.TARGETS, ids=lambda chosen: chosen.name)
def test_a_target_is_forced_by_name(chosen):
    process = in_process(chosen.name)
    total, kernel = process.stdout.split()
    assert (total, process.stderr) == ("120.0", "")
    assert kernel.endswith(f"_{chosen.name}")


def test_an_empty_name_is_no_name(monkeypatch):
    monkeypatch.setenv("POLYPHASE_TARGET", "")
    assert target.current.__wrapped__() == kernels.TARGETS[0]


@pytest.mark.parametrize("name", ["neon2", "AVX2", "avx512 ", "0"])
def test_other_names_are_refused(name, monkeypatch):
    monkeypatch.setenv("POLYPHASE_TARGET", name)
    offered = ", ".join(chosen.name for chosen in kernels.TARGETS)
    with pytest.raises(Unsupported, match=re.escape(repr(name))) as refusal:
        target.current.__wrapped__()
    assert str(refusal.value).endswith(f"it offers {offered}")
