"""A machine to try emitted code on, and one to plan for."""

import kernels
import numpy as np
import pytest
from llvmlite import ir

from polyphase.engine import channels, jit, plan, tiling
from polyphase.engine.emit import I64, POINTER, Emitter


@pytest.fixture(params=kernels.TARGETS, ids=lambda target: target.name)
def machine(request):
    """Emit a function with ``build(e, *pointers)`` and run it on arrays."""
    target = request.param

    def execute(build, *arrays, lanes=None):
        lanes = lanes or target.lanes("f32")
        module = ir.Module("test")
        e = Emitter(module, "run", ["context*"], lanes)
        pointers = [
            e.builder.inttoptr(e.load(e.arguments["context"], slot, I64), POINTER)
            for slot in range(len(arrays))
        ]
        build(e, *pointers)
        e.finish()
        code = jit.Code(jit.emit(str(module), target), target)
        context = np.array([array.ctypes.data for array in arrays], np.int64)
        code.call(context.ctypes.data)

    execute.target = target
    execute.lanes = target.lanes("f32")
    return execute


@pytest.fixture
def planned_for_two(monkeypatch):
    """New plans are for two processors, each with 1 MiB of cache, wherever the tests run."""
    for module in (channels, tiling):
        monkeypatch.setattr(module, "cpus", lambda: 2)
    monkeypatch.setattr(plan, "cache_bytes", lambda: 1 << 20)
