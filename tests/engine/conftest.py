"""A machine to try emitted code on."""

import kernels
import numpy as np
import pytest
from llvmlite import ir

from polyphase.engine import jit
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
