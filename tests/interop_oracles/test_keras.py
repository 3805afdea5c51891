"""Keras with each of its back ends computes what ``interop.keras`` says; so does our function."""

import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

import against
import oracle
import printed
import pytest
import repository

from polyphase import interop

CHILD = repository.ROOT / "tests" / "keras_child.py"
COUNTS = {"torch": ((1, 1500), (2, 800), (3, 100)), "tensorflow": ((1, 1000), (2, 500), (3, 50))}
# JAX compiles every shape
COUNTS["jax"] = ((1, 800), (2, 200), (3, 20))


@contextmanager
def keras(backend):
    """A function that takes calls ``(kind, x, kernel, bias, keywords)`` and gives the results."""
    command = [sys.executable, "-W", "ignore", CHILD]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"KERAS_BACKEND": backend},
    ) as child:

        def ask(calls):
            pickle.dump(calls, child.stdin)
            child.stdin.flush()
            return pickle.load(child.stdout)

        yield ask
        child.stdin.close()


def arrays(problem):
    return against.last(problem.x), interop.convert(problem.weight, source="torch", target="keras")


@pytest.mark.parametrize("backend", COUNTS)
def test_functions_and_layers(backend):
    rng = random.Random(0)
    problems, calls = [], []
    for rank, count in COUNTS[backend]:
        for at in range(count):
            problem = against.problem("keras", rng, rank)
            keywords = dict(problem.call.keywords)
            kind = ("function", "layer")[at % 2]
            if kind == "function":
                del keywords["kernel_size"]
                problem = against.without_bias(problem)
            problems.append((kind, problem))
            calls.append((kind, *arrays(problem), problem.bias, keywords))
    with keras(backend) as ask:
        results = ask(calls)
    found = Counter()
    for (kind, problem), theirs in zip(problems, results, strict=True):
        found[verdict(backend, kind, problem, theirs)] += 1
    assert found["equal"] > len(calls) / 3, found
    assert found["refused"] > len(calls) / 100, found


def verdict(backend, kind, problem, theirs):
    columns = problem.call.keywords
    if kind == "layer" and max(columns["strides"]) > 1 and max(columns["dilation_rate"]) > 1:
        assert "not supported in conjunction" in theirs or "must be strictly less" in theirs
        return "layers refuse strides with dilation"
    if kind == "function" and problem.refusal is not None:
        # the documentation asks for less than the stride; the functions do not all check
        assert "output_padding must be smaller than the stride" in str(problem.refusal)
        return "not checked"
    if isinstance(theirs, str):
        small = problem.expected is not None and any(
            size < (n - 1) * s + 1
            for size, n, s in zip(
                problem.expected.shape[2:], problem.call.size, columns["strides"], strict=True
            )
        )
        if backend == "tensorflow" and small:
            return "tensorflow refuses a smaller output"
        assert problem.refusal is not None or problem.empty, (problem.call, theirs)
        return "refused" if problem.refusal else "empty"
    assert problem.refusal is None, (problem.call, problem.refusal)
    oracle.assert_same(against.first(theirs), problem.expected, problem.call)
    return "equal"


@pytest.mark.parametrize("kind", ["layer", "function"])
def test_the_way_back(kind):
    with keras("torch") as ask:

        def call(x, weight, groups, parameters):
            kernel = interop.convert(weight, source="torch", target="keras")
            [result] = ask([(kind, against.last(x), kernel, None, parameters)])
            return against.first(result)

        for rank, count in ((1, 300), (2, 150)):
            rng = random.Random(rank)
            against.check_way_back("keras", rng, rank, count, call, layer=kind == "layer")


@pytest.mark.parametrize(("rank", "count"), [(1, 100), (2, 50), (3, 10)])
def test_the_function_on_arrays(rank, count):
    rng = random.Random(rank)
    for at in range(count):
        problem = against.without_bias(against.problem("keras", rng, rank))
        keywords = dict(problem.call.keywords)
        del keywords["kernel_size"]
        x, kernel = arrays(problem)
        if at % 2:
            x, keywords["data_format"] = problem.x, "channels_first"
        if problem.refusal is None:
            result = interop.keras.conv_transpose(x, kernel, **keywords)
            result = result if at % 2 else against.first(result)
            oracle.assert_same(result, problem.expected, problem.call)
        else:
            with pytest.raises(type(problem.refusal)):
                interop.keras.conv_transpose(x, kernel, **keywords)


def test_what_convert_writes():
    with keras("torch") as ask:

        def evaluate(call, x, weight, bias):
            [result] = ask([("written", x, weight, bias, {"call": call})])
            assert not isinstance(result, str), result
            return result

        for rank, count in ((1, 200), (2, 100), (3, 30)):
            found = printed.check("keras", evaluate, random.Random(rank), rank, count)
            assert min(found["exact"], found["instead"]) > 0, found
