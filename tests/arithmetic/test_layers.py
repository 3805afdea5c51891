"""What each layer does to a size, against PyTorch; and the parameters that are refused."""

import random
import re
from math import floor

import numpy as np
import pytest
import torch
from torch.nn import functional

from polyphase import GeometryError
from polyphase.arithmetic.layers import Conv, ConvTranspose, Pool, Resize, SkipIn, SkipOut
from polyphase.arithmetic.network import Network

TRIALS = 1_500

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def of_torch(call):
    try:
        return call().shape[-1]
    except RuntimeError:
        return None


def of_layer(layer, size):
    (step,) = layer.steps(1)
    return max(step.size(size), 0) or None


def parameters(generator):
    return {
        "kernel_size": generator.randint(1, 5),
        "stride": generator.randint(1, 4),
        "padding": generator.randint(0, 3),
        "dilation": generator.randint(1, 3),
    }


def test_convolutions_have_the_sizes_of_torch():
    generator = random.Random(1)
    seen = set()
    for _ in range(TRIALS):
        p, n = parameters(generator), generator.randint(1, 12)
        k = p.pop("kernel_size")
        theirs = of_torch(lambda p=p, k=k, n=n: functional.conv1d(*_arrays(n, k), **p))
        assert of_layer(Conv("conv", k, **p), n) == theirs
        seen.add(theirs is None)
    assert seen == {True, False}


def test_transposed_convolutions_have_the_sizes_of_torch():
    generator = random.Random(2)
    seen = set()
    for _ in range(TRIALS):
        p, n = parameters(generator), generator.randint(1, 6)
        k = p.pop("kernel_size")
        p["output_padding"] = generator.randrange(max(p["stride"], p["dilation"]))
        theirs = of_torch(lambda p=p, k=k, n=n: functional.conv_transpose1d(*_arrays(n, k), **p))
        # an output of size 0 ends a network, whether PyTorch makes it or not
        assert of_layer(ConvTranspose("up", k, **p), n) == (theirs or None)
        seen.add(theirs is None)
    assert seen == {True, False}


def test_pools_have_the_sizes_of_torch_in_both_modes():
    generator = random.Random(3)
    seen = set()
    for _ in range(4 * TRIALS):
        p, n = parameters(generator), generator.randint(1, 12)
        p["ceil_mode"] = generator.random() < 0.5
        x = torch.zeros(1, 1, n)
        theirs = of_torch(lambda x=x, p=p: functional.max_pool1d(x, **p))
        legal = p["padding"] <= p["kernel_size"] // 2
        assert (of_layer(Pool("pool", **p), n) if legal else None) == theirs, (n, p)
        seen.add((theirs is None, p["ceil_mode"]))
    assert len(seen) == 4


def test_average_pools_have_these_sizes_too():
    generator = random.Random(4)
    for _ in range(TRIALS):
        k, n = generator.randint(1, 5), generator.randint(1, 12)
        p = {"stride": generator.randint(1, 4), "padding": generator.randint(0, k // 2)}
        p["ceil_mode"] = generator.random() < 0.5
        x = torch.zeros(1, 1, n)
        theirs = of_torch(lambda x=x, k=k, p=p: functional.avg_pool1d(x, k, **p))
        assert of_layer(Pool("pool", k, **p), n) == theirs


@pytest.mark.parametrize("scale", [2, 3, 1.5, 0.5, 0.3, 1.1, 2.7, 0.7, 1 / 3])
def test_resizing_rounds_as_torch_does(scale):
    for n in range(1, 60):
        x = torch.zeros(1, 1, n)
        theirs = of_torch(lambda x=x: functional.interpolate(x, scale_factor=scale))
        assert of_layer(Resize("resize", scale=scale), n) == theirs


def test_resizing_of_huge_sizes_is_exact():
    (step,) = Resize("resize", scale=1.5).steps(1)
    assert step.size(10**30) == 3 * 10**30 // 2
    (step,) = Resize("resize", scale=1e300).steps(1)
    assert step.size(10**20) == int(1e300) * 10**20
    (step,) = Resize("resize", scale=10**30).steps(1)
    assert step.size(7) == 7 * 10**30
    assert floor(1e300) == int(1e300)


def test_parameters_serve_every_axis_or_one_each():
    assert Network([Conv("c", 3, 2, 1)]).output_size((11, 12, 13)) == (6, 6, 7)
    assert Network([Conv("c", (3, 5), 2, (1, (2, 1)))]).output_size((11, 12)) == (6, 6)
    assert Network([ConvTranspose("u", 3, (2, 1), 1, (1, 0))]).output_size((6, 6)) == (12, 6)
    assert Network([Pool("p", (2, 1))]).output_size((7, 7)) == (3, 7)
    assert Network([Resize("r", scale=(2, 0.5))]).output_size((7, 7)) == (14, 3)
    assert Network([Resize("r", size=(5, 6))]).output_size((7, 7)) == (5, 6)
    assert Network([Resize("r", size=5)]).output_size((7, 7)) == (5, 5)


def test_layers_are_values():
    assert Conv("c", [3, 5], padding=[[0, 1], 2]) == Conv("c", (3, 5), padding=((0, 1), 2))
    assert hash(Conv("c", [3, 5])) == hash(Conv("c", (3, 5)))
    assert type(Conv("c", np.int64(3)).kernel_size) is int
    assert Pool("p", (2, 3)).stride == (2, 3)
    assert Pool("p", 3, 2).stride == 2


REFUSED = [
    (lambda: Conv("c", 0), GeometryError, "layer 'c': kernel_size must be at least 1, got 0"),
    (lambda: Conv("c", 3, 1.5), TypeError, "layer 'c': stride must be an int, got 1.5 (float)"),
    (lambda: Conv("c", {3, 5}), TypeError, "kernel_size must be an int or a sequence in order"),
    (lambda: Conv("c", 3, padding="same"), TypeError, "layer 'c': padding must be numbers"),
    (lambda: Conv("c", (3, 3), (1, 1, 1)), GeometryError, "layer 'c': every parameter needs"),
    (lambda: Conv(5, 3), TypeError, "the name of a layer must be text, got 5"),
    (lambda: Conv("", 3), TypeError, "the name of a layer must be text, got ''"),
    (lambda: ConvTranspose("u", 2, 2, 0, 2), GeometryError, "output_padding must be smaller than"),
    (
        lambda: Pool("p", 2, padding=2),
        GeometryError,
        "at most half of kernel_size, got 2 with kern",
    ),
    (lambda: Pool("p", 2, padding=((0, -1),)), GeometryError, "at least 0 and at most half"),
    (lambda: Pool("p", 2, ceil_mode=1), TypeError, "ceil_mode must be True or False, got 1"),
    (lambda: Pool("p", 2, 0), GeometryError, "layer 'p': stride must be at least 1, got 0"),
    (lambda: Resize("r"), GeometryError, "layer 'r' needs either scale or size, got scale None"),
    (lambda: Resize("r", 2, 5), GeometryError, "layer 'r' needs either scale or size, got scale 2"),
    (lambda: Resize("r", 0), GeometryError, "scale must be positive and finite, got 0"),
    (
        lambda: Resize("r", float("nan")),
        GeometryError,
        "scale must be positive and finite, got nan",
    ),
    (
        lambda: Resize("r", float("inf")),
        GeometryError,
        "scale must be positive and finite, got inf",
    ),
    (lambda: Resize("r", True), TypeError, "scale must be an int or a float, got True"),
    (lambda: Resize("r", "2"), TypeError, "scale must be an int or a float, got '2'"),
    (lambda: Resize("r", (2, None)), TypeError, "scale must be an int or a float, got None"),
    (lambda: Resize("r", size=0), GeometryError, "size must be at least 1, got 0"),
    (lambda: Resize("r", size=(5, 2.5)), TypeError, "size must be an int, got 2.5"),
    (lambda: SkipIn("s", "multiply"), GeometryError, "how must be concat, add or compare"),
    (lambda: SkipOut(None), TypeError, "the name of a layer must be text, got None"),
]


@pytest.mark.parametrize(("call", "error", "text"), REFUSED)
def test_bad_layers_are_refused(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


def _arrays(size, kernel_size):
    return torch.zeros(1, 1, size), torch.zeros(1, 1, kernel_size)
