"""Weights from channels-last memory into the order that recipes read them in: channels first.

Kernel ``transpose`` does it: its rows are taps, and its columns the channels side by side.
"""

import struct
from functools import lru_cache

import numpy as np

from polyphase.engine import threads
from polyphase.engine.kernels import transpose
from polyphase.engine.run import Contexts, transposing
from polyphase.engine.target import Target, current
from polyphase.engine.tiling import WEIGHTS_PER_THREAD

_CALL = struct.Struct("3q")
assert transpose.CONTEXT[:3] == ["weights", "panels", "next"]

# the kernel's results are floats of the width that it computes in
DTYPES = ("f32", "f64")
# squares that share the work
_PARTS = 64


class Order:
    """Weights of ``rows`` blocks of ``channels`` by ``taps``, each of which is transposed."""

    def __init__(self, rows: int, channels: int, taps: int, dtype: str, target: Target) -> None:
        lanes = target.lanes(dtype)
        each = -(-rows // _PARTS)
        size = channels * taps
        squares = [
            {
                "target": row * size + tap,
                "source": row * size + tap * channels,
                "rows": min(lanes, taps - tap),
                "lanes": min(lanes, taps - tap),
                "columns": channels,
                "channels": min(each, rows - row),
                "width": size,
            }
            for row in range(0, rows, each)
            for tap in range(0, taps, lanes)
        ]
        table = [[square.get(name, 0) for name in transpose.SQUARE] for square in squares]
        self._squares = np.array(table, np.int64)
        # a vector's worth is looked up at a time
        places = np.full(-(-channels // lanes) * lanes, -1, np.int64)
        places[:channels] = np.arange(channels) * taps
        self._places = places
        values = {
            "squares": self._squares.ctypes.data,
            "square_count": len(squares),
            "places": self._places.ctypes.data,
            "row_stride": channels,
            "channel_stride": size,
        }
        context = np.array([values.get(name, 0) for name in transpose.CONTEXT], np.int64)
        self._contexts = Contexts(context)
        self._code = transposing(dtype, target)
        self._most_threads = max(1, min(len(squares), rows * size // WEIGHTS_PER_THREAD))

    def run(self, source: int, target: int) -> None:
        """From ``(rows, taps, channels)`` at ``source`` to ``(rows, channels, taps)``."""
        values, context = self._contexts.borrow()
        _CALL.pack_into(values, 0, source, target, 0)
        count = self._most_threads
        if count > 1:
            count = min(count, threads.get_num_threads())
        threads.run(self._code.call, self._code.address, context, count)
        self._contexts.give_back((values, context))


@lru_cache(maxsize=256)
def order(rows: int, channels: int, taps: int, dtype: str) -> Order | None:
    """The compiled reordering of such weights, for the current target; ``None`` for other types."""
    if dtype not in DTYPES:
        return None
    with threads.undivided:
        return Order(rows, channels, taps, dtype, current())
