"""A peer in a process of its own: another runtime cannot disturb this one's threads and memory.

Both sides speak lines of JSON. ``{"prepare": <problem line>, "output": <file>}`` builds the
program, saves what it computes and answers with its seconds or a refusal; ``{"turn": true}``
answers with samples, as :class:`~polyphase.tools.bench.contest.Runner` makes them.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.problem import Problem
from polyphase.errors import Unsupported
from polyphase.tools.bench import peers
from polyphase.tools.bench.contest import Runner
from polyphase.tools.bench.data import arrays

# freed memory stays in the process and lies on large pages: glibc's own switches
KEPT_MEMORY = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
)
# idle threads of a runtime spin for a while before they sleep
SETTLE_SECONDS = 0.02


class Worker:
    """This side of a peer: a contestant between :meth:`prepare` and the next one."""

    def __init__(self, peer: str, threads: int, folder: Path) -> None:
        self.peer = peer
        self._output = folder / f"{peer.replace(' ', '-')}.npy"
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, peer, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                "GLIBC_TUNABLES": KEPT_MEMORY,
            },
        )

    def prepare(self, problem: Problem) -> tuple[NDArray[Any], float]:
        """What the peer computes for a problem, channels first, and the seconds that it takes.

        Raises :class:`~polyphase.Unsupported` where it cannot.
        """
        answer = self._ask({"prepare": str(problem), "output": str(self._output)})
        if "refused" in answer:
            raise Unsupported(answer["refused"])
        y: NDArray[Any] = np.load(self._output)
        return y, answer["seconds"]

    def turn(self) -> list[float]:
        """Samples from over there; nobody computes here meanwhile, nor there afterwards."""
        time.sleep(SETTLE_SECONDS)
        answer = self._ask({"turn": True})
        time.sleep(SETTLE_SECONDS)
        if "refused" in answer:
            raise Unsupported(f"{self.peer} was lost while it was timed: {answer['refused']}")
        samples: list[float] = answer["samples"]
        return samples

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._process.poll() is not None:
            return {"refused": f"its process ended with code {self._process.returncode}"}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            return {"refused": f"its process ended with code {self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve(program: peers.Peer, threads: int, questions: TextIO, answers: TextIO) -> None:
    """The other side: answer questions until there are no more."""
    call, runner = None, None
    for line in questions:
        question = json.loads(line)
        answer: dict[str, Any]
        if "prepare" in question:
            problem = Problem.parse(question["prepare"])
            runner = None
            try:
                call, read = program(problem, arrays(problem), threads)
                np.save(question["output"], read(call()))
                start = time.perf_counter()
                call()
                answer = {"seconds": time.perf_counter() - start}
            except Unsupported as reason:
                answer = {"refused": str(reason)}
            except Exception as error:
                # whatever another runtime raises is its refusal
                answer = {"refused": f"{type(error).__name__}: {error}"[:300]}
        else:
            assert call
            runner = runner or Runner(call)
            answer = {"samples": runner.turn()}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Serve the peer that the command line names."""
    peer, count = sys.argv[1], int(sys.argv[2])
    # runtimes write to the standard output, too
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):
        # some runtimes take every processor that they see
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    serve(peers.PEERS[peer], count, sys.stdin, answers)


if __name__ == "__main__":
    main()
