"""Memory for results: tensors whose values are yet to come.

Large ones lie on pages that are warm from earlier ones (:mod:`polyphase.engine.memory`). Asking for
those takes a walk through much code that the kernel before has driven out of the caches, so the
memory of the latest results is kept as tensors: what nobody else holds any more serves the next
result of its kind at once.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polyphase.engine import memory

# what is kept takes no more together
KEPT_BYTES = memory.HOT_BYTES

_users: Callable[[int], int] = torch._C._storage_Use_Count


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """What is equal in all results of a kind of call."""

    bytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    # PyTorch's mode in which they are made
    inference: bool


# equal ones are one object, which is told from others at a glance
_kind = lru_cache(maxsize=4096)(_Kind)


class Results:
    """Tensors of one shape and dtype."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._shape = shape
        size = prod(shape) * dtype.itemsize
        self._empty = partial(torch.empty, *shape, dtype=dtype, device="cpu")
        # the shortest ways to uninitialised memory, channels first and last
        self.first: Callable[[], Tensor] = self._empty
        self.last: Callable[[], Tensor] = partial(
            torch.empty_strided, shape, strides(shape, True), dtype=dtype, device="cpu"
        )
        if size >= memory.SMALLEST_KEPT:
            self.first, self.last = partial(self._warm, False), partial(self._warm, True)
        self._kinds = {
            (last, inference): _kind(size, dtype, shape, strides(shape, last), inference)
            for last in (False, True)
            for inference in (False, True)
        }

    def _warm(self, last: bool) -> Tensor:
        return _warm(self._kinds[last, torch.is_inference_mode_enabled()])

    def of(self, array: Any) -> Tensor:
        """What the reference computed, as a tensor."""
        if array.size == 0:
            # NumPy's strides of what has no elements are not PyTorch's
            return self._empty()
        return torch.from_numpy(array.reshape(self._shape)).to(self._dtype)


class _Kept:
    """A tensor that is never given away: what is, is its ``data``, which lies in the same memory.

    ``data`` is neither a view nor known to autograd, and nothing takes less code to make.
    """

    __slots__ = ("_address", "_handle", "_own", "_storage", "kind", "tensor")

    def __init__(self, kind: _Kind) -> None:
        pages = torch.from_numpy(memory.outputs.array((kind.bytes,), np.uint8))
        self._storage = pages.untyped_storage()
        del pages
        self._handle = self._storage._cdata
        self._address = self._storage.data_ptr()
        self.kind = kind
        self.tensor = torch.empty(0, dtype=kind.dtype, device="cpu")
        self.tensor.set_(self._storage, 0, kind.shape, kind.strides)
        self._own = self._references()

    def is_idle(self) -> bool:
        """Whether nobody else knows the memory."""
        return self._references() == self._own and not self.has_moved()

    def has_moved(self) -> bool:
        """Whether the memory became another's, as it does when processes share it."""
        return self._storage.data_ptr() != self._address

    def _references(self) -> tuple[int, int]:
        """How often PyTorch and Python refer to the memory."""
        return _users(self._handle), sys.getrefcount(self._storage)


# the latest last; with the interpreter's lock every step is one, so that threads need no other
_kept: list[_Kept] = []


def _warm(kind: _Kind) -> Tensor:
    """A result on pages that were used before, where there are any."""
    for kept in _kept[::-1]:
        # looked at twice, for another thread may have had it before it was forgotten
        if kept.kind is kind and kept.is_idle() and _forget(kept) and kept.is_idle():
            break
        if kept.has_moved():
            # others own it now, and it lives as long as it is remembered here
            _forget(kept)
    else:
        _make_room(kind.bytes)
        kept = _Kept(kind)
    y: Tensor = kept.tensor.data
    if kind.bytes <= KEPT_BYTES:
        _kept.append(kept)
    return y


def _make_room(size: int) -> None:
    """Forget the oldest where there would be too much with ``size`` bytes more."""
    left = KEPT_BYTES - size if size <= KEPT_BYTES else KEPT_BYTES
    for kept in _kept[::-1]:
        left -= kept.kind.bytes
        if left < 0:
            _forget(kept)


def _forget(kept: _Kept) -> bool:
    """Whether it was remembered until now; its pages go when nobody holds them any more."""
    try:
        _kept.remove(kept)
    except ValueError:
        return False
    return True


def strides(shape: Any, last: bool) -> tuple[Any, ...]:
    """Strides of memory without gaps, channels behind the other axes or before them.

    Sizes may be symbols.

    >>> strides((2, 3, 4, 5), last=True)
    (60, 1, 15, 3)
    """
    axes = range(len(shape))
    order = [0, *axes[2:], 1] if last else axes
    found, step = {}, 1
    for axis in reversed(order):
        found[axis] = step
        # as PyTorch counts where there are no elements
        step *= max(shape[axis], 1) if isinstance(shape[axis], int) else shape[axis]
    return tuple(found[axis] for axis in axes)
