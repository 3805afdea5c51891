"""PyTorch's functions and layers mean what ``interop.torch`` says, values and refusals."""

import random
from collections import Counter

import against
import printed
import pytest
import torch


def run(problem):
    keywords = dict(problem.call.keywords)
    rank = len(keywords.pop("kernel_size"))
    bias = None if problem.bias is None else torch.from_numpy(problem.bias)
    x, weight = torch.from_numpy(problem.x), torch.from_numpy(problem.weight)
    if "output_size" not in keywords:
        function = getattr(torch.nn.functional, f"conv_transpose{rank}d")
        return function(x, weight, bias, groups=problem.groups, **keywords).numpy()
    wanted = keywords.pop("output_size")
    del keywords["input_size"]
    layer = getattr(torch.nn, f"ConvTranspose{rank}d")(
        x.shape[1],
        weight.shape[1] * problem.groups,
        weight.shape[2:],
        groups=problem.groups,
        bias=bias is not None,
        **keywords,
    )
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = bias
    return layer(x, output_size=wanted).detach().numpy()


@pytest.mark.parametrize(("rank", "count"), [(1, 3000), (2, 1000), (3, 150)])
def test_values_and_refusals(rank, count):
    rng = random.Random(rank)
    found = Counter(
        against.check(
            against.problem("torch", rng, rank, grouped=True), run, (RuntimeError, ValueError)
        )
        for _ in range(count)
    )
    assert found["equal"] > count / 2, found
    assert found["refused"] > 3, found


def test_what_convert_writes():
    def evaluate(call, x, weight, bias):
        tensors = (None if a is None else torch.from_numpy(a) for a in (x, weight, bias))
        return eval(call, {"torch": torch, **printed.names(*tensors)}).numpy()

    for rank, count in ((1, 400), (2, 200), (3, 50)):
        found = printed.check("torch", evaluate, random.Random(rank), rank, count)
        assert min(found["exact"], found["instead"]) > 0, found
