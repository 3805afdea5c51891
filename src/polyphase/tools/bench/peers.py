"""Other engines, each in the configuration that serves it best.

A peer makes of a problem and its arrays a call, and a function that reads channels-first NumPy from
what the call returns. Everything that can be done before the call is done before.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from polyphase.arithmetic.problem import Problem
from polyphase.errors import Unsupported
from polyphase.tools.bench import torch_peers
from polyphase.tools.bench.contest import quickest
from polyphase.tools.bench.data import Array, Arrays
from polyphase.tools.bench.engines import Call

Read = Callable[[Any], Array]
Peer = Callable[[Problem, Arrays, int], tuple[Call, Read]]


def onnxruntime(problem: Problem, arrays: Arrays, threads: int) -> tuple[Call, Read]:
    """ONNX Runtime's session on NumPy arrays."""
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    model = _onnx_model(problem, arrays)
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"x": arrays.x}
    return lambda: session.run(None, feed), lambda y: np.asarray(y[0])


def openvino(problem: Problem, arrays: Arrays, threads: int) -> tuple[Call, Read]:
    """OpenVINO's compiled model in float32, on shared arrays."""
    core = import_module("openvino").Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(_onnx_model(problem, arrays)), "CPU", settings)
    request, x = compiled.create_infer_request(), arrays.x
    return (
        lambda: request.infer([x], share_inputs=True, share_outputs=True),
        lambda y: np.array(y[0]),
    )


def jax(problem: Problem, arrays: Arrays, threads: int) -> tuple[Call, Read]:
    """XLA's dilated convolution, compiled, channels first or last."""
    package, lax = import_module("jax"), import_module("jax.lax")
    x, weight, bias = arrays.x, arrays.weight, arrays.bias
    spatial = "DHW"[-problem.rank :]
    pads = [
        (axis.extent - 1 - axis.begin, axis.extent - 1 - axis.end) for axis in problem.geometry.axes
    ]
    kernel = _as_convolution(problem, weight)

    def in_order(order: str) -> Call:
        last = order[-1] == "C"

        def compute(x: Any, w: Any, b: Any) -> Any:
            y = lax.conv_general_dilated(
                x,
                w,
                window_strides=(1,) * problem.rank,
                padding=pads,
                lhs_dilation=_axes(problem.geometry.stride),
                rhs_dilation=_axes(problem.geometry.dilation),
                dimension_numbers=(order, f"OI{spatial}", order),
                feature_group_count=problem.groups,
            )
            return y + (b if last else b.reshape(-1, *(1,) * problem.rank))

        given = [
            package.device_put(array)
            for array in (np.moveaxis(x, 1, -1) if last else x, kernel, bias)
        ]
        compiled = package.jit(compute).lower(*given).compile()
        return lambda: (last, compiled(*given).block_until_ready())

    def read(answer: tuple[bool, Any]) -> Array:
        last, y = answer
        return np.moveaxis(np.asarray(y), -1, 1) if last else np.asarray(y)

    return quickest([in_order(f"NC{spatial}"), in_order(f"N{spatial}C")]), read


def tensorflow(problem: Problem, arrays: Arrays, threads: int) -> tuple[Call, Read]:
    """TensorFlow's graph on channels-last tensors; one axis is computed as two."""
    tf = import_module("tensorflow")
    if problem.groups > 1:
        raise Unsupported("its operators have no groups")
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    x, weight, bias = arrays.x, arrays.weight, arrays.bias
    pads, g = _equal_pads(problem), problem.geometry
    lead = [1] * (2 - problem.rank)
    size = [*lead, *problem.output_size]
    x = np.moveaxis(x, 1, -1).reshape(problem.batch, *lead, *problem.input_size, -1)
    w = np.moveaxis(weight, (0, 1), (-1, -2))
    w = np.ascontiguousarray(w.reshape(*lead, *w.shape))
    strides, dilations = ([1, *lead, *_axes(v), 1] for v in (g.stride, g.dilation))
    tensors = [tf.constant(np.ascontiguousarray(v)) for v in (x, w, bias)]
    grown = [n + 2 * p for n, p in zip(size, [0] * len(lead) + pads, strict=True)]

    def compute(x: Any, w: Any, b: Any) -> Any:
        if problem.rank == 3:
            y = tf.raw_ops.Conv3DBackpropInputV2(
                input_sizes=[problem.batch, *grown, problem.out_channels],
                filter=w,
                out_backprop=x,
                strides=strides,
                padding="VALID",
                dilations=dilations,
            )
            begin = [0, *pads, 0]
            y = tf.slice(y, begin, [problem.batch, *size, problem.out_channels]) if any(pads) else y
        else:
            y = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=[problem.batch, *size, problem.out_channels],
                filter=w,
                out_backprop=x,
                strides=strides,
                padding="EXPLICIT",
                explicit_paddings=[0, 0, *(p for p in [0] * len(lead) + pads for _ in "be"), 0, 0],
                dilations=dilations,
            )
        return tf.nn.bias_add(y, b)

    def read(y: Any) -> Array:
        last: Array = y.numpy().reshape(problem.batch, *problem.output_size, -1)
        return np.moveaxis(last, -1, 1)

    graph = tf.function(compute)
    return lambda: graph(*tensors), read


PEERS: dict[str, Peer] = {
    "torch, memory kept": torch_peers.kept,
    "torch, weights packed": torch_peers.packed,
    "phases in torch": torch_peers.phases,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "jax": jax,
    "tensorflow": tensorflow,
}
_NEEDS = {"onnxruntime": ("onnxruntime", "onnx"), "openvino": ("openvino", "onnx")}


def installed() -> list[str]:
    """The peers whose packages are there.

    >>> "phases in torch" in installed()
    True
    """
    return [
        peer
        for peer in PEERS
        if all(map(find_spec, _NEEDS.get(peer, ("torch" if "torch" in peer else peer,))))
    ]


def _onnx_model(problem: Problem, arrays: Arrays) -> bytes:
    """One ``ConvTranspose`` node, weights and bias inside."""
    onnx = import_module("onnx")
    helper, g = onnx.helper, problem.geometry
    begins, ends = zip(*g.pads, strict=True)
    node = helper.make_node(
        "ConvTranspose",
        ["x", "w", "b"],
        ["y"],
        strides=_axes(g.stride),
        dilations=_axes(g.dilation),
        output_padding=_axes(g.output_padding),
        pads=[*begins, *ends],
        group=problem.groups,
    )
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", kind, problem.input_shape)],
        [helper.make_tensor_value_info("y", kind, problem.output_shape)],
        [
            onnx.numpy_helper.from_array(array, name)
            for array, name in ((arrays.weight, "w"), (arrays.bias, "b"))
        ],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def _as_convolution(problem: Problem, weight: Array) -> Array:
    """Weights of the convolution of the dilated input: taps turned round, groups in front."""
    taps = weight.shape[2:]
    turned = np.flip(weight, tuple(range(2, weight.ndim)))
    split = turned.reshape(problem.groups, -1, weight.shape[1], *taps)
    return np.ascontiguousarray(np.swapaxes(split, 1, 2).reshape(problem.out_channels, -1, *taps))


def _equal_pads(problem: Problem) -> list[int]:
    """The padding of each axis, where both ends have the same."""
    if any(begin != end for begin, end in problem.geometry.pads):
        raise Unsupported("its operators remove as much from either end")
    return [begin for begin, _ in problem.geometry.pads]


def _axes(value: int | tuple[int, ...]) -> list[int]:
    return list(value) if isinstance(value, tuple) else [value]
