"""Weights: every entry goes where its channels and taps say, for every pair and any groups."""

import re
from itertools import product

import numpy as np
import pytest

from polyphase import GeometryError, Unsupported, interop

NAMES = list(interop.FRAMEWORKS)
INPUTS, OUTPUTS, KERNEL = 6, 12, (2, 3, 4)


def torch_weights(rank, groups):
    shape = (INPUTS, OUTPUTS // groups, *KERNEL[:rank])
    return np.arange(np.prod(shape)).reshape(shape)


def fits(name, rank, groups):
    convention = interop.FRAMEWORKS[name].CONVENTION
    if groups > 1 and not (convention.groups and rank in convention.grouped_ranks):
        return False
    return rank in convention.ranks


def entry(name, weights, groups, i, o, tap):
    """The number that leads from input ``i`` to output ``o`` of its group, looked up by hand."""
    per_in, per_out = INPUTS // groups, OUTPUTS // groups
    group = i // per_in
    if name == "openvino" and groups > 1:
        return weights[(group, i % per_in, o, *tap)]
    if name in ("keras", "tensorflow"):
        return weights[(*tap, o, i)]
    if name == "tflite":
        return weights[(o, *tap, i)]
    if name in ("jax", "flax"):
        sizes = weights.shape[: len(tap)]
        return weights[(*(k - 1 - t for k, t in zip(sizes, tap, strict=True)), i, o)]
    if name == "mlx":
        return weights[(group * per_out + o, *tap, i % per_in)]
    return weights[(i, o, *tap)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_every_entry_is_found_again(name, rank, groups):
    original = torch_weights(rank, groups)
    if not fits(name, rank, groups):
        with pytest.raises(Unsupported):
            interop.convert(original, source="torch", target=name, groups=groups)
        return
    converted = interop.convert(original, source="torch", target=name, groups=groups)
    per_out = OUTPUTS // groups
    for i, o, tap in product(range(INPUTS), range(per_out), np.ndindex(*KERNEL[:rank])):
        assert entry(name, converted, groups, i, o, tap) == original[(i, o, *tap)]


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_there_and_back_is_the_identity(source, target):
    for rank, groups in product((1, 2, 3), (1, 2, 6)):
        if fits(source, rank, groups) and fits(target, rank, groups):
            first = interop.convert(
                torch_weights(rank, groups), source="torch", target=source, groups=groups
            )
            second = interop.convert(first, source=source, target=target, groups=groups)
            again = interop.convert(second, source=target, target=source, groups=groups)
            assert np.array_equal(first, again)


@pytest.mark.parametrize("name", NAMES)
def test_geometry_names_the_same_permutation_and_flip(name):
    module = interop.FRAMEWORKS[name]
    rank = max(module.CONVENTION.ranks)
    kernel = KERNEL[:rank]
    more = {"input_size": (4,) * rank, "batch": 1, "out_channels": 1}
    wanted = interop.torch.geometry(kernel, 2).geometry
    parameters = module.parameters(wanted, **(more if module.CONVENTION.needs_sizes else {}))
    parameters.setdefault(module.CONVENTION.names["kernel_size"], kernel)
    if module.CONVENTION.needs_sizes:
        parameters["input_size"] = more["input_size"]
    geometry, permutation, flip = module.geometry(**parameters)
    assert geometry.kernel_size == kernel
    original = torch_weights(rank, 1)
    ordered = interop.convert(original, source="torch", target=name).transpose(permutation)
    if flip:
        ordered = np.flip(ordered, axis=tuple(range(2, rank + 2)))
    assert np.array_equal(ordered, original)


def test_a_converted_array_shares_no_memory():
    original = torch_weights(2, 1)
    for name in NAMES:
        converted = interop.convert(original, source="torch", target=name)
        assert not np.shares_memory(original, converted)
        assert converted.flags.c_contiguous


@pytest.mark.parametrize("name", NAMES)
def test_the_channel_axis_counts_every_output_channel(name):
    rank = max(interop.FRAMEWORKS[name].CONVENTION.ranks)
    converted = interop.convert(torch_weights(rank, 1), source="torch", target=name)
    assert converted.shape[interop.channel_axis(name, rank)] == OUTPUTS


def test_with_groups_only_mlx_has_a_channel_axis():
    converted = interop.convert(torch_weights(2, 2), source="torch", target="mlx", groups=2)
    assert converted.shape[interop.channel_axis("mlx", 2, 2)] == OUTPUTS
    for name in NAMES:
        if name != "mlx":
            with pytest.raises(Unsupported):
                interop.channel_axis(name, 2, 2)


@pytest.mark.parametrize(
    ("array", "keywords", "error", "text"),
    [
        ([[[1]]], {}, TypeError, "weight must be a numpy.ndarray, got list"),
        (np.ones((2, 2)), {}, GeometryError, "must have at least 3 axes, (C_in, C_out, *kernel)"),
        (
            np.ones((4, 2, 3)),
            {"groups": 3},
            GeometryError,
            "the first axis of the weights must be divided by the 3 groups, got shape (4, 2, 3)",
        ),
        (
            np.ones((2, 2, 2, 3)),
            {"groups": 3, "source": "openvino"},
            GeometryError,
            "the first axis of the weights must be the 3 groups, got shape (2, 2, 2, 3)",
        ),
        (np.ones((2, 2, 3)), {"groups": 0}, GeometryError, "groups must be at least 1, got 0"),
        (np.ones((2, 2, 3)), {"source": "theano"}, GeometryError, "source must be one of torch, "),
        (np.ones((2, 2, 3)), {"target": "theano"}, GeometryError, "target must be one of torch, "),
        (
            np.ones((2, 2, 3)),
            {"target": "tflite"},
            Unsupported,
            "TensorFlow Lite has no weights with 1 spatial axes: 2 can be",
        ),
        (
            np.ones((2, 2, 3)),
            {"target": "keras", "groups": 2},
            Unsupported,
            "Keras 3 has no groups, got 2: convert the weights of each group by themselves",
        ),
        (
            np.ones((2, 2, 3, 3, 3)),
            {"target": "mlx", "groups": 2},
            Unsupported,
            "MLX has no groups on 3 spatial axes",
        ),
    ],
)
def test_what_is_refused(array, keywords, error, text):
    with pytest.raises(error, match=re.escape(text)):
        interop.convert(array, **{"source": "torch", "target": "onnx", **keywords})


def test_spread_taps():
    weight = torch_weights(2, 1)
    spread = interop.spread_taps(weight, (3, 1))
    assert spread.shape == (INPUTS, OUTPUTS, 4, 3)
    assert np.array_equal(spread[:, :, ::3], weight)
    assert spread.sum() == weight.sum()
