"""ONNX models made for tests, and the runtimes that run them; needs onnx when it is used."""

import numpy as np


def one_node(problem, opset=22, dynamic=()):
    """The problem as a model with one ConvTranspose; ``dynamic`` input axes have no number."""
    import onnx

    attributes = {k: v for k, v in problem.call.keywords.items() if k != "input_size"}
    constants = {"w": problem.weight}
    if problem.bias is not None:
        constants["b"] = problem.bias
    node = onnx.helper.make_node(
        "ConvTranspose",
        ["x", *constants],
        ["y"],
        name="up",
        group=problem.groups,
        **attributes,
    )
    shape = [f"d{at}" if at in dynamic else n for at, n in enumerate(problem.x.shape)]
    return model([node], {"x": shape}, {"y": problem.x.ndim}, constants, opset)


def model(nodes, inputs, outputs, constants, opset=22):
    """Inputs with shapes, outputs with their number of axes."""
    import onnx

    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, float32, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, float32, [None] * n) for name, n in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def in_onnxruntime(made, **inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)


def in_openvino(made, **inputs):
    import io

    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    read = core.read_model(io.BytesIO(made.SerializeToString()))
    results = core.compile_model(read, "CPU", settings)(inputs)
    return [results[at] for at in range(len(results))]


def inferred(made):
    """The shape of the first output that onnx infers, ``None`` where it says nothing."""
    import onnx

    shape = onnx.shape_inference.infer_shapes(made).graph.output[0].type.tensor_type.shape
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in shape.dim)


def attributes(node):
    """The attributes of a node as Python values."""
    import onnx

    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {
        name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()
    }


def same(results, expected):
    return all(map(np.array_equal, results, expected))
