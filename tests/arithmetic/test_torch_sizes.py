"""Sizes against PyTorch on random parameters, those that it rejects among them.

Values are drawn from just outside the legal range to well inside. PyTorch and Geometry have to
give the same size or both refuse. Two differences are meant, and each has its own test:

- An output of size 0 is legal here. PyTorch makes it in one CPU kernel and refuses it in another;
  which one runs depends on dtype, batch, threads and number of axes.
- Where dilation exceeds stride, PyTorch's functions take output paddings from stride up to
  dilation - 1, and so does Geometry; ``output_size`` of PyTorch's layers refuses those sizes.
"""

import random
from collections import Counter

import pytest
import torch
from torch.nn import functional

from polyphase import Geometry, GeometryError, OutputSizeError, inverse_of

TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
LAYERS = {
    1: torch.nn.ConvTranspose1d,
    2: torch.nn.ConvTranspose2d,
    3: torch.nn.ConvTranspose3d,
}
CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRIALS = {1: 20_000, 2: 6_000, 3: 4_000}
TOO_SMALL = "Output size is too small"

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def parameters(generator, rank):
    """Sizes and parameters of each axis; about one set in three is illegal somewhere."""

    def draw(low, high):
        # mostly legal on every axis, for else a set with many axes would never be
        return [
            generator.randint(low, high)
            if generator.random() < 0.4 / rank
            else generator.randint(1, high - 1)
            for _ in range(rank)
        ]

    return {
        "size": draw(0, 6),
        "kernel_size": draw(0, 5),
        "stride": draw(0, 5),
        "padding": [
            generator.randint(-1 if generator.random() < 0.05 else 0, 5) for _ in range(rank)
        ],
        "output_padding": [
            generator.randint(-1, 5) if generator.random() < 0.1 else generator.randint(0, 1)
            for _ in range(rank)
        ],
        "dilation": draw(0, 5),
    }


def of_torch(call):
    try:
        return tuple(call().shape[2:])
    except (RuntimeError, ValueError) as error:
        return str(error)


def of_geometry(call):
    try:
        size = call()
    except GeometryError as error:
        return str(error)
    return size if isinstance(size, tuple) else (size,)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolutions_have_the_sizes_that_torch_computes(rank):
    generator = random.Random(rank)
    seen = Counter()
    for _ in range(TRIALS[rank]):
        p = parameters(generator, rank)
        x, w = torch.zeros(1, 1, *p["size"]), torch.zeros(1, 1, *p["kernel_size"])
        keywords = {name: p[name] for name in ("stride", "padding", "output_padding", "dilation")}
        theirs = of_torch(lambda x=x, w=w, k=keywords: TRANSPOSED[rank](x, w, **k))
        ours = of_geometry(
            lambda p=p, k=keywords: Geometry(p["kernel_size"], **k).output_size(p["size"])
        )
        if isinstance(ours, tuple) and 0 in ours:
            assert theirs == ours or TOO_SMALL in theirs, p
            seen["empty"] += 1
        elif isinstance(ours, tuple):
            assert theirs == ours, p
            seen["size"] += 1
        else:
            assert isinstance(theirs, str), (p, ours)
            seen["refused"] += 1
    assert seen["size"] > TRIALS[rank] // 10
    assert seen["refused"] > TRIALS[rank] // 10
    assert seen["empty"] > 10


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_have_the_sizes_that_torch_computes(rank):
    generator = random.Random(10 + rank)
    seen = Counter()
    for _ in range(TRIALS[rank] // 2):
        p = parameters(generator, rank)
        x, w = torch.zeros(1, 1, *p["size"]), torch.zeros(1, 1, *p["kernel_size"])
        keywords = {name: p[name] for name in ("stride", "padding", "dilation")}
        theirs = of_torch(lambda x=x, w=w, k=keywords: CONV[rank](x, w, **k))
        ours = of_geometry(
            lambda p=p, k=keywords: Geometry(p["kernel_size"], **k).conv_output_size(p["size"])
        )
        assert isinstance(theirs, str) if isinstance(ours, str) else theirs == ours, (p, ours)
        seen[type(ours)] += 1
    assert min(seen.values()) > TRIALS[rank] // 20
    assert len(seen) == 2


def layer(rank, p):
    """A layer whose weights are not drawn."""
    window = (tuple(p[name]) for name in ("kernel_size", "stride", "padding"))
    return torch.nn.utils.skip_init(
        LAYERS[rank], 1, 1, *window, dilation=tuple(p["dilation"]), bias=False
    ).requires_grad_(False)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_output_size_is_taken_where_torch_takes_it(rank):
    generator = random.Random(20 + rank)
    seen = Counter()
    for _ in range(1_000):
        p = {
            name: [generator.randint(1, 4) for _ in range(rank)]
            for name in ("size", "kernel_size", "stride", "dilation")
        }
        p["padding"] = [generator.randint(0, 2) for _ in range(rank)]
        geometry = Geometry(
            p["kernel_size"], p["stride"], padding=p["padding"], dilation=p["dilation"]
        )
        bases = [axis.output_size(n) for axis, n in zip(geometry.axes, p["size"], strict=True)]
        target = [max(1, base + generator.randint(-1, 3)) for base in bases]
        made = layer(rank, p)
        x = torch.zeros(1, 1, *p["size"])
        theirs = of_torch(lambda made=made, x=x, t=target: made(x, output_size=t))
        try:
            reached = geometry.for_output_size(p["size"], target)
        except OutputSizeError:
            assert isinstance(theirs, str), p
            seen["refused"] += 1
            continue
        wide = any(target[i] - bases[i] >= p["stride"][i] for i in range(rank))
        if wide:
            # a legal output padding of PyTorch's functions, but outside the window of its layers
            assert "requested an output size" in theirs, p
            seen["wide"] += 1
            keywords = {name: p[name] for name in ("stride", "padding", "dilation")}
            op = [n - base for n, base in zip(target, bases, strict=True)]
            w = torch.zeros(1, 1, *p["kernel_size"])
            assert TRANSPOSED[rank](x, w, output_padding=op, **keywords).shape[2:] == tuple(target)
        else:
            assert theirs == tuple(target), p
            seen["size"] += 1
        assert of_geometry(lambda g=reached, p=p: g.output_size(p["size"])) == tuple(target)
    assert min(seen["refused"], seen["wide"], seen["size"]) > 25


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_inverse_of_a_convolution_leads_back(rank):
    generator = random.Random(30 + rank)
    there = 0
    for _ in range(1_500):
        p = {
            name: [generator.randint(1, 5) for _ in range(rank)]
            for name in ("kernel_size", "stride", "dilation")
        }
        p["padding"] = [generator.randint(0, 3) for _ in range(rank)]
        size = [generator.randint(1, 9) for _ in range(rank)]
        conv = Geometry(p["kernel_size"], p["stride"], padding=p["padding"], dilation=p["dilation"])
        try:
            back = inverse_of(conv, size)
        except OutputSizeError:
            continue
        there += 1
        keywords = {name: p[name] for name in ("stride", "padding", "dilation")}
        w = torch.zeros(1, 1, *p["kernel_size"])
        small = CONV[rank](torch.zeros(1, 1, *size), w, **keywords)
        op = back.output_padding
        again = TRANSPOSED[rank](small, w, output_padding=op, **keywords)
        assert list(again.shape[2:]) == size
    assert there > 300


def test_an_empty_output_depends_on_the_kernel_that_torch_chooses():
    geometry = Geometry(1, padding=1)
    assert geometry.output_size(2) == 0
    w = torch.zeros(1, 1, 1)
    with pytest.raises(RuntimeError, match=TOO_SMALL):
        functional.conv_transpose1d(torch.zeros(1, 1, 2), w, padding=1)
    low_precision = torch.zeros(1, 1, 2, dtype=torch.bfloat16)
    made = functional.conv_transpose1d(low_precision, w.bfloat16(), padding=1)
    assert made.shape == (1, 1, 0)


def test_layers_refuse_what_functions_take_where_dilation_exceeds_stride():
    x, made = torch.zeros(1, 1, 3), torch.nn.ConvTranspose1d(1, 1, 2, dilation=4)
    wide = functional.conv_transpose1d(x, made.weight, output_padding=2, dilation=4)
    assert wide.shape[2] == 9
    with pytest.raises(ValueError, match="requested an output size"):
        made(x, output_size=[9])
    assert Geometry(2, dilation=4).for_output_size(3, 9).output_padding == 2


def test_making_a_layer_checks_nothing_that_geometry_checks():
    for wrong in ({"stride": 0}, {"dilation": 0}, {"padding": -1}, {"output_padding": 1}):
        made = torch.nn.utils.skip_init(torch.nn.ConvTranspose1d, 1, 1, 3, **wrong)
        with pytest.raises(RuntimeError):
            made(torch.zeros(1, 1, 4))
        with pytest.raises(GeometryError):
            Geometry(3, **wrong)
