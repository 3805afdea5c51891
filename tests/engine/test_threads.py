"""Threads change nothing but the time: counts, pools, callers, forks and interrupts."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import kernels
import numpy as np
import oracle
import pytest

import polyphase as pp
from polyphase import GeometryError, Problem
from polyphase.engine import channels, pack, run, threads, tiling

# enough work for four threads, in several tasks
LINES = (
    "n3 c37:29 i23x17 k4x4 s2x2 p1x1",
    "n2 c64:96 i31x33 k2x2 s2x2 nhwc",
    "c80:24 i211 k16 s8 p4",
    "conv n2 c33:40 i45x37 k3x3 s2x2 p1x1",
    "n2 c128:64 i14x14 k3x3 s2x2 p1x1 o1x1 f64",
    "n2 c48:48 g48 i90x70 k4x4 s2x2 p1x1",
    "c24:24 i9x20x20 k2x2x2 s2x2x2 bf16",
)
# a process without torch, with what the tests below need
ALONE = """
import os, signal, sys, threading
import numpy as np
import polyphase as pp
from polyphase.engine import run, threads
pp.set_num_threads(4)
problem = pp.Problem.parse("n3 c37:29 i33x27 k4x4 s2x2 p1x1")
operation = run.operation(problem)
generator = np.random.default_rng(0)
x = generator.standard_normal(problem.input_shape, np.float32)
w = generator.standard_normal(problem.weight_shape, np.float32)
panels = operation.pack(w.ctypes.data, None)
def compute():
    y = np.full(problem.output_shape, np.nan, np.float32)
    operation.run(x.ctypes.data, panels, y.ctypes.data)
    return y
pp.set_num_threads(1)
alone = compute()
pp.set_num_threads(4)
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", None)
    # enough tasks for all threads wherever the tests run
    for module in (channels, tiling):
        monkeypatch.setattr(module, "cpus", lambda: 16)


def reals(problem, seed=0):
    """Input, weights and bias of random reals: sums in another order would give other bits."""
    generator = np.random.default_rng(seed)
    dtype = kernels.strategies.DTYPES[problem.dtype]
    shapes = problem.input_shape, problem.weight_shape, (problem.out_channels,)
    return [generator.standard_normal(shape).astype(dtype) for shape in shapes]


def in_process(source, timeout=120):
    """Run a script that must print ``ok``."""
    process = subprocess.run(
        [sys.executable, "-c", ALONE + source], capture_output=True, text=True, timeout=timeout
    )
    assert (process.stdout.strip(), process.stderr) == ("ok", "")


def bits(array):
    return array.tobytes()


@pytest.fixture(params=["torch's pool", "a pool of our own"])
def pool(request, monkeypatch):
    if request.param == "torch's pool":
        pytest.importorskip("torch")
        if threads._team() is None:
            pytest.skip("the OpenMP runtime of this torch cannot be called")
    else:
        monkeypatch.setattr(threads, "_team", lambda: None)


@pytest.mark.parametrize("line", LINES)
def test_the_bits_are_the_same_for_every_number_of_threads(line, pool):
    problem = Problem.parse(line)
    x, w, b = reals(problem)
    results = []
    for target, method in kernels.ways(problem)[:2]:
        operation = kernels.operation(problem, target, method)
        assert operation._most_threads >= 4
        for count in (1, 2, 3, 4, 4, 2):
            pp.set_num_threads(count)
            results.append(bits(kernels.compute(operation, x, w, b)))
        assert len(set(results)) == 1, f"{method.name}: {problem}"
        results.clear()


@pytest.mark.parametrize("least", [0, 1 << 60], ids=["squares", "entries"])
def test_packing_is_the_same_for_every_number_of_threads(pool, least, monkeypatch):
    monkeypatch.setattr(pack, "LEAST_SQUARES", least)
    problem = Problem.parse("conv c300:200 i4x4 k4x4 s2x2 p1x1")
    _, w, b = reals(problem)
    operation = kernels.operation(problem, *kernels.ways(problem)[0])
    packing = operation._packing
    assert (packing._pack_threads if least else packing._square_threads) >= 4
    packed = set()
    for count in (1, 2, 3, 4):
        pp.set_num_threads(count)
        panels = operation.pack(w.ctypes.data, b.ctypes.data)
        packed.add(bits(panels.values))
    assert len(packed) == 1


def test_several_callers_at_once(pool):
    pp.set_num_threads(3)
    problems = [Problem.parse(line) for line in LINES[:4]]
    given = [reals(problem) for problem in problems]
    operations = [run.operation(problem) for problem in problems]
    expected = [
        bits(kernels.compute(operation, *arrays))
        for operation, arrays in zip(operations, given, strict=True)
    ]
    wrong = []

    def call(number):
        for turn in range(12):
            at = (number + turn) % len(problems)
            if bits(kernels.compute(operations[at], *given[at])) != expected[at]:
                wrong.append(problems[at])

    callers = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_several_callers_at_once_through_the_functions():
    # planning, compiling and remembering, too
    x, w = np.ones((2, 8, 9, 9), np.float32), np.ones((8, 8, 3, 3), np.float32)
    sums = {}

    def call(number):
        for stride in (1, 2, 3, 4):
            y = pp.functional.conv_transpose2d(x, w, stride=stride, padding=number % 2)
            sums.setdefault((stride, number % 2), set()).add(float(y.sum()))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert {len(found) for found in sums.values()} == {1}
    assert sums[1, 0] == {2 * 8 * 8 * 9 * 81}


def test_other_python_threads_run_meanwhile():
    # a kernel that waits until another thread has run: it would wait for ever with the lock held
    import ctypes

    reached = threading.Event()

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def entry(context):
        assert reached.wait(30)

    threading.Timer(0.01, reached.set).start()
    threads.run(entry, 0, 0, 1)
    assert reached.is_set()
    # and generated code is called in the same way
    operation = run.operation(Problem.parse("c1:1 i4 k2 s2"))
    assert type(operation._code.call).__mro__[1] is ctypes._CFuncPtr
    assert not operation._code.call._flags_ & ctypes._FUNCFLAG_PYTHONAPI


@pytest.mark.parametrize("count", [0, -1, 2.5, "2", True, None])
def test_other_numbers_of_threads_are_refused(count):
    before = pp.get_num_threads()
    with pytest.raises((GeometryError, TypeError), match="count"):
        pp.set_num_threads(count)
    assert pp.get_num_threads() == before


def test_more_threads_than_processors_and_than_work():
    problem = Problem.parse(LINES[0])
    operands = kernels.operands(problem)
    operation = run.operation(problem)
    pp.set_num_threads(1)
    expected = kernels.compute(operation, *operands)
    pp.set_num_threads(1000)
    oracle.assert_same(kernels.compute(operation, *operands), expected, problem)


def test_without_a_choice_the_number_is_that_of_torch():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert pp.get_num_threads() == count
        pp.set_num_threads(3)
        assert (pp.get_num_threads(), torch.get_num_threads()) == (3, 2)
    finally:
        torch.set_num_threads(before)


def test_without_torch_the_number_is_that_of_the_processors():
    source = """
assert "torch" not in sys.modules
threads._chosen = None
cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
assert pp.get_num_threads() == len(cpus)
assert threads._team() is None
print("ok")
"""
    in_process(source)


def test_a_torch_that_is_only_half_imported_is_not_asked():
    source = """
import types
sys.modules["torch"] = types.ModuleType("torch")
threads._chosen = None
assert pp.get_num_threads() >= 1
pp.set_num_threads(4)
assert compute().tobytes() == alone.tobytes()
# it is looked at again when it is complete
assert threads._team_known == (False, None)
print("ok")
"""
    in_process(source)


def test_without_torch_the_bits_are_the_same():
    source = """
assert "torch" not in sys.modules
for count in (2, 3, 4, 1, 4):
    pp.set_num_threads(count)
    assert compute().tobytes() == alone.tobytes()
workers = [thread.name for thread in threading.enumerate() if thread.name == "polyphase"]
assert len(workers) == 3, workers
print("ok")
"""
    in_process(source)


def test_a_pool_without_threads_leaves_the_work_to_the_caller():
    source = """
class Refused(threading.Thread):
    def start(self):
        raise RuntimeError("can't start new thread")
threading.Thread = Refused
assert compute().tobytes() == alone.tobytes()
print("ok")
"""
    in_process(source)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("torch", ["", "import torch; torch.ones(300, 300) @ torch.ones(300, 300)"])
def test_a_child_computes_after_a_fork(torch):
    # the parent's helpers do not exist in the child, and OpenMP would wait for its own for ever
    source = f"""
{torch}
assert compute().tobytes() == alone.tobytes()
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        signal.alarm(60)
        same = compute().tobytes() == alone.tobytes()
        # with helpers of its own
        same &= [thread.name for thread in threading.enumerate()].count("polyphase") == 3
        other = pp.functional.conv_transpose2d(x, w, stride=3)
        os._exit(0 if same and not np.isnan(other).any() else 1)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
assert compute().tobytes() == alone.tobytes()
print("ok")
"""
    in_process(source)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_computes_when_the_fork_came_in_the_middle_of_something():
    # other threads were compiling, computing and dropping large results
    source = """
stop = threading.Event()
def compile():
    number = 0
    while not stop.is_set():
        number += 1
        run.operation(pp.Problem.parse(f"c{number}:5 i9x9 k3x3 s2x2 f64 @{number}"))
def work():
    while not stop.is_set():
        compute()
        pp.functional.conv_transpose1d(
            np.ones((1, 2, 200_000), np.float32), np.ones((2, 2, 2), np.float32), stride=2
        )
for target in (compile, work, work):
    threading.Thread(target=target, daemon=True).start()
for number in range(8):
    child = os.fork()
    if not child:
        signal.alarm(60)
        run.operation(pp.Problem.parse(f"c3:{number + 1} i9x9 k4x4 s2x2 f64"))
        os._exit(0 if compute().tobytes() == alone.tobytes() else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
print("ok")
"""
    in_process(source)


class Upsampled:
    """A data set whose items are computed by polyphase, in the workers of a loader."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        x = np.full((1, 16, 20, 20), index, np.float32)
        w = np.ones((16, 16, 4, 4), np.float32)
        return pp.functional.conv_transpose2d(x, w, stride=2, padding=1)[0].sum()


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork"
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_of_a_loader_do_not_hang():
    torch = pytest.importorskip("torch")
    torch.ones(300, 300) @ torch.ones(300, 300)
    alone = [float(Upsampled()[index]) for index in range(8)]
    loader = torch.utils.data.DataLoader(
        Upsampled(), num_workers=2, timeout=60, multiprocessing_context="fork"
    )
    assert [float(item) for item in loader] == alone


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "TimeoutError"])
def test_an_interrupt_waits_for_the_helpers(kind):
    # a helper that went on would write into memory that is no longer ours
    source = f"""
import ctypes, time
inside, finished = [], []
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def entry(context):
    if threading.current_thread() is threading.main_thread():
        while len(inside) < 3:
            time.sleep(0.001)
        return
    inside.append(1)
    time.sleep(0.3)
    finished.append(1)
def interrupt(*_):
    raise {kind}
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.05)
try:
    threads._pool.run(entry, 0, 4)
except {kind}:
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(finished) == 3
    pp.set_num_threads(4)
    assert compute().tobytes() == alone.tobytes()
    print("ok")
"""
    in_process(source)


def test_nothing_is_said_when_the_program_ends():
    source = """
kept = compute()
large = pp.functional.conv_transpose1d(
    np.ones((1, 2, 500_000), np.float32), np.ones((2, 2, 2), np.float32), stride=2
)
print("ok")
"""
    in_process(source)
