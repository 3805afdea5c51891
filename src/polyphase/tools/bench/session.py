"""A run of the benchmark: gate and contest, layer by layer."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polyphase.arithmetic.problem import Problem
from polyphase.engine.plan import planned
from polyphase.errors import Unsupported
from polyphase.tools.bench import engines, machine, suite
from polyphase.tools.bench.contest import Contestant, Runner, Times, compete
from polyphase.tools.bench.data import torch_package
from polyphase.tools.bench.machine import Gauge, Roof
from polyphase.tools.bench.probe import first_call, memory_of_call
from polyphase.tools.bench.report import Report
from polyphase.tools.bench.rows import OURS, TORCH, TORCH_LAST, Row
from polyphase.tools.bench.work import Operator, Step, Work
from polyphase.tools.bench.worker import Worker

# a peer that needs longer for a call is not waited for
LONGEST_SECONDS = 1.0


@dataclass(frozen=True)
class Settings:
    """What to measure.

    ``lasts`` holds False for channels first and True for channels last; ``kernel`` leaves out what
    the function does before and after its kernel.
    """

    threads: int = 2
    seconds: float = 2.0
    dtype: str = "f32"
    lasts: tuple[bool, ...] = (False, True)
    peers: tuple[str, ...] = ()
    kernel: bool = False
    first_call: bool = False
    memory: bool = False


@dataclass
class Entry:
    """An engine on one layer in one layout: its error, then its contestant or its failure."""

    engine: str
    problem: Problem
    error: float | None = None
    contestant: Contestant | None = None
    failure: str = ""
    times: Times | None = None

    def passes(self, work: Work, result: Any, true: Any) -> bool:
        """Whether a result is right; no engine is timed before one was."""
        self.error, allowed = work.error(self.problem, result, true)
        right = self.error <= allowed
        if not right:
            self.failure = f"off by {self.error:.1e} of the largest value; allowed {allowed:.1e}"
        return right


class Session:
    """The state of a run: the limits of the machine as far as they are known, and the rows."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rows: list[Row] = []
        self.load = machine.load()
        self._workers: list[Worker] = []
        # what is known was measured so
        comparable = (settings.dtype, settings.threads) == ("f32", 2)
        self.known = suite.known() if comparable else {}
        # processor time of a lone thread leaves out what other programs take from it
        alone = settings.threads == 1 and not settings.peers
        self._clock = time.thread_time if alone else time.perf_counter
        self._gauge = Gauge(settings.dtype, settings.threads)
        self._gauge.look()

    @property
    def roof(self) -> Roof:
        """The limits of the machine."""
        return self._gauge.roof

    def run(self, problems: Sequence[Problem], step: bool = False) -> Iterator[Row]:
        """Measure the problems; yields each row as it is done.

        With ``step`` they are measured together with their backward pass.
        """
        work = Step() if step else Operator(self.settings.kernel)
        count = self.settings.threads
        with _threads(count), TemporaryDirectory() as folder, ExitStack() as stack:
            for peer in self.settings.peers:
                worker = Worker(peer, count, Path(folder))
                stack.callback(worker.close)
                self._workers.append(worker)
            for problem in problems:
                for row in self._rows(replace(problem, dtype=self.settings.dtype), work):
                    self.rows.append(row)
                    yield row
                self._gauge.look(0.1)

    def report(self) -> Report:
        """The run so far."""
        return Report(
            time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
            self.settings.seconds,
            self.settings.kernel,
            machine.description(),
            [load for load in (self.load, machine.load()) if load is not None],
            self.roof,
            self.rows,
        )

    def _rows(self, problem: Problem, work: Work) -> Iterator[Row]:
        layouts = {last: engines.in_layout(problem, last) for last in (False, True)}
        ours = [Entry(OURS, layouts[last]) for last in self.settings.lasts]
        others = [Entry(TORCH, layouts[False]), Entry(TORCH_LAST, layouts[True])]
        given = work.given(problem)
        true = work.truth(problem, given)
        for entry in (*ours, *others):
            make = work.ours if entry.engine == OURS else work.torch
            call = make(entry.problem, given)
            if call is None:
                entry.failure = "no kernel: only the reference computes it"
            elif entry.passes(work, call(), true):
                entry.contestant = Runner(call, self._clock)
        others += [_admitted(worker, problem, work, true) for worker in self._workers]
        _contest([*ours, *others], self.settings.seconds)
        wanted, step = self.settings, isinstance(work, Step)
        for entry in ours:
            field = [entry, *others]
            plan, timed = planned(entry.problem), entry.times is not None
            yield Row(
                entry.problem,
                plan.method.name,
                plan.kernel,
                None if step else plan.predicted_share,
                {e.engine: e.times for e in field if e.times},
                {e.engine: e.error for e in field if e.error is not None},
                {e.engine: e.failure for e in field if e.failure},
                None if step else self.known.get(layouts[False]),
                first_call(entry.problem) if timed and wanted.first_call else None,
                memory_of_call(entry.problem, wanted.threads) if timed and wanted.memory else None,
                step,
            )


def _contest(entries: Sequence[Entry], seconds: float) -> None:
    """Time the entries that were let in."""
    admitted = [(entry, entry.contestant) for entry in entries if entry.contestant]
    found = compete([contestant for _, contestant in admitted], seconds)
    for (entry, _), times in zip(admitted, found, strict=True):
        entry.times = times


def _admitted(worker: Worker, problem: Problem, work: Work, true: Any) -> Entry:
    """A peer, in the contest if it computes the right numbers before long."""
    entry = Entry(worker.peer, problem)
    try:
        y, seconds = worker.prepare(problem)
    except Unsupported as reason:
        entry.failure = str(reason)
        return entry
    if seconds > LONGEST_SECONDS:
        entry.failure = f"takes {seconds:.1f} s"
    elif entry.passes(work, torch_package().from_numpy(y), true):
        entry.contestant = worker
    return entry


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many threads for torch, which polyphase follows; afterwards as before."""
    torch = torch_package()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
