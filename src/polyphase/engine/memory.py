"""Memory that is kept warm: scratch for the kernels, and large outputs.

A fresh page costs about a microsecond when it is first touched, so that filling a new 50 MiB output
takes longer than computing it. Pages of large outputs therefore return here when the last array
that uses them is gone, and serve the next output. Beyond the latest ``HOT_BYTES``, what lies here
may be taken back by the system at any moment (``MADV_FREE``), and no more than ``KEPT_BYTES`` lies
here at all.
"""

import ctypes
import mmap
from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# smaller outputs come from numpy, whose allocator keeps such pages itself
SMALLEST_KEPT = 1 << 20
KEPT_BYTES = 512 << 20
# offering pages to the system takes as long as computing a small layer: the latest are not offered
HOT_BYTES = 64 << 20
HUGE_PAGE = 2 << 20
ALIGNMENT = 64
# scratch for so many callers at once is kept
MOST_BUFFERS = 8
# what the machine lacks is left out: the pool works without
_HUGE = getattr(mmap, "MADV_HUGEPAGE", None)
_FREE = getattr(mmap, "MADV_FREE", None)
_FLAGS = {
    "flags": getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0),
} if hasattr(mmap, "MAP_ANONYMOUS") else {}  # fmt: skip


class _Pages(mmap.mmap):
    """Anonymous pages; while they are idle, the system may take them back if ``offered``."""

    offered = False


class _Block:
    """Owner of one output's memory; gives it back to the pool when the last array goes."""

    __slots__ = ("__array_interface__", "_pages", "_pool")

    def __init__(self, pages: _Pages, size: int, pool: "Pool") -> None:
        address = np.frombuffer(pages, np.uint8).ctypes.data
        self.__array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }
        self._pages = pages
        self._pool = pool

    def __del__(self) -> None:
        self._pool.take_back(self._pages)


class Pool:
    """Pages of outputs that nobody holds any more.

    There is no lock: an array may go at any moment, also within these methods and on a fork. Each
    step is one operation of a list, and what another thread takes first is simply not found.
    """

    def __init__(self) -> None:
        self._idle: list[_Pages] = []

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An uninitialised C-contiguous array, on warm pages where there are any."""
        kind = np.dtype(dtype)
        size = prod(shape) * kind.itemsize
        if size < SMALLEST_KEPT:
            return np.empty(shape, kind)
        try:
            pages = self._pages(size)
        except (OSError, OverflowError):
            # numpy finds other memory, or says how much is missing
            return np.empty(shape, kind)
        block = _Block(pages, size, self)
        return np.asarray(block).view(kind).reshape(shape)

    def _pages(self, size: int) -> _Pages:
        largest = size + size // 4 + HUGE_PAGE
        fitting = [pages for pages in self._idle[::-1] if size <= len(pages) <= largest]
        for pages in sorted(fitting, key=len):
            with suppress(ValueError):
                self._idle.remove(pages)
                return pages
        pages = _Pages(-1, -(-size // HUGE_PAGE) * HUGE_PAGE, **_FLAGS)
        _advise(pages, _HUGE)
        return pages

    def take_back(self, pages: _Pages) -> None:
        """Keep pages for the next output; the oldest give way beyond the limit."""
        if len(pages) > KEPT_BYTES:
            return
        pages.offered = False
        self._idle.append(pages)
        hot = 0
        for older in self._idle[::-1]:
            hot += len(older)
            if hot > HOT_BYTES and not older.offered:
                self._offer(older)
        while sum(map(len, self._idle.copy())) > KEPT_BYTES:
            with suppress(IndexError):
                self._idle.pop(0)

    def _offer(self, pages: _Pages) -> None:
        """Let the system have pages, unless somebody took them meanwhile."""
        with suppress(ValueError):
            # whoever holds pages must have them alone: offered ones may lose what is written
            self._idle.remove(pages)
            _advise(pages, _FREE)
            pages.offered = True
            self._idle.insert(0, pages)

    def clear(self) -> None:
        """Give everything that is kept back to the system."""
        self._idle.clear()


_first_byte: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer


def address(array: NDArray[Any]) -> int:
    """Where the elements of an array begin; ``array.ctypes.data``, but quicker.

    >>> array = np.zeros(3)
    >>> address(array[1:]) - address(array)
    8
    """
    try:
        return ctypes.addressof(_first_byte(array))
    except (TypeError, ValueError):
        # arrays that are read-only, have gaps, have no element or another library's dtype
        return int(array.ctypes.data)


def _advise(pages: _Pages, advice: int | None) -> None:
    # a system without such advice does without
    if advice is not None:
        with suppress(OSError):
            pages.madvise(advice)


class Buffer:
    """Bytes of any content, from an aligned address on."""

    __slots__ = ("_memory", "address", "size")

    def __init__(self, size: int) -> None:
        self._memory = np.empty(size + ALIGNMENT, np.uint8)
        start: int = self._memory.ctypes.data
        self.address = start + -start % ALIGNMENT
        self.size = size


class Scratch:
    """Buffers for one kernel run at a time each, kept for the next one."""

    def __init__(self) -> None:
        self._idle: list[Buffer] = []

    def borrow(self, size: int) -> Buffer:
        """A buffer of at least ``size`` bytes."""
        try:
            buffer = self._idle.pop()
        except IndexError:
            return Buffer(size)
        return buffer if buffer.size >= size else Buffer(size)

    def give_back(self, buffer: Buffer) -> None:
        """Keep a buffer for the next run, unless there are plenty."""
        if len(self._idle) < MOST_BUFFERS:
            self._idle.append(buffer)


outputs = Pool()
scratch = Scratch()
