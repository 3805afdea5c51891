"""Core ML's type inference gives the sizes that ``interop.coreml`` says; values need an Apple."""

import random
import warnings
from collections import Counter

import against
import numpy as np
import printed
import pytest

with warnings.catch_warnings():
    # it misses its own compiled parts, which only run models
    warnings.simplefilter("ignore")
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, types


def size(problem):
    keywords = {
        name: np.array(value) if isinstance(value, list) else value
        for name, value in problem.call.keywords.items()
    }
    del keywords["kernel_size"]
    keywords.pop("input_size", None)
    outputs = problem.weight.shape[1] * problem.groups
    if "output_shape" in keywords:
        keywords["output_shape"][:2] = problem.x.shape[0], outputs
    with Function({"x": Builder.TensorSpec(problem.x.shape, types.fp32)}) as function:
        result = Builder.conv_transpose(
            x=function.inputs["x"], weight=problem.weight, groups=problem.groups, **keywords
        )
    return result.shape


@pytest.mark.parametrize(("rank", "count"), [(1, 2000), (2, 1000), (3, 200)])
def test_sizes(rank, count):
    rng = random.Random(rank)
    found = Counter()
    for _ in range(count):
        problem = against.problem("coreml", rng, rank, grouped=True)
        theirs = size(problem)
        if problem.refusal is None:
            assert theirs == problem.expected.shape, problem.call
            found["equal"] += 1
        elif "output_shape must have" in str(problem.refusal):
            # it writes down whatever is given
            assert list(theirs[2:]) == problem.call.keywords["output_shape"][2:]
            found["not checked"] += 1
        else:
            assert min(theirs) < 0, problem.call
            found["refused"] += 1
    assert found["equal"] > count / 2, found
    assert found["refused"] > 3, found


def test_what_convert_writes_has_the_right_size():
    def evaluate(call, x, weight, bias):
        with Function({"x": Builder.TensorSpec(x.shape, types.fp32)}) as function:
            known = printed.names(function.inputs["x"], weight, bias)
            result = eval(call, {"mb": Builder, **known})
        return np.zeros(result.shape)

    def sizes(found, expected, problem):
        assert found.shape == expected.shape, problem

    for rank, count in ((1, 150), (2, 100), (3, 30)):
        rng = random.Random(rank)
        found = printed.check("coreml", evaluate, rng, rank, count, same=sizes)
        assert min(found["exact"], found["instead"]) > 0, found
