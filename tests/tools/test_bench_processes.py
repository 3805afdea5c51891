"""Peers in processes of their own, and what only a fresh process shows."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from polyphase import Problem, Unsupported
from polyphase.tools.bench import data, engines, machine, peers, probe, worker
from polyphase.tools.bench.session import Session, Settings
from polyphase.tools.bench.worker import Worker

LINES = (
    "n2 c4:6 i5x7 k3x3 s2x2 p1x1 o1x1",
    "c4:6 g2 i5x7 k4x4 s2x2 p1x1",
    "c4:6 i5x7 k3x5 s2x1 p2x3",
    "c3:2 i9 k16 s8 p4",
    "c3:2 i5x4x3 k4x3x2 s2x2x2 p1x1x0",
    "c4:4 g4 i6x6 k4x4 s2x2 p1x1",
    "c3:2 i6x6 k3x3 p2x2 d2x2",
    # two of its phases are empty
    "c3:2 i6x6 k2x3 s3x4 d2x2 o1x1",
    "n3 c5:4 i1x1 k4x4",
    "c6:1 i5x4 k3x3 s2x2 p0,1x1,0",
)
# what engines have no operator for; whatever else they refuse is a fault here
MISSING = {
    "torch, weights packed": {"one axis", "uneven"},
    "tensorflow": {"groups", "dilation", "uneven"},
}


def kinds(problem):
    g = problem.geometry
    return {
        name
        for name, holds in {
            "one axis": problem.rank == 1,
            "groups": problem.groups > 1,
            "dilation": any(axis.dilation > 1 for axis in g.axes),
            "uneven": any(begin != end for begin, end in g.pads),
        }.items()
        if holds
    }


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("peer", peers.installed())
def test_peers_compute_the_same_numbers(peer, line):
    problem = Problem.parse(line)
    given = data.arrays(problem)
    if kinds(problem) & MISSING.get(peer, set()):
        with pytest.raises(Exception, match=r"."):
            peers.PEERS[peer](problem, given, 1)[0]()
        return
    call, read = peers.PEERS[peer](problem, given, 1)
    true = engines.truth(problem, data.torch_arrays(problem))
    y = read(call())
    assert data.error(torch.from_numpy(np.array(y)), true) <= data.allowed_error(problem)


def answers(program, *questions):
    out = io.StringIO()
    worker.serve(program, 1, io.StringIO("".join(f"{json.dumps(q)}\n" for q in questions)), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_worker_answers_with_results_and_samples(tmp_path):
    problem = Problem.parse(LINES[0])
    output = tmp_path / "y.npy"
    prepared, turned = answers(
        peers.PEERS["phases in torch"],
        {"prepare": str(problem), "output": str(output)},
        {"turn": True},
    )
    assert prepared["seconds"] > 0
    assert min(turned["samples"]) > 0
    true = engines.truth(problem, data.torch_arrays(problem))
    assert data.error(torch.from_numpy(np.load(output)), true) <= data.allowed_error(problem)


def test_whatever_a_peer_raises_is_its_refusal():
    def fails(problem, given, threads):
        raise MemoryError("48 GiB")

    [answer] = answers(fails, {"prepare": LINES[0], "output": ""})
    assert answer == {"refused": "MemoryError: 48 GiB"}


@pytest.mark.slow
def test_peers_take_part_in_a_run(monkeypatch):
    for name in ("BURSTS", "COPIES", "COPY_BYTES"):
        monkeypatch.setattr(machine, name, 1)
    peer = "torch, weights packed"
    settings = Settings(1, 0, "f32", (False,), (peer,))
    flat, plane = Session(settings).run([Problem.parse(LINES[3]), Problem.parse(LINES[0])])
    assert flat.failures == {peer: "torch packs the weights of two and three axes only"}
    assert flat.peers == {}
    assert set(plane.peers) == {peer}
    assert plane.errors[peer] <= data.allowed_error(plane.problem)
    assert plane.best is not None


@pytest.mark.slow
def test_a_peer_that_dies_refuses(tmp_path):
    lost = Worker("phases in torch", 1, tmp_path)
    lost.close()
    with pytest.raises(Unsupported, match="its process ended with code"):
        lost.prepare(Problem.parse(LINES[0]))


@pytest.mark.slow
def test_a_first_call_is_quicker_from_the_cache():
    found = probe.first_call(Problem.parse("c16:16 i6x6 k3x3 s2x2 p1x1 o1x1"))
    # nothing here depends on how fast the machine is: one of them compiles, the other does not
    assert found.cold > found.cached >= 0


linux = pytest.mark.skipif(
    sys.platform != "linux", reason="the memory of a process is read from /proc"
)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_call_takes_no_more_memory_than_it_may(layout):
    # a column buffer would take 32 MiB, and so would the zeros between the inputs
    found = probe.memory_of_call(Problem.parse(f"c64:32 i128x128 k4x4 s2x2 p1x1 {layout}"), 2)
    assert found.extra <= found.allowed == 8 << 20
    assert found.packed >= 64 * 32 * 16 * 4


WASTEFUL = """
import json, sys
import numpy as np
from polyphase import Problem
from polyphase.engine.run import Operation
from polyphase.tools.bench import probe

plain = Operation.run

def wasteful(*arguments):
    buffer = np.ones(int(sys.argv[1]), np.uint8)
    plain(*arguments)
    assert buffer[-1]

Operation.run = wasteful
print(json.dumps(probe._bytes_of_call(Problem.parse("c4:4 i8x8 k2x2 s2x2"))))
"""


@linux
def test_memory_that_a_call_takes_is_noticed():
    size = 32 << 20
    # a process of its own, as users of the probe have: in this one, the system may take pages of
    # earlier tests back at the same moment
    run = subprocess.run(
        [sys.executable, "-c", WASTEFUL, str(size)], capture_output=True, text=True, check=True
    )
    # the system counts pages in batches
    assert abs(json.loads(run.stdout)["extra"] - size) < 1 << 20
