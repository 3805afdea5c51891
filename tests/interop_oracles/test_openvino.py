"""OpenVINO computes what ``interop.openvino`` says, and what its parameters say on the way back."""

import random
from collections import Counter

import against
import numpy as np
import openvino
import printed
import pytest
from openvino import opset1

from polyphase import interop

CORE = openvino.Core()
CORE.set_property("CPU", {"INFERENCE_NUM_THREADS": 1})


def run(problem):
    keywords = dict(problem.call.keywords)
    del keywords["kernel_size"], keywords["groups"]
    keywords.pop("input_size", None)
    return node(problem.x, problem.weight, problem.groups, keywords, problem.bias)


def node(x, weight, groups, keywords, bias=None):
    keywords = dict(keywords)
    wanted = keywords.pop("output_shape", None)
    shape = None if wanted is None else opset1.constant(np.array(wanted, np.int64))
    weights = interop.convert(weight, source="torch", target="openvino", groups=groups)
    make = opset1.convolution_backprop_data
    if groups > 1:
        make = opset1.group_convolution_backprop_data
    parameter = opset1.parameter(x.shape, np.float32)
    made = make(parameter, opset1.constant(weights), output_shape=shape, **keywords)
    return against.with_bias(computed(made, parameter, x), bias, axis=1)


def computed(made, parameter, x):
    model = openvino.Model([made], [parameter])
    compiled = CORE.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([x])[0]


def known(problem):
    if problem.refusal is not None:
        return None
    geometry = problem.meaning.geometry
    ones = all(axis.kernel_size == axis.stride == 1 for axis in geometry.axes)
    if ones and problem.expected.shape[2:] == problem.x.shape[2:] and any(map(any, geometry.crops)):
        return "the pads of a kernel of 1 that keeps the size are ignored"
    return None


@pytest.mark.parametrize(("rank", "count"), [(1, 1400), (2, 600), (3, 200)])
def test_values_and_refusals(rank, count):
    rng = random.Random(rank)
    found = Counter(
        against.check(against.problem("openvino", rng, rank, grouped=True), run, known=known)
        for _ in range(count)
    )
    assert found["equal"] > count / 2, found


@pytest.mark.parametrize(("rank", "count"), [(1, 200), (2, 100)])
def test_the_way_back(rank, count):
    against.check_way_back("openvino", random.Random(rank), rank, count, node)


def test_what_convert_writes():
    def evaluate(call, x, weight, bias):
        parameter = opset1.parameter(x.shape, np.float32)
        known = printed.names(parameter, opset1.constant(weight), None)
        return computed(eval(call, {"openvino": openvino, **known}), parameter, x)

    for rank, count in ((1, 200), (2, 100), (3, 30)):
        found = printed.check("openvino", evaluate, random.Random(rank), rank, count)
        assert min(found["exact"], found["instead"]) > 0, found
