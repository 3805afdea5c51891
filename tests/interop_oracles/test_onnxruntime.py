"""ONNX: the operator's own test nodes, and onnxruntime on random nodes.

onnxruntime is not taken at its word where it is known to differ from the specification; which nodes
these are is what ``interop.onnx.rewrite`` reports, so the two tests hold each other.
"""

import random
import warnings
from collections import Counter

import against
import numpy as np
import onnx
import onnx_models
import oracle
import printed
import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

from polyphase import interop


def run(problem):
    [result] = onnx_models.in_onnxruntime(onnx_models.one_node(problem), x=problem.x)
    return result


def known(problem):
    """What onnxruntime is known to refuse or to compute differently."""
    if problem.refusal is not None:
        return None
    changes = interop.onnx.rewrite(onnx_models.one_node(problem)).changes
    told = [s for change in changes for s in change.disagreements if s.startswith("onnxruntime")]
    return next((s for s in told if "before 1.13" not in s), None)


@pytest.mark.parametrize(("rank", "count"), [(1, 6000), (2, 3000), (3, 500)])
def test_values_and_refusals(rank, count):
    rng = random.Random(rank)
    found = Counter(
        against.check(against.problem("onnx", rng, rank, grouped=True), run, known=known)
        for _ in range(count)
    )
    assert found["equal"] > count / 3, found
    assert found["refused"] > 3, found


@pytest.mark.parametrize(("rank", "count"), [(1, 200), (2, 100), (3, 30)])
def test_the_function_on_arrays(rank, count):
    rng = random.Random(rank)
    for _ in range(count):
        problem = against.problem("onnx", rng, rank, grouped=True)
        attributes = {k: v for k, v in problem.call.keywords.items() if k != "input_size"}
        arguments = problem.x, problem.weight, problem.bias
        if problem.refusal is None:
            result = interop.onnx.conv_transpose(*arguments, group=problem.groups, **attributes)
            oracle.assert_same(result, problem.expected, problem.call)
        else:
            with pytest.raises(type(problem.refusal)):
                interop.onnx.conv_transpose(*arguments, group=problem.groups, **attributes)


with warnings.catch_warnings():
    # other operators overflow on purpose while their cases are collected
    warnings.simplefilter("ignore")
    NODES = [case for case in collect_testcases("ConvTranspose") if case.data_sets]


@pytest.mark.parametrize("case", NODES, ids=lambda case: case.name)
def test_the_node_tests_of_onnx_itself(case):
    [node] = case.model.graph.node
    attributes = onnx_models.attributes(node)
    for inputs, [expected] in case.data_sets:
        result = interop.onnx.conv_transpose(*inputs, **attributes)
        assert result.dtype == expected.dtype
        # the nodes hold small integers, so that nothing is rounded
        oracle.assert_same(result, expected, case.name)


def test_there_are_node_tests():
    assert len(NODES) >= 10
    assert {np.asarray(case.data_sets[0][0][0]).ndim for case in NODES} == {3, 4, 5}


def test_what_convert_writes():
    def evaluate(call, x, weight, bias):
        node = eval(call, {"onnx": onnx})
        constants = {"W": weight} if bias is None else {"W": weight, "B": bias}
        made = onnx_models.model([node], {"X": x.shape}, {"Y": x.ndim}, constants)
        return onnx_models.in_onnxruntime(made, X=x)[0]

    def known(geometry):
        # onnxruntime refuses output_padding of a stride, which the specification allows
        return any(-axis.end >= axis.stride for axis in geometry.axes)

    for rank, count in ((1, 300), (2, 150), (3, 30)):
        found = printed.check("onnx", evaluate, random.Random(rank), rank, count, known=known)
        assert found["exact"] > count / 2, found
        assert found["instead"] > 0, found


def test_onnxs_own_evaluator_is_no_oracle_for_groups():
    """onnx 1.23.2 adds the bias of the first group to all, and counts channels wrongly."""

    def made(inputs, bias):
        node = onnx.helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], group=2)
        constants = {"w": np.ones((inputs, 1, 1), np.float32), "b": bias}
        return onnx_models.model([node], {"x": [1, inputs, 1]}, {"y": 3}, constants)

    bias = np.array([10, 20], np.float32)
    x = np.array([[[1], [2]]], np.float32)
    [theirs] = ReferenceEvaluator(made(2, bias)).run(None, {"x": x})
    [right] = onnx_models.in_onnxruntime(made(2, bias), x=x)
    ours = interop.onnx.conv_transpose(x, np.ones((2, 1, 1), np.float32), bias, group=2)
    assert theirs.ravel().tolist() == [11, 12]
    assert right.ravel().tolist() == ours.ravel().tolist() == [11, 22]
    four = np.array([[[1], [2], [3], [4]]], np.float32)
    with pytest.raises(ValueError, match="cannot reshape"):
        ReferenceEvaluator(made(4, bias)).run(None, {"x": four})
    [right] = onnx_models.in_onnxruntime(made(4, bias), x=four)
    assert right.ravel().tolist() == [13, 27]
