"""MLX computes what ``interop.mlx`` says, and something else exactly where that refuses."""

import random
from collections import Counter

import against
import mlx.core as mx
import numpy as np
import oracle
import printed
import pytest

from polyphase import Geometry, Unsupported, interop

mx.set_default_device(mx.cpu)
FUNCTIONS = {1: mx.conv_transpose1d, 2: mx.conv_transpose2d, 3: mx.conv_transpose3d}


def run(problem):
    keywords = dict(problem.call.keywords)
    del keywords["kernel_size"], keywords["groups"]
    if problem.x.ndim == 3:
        keywords = {name: value[0] for name, value in keywords.items()}
    if isinstance(problem.refusal, Unsupported) and "removes inputs" in str(problem.refusal):
        # mlx answers, but only for stride 1 and long inputs is it a transposed convolution
        raise problem.refusal
    return call(problem.x, problem.weight, problem.groups, keywords, problem.bias)


def call(x, weight, groups, keywords, bias=None):
    weights = interop.convert(weight, source="torch", target="mlx", groups=groups)
    function = FUNCTIONS[x.ndim - 2]
    arguments = {"groups": groups} | keywords
    result = function(mx.array(against.last(x)), mx.array(weights), **arguments)
    return against.with_bias(against.first(np.array(result)), bias, axis=1)


@pytest.mark.parametrize(("rank", "count"), [(1, 6000), (2, 3000), (3, 800)])
def test_values_and_refusals(rank, count):
    rng = random.Random(rank)
    found = Counter(
        against.check(
            against.problem("mlx", rng, rank, grouped=rank < 3), run, (Unsupported, ValueError)
        )
        for _ in range(count)
    )
    assert found["equal"] > count / 2, found
    assert found["refused"] > 3, found


@pytest.mark.parametrize(("rank", "count"), [(1, 1000), (2, 300), (3, 100)])
def test_the_way_back(rank, count):
    against.check_way_back("mlx", random.Random(rank), rank, count, call)


def test_a_padding_beyond_the_kernel_is_something_else_there():
    x = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 5)
    weight = np.ones((1, 1, 1), np.float32)
    theirs = call(x, weight, 1, {"stride": 2, "padding": 1})
    ours = oracle.conv_transpose(x, weight, None, Geometry(1, stride=2, padding=1))
    assert theirs.ravel().tolist() == [2, 0, 3, 0, 4]
    assert ours.ravel().tolist() == [0, 2, 0, 3, 0, 4, 0]
    with pytest.raises(Unsupported, match="MLX then removes inputs"):
        interop.mlx.geometry(1, 2, 1)


def test_what_convert_writes():
    def evaluate(call, x, weight, bias):
        return eval(call, {"mx": mx, **printed.names(mx.array(x), mx.array(weight), None)})

    for rank, count in ((1, 400), (2, 200), (3, 50)):
        found = printed.check("mlx", evaluate, random.Random(rank), rank, count)
        assert min(found["exact"], found["instead"]) > 0, found


def test_there_are_no_groups_on_three_axes():
    with pytest.raises(ValueError, match="groups != 1 in 1D or 2D"):
        mx.conv_transpose3d(mx.ones((1, 2, 2, 2, 4)), mx.ones((4, 1, 1, 1, 2)), groups=2)
    with pytest.raises(Unsupported, match="MLX has no groups on three axes, got groups 2"):
        interop.mlx.geometry((1, 1, 1), groups=2)
