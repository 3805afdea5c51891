"""Threads for the kernels: PyTorch's OpenMP pool where torch is loaded, else a small one of ours.

A kernel is entered by every thread with the same context and shares its work out by itself, so a
pool only has to call one address several times at once. The interpreter lock is not held meanwhile.
"""

import ctypes
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyphase.arithmetic.values import at_least, whole
from polyphase.engine.target import cpus

Entry = Callable[[int], None]
# held while a plan or a kernel is made, and across a fork: a child must not inherit what is half
# done, nor locks that nobody is left to release (LLVM's, and cached_property's before Python 3.12)
undivided = threading.RLock()

_chosen: int | None = None


def set_num_threads(count: int) -> None:
    """Let the kernels use ``count`` threads; 1 means the calling thread alone.

    Results are the same, bit for bit, for every count.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _chosen
    count = whole("count", count)
    at_least("count", (count,), 1)
    _chosen = count


def get_num_threads() -> int:
    """Threads that the kernels use: those set, else torch's, else the CPUs of this process.

    >>> get_num_threads() >= 1
    True
    """
    if _chosen is not None:
        return _chosen
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    return cpus()


def run(entry: Entry, address: int, context: int, count: int) -> None:
    """Call the kernel at ``address`` with ``context`` from ``count`` threads, and wait for all."""
    if count == 1:
        entry(context)
        return
    team = _team()
    if team is not None:
        team(address, context, count, 0)
    else:
        _pool.run(entry, context, count)


_team_known: tuple[bool, Any] = (False, None)


def _team() -> Any:
    """The fork function of the OpenMP runtime that torch has loaded, if it has one."""
    global _team_known
    known, team = _team_known
    # while torch is being imported, its runtime may not be there yet
    if known or not hasattr(sys.modules.get("torch"), "get_num_threads"):
        return team
    team = _find_team()
    _team_known = (True, team)
    return team


def _find_team() -> Any:
    home = Path(sys.modules["torch"].__file__ or "").parent
    for folder in (home / "lib", home.parent / "torch.libs"):
        for path in sorted(folder.glob("lib*omp*")):
            try:
                # only a runtime that this process already uses, never a second one
                library = ctypes.CDLL(str(path), mode=getattr(os, "RTLD_NOLOAD", 0) | os.RTLD_LAZY)
                team = library.GOMP_parallel
            except (OSError, AttributeError):
                continue
            team.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            team.restype = None
            return team
    return None


class _Job:
    """One run of a kernel: the caller and any helper that comes in time share its work."""

    def __init__(self, entry: Entry, context: int) -> None:
        self._entry = entry
        self._context = context
        self._lock = threading.Lock()
        self._helpers = 0
        self._closed = False
        self._left = threading.Event()

    def help(self) -> None:
        """Run the kernel, unless the caller has finished without us."""
        with self._lock:
            if self._closed:
                return
            self._helpers += 1
        self._entry(self._context)
        with self._lock:
            self._helpers -= 1
            last = self._closed and self._helpers == 0
        if last:
            self._left.set()

    def close(self) -> None:
        """Let nobody in any more and wait for those inside: they use memory of the caller's."""
        interrupt: BaseException | None = None
        while True:
            try:
                with self._lock:
                    self._closed = True
                    alone = self._helpers == 0
                if not alone:
                    self._left.wait()
                break
            except BaseException as reason:
                # raised by the handler of a signal
                interrupt = reason
        if interrupt is not None:
            raise interrupt


class _Pool:
    """Threads that wait for kernels to help with; several callers may share them."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._growing = threading.Lock()
        self._size = 0

    def run(self, entry: Entry, context: int, count: int) -> None:
        """Run the kernel in the calling thread and in up to ``count - 1`` others."""
        if self._size < count - 1:
            self._grow(count - 1)
        job = _Job(entry, context)
        try:
            for _ in range(count - 1):
                self._jobs.put(job)
            entry(context)
        finally:
            job.close()

    def _grow(self, size: int) -> None:
        with self._growing:
            while self._size < size:
                # a daemon: it never holds up the end of the program
                worker = threading.Thread(target=self._wait, name="polyphase", daemon=True)
                try:
                    worker.start()
                except RuntimeError:
                    # no more threads are to be had: the callers do the work
                    return
                self._size += 1

    def _wait(self) -> None:
        while True:
            self._jobs.get().help()


_pool = _Pool()


def _after_fork() -> None:
    """A child has none of its parent's threads, and OpenMP's would be waited for in vain."""
    global _pool, _team_known
    _pool = _Pool()
    _team_known = (True, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=undivided.acquire,
        after_in_parent=undivided.release,
        after_in_child=undivided.release,
    )
    os.register_at_fork(after_in_child=_after_fork)
