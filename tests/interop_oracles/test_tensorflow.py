"""TensorFlow and TensorFlow Lite compute what polyphase says, values and refusals."""

import os
import random
import warnings
from collections import Counter

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import against
import numpy as np
import oracle
import printed
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
    from tensorflow.lite.tools import flatbuffer_utils

from polyphase import Unsupported, interop

tf.config.threading.set_intra_op_parallelism_threads(1)
FUNCTIONS = {
    1: tf.nn.conv1d_transpose,
    2: tf.nn.conv2d_transpose,
    3: tf.nn.conv3d_transpose,
}
REFUSALS = (tf.errors.OpError, ValueError)
RESOLVERS = tf.lite.experimental.OpResolverType
KERNELS = (RESOLVERS.BUILTIN_REF, RESOLVERS.BUILTIN_WITHOUT_DEFAULT_DELEGATES, RESOLVERS.AUTO)


def run(problem):
    keywords = dict(problem.call.keywords)
    del keywords["kernel_size"], keywords["input_size"]
    keywords["output_shape"] = [
        problem.x.shape[0],
        *keywords["output_shape"][1:-1],
        problem.weight.shape[1],
    ]
    return call(problem.x, problem.weight, 1, keywords, problem.bias)


def call(x, weight, groups, keywords, bias=None):
    filters = interop.convert(weight, source="torch", target="tensorflow")
    try:
        result = FUNCTIONS[x.ndim - 2](against.last(x), filters, **keywords)
    except tf.errors.InvalidArgumentError as error:
        if "CPU implementations do not yet support dilation" in str(error):
            raise against.NotHere from None
        raise
    return against.with_bias(against.first(result), bias, axis=1)


def known(problem):
    # its oneDNN kernels divide with rounding toward zero, and so take a smaller output than
    # TensorFlow's own kernels do where there is one input; these then refuse it
    one_input = problem.refusal is not None and 1 in problem.call.size
    return "rounded toward zero" if one_input else None


@pytest.mark.parametrize(("rank", "count"), [(1, 6000), (2, 4000), (3, 500)])
def test_values_and_refusals(rank, count):
    rng = random.Random(rank)
    found = Counter(
        against.check(against.problem("tensorflow", rng, rank), run, REFUSALS, known)
        for _ in range(count)
    )
    assert found["equal"] > count / 2, found
    assert found["refused"] > 3, found


@pytest.mark.parametrize(("rank", "count"), [(1, 500), (2, 500), (3, 50)])
def test_the_way_back(rank, count):
    needs = ("input_size", "batch", "out_channels")
    against.check_way_back("tensorflow", random.Random(rank), rank, count, call, needs=needs)


@pytest.fixture(scope="module")
def template():
    """A model with one TRANSPOSE_CONV, as bytes."""
    weights = tf.constant(np.zeros((1, 3, 1, 1), np.float32))

    @tf.function(input_signature=[tf.TensorSpec((1, 1, 3, 1), tf.float32)])
    def one_node(x):
        return tf.nn.conv2d_transpose(x, weights, [1, 1, 7, 1], strides=[1, 2], padding="VALID")

    function = one_node.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()


def filled(template, x_shape, filters, keywords):
    """The model with other sizes, weights and options."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(template))
    graph = model.subgraphs[0]
    [node] = graph.operators
    shape, weights, x = (graph.tensors[at] for at in node.inputs[:3])
    [result] = (graph.tensors[at] for at in node.outputs)
    wanted = np.array(keywords["output_shape"], np.int32)
    x.shape, weights.shape, result.shape = list(x_shape), list(filters.shape), list(wanted)
    model.buffers[shape.buffer].data = np.frombuffer(wanted.tobytes(), np.uint8)
    model.buffers[weights.buffer].data = np.frombuffer(filters.tobytes(), np.uint8)
    node.builtinOptions.strideH = keywords["stride_h"]
    node.builtinOptions.strideW = keywords["stride_w"]
    node.builtinOptions.padding = ("SAME", "VALID").index(keywords["padding"])
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def run_lite(template, x, weight, keywords, resolver=KERNELS[0]):
    keywords = dict(keywords)
    filters = interop.convert(weight, source="torch", target="tflite")
    keywords["output_shape"] = [x.shape[0], *keywords["output_shape"][1:-1], weight.shape[1]]
    x = np.ascontiguousarray(against.last(x))
    with warnings.catch_warnings():
        # the interpreter is to move to another package
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(
            model_content=filled(template, x.shape, filters, keywords),
            experimental_op_resolver_type=resolver,
            num_threads=1,
        )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return against.first(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def ends_the_process(problem):
    """Whether XNNPACK may end with a segmentation fault.

    It does in tensorflow 2.21 for 1 input, 4 taps, stride 3 and 1 output with SAME, and for some
    others with an output smaller than the stride.
    """
    keywords = problem.call.keywords
    sizes = keywords["output_shape"][1:-1]
    return sizes[0] < keywords["stride_h"] or sizes[1] < keywords["stride_w"]


def test_lite_with_all_its_kernels(template):
    rng = random.Random(0)
    found = Counter()
    for at in range(2400):
        problem = against.problem("tflite", rng, 2)._replace(bias=None)
        if problem.refusal is not None or problem.empty:
            found["refused"] += 1
            continue
        arguments = problem.x, problem.weight, problem.call.keywords
        kernels = KERNELS[: len(KERNELS) - ends_the_process(problem)]
        kernel = kernels[at % len(kernels)]
        theirs = run_lite(template, *arguments, kernel)
        expected = oracle.conv_transpose(problem.x, problem.weight, None, problem.meaning.geometry)
        oracle.assert_same(theirs, expected, problem.call)
        found[kernel] += 1
    assert min(found.values()) > 50, found


def test_lite_kernels_differ_where_polyphase_refuses(template):
    x = np.array([[[[1, 10, 100]]]], np.float32)
    weight = np.array([[[[1, 2, 3]]]], np.float32)
    keywords = {"output_shape": [1, 1, 5, 1], "stride_h": 1, "stride_w": 2, "padding": "VALID"}
    results = {
        tuple(run_lite(template, x, weight, keywords, resolver).ravel()) for resolver in KERNELS
    }
    assert len(results) == len(KERNELS)
    with pytest.raises(Unsupported, match="the kernels of TensorFlow Lite disagree"):
        interop.tflite.geometry((1, 3), (1, 3), **keywords)


def test_the_way_back_to_lite(template):
    def call(x, weight, groups, parameters):
        return run_lite(template, x, weight, parameters)

    needs = ("input_size", "batch", "out_channels")
    against.check_way_back("tflite", random.Random(1), 2, 300, call, needs=needs)


def test_what_convert_writes(template):
    def evaluate(call, x, weight, bias):
        known = {"tf": tf, "batch": x.shape[0], "channels": weight.shape[-2] * groups}
        try:
            return eval(call, known | printed.names(x, weight, None))
        except tf.errors.InvalidArgumentError as error:
            if "CPU implementations do not yet support dilation" in str(error):
                raise printed.NotHere from None
            raise

    for groups in (1, 2):
        for rank, count in ((1, 200), (2, 200), (3, 30)):
            rng = random.Random(rank)
            found = printed.check("tensorflow", evaluate, rng, rank, count, groups=(groups,))
            assert found["instead"] > 5, found
            assert (found["exact"] > 5) == (groups == 1), found


def test_what_convert_writes_for_lite(template):
    def evaluate(call, x, weight, bias):
        def operator(x, filters, **keywords):
            weights = interop.convert(filters, source="tflite", target="torch")
            return against.last(run_lite(template, against.first(x), weights, keywords))

        known = {"TRANSPOSE_CONV": operator, "batch": x.shape[0], "channels": weight.shape[0]}
        return eval(call, known | printed.names(x, weight, None))

    found = printed.check("tflite", evaluate, random.Random(0), 2, 200, groups=(1,))
    assert min(found["exact"], found["instead"]) > 0, found
