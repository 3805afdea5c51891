"""Plans: what they say, why methods refuse, and that the list of methods is whole."""

import importlib
from dataclasses import replace
from itertools import product

import kernels
import problem_files
import pytest
import repository

import polyphase as pp
from polyphase import Problem
from polyphase.arithmetic.problem import LAYOUTS, OPERATORS
from polyphase.engine import channels, plan
from polyphase.engine.methods import METHODS
from polyphase.engine.minimal import axes_of, paired
from polyphase.engine.minimal_channels import MinimalChannelsTiling
from polyphase.engine.minimal_positions import MinimalPositionsTiling
from polyphase.engine.target import NEON
from polyphase.tools.bench import suite

pytestmark = pytest.mark.usefixtures("planned_for_two")

LAYER = "n64 c512:256 i4x4 k4x4 s2x2 p1x1"
SSE2 = replace(NEON, name="sse2", registers=16, halves=False)
AVX512 = replace(NEON, name="avx512", vector_bytes=64)
BY_NAME = {method.name: method for method in METHODS}
# every refusal there is, with one problem and one target that bring it about
REFUSALS = [
    ("channels", "c1:1 i4 k2 int32", NEON, "int32 is computed by the plain path"),
    ("channels", "c1:1 i4 k2 c64", NEON, "c64 is computed by the plain path"),
    ("positions", "c1:1 i4 k2 f16", SSE2, "sse2 has no instruction that converts f16"),
    ("channels", "n0 c1:1 i4 k2", NEON, "there is no output to compute"),
    ("positions", "c1:1 i2 k2 p1,2", NEON, "there is no output to compute"),
    (
        "channels",
        f"c1:1 i{2**31} k1",
        NEON,
        "an axis of 2147483648 positions is longer than 2147418112",
    ),
    # offsets of 32 bits would find the input a second time, far before its beginning
    (
        "positions",
        "conv c1:1 i10 k1 s32 p4294967296,0",
        NEON,
        "an axis of 4294967328 positions is longer than 2147418112",
    ),
    (
        "channels",
        "c1:1 i400x400 k182x182",
        NEON,
        "33124 taps are more than the 32768 that tables are made for",
    ),
    (
        "positions",
        "c1:1 i9x9 k2x2 s182x182",
        NEON,
        "33124 phases are more than the 32768 that tables are made for",
    ),
    (
        "channels",
        "conv c1:1 i40000 k1 s32769",
        NEON,
        "32769 inputs per output are more than the 32768 that tables are made for",
    ),
    (
        "positions",
        "c1:16777217 i4 k2",
        NEON,
        "16777217 channels are more than the 16777216 that tables are made for",
    ),
    ("channels", "weight_grad c1:1 i4 k2", NEON, "it sums over taps, not over positions"),
    ("positions", "conv c2:2 i99 k33 s33", NEON, "it unrolls the stride, and 33 is more than 32"),
    (
        "positions",
        "c2:2 i90 k51 s2",
        NEON,
        "the phases of a window of 26 inputs differ in their taps",
    ),
    (
        "positions",
        "c4:4 g2 i5x5 k2x2 nhwc",
        NEON,
        "the channels of a group do not fill the last memory axis",
    ),
    (
        "positions",
        "c2:2 i9 k30 s30",
        NEON,
        "weaving 30 rows together takes more than the 32 vector registers",
    ),
    (
        "positions",
        "c2:7 i9 k2 s2 nlc",
        SSE2,
        "weaving 14 rows together takes more than the 16 vector registers",
    ),
    (
        "minimal_positions",
        "c2:2 i9 k2 s2",
        NEON,
        "no two outputs next to each other in a phase share an input",
    ),
    (
        "minimal_channels",
        "conv c2:2 i99 k6 s5 nlc",
        NEON,
        "an input stride of 5 is more than the 4 it packs planes for",
    ),
    (
        "minimal_channels",
        "conv c2:2 i99x99 k17x17 nhwc",
        NEON,
        "the planes of 289 taps, more than 256, would not stay in cache",
    ),
    (
        "minimal_positions",
        "c2:2 i9 k4 s2 nlc",
        NEON,
        "its vectors run along positions, and channels lie closer",
    ),
    (
        "minimal_positions",
        "c2:2 i9 k18 s9",
        SSE2,
        "weaving 18 rows together takes more than 16 vector registers",
    ),
    (
        "minimal_positions",
        "c2:2 i9 k9",
        NEON,
        "its packing unrolls the window of the last axis, and 9 inputs are more than 8",
    ),
    (
        "minimal_channels",
        "c2:2 i9 k4 s2",
        NEON,
        "its vectors run along channels, and positions lie closer",
    ),
    ("weights", "c1:1 i4 k2", NEON, "it computes the gradient of the weights"),
    (
        "weights",
        "weight_grad c1:1 i2 k2 p-4,7",
        NEON,
        "no tap leads from an input to an output",
    ),
    (
        "weights_in_lines",
        "weight_grad c4:3 i4x4 k2x2",
        NEON,
        "channels lie in line with undilated taps, and in channels-last memory alone",
    ),
    (
        "weights_in_lines",
        "weight_grad g2 c4:6 i4x4 k2x2 nhwc",
        NEON,
        "it takes the channels of one group in line, and there are 2",
    ),
    (
        "weights_in_lines",
        "weight_grad c4:7 i4x4 k2x2 nhwc",
        NEON,
        "vectors of 4 are filled by 7 channels without their taps",
    ),
    (
        "weights_in_lines",
        "weight_grad c4:9 i4x4 k1x3641 nhwc",
        NEON,
        "lines of 32769 taps are longer than the 32768 that are listed",
    ),
]


@pytest.mark.parametrize(("name", "line", "target", "reason"), REFUSALS)
def test_a_method_says_what_it_refuses(name, line, target, reason):
    assert BY_NAME[name].refuse(Problem.parse(line), target) == reason


def test_what_is_just_within_a_limit_is_accepted():
    for name, line, target in (
        ("channels", "c1:1 i400x400 k181x181", NEON),
        ("channels", "c1:1 i9x9 k2x2 s181x181", NEON),
        ("channels", f"c1:1 i{2**31 - 2**16} k1", NEON),
        ("channels", "conv c1:1 i40000 k1 s32768", NEON),
        ("positions", "conv c2:2 i99 k32 s32", NEON),
        # with one output the stride plays no part
        ("positions", "conv c2:2 i40 k33 s33", NEON),
        ("positions", "c2:2 i9 k29 s29", NEON),
        ("positions", "c2:2 i90 k47 s2", NEON),
        ("positions", "c2:2 i90 k100 s2", NEON),
        ("positions", "c2:6 i9 k2 s2 nlc", SSE2),
    ):
        assert BY_NAME[name].refuse(Problem.parse(line), target) is None, line


@pytest.mark.parametrize("problem", problem_files.problems(), ids=str)
def test_every_refusal_is_one_sentence(problem):
    for target in (NEON, SSE2, AVX512):
        for method in METHODS:
            reason = method.refuse(problem, target)
            if reason is None:
                continue
            assert reason == reason.strip()
            assert 10 < len(reason) < 100
            # it stands behind a colon
            assert reason[0].islower() or reason[0].isdigit()
            assert not set(reason) & set(".;\n")


def test_the_reference_is_last_and_refuses_nothing():
    assert METHODS[-1].name == "reference"
    for problem in problem_files.problems():
        assert METHODS[-1].refuse(problem, NEON) is None
    assert [method.name for method in METHODS].count("reference") == 1


def test_every_method_has_an_entry_a_builder_and_a_test():
    folder = repository.ROOT / "src" / "polyphase" / "engine" / "kernels"
    names = {method.name for method in METHODS} - {"reference"}
    # whose kernels are another's
    shared = {"weights_in_lines": "weights"}
    builders = {}
    for file in folder.glob("*.py"):
        module = importlib.import_module(f"polyphase.engine.kernels.{file.stem}")
        builders[file.stem] = hasattr(module, "build")
    assert all(builders[shared.get(name, name)] for name in names)
    # what is not a method serves the methods, or measures the machine
    others = {name for name, builds in builders.items() if builds} - names
    assert others == {"gather", "sums", "pairs", "peak", "checksum", "transpose"}
    for method in METHODS:
        if method.kernel is not None:
            module = method.kernel.__name__.rsplit(".", 1)[1]
            assert module == shared.get(method.name, method.name)
    # the exact tests go through the list; the gradient of the weights has tests of its own
    own = {"weights", "weights_in_lines", "minimal_weights"}
    assert {method.name for method in kernels.FORWARD} == names - own
    assert (repository.ROOT / "tests" / "engine" / "test_weight_grad.py").exists()


@pytest.mark.parametrize("target", [*kernels.TARGETS, NEON], ids=lambda target: target.name)
def test_the_plan_is_the_cheapest_that_is_not_refused(target, monkeypatch):
    monkeypatch.setattr(plan, "current", lambda: target)
    for line in (LAYER, f"{LAYER} nhwc", "conv c32:64 i56x56 k3x3", "c3:1 i7 k4 s2 int8"):
        problem = Problem.parse(line)
        found = plan.planned.__wrapped__(problem)
        ways = [m for m in kernels.FORWARD if m.refuse(problem, target) is None]
        tilings = {m.name: m.tiling(problem, target, plan.cache_bytes()) for m in ways}
        cycles = {
            name: t.cycles + plan.PACKING_SHARE[problem.operator] * t.packing_cycles
            for name, t in tilings.items()
        }
        cheapest = min(cycles, key=cycles.get, default="reference")
        assert found.method.name == cheapest
        assert found.target is target
        # the others of the operator say why they were not chosen, or refused
        others = {m.name for m in METHODS if problem.operator in m.operators}
        assert set(found.refusals) == others - {cheapest, "reference"}


def test_what_is_not_looked_at_could_not_be_quicker():
    for line in (LAYER, f"{LAYER} nhwc", "c32:64 i9x17 k3x3 d2x2", "c16:20 i6x7x8 k4x4x4 s2x2x2"):
        problem = Problem.parse(line)
        for name, kind in (
            ("minimal_positions", MinimalPositionsTiling),
            ("minimal_channels", MinimalChannelsTiling),
        ):
            if BY_NAME[name].refuse(problem, NEON) is not None:
                continue
            ways = product(*[(1, 2) if paired(axis) else (1,) for axis in axes_of(problem)])
            every = [kind(problem, NEON, 1 << 20, way) for way in ways if max(way) > 1]
            assert all(one.least_cycles <= one.cycles for one in every)
            quickest = BY_NAME[name].tiling(problem, NEON, 1 << 20)
            assert quickest.cycles == min(one.cycles for one in every)
        for name in ("channels", "positions"):
            if BY_NAME[name].refuse(problem, NEON) is None:
                tiling = BY_NAME[name].tiling(problem, NEON, 1 << 20)
                assert plan._least_cycles(problem, NEON) <= tiling.cycles


def test_a_method_computes_some_operators():
    for operator in OPERATORS:
        problem = Problem.parse(f"{operator} c64:32 i8 k4 s2")
        told = {pp.plan(problem).method.name, *pp.plan(problem).refusals}
        assert ("weights" in told) == (operator == "weight_grad")
        assert ("positions" in told) == (operator != "weight_grad")


def test_a_plan_prints_one_fact_a_line():
    found = pp.plan(LAYER)
    first, *lines = str(found).splitlines()
    assert Problem.parse(first) == found.problem == Problem.parse(LAYER)
    labels = [line.split()[0] for line in lines]
    refused = len(found.refusals)
    assert labels == ["method", "kernel", "tiling", "cost", "predicted", *["refused"] * refused]
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["method"] == f"{found.method.name} on {found.target.name}"
    assert facts["kernel"] == found.kernel
    assert facts["cost"].startswith(f"{found.problem.batch * 512 * 256 * 14 * 14:,} multipl")
    assert facts["predicted"].endswith("% of the roofline")
    assert max(map(len, lines)) <= 100


def test_a_plan_without_a_kernel_says_so():
    lines = str(pp.plan("n1 c16:16 i6x6 k3x3 s2x2 int64")).splitlines()
    assert lines[1].startswith("method    reference on ")
    assert lines[2] == "kernel    int64_reference"
    assert lines[3].startswith("cost ")
    assert [line.split(":")[0].split()[1] for line in lines[4:]] == [
        "channels",
        "positions",
        "minimal_positions",
        "minimal_channels",
    ]
    assert pp.plan("n1 c16:16 i6x6 k3x3 s2x2 int64").predicted_share is None


@pytest.mark.parametrize("problem", problem_files.problems("models"), ids=str)
def test_the_predicted_share_is_a_share(problem):
    share = pp.plan(problem).predicted_share
    # three products for four on each axis where two taps meet
    minimal = pp.plan(problem).method.name.startswith("minimal")
    assert 0 < share <= ((4 / 3) ** problem.rank if minimal else 1)


def test_a_plan_is_remembered_and_hardly_depends_on_its_form():
    assert pp.plan(LAYER) is pp.plan(Problem.parse(LAYER))


def test_what_weights_take_to_be_packed_decides_between_near_equals(monkeypatch):
    # three channels beside each other are packed entry by entry, and the weights are 8 MiB
    monkeypatch.setattr(plan, "current", lambda: AVX512)
    found = plan.planned.__wrapped__(Problem.parse("n1 c512:256 i100 k16 s8 p4"))
    other = BY_NAME["minimal_positions"].tiling(found.problem, AVX512, 1 << 20)
    assert found.method.name == "channels"
    assert other.side < 4
    assert other.packing_cycles > 3 * found.tiling.packing_cycles


def test_short_sums_are_stored_a_pixel_at_a_time():
    # 48 products an output: what a tile takes is mostly its stores
    problem = Problem.parse("conv n64 c3:64 i64x64 k4x4 s2x2 p1x1 nhwc")
    choice = BY_NAME["channels"].tiling(problem, AVX512, 1 << 20).choice
    assert choice.vectors * AVX512.lanes("f32") == problem.out_channels


def test_a_box_that_outgrows_the_cache_is_read_once():
    # the 64 rows of a few positions are more than the cache holds; 21 channels are two vectors
    problem = Problem.parse("conv c21:21 i512x512 k64x64 s32x32 p16x16 nhwc")
    tiling = BY_NAME["channels"].tiling(problem, AVX512, 1 << 20)
    choice = tiling.choice
    packed = tiling.packing(choice.box).channel * tiling.cell_elements(choice.depth)
    assert packed > tiling.budget
    assert tiling.panels_per_stretch(choice.vectors) == 1


def test_extreme_problems_are_planned_at_once():
    # nothing is listed that has no part in the result; anything else would take years
    for line in (
        f"c1:1 i4 k2 s{2**40} p{2**40 + 2**39}",
        f"conv c1:1 i4 k2 s{2**40}",
        f"c1:1 i4 k2 s2 d{2**40} p{2**39}",
        f"c1:1 i4x4 k2x2 s{2**20}x{2**20}",
        f"c1:1 i1 k2 d{2**40}",
        "c1:1 i4 k100000 s3",
        f"n{10**15} c1:{10**15} i{10**15} k2 s2",
        "c1:1000000 i4 k2 s2",
        "conv c1:1 i100010 k100000",
    ):
        assert str(pp.plan(line))


def test_tiles_of_short_sums_keep_to_rows():
    # 4 products an output: pieces of two rows cost more than what is computed for nothing
    problem = Problem.parse("c64:64 g64 i64x64 k4x4 s2x2 p1x1")
    pattern = BY_NAME["positions"].tiling(problem, AVX512, 1 << 20).choice.pattern
    assert problem.input_size[1] % pattern.width == 0


def test_kernels_of_the_suite_are_short():
    # the first call of a layer waits for its code: a line takes LLVM and its printer some 40 us
    layers = suite.read(repository.ROOT / "src/polyphase/tools/bench/suite.txt")
    for number, problem in enumerate(layers):
        layout = LAYOUTS[problem.rank][number % 2]
        found = plan._best(replace(problem, layout=layout), AVX512)
        text = found.method.kernel.build(found.tiling.kernel_shape, AVX512)
        assert text.count("\n") < 2500, found


def test_weights_from_afar_are_fetched_once_where_that_is_worth_it(monkeypatch):
    # 3 MiB of weights meet 64 positions: four boxes would fetch them four times
    problem = Problem.parse("conv n64 c512:100 i4x4 k4x4")
    found = BY_NAME["channels"].tiling(problem, AVX512, 1 << 20)
    assert found.choice.box == found.whole
    # with more processors than row tiles they would wait
    monkeypatch.setattr(channels, "cpus", lambda: 64)
    busy = BY_NAME["channels"].tiling(problem, AVX512, 1 << 20)
    assert busy.box_count(busy.choice.box) > 1
