"""What this machine can do at most, measured, and what it is."""

import ctypes
import math
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from polyphase.arithmetic.cost import cost
from polyphase.arithmetic.problem import Problem
from polyphase.engine import jit, threads
from polyphase.engine.kernels import peak
from polyphase.engine.target import current

# long against the start of the threads, and short against the turns that a busy system gives
BURST_SECONDS = 0.002
BURSTS = 150
COPY_BYTES = 128 << 20
COPIES = 24
PACKAGES = ("numpy", "torch", "llvmlite")


@dataclass(frozen=True)
class Roof:
    """The limits of a machine: multiply-adds in registers, and copying in memory.

    ``gflops`` counts a multiply-add as two operations; ``gbytes`` counts what is read and what is
    written; both are per second, for ``threads`` threads together.
    """

    dtype: str
    threads: int
    gflops: float
    gbytes: float

    def seconds(self, problem: Problem) -> float:
        """The time below which no program can compute ``problem`` on arrays in memory."""
        return max(self._arithmetic_seconds(problem), self._memory_seconds(problem))

    def bound(self, problem: Problem) -> str:
        """Which of the two limits holds for ``problem``: compute or memory."""
        arithmetic = self._arithmetic_seconds(problem)
        return "compute" if arithmetic >= self._memory_seconds(problem) else "memory"

    def _arithmetic_seconds(self, problem: Problem) -> float:
        """The time of the multiply-adds that reach the output."""
        return 2e-9 * cost(problem).phases.multiplications / self.gflops

    def _memory_seconds(self, problem: Problem) -> float:
        """The time of reading input, weights and bias and writing the output once."""
        return 1e-9 * problem.bytes / self.gbytes


class Gauge:
    """Measures the roof, and again later: a machine that was disturbed shows more then.

    >>> gauge = Gauge("f32", 1)
    >>> gauge.look(0.01)
    >>> gauge.roof.gflops > 0 and gauge.roof.gbytes > 0
    True
    """

    def __init__(self, dtype: str, count: int) -> None:
        target = current()
        self.roof = Roof(dtype, count, 0.0, 0.0)
        self._lanes = target.lanes(dtype)
        self._together = target.together(dtype)
        self._code = jit.load(f"peak {dtype}", target, lambda: peak.build(dtype, target))
        self._values = np.ones(3 * self._lanes, np.float64 if dtype == "f64" else np.float32)
        self._values[: self._lanes] = 0.5
        # from the speed of one thread, and more than once, so that no disturbance passes for it
        trial = 10_000
        quickest = min(self._burst(trial, 1) for _ in range(20))
        self._rounds = max(trial, int(trial * BURST_SECONDS / quickest))
        self._source = np.ones(COPY_BYTES, np.uint8)
        self._target = np.zeros(COPY_BYTES, np.uint8)

    def look(self, share: float = 1.0) -> None:
        """Measure, and keep the best of all looks; a ``share`` below 1 makes it a short one."""
        count = self.roof.threads
        bursts, copies = (math.ceil(share * number) for number in (BURSTS, COPIES))
        quickest = min(self._burst(self._rounds, count) for _ in range(bursts))
        products = peak.SUMS * self._lanes * self._together
        gflops = 2e-9 * self._rounds * products * count / quickest
        with ThreadPoolExecutor(count) as pool:
            quickest = min(self._copy(pool) for _ in range(copies))
        gbytes = 2e-9 * COPY_BYTES / quickest
        self.roof = replace(
            self.roof,
            gflops=max(gflops, self.roof.gflops),
            gbytes=max(gbytes, self.roof.gbytes),
        )

    def _burst(self, rounds: int, count: int) -> float:
        """Seconds of the multiply-adds."""
        context = np.zeros(len(peak.CONTEXT), np.int64)
        context[peak.CONTEXT.index("rounds")] = rounds
        context[peak.CONTEXT.index("values")] = self._values.ctypes.data
        start = time.perf_counter()
        threads.run(self._code.call, self._code.address, context.ctypes.data, count)
        return time.perf_counter() - start

    def _copy(self, pool: ThreadPoolExecutor) -> float:
        """Seconds of a copy."""
        part = -(-COPY_BYTES // self.roof.threads)
        source, target = self._source.ctypes.data, self._target.ctypes.data

        def copy(start: int) -> None:
            ctypes.memmove(target + start, source + start, min(part, COPY_BYTES - start))

        start = time.perf_counter()
        list(pool.map(copy, range(0, COPY_BYTES, part)))
        return time.perf_counter() - start


def description() -> dict[str, Any]:
    """Processor, system and versions, as they stand in a file of results."""
    return {
        "processor": _processor(),
        "cpus": _cpus(),
        "target": current().name,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("polyphase", *PACKAGES)},
    }


def load() -> float | None:
    """Processes that wanted a processor during the last minute, on average."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _processor() -> str:
    """The name that the processor gives itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name", platform.machine())
    if "cpu family" in found:
        name += f" (family {found['cpu family']}, model {found.get('model', '?')})"
    return name


def _cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
