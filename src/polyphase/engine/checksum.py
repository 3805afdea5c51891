"""A digest of the bytes at an address: whether they are still what they were."""

import ctypes
import struct
from functools import cache

import numpy as np

from polyphase.engine import jit, memory, threads
from polyphase.engine.kernels import checksum as kernel
from polyphase.engine.run import Contexts
from polyphase.engine.target import Target, current

# so few bytes are their own digest
FEW = 1 << 14
# bytes of which a thread makes a digest of their own
CHUNK = 1 << 19

_CONTEXT = struct.Struct(f"{len(kernel.CONTEXT)}q")


def checksum(address: int, size: int) -> bytes:
    """The digest of ``size`` bytes, read once.

    Where one word changed, or one in each lane, the digest is another for certain; whatever else
    changed, it is the same with a chance of about ``2**-64`` for each lane that was touched.

    >>> values = np.arange(100_000)
    >>> before = checksum(values.ctypes.data, values.nbytes)
    >>> values[70_000] += 1
    >>> checksum(values.ctypes.data, values.nbytes) == before
    False
    """
    if size <= FEW:
        return ctypes.string_at(address, size)
    code, contexts, words = _prepared(current())
    chunks = -(-size // CHUNK)
    length = chunks * words * kernel.WORD
    buffer = memory.scratch.borrow(length)
    values, context = contexts.borrow()
    _CONTEXT.pack_into(values, 0, address, buffer.address, 0, chunks, CHUNK, size)
    count = 1 if chunks < 2 else min(chunks, threads.get_num_threads())
    threads.run(code.call, code.address, context, count)
    digest = ctypes.string_at(buffer.address, length)
    contexts.give_back((values, context))
    memory.scratch.give_back(buffer)
    return digest


@cache
def _prepared(target: Target) -> tuple[jit.Code, Contexts, int]:
    """The kernel, contexts for its calls, and the words of the digest of a chunk."""
    code = jit.load("checksum", target, lambda: kernel.build(target))
    template = np.zeros(len(kernel.CONTEXT), np.int64)
    return code, Contexts(template), kernel.digest_words(target)
