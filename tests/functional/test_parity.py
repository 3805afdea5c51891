"""``polyphase.functional`` against ``torch.nn.functional``: equal values, errors of equal kind."""

import inspect
import warnings

import numpy as np
import oracle
import pytest
import strategies
import torch
from hypothesis import given, settings

from polyphase import functional

NAMES = functional.__all__
# sums of small integers are exact in these whatever the order, in PyTorch too
EXACT = ("f32", "f64", "c64", "c128", "int64")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def to_torch(array):
    """A contiguous copy.

    PyTorch shares neither negative strides nor read-only memory; and its grouped convolution of
    float32 sums wrongly when the weights have unusual strides along axes of one element.
    """
    return None if array is None else torch.tensor(np.array(array, order="C"))


def parameters(case):
    g = case.problem.geometry
    found = {"stride": g.stride, "padding": g.padding, "dilation": g.dilation}
    if case.problem.operator == "conv_transpose":
        found["output_padding"] = g.output_padding
    return {**found, "groups": case.problem.groups}


def check_values(case):
    problem, *arrays = case
    name = f"{problem.operator}{problem.rank}d"
    result = getattr(functional, name)(*arrays, **parameters(case))
    expected = getattr(torch.nn.functional, name)(*map(to_torch, arrays), **parameters(case))
    assert result.dtype == expected.numpy().dtype
    oracle.assert_same(result, expected.numpy(), problem)


@pytest.mark.slow
@settings(max_examples=1200)
@given(strategies.cases(torch_legal=True, dtypes=EXACT))
def test_transposed_convolutions_are_equal(case):
    check_values(case)


@pytest.mark.slow
@settings(max_examples=800)
@given(strategies.cases("conv", torch_legal=True, dtypes=EXACT))
def test_convolutions_are_equal(case):
    check_values(case)


class Calls:
    """Random calls, right and wrong: values are drawn without asking whether they fit."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def draw(self, low, high):
        return int(self.random.integers(low, high + 1))

    def often(self, share):
        return self.random.random() < share

    def per_axis(self, rank, low, high):
        values = tuple(self.draw(low, high) for _ in range(rank))
        return (values[0], values, list(values), values[:1], (*values, 1))[
            self.random.choice(5, p=(0.4, 0.4, 0.1, 0.08, 0.02))
        ]

    def numbers(self, shape):
        return strategies.numbers(self.random, shape, "f64")

    def call(self):
        """Name, arrays and keywords of one call."""
        rank, transposed = self.draw(1, 3), self.often(0.5)
        groups = int(self.random.choice((0, 1, 2, 3, 4), p=(0.04, 0.48, 0.2, 0.2, 0.08)))
        c_in, c_out = (int(c) for c in self.random.choice((1, 2, 3, 4, 6, 12), 2))
        kernel = [self.draw(self.often(0.98), 4) for _ in range(rank)]
        size = [self.draw(self.often(0.98), 6) for _ in range(rank)]
        channels = (c_in, c_out) if transposed else (c_out, c_in)
        w = self.numbers((channels[0], max(channels[1] // max(groups, 1), 1), *kernel))
        x = self.numbers((self.draw(0, 2), c_in, *size))
        if len(x) and self.often(0.2):
            x = x[0]
        b = self.numbers((c_out + self.often(0.05),)) if self.often(0.5) else None
        keywords = {
            "stride": self.per_axis(rank, self.often(0.97), 4),
            "padding": self.per_axis(rank, -self.often(0.03), 4),
            "dilation": self.per_axis(rank, self.often(0.97), 4),
            "groups": groups,
        }
        if transposed:
            keywords["output_padding"] = self.per_axis(rank, -self.often(0.03), 2)
        elif self.often(0.2):
            keywords["padding"] = str(self.random.choice(("same", "valid", "full")))
        return f"conv{'_transpose' * transposed}{rank}d", (x, w, b), keywords


def outcome(module, name, arrays, keywords):
    """The result as an array, or the exception."""
    try:
        return np.asarray(getattr(module, name)(*arrays, **keywords))
    except Exception as error:
        return error


def torch_stands_alone(arrays, ours, theirs):
    """The differences that are meant: each says what PyTorch does."""
    x, w, _ = arrays
    # without a batch it returns before most checks
    if isinstance(ours, Exception) and not isinstance(theirs, Exception):
        return x.size == 0 and x.shape[0] == 0
    # it refuses empty outputs, which its own meta tensors and GPUs return
    if isinstance(theirs, RuntimeError) and not isinstance(ours, Exception):
        return ours.size == 0 and "Output size is too small" in str(theirs)
    # a kernel of 0 sometimes reaches code that expects one
    return isinstance(ours, ValueError) and isinstance(theirs, IndexError) and 0 in w.shape


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_the_same_calls_are_refused(seed):
    calls = Calls(seed)
    refused = accepted = 0
    for _ in range(500):
        name, arrays, keywords = calls.call()
        told = f"{name} {[None if a is None else a.shape for a in arrays]} {keywords}"
        ours = outcome(functional, name, arrays, keywords)
        with warnings.catch_warnings():
            # even kernels with "same" make PyTorch copy the input, and say so
            warnings.filterwarnings("ignore", "Using padding='same'")
            theirs = outcome(torch.nn.functional, name, map(to_torch, arrays), keywords)
        if torch_stands_alone(arrays, ours, theirs):
            continue
        if isinstance(theirs, Exception):
            assert isinstance(ours, type(theirs)), f"{told}: {theirs!r}, but {ours!r}"
            refused += 1
        else:
            assert not isinstance(ours, Exception), f"{told}: {ours!r}"
            oracle.assert_same(ours, theirs, told)
            accepted += 1
    assert min(refused, accepted) > 100


@pytest.mark.parametrize("name", NAMES)
def test_the_signatures_are_equal(name):
    # PyTorch's functions are built in and carry their signature as the first line of the docstring
    documented = getattr(torch.nn.functional, name).__doc__.split("->")[0].strip()
    theirs = [part.strip() for part in documented[documented.index("(") + 1 : -1].split(",")]
    ours = [
        parameter
        for parameter in inspect.signature(getattr(functional, name)).parameters.values()
        # beyond PyTorch: where the result goes
        if parameter.name != "out"
    ]
    assert theirs == [p.name if p.default is p.empty else f"{p.name}={p.default}" for p in ours]
