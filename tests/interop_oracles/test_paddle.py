"""Paddle computes what ``interop.paddle`` says, its ``"SAME"`` included."""

import random
import warnings
from collections import Counter

import against
import printed
import pytest

with warnings.catch_warnings():
    # it misses a compiler cache that nothing here needs
    warnings.simplefilter("ignore")
    import paddle

functional = paddle.nn.functional


def run(problem):
    keywords = dict(problem.call.keywords)
    del keywords["kernel_size"], keywords["input_size"]
    if problem.x.ndim == 3:
        keywords = {
            name: value[0] if isinstance(value, tuple) else value
            for name, value in keywords.items()
        }
    return call(problem.x, problem.weight, problem.groups, keywords, problem.bias)


def call(x, weight, groups, keywords, bias=None):
    function = getattr(functional, f"conv{x.ndim - 2}d_transpose")
    tensors = [None if a is None else paddle.to_tensor(a) for a in (x, weight, bias)]
    return function(*tensors, **({"groups": groups} | keywords)).numpy()


def known(problem):
    # where several sizes would be negative, Paddle ends the process with a segmentation fault
    negative = problem.refusal is not None and "output size would be" in str(problem.refusal)
    return "not asked" if negative else None


@pytest.mark.parametrize(("rank", "count"), [(1, 6000), (2, 3000), (3, 800)])
def test_values_and_refusals(rank, count):
    rng = random.Random(rank)
    found = Counter(
        against.check(against.problem("paddle", rng, rank, grouped=True), run, known=known)
        for _ in range(count)
    )
    assert found["equal"] > count / 2, found
    assert found["refused"] > 3, found


@pytest.mark.parametrize(("rank", "count"), [(1, 1000), (2, 300), (3, 100)])
def test_the_way_back(rank, count):
    against.check_way_back("paddle", random.Random(rank), rank, count, call)


def test_what_convert_writes():
    def evaluate(call, x, weight, bias):
        tensors = (None if a is None else paddle.to_tensor(a) for a in (x, weight, bias))
        return eval(call, {"paddle": paddle, **printed.names(*tensors)}).numpy()

    for rank, count in ((1, 300), (2, 200), (3, 50)):
        found = printed.check("paddle", evaluate, random.Random(rank), rank, count)
        assert min(found["exact"], found["instead"]) > 0, found
