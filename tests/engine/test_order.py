"""Channels-last weights brought into the order of the definition, wherever they lie."""

from math import prod

import guarded
import kernels
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyphase.engine.order import Order, order


@pytest.mark.parametrize("target", kernels.TARGETS, ids=lambda target: target.name)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["f32", "f64"]),
    st.booleans(),
)
def test_every_weight_and_nothing_else_is_moved(target, sizes, dtype, at_end):
    rows, channels, taps = sizes
    kind = {"f32": np.float32, "f64": np.float64}[dtype]
    weights = np.arange(prod(sizes), dtype=kind).reshape(rows, channels, taps)
    memory = guarded.Memory(at_end)
    source = memory.holding(np.ascontiguousarray(weights.transpose(0, 2, 1)))
    result = memory.array(weights.shape, kind)
    Order(*sizes, dtype, target).run(source.ctypes.data, result.ctypes.data)
    assert (result == weights).all()
    for buffer in memory.given:
        buffer.assert_margin_untouched()
        buffer.free()


def test_half_precision_is_left_to_others():
    assert order(2, 3, 4, "bf16") is None
    assert order(2, 3, 4, "f32") is order(2, 3, 4, "f32")
