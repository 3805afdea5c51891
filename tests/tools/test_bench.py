"""The benchmark: right engines only, fair turns, and figures that follow from the times."""

import itertools
import json
import math
import runpy

import pytest
import repository
import torch

from polyphase import GeometryError, Problem, Unsupported
from polyphase.engine import jit, target
from polyphase.engine.kernels import peak
from polyphase.tools.bench import contest, data, engines, machine, session, suite, work
from polyphase.tools.bench.contest import Runner, Times, compete
from polyphase.tools.bench.machine import Roof
from polyphase.tools.bench.session import Session, Settings

BENCH = repository.ROOT / "bench"
TINY = "n2 c3:5 i6x5 k4x4 s2x2 p1x1 @tiny"
LINES = (
    TINY,
    "c4:6 g2 i7 k3 s2 p1 o1",
    "c3:2 i3x4x2 k2x3x2 s2x1x2",
    "c5:4 i4x4 k3x3 s1x1 p2x2 d2x2",
    "c4:4 g4 i5x6 k2x5 s3x3 d1x2",
)
UNEVEN = "c4:3 i6x5 k3x4 s2x2 p0,1x2,1"


@pytest.fixture(autouse=True)
def _quick_limits(monkeypatch):
    # the figures of the machine do not matter here
    for name in ("BURSTS", "COPIES", "COPY_BYTES"):
        monkeypatch.setattr(machine, name, 1)


def problems_of(*lines):
    return [Problem.parse(line) for line in lines]


# layers


def test_the_suite_holds_the_layers_of_the_python_file():
    assert suite.read(suite.SUITE) == suite.read(BENCH / "layers.py")


def test_similar_layers_are_others_than_those_of_the_suite():
    similar = suite.read(BENCH / "similar.txt")
    names = {problem.name for problem in similar}
    assert len(names) == len(similar) > 40
    assert not names & {problem.name for problem in suite.read(suite.SUITE)}
    assert not set(similar) & {
        Problem.parse(str(problem).split("@")[0]) for problem in suite.read(suite.SUITE)
    }


def test_random_layers_are_the_same_for_a_seed():
    random_layers = runpy.run_path(str(BENCH / "random_layers.py"))["layers"]
    found = random_layers(1, 60)
    assert found == random_layers(1, 60) != random_layers(2, 60)
    assert {problem.rank for problem in found} == {1, 2, 3}
    assert {problem.groups > 1 for problem in found} == {True, False}
    assert all(Problem.parse(str(problem)) == problem for problem in found)


def test_known_engines_are_faster_than_torch():
    assert all(known.ratio > 1 and known.engine for known in suite.known().values())


def test_layers_come_from_text_and_from_python(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("# a comment\n\nc1:2 i4 k3 s2  # behind a line\n")
    python = tmp_path / "mine.py"
    python.write_text(
        f"import sys\nsys.path.insert(0, {str(BENCH)!r})\nfrom layers import Layer\n"
        "LAYERS = [Layer('', 1, 1, (4,), 2, 3, 2)]\n"
    )
    # what has no name is called by what it is
    assert suite.read(text) == suite.read(python) == problems_of("c1:2 i4 k3 s2 @c1:2-i4-k3-s2")


def test_a_file_that_is_no_list_of_layers_is_refused(tmp_path):
    with pytest.raises(GeometryError, match=r"cannot read the layers in '.*none.txt': No such"):
        suite.read(tmp_path / "none.txt")
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(GeometryError, match=r"'.*empty.py' must define LAYERS"):
        suite.read(empty)


@pytest.mark.parametrize("line", LINES)
def test_gradients_have_the_shapes_of_what_they_differentiate(line):
    [problem] = problems_of(line)
    of_input, of_weights = suite.gradients(problem)
    assert of_input.input_shape == problem.output_shape
    assert of_input.output_shape == problem.input_shape
    assert of_input.weight_shape == of_weights.weight_shape == problem.weight_shape


# numbers


def all_problems(line, layouts=(False, True)):
    [problem] = problems_of(line)
    for operator in (problem, *suite.gradients(problem)):
        for last in layouts:
            yield engines.in_layout(operator, last)


@pytest.mark.parametrize(
    "problem", [p for line in LINES for p in all_problems(line)], ids=lambda p: str(p)[:50]
)
def test_every_way_of_calling_passes_the_gate(problem):
    given = data.torch_arrays(problem)
    true = engines.truth(problem, given)
    for make in (engines.polyphase_call, engines.kernel_call, engines.torch_call):
        found = engines.as_tensor(problem, make(problem, given)())
        assert data.error(found, true) <= data.allowed_error(problem)
        assert found.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["f64", "bf16", "f16"])
def test_other_types_pass_the_gate(dtype):
    for problem in all_problems(f"{LINES[0]} {dtype}", layouts=(False,)):
        given = data.torch_arrays(problem)
        ours = engines.as_tensor(problem, engines.polyphase_call(problem, given)())
        error = data.error(ours, engines.truth(problem, given))
        assert error <= data.allowed_error(problem), problem


def test_the_gate_notices_a_missing_tap():
    for line in (*LINES, UNEVEN):
        [problem] = problems_of(line)
        given = data.torch_arrays(problem)
        true = engines.truth(problem, given)
        given.weight[0, 0].view(-1)[0] = 0
        assert data.error(engines.torch_call(problem, given)(), true) > 100 * data.allowed_error(
            problem
        )


def test_ends_that_differ_are_cut():
    [problem] = problems_of(UNEVEN)
    given = data.torch_arrays(problem)
    true = engines.truth(problem, given)
    assert tuple(true.shape) == problem.output_shape
    ours = engines.as_tensor(problem, engines.polyphase_call(problem, given)())
    assert data.error(ours, true) <= data.allowed_error(problem)


def test_a_wrong_shape_and_a_missing_number_are_errors():
    y = torch.ones(2, 3)
    assert data.error(torch.ones(3, 2), y) == math.inf
    assert not data.error(torch.tensor([[1.0, math.nan, 1.0]] * 2), y) <= 1
    assert data.error(y.clone(), y.double()) == 0


def test_what_torch_cannot_compute_is_refused():
    negative, uneven = problems_of("c1:1 i4 k2 s2 p-1,0", UNEVEN)
    for problem, text in (
        (negative, "torch has no negative padding"),
        (suite.gradients(uneven)[0], "torch has no gradient with ends that differ"),
    ):
        with pytest.raises(Unsupported, match=text):
            engines.torch_call(problem, data.torch_arrays(problem))
    with pytest.raises(Unsupported, match="int32 is not measured: choose one of f32, f64"):
        data.torch_arrays(Problem.parse("c1:1 i4 k2 int32"))


def test_numbers_are_the_same_in_every_run():
    [problem] = problems_of(TINY)
    once, again = data.arrays(problem), data.arrays(problem)
    assert (once.x == again.x).all()
    assert (once.weight == again.weight).all()
    assert (once.bias == again.bias).all()


# turns


class Recorder:
    """A contestant that writes down when it had its turn."""

    def __init__(self, name, order):
        self.name, self.order = name, order

    def turn(self):
        self.order.append(self.name)
        return [float(len(self.order))]


def test_all_have_as_many_turns_and_the_first_changes():
    order = []
    times = compete([Recorder(name, order) for name in "abc"], 0)
    rounds = ["".join(order[at : at + 3]) for at in range(0, len(order), 3)]
    assert rounds == ["abc", "bca", "cab", "abc", "bca"]
    assert len(rounds) == contest.LEAST_ROUNDS
    assert [found.samples for found in times] == [5, 5, 5]
    assert [found.least for found in times] == [1.0, 2.0, 3.0]


class Clock:
    """Time that passes only where a call says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


@pytest.mark.parametrize(
    ("seconds", "samples", "calls"),
    [(0.5, 1, 1), (0.004, 2, 1), (0.001, 10, 1), (0.00005, 50, 4)],
)
def test_a_runner_fills_its_turn_with_samples(seconds, samples, calls):
    clock, count = Clock(), itertools.count()

    def call():
        next(count)
        clock.pass_by(seconds)

    runner = Runner(call, clock)
    before = next(count)
    assert runner.turn() == pytest.approx([seconds] * samples)
    # the first call of a turn is not timed
    assert next(count) - before - 1 == 1 + samples * calls


def test_times_of_samples():
    assert Times.of([2.0]) == Times(2.0, 2.0, 0.0, 1)
    assert Times.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Times(3.0, 1.0, 1 / 3, 5)


# limits


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
@pytest.mark.parametrize("goal", target.available(), ids=lambda goal: goal.name)
def test_the_peak_kernel_computes_what_it_says(goal, dtype):
    code = jit.load(f"peak {dtype}", goal, lambda: peak.build(dtype, goal))
    lanes = goal.lanes(dtype)
    values = torch.ones(3 * lanes, dtype=torch.float64 if dtype == "f64" else torch.float32)
    values[:lanes] = 0.5
    context = torch.tensor([3, values.data_ptr()])
    code.call(context.data_ptr())
    # 1, 1.5, 1.75, 1.875; or half of it more in each round, where the factor is that of a pair
    total = 2.5 if goal.together(dtype) > 1 else 1.875
    assert values[2 * lanes :].tolist() == [total * peak.SUMS] * lanes


def test_the_roof_is_the_slower_of_arithmetic_and_memory():
    # 4 * 2 products; 60 bytes
    [problem] = problems_of("c1:1 i4 k2 s2")
    assert Roof("f32", 1, gflops=1.0, gbytes=1e9).seconds(problem) == pytest.approx(16e-9)
    assert Roof("f32", 1, gflops=1e9, gbytes=1.0).seconds(problem) == pytest.approx(60e-9)
    assert Roof("f32", 1, gflops=1.0, gbytes=1.0).bound(problem) == "memory"
    assert Roof("f32", 1, gflops=1.0, gbytes=9.0).bound(problem) == "compute"


def test_the_machine_is_described():
    found = machine.description()
    assert found["torch"] == torch.__version__
    assert found["target"] == target.current().name
    assert json.loads(json.dumps(found)) == found


# a run


def test_a_run_measures_every_layer_in_every_layout():
    before = torch.get_num_threads()
    running = Session(Settings(threads=1, seconds=0))
    rows = list(running.run(problems_of(*LINES[:2])))
    assert [row.problem.layout for row in rows] == ["nchw", "nhwc", "ncl", "nlc"]
    assert all(set(row.times) == {"polyphase", "torch", "torch channels-last"} for row in rows)
    assert all(times.median > 0 for row in rows for times in row.times.values())
    assert rows[0].times["torch"] == rows[1].times["torch"]
    assert rows == running.report().rows
    assert torch.get_num_threads() == before


def test_the_type_of_the_run_is_that_of_every_number():
    [row] = Session(Settings(1, 0, "f64", (False,))).run(problems_of(TINY))
    assert row.problem.dtype == "f64"
    assert max(row.errors.values()) < 1e-14


def test_a_step_is_measured_like_an_operator():
    running = Session(Settings(threads=1, seconds=0))
    rows = list(running.run(problems_of(*LINES[:2]), step=True))
    assert [(row.problem.layout, row.kind) for row in rows] == [
        (layout, "step") for layout in ("nchw", "nhwc", "ncl", "nlc")
    ]
    assert all(set(row.times) == {"polyphase", "torch", "torch channels-last"} for row in rows)
    assert all(0 < error < 1e-5 for row in rows for error in row.errors.values())


@pytest.mark.parametrize("place", [0, 1])
def test_a_step_with_a_wrong_gradient_is_not_timed(monkeypatch, place):
    step = work._step

    def wrong(home, problem, given):
        call = step(home, problem, given)
        factors = [1.001 if (i, home) == (place, work.functional) else 1 for i in range(3)]
        return lambda: [g * factor for g, factor in zip(call(), factors, strict=True)]

    monkeypatch.setattr(work, "_step", wrong)
    [row] = Session(Settings(1, 0, lasts=(False,))).run(problems_of(TINY), step=True)
    assert row.failures["polyphase"].startswith("off by 1.0e-03 of the largest value")
    assert set(row.times) == {"torch", "torch channels-last"}


def test_a_wrong_result_is_not_timed(monkeypatch):
    right = engines.polyphase_call

    def wrong(problem, given):
        call = right(problem, given)
        return lambda: call() * 1.001

    monkeypatch.setattr(session.engines, "polyphase_call", wrong)
    [row] = Session(Settings(1, 0, lasts=(False,))).run(problems_of(TINY))
    assert row.ours is None
    assert row.failures["polyphase"].startswith("off by 1.0e-03 of the largest value")
    assert set(row.times) == {"torch", "torch channels-last"}


def test_a_problem_without_a_kernel_says_so(monkeypatch):
    monkeypatch.setattr(session.engines, "polyphase_call", lambda problem, given: None)
    [row] = Session(Settings(1, 0, lasts=(False,))).run(problems_of(TINY))
    assert row.failures == {"polyphase": "no kernel: only the reference computes it"}
