"""What only a fresh process shows: the time of a first call, and the memory that a call takes.

``python -m polyphase.tools.bench.probe first_call|memory THREADS PROBLEM LINE`` prints JSON.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from polyphase import functional
from polyphase.arithmetic.problem import Problem
from polyphase.engine import memory, threads
from polyphase.engine.run import operation
from polyphase.errors import Unsupported
from polyphase.tools.bench.data import Array, arrays
from polyphase.tools.bench.engines import in_layout

# they load what any first call of a process loads, and share no kernel with other types
OTHER_LAYERS = [Problem.parse(line) for line in ("c2:3 i5 k3 s2 f64", "c32:32 i9 k3 s2 f64")]
LATER_CALLS = 3
# what a call may take besides its arrays: a share of them, or so much for each thread
ALLOWED_SHARE, ALLOWED_PER_THREAD = 0.05, 4 << 20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class FirstCall:
    """Seconds that a first call takes longer than a later one: all new, or compiled before.

    They are processor time of one thread, in which everything happens that happens only once.
    """

    cold: float
    cached: float


@dataclass(frozen=True)
class Memory:
    """Bytes that a call takes besides input, weights and output, and how many it may take.

    ``packed`` are the weights in the order of the kernel, which a module keeps.
    """

    extra: int
    packed: int
    allowed: int


def first_call(problem: Problem) -> FirstCall:
    """The first call of a layer in a process that has computed another one before."""
    with TemporaryDirectory() as cache:
        cold, cached = (_asked("first_call", problem, 1, cache)["seconds"] for _ in range(2))
    return FirstCall(cold, cached)


def memory_of_call(problem: Problem, count: int) -> Memory:
    """The memory of a call, by the system's own count of pages.

    Raises :class:`~polyphase.Unsupported` where the system does not count them.
    """
    if not CLEAR.exists():
        raise Unsupported("the memory of a call is measured on Linux only")
    answer = _asked("memory", problem, count)
    allowed = max(int(ALLOWED_SHARE * problem.bytes), ALLOWED_PER_THREAD * count)
    return Memory(answer["extra"], answer["packed"], allowed)


def _asked(what: str, problem: Problem, count: int, cache: str = "") -> dict[str, Any]:
    """The answer of a new process, whose cache is in a folder of its own where one is given."""
    environment = {**os.environ, "POLYPHASE_CACHE": cache} if cache else None
    arguments = [sys.executable, "-m", __name__, what, str(count), str(problem)]
    run = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def _seconds_of_first_call(problem: Problem) -> dict[str, float]:
    """The first call against the quickest of the next ones, in a process that is warm else."""
    for layer, last in product(OTHER_LAYERS, (False, True)):
        _seconds_of_calls(in_layout(layer, last))
    first, *later = _seconds_of_calls(problem)
    return {"seconds": max(0.0, first - min(later))}


def _seconds_of_calls(problem: Problem) -> list[float]:
    """Seconds of the first and later calls of the user's function, on arrays made before."""
    function = getattr(functional, f"conv_transpose{problem.rank}d")
    given, g = arrays(problem), problem.geometry
    # the pages of an output cost more than the rest of a first call, and not only there
    out = _in_memory(problem, np.ones(problem.output_shape, given.x.dtype))
    x = _in_memory(problem, given.x)
    parameters = (g.stride, g.padding, g.output_padding, problem.groups, g.dilation)
    seconds = []
    for _ in range(1 + LATER_CALLS):
        start = time.thread_time()
        function(x, given.weight, given.bias, *parameters, out=out)
        seconds.append(time.thread_time() - start)
    return seconds


def _in_memory(problem: Problem, array: Array) -> Array:
    """A channels-first array that lies in memory as the layout of ``problem`` says."""
    if not problem.channels_last:
        return array
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def _bytes_of_call(problem: Problem) -> dict[str, int]:
    """The highest number of resident bytes during a call, over those before it."""
    found = operation(problem)
    if found is None:
        raise Unsupported(f"there is no kernel for {problem}")
    given = arrays(problem)
    panels = found.pack(given.weight.ctypes.data, given.bias.ctypes.data)
    gc.collect()
    # free memory that stays with the process would hide what the call takes
    ctypes.CDLL(None).malloc_trim(0)
    # 5: start counting the peak anew
    CLEAR.write_text("5")
    before = _resident("VmRSS")
    y = memory.outputs.array(problem.output_shape, given.x.dtype)
    found.run(given.x.ctypes.data, panels, y.ctypes.data)
    return {"extra": _resident("VmHWM") - before - y.nbytes, "packed": panels.nbytes}


def _resident(field: str) -> int:
    """A field of the kernel's report on this process, in bytes."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) << 10


def main() -> None:
    """Answer the question of the command line."""
    what, count, *line = sys.argv[1:]
    threads.set_num_threads(int(count))
    problem = Problem.parse(" ".join(line))
    answers = {"first_call": _seconds_of_first_call, "memory": _bytes_of_call}
    print(json.dumps(answers[what](problem)))


if __name__ == "__main__":
    main()
