"""Bad input: the kind of error and its sentence, and the memory of calls seen before."""

import re

import numpy as np
import pytest
import torch

from polyphase import GeometryError, OutputSizeError, Unsupported, functional
from polyphase.functional import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from polyphase.functional.arguments import read

X = np.ones((2, 4, 5, 6))
W = np.ones((4, 3, 3, 3))
V = np.ones((3, 4, 3, 3))
KEYWORDS = ("stride", "padding", "dilation", "groups")


@pytest.mark.parametrize("name", functional.__all__)
@pytest.mark.parametrize("argument", ["input", "weight", "bias"])
@pytest.mark.parametrize(
    ("value", "told"),
    [([[1.0]], "list"), (1.0, "float"), ("x", "str")],
    ids=["list", "float", "str"],
)
def test_only_arrays_are_accepted(name, argument, value, told):
    rank = int(name[-2])
    arrays = {"input": np.ones([1] * (rank + 2)), "weight": np.ones([1] * (rank + 2)), "bias": None}
    arrays[argument] = value
    text = rf"^{argument} must be a numpy\.ndarray, got {told}; convert it with numpy\.asarray\("
    with pytest.raises(TypeError, match=text):
        getattr(functional, name)(**arrays)


@pytest.mark.parametrize("name", functional.__all__)
@pytest.mark.parametrize("argument", ["input", "weight", "bias"])
def test_arrays_and_tensors_are_not_mixed(name, argument):
    rank = int(name[-2])
    arrays = {key: np.ones([1] * (rank + 2)) for key in ("input", "weight")} | {"bias": np.ones(1)}
    arrays[argument] = torch.from_numpy(arrays[argument])
    # the input says which of the two the others must be
    wrong, kind = ("weight", "torch.Tensor") if argument == "input" else (argument, "numpy.ndarray")
    with pytest.raises(TypeError, match=f"^{wrong} must be a {re.escape(kind)}"):
        getattr(functional, name)(**arrays)


def test_only_the_bias_may_be_missing():
    with pytest.raises(TypeError, match=r"^weight must be a numpy\.ndarray, got NoneType"):
        conv_transpose2d(X, None)


@pytest.mark.parametrize("name", KEYWORDS)
@pytest.mark.parametrize("value", [2.0, True, None, [1.0, 1.0], [1, True], np.array([1.0, 1.0])])
@pytest.mark.parametrize(("function", "weight"), [(conv_transpose2d, W), (conv2d, V)])
def test_parameters_of_the_wrong_kind(function, weight, name, value):
    with pytest.raises(TypeError, match=f"^{name} must be an int, got "):
        function(X, weight, **{name: value})


@pytest.mark.parametrize("name", ["stride", "dilation", "groups", "output_padding"])
@pytest.mark.parametrize("padding", [0, "same"])
def test_only_padding_may_be_a_word(name, padding):
    with pytest.raises(TypeError, match=rf"^{name} must be an int, got 'same' \(str\)"):
        conv_transpose2d(X, W, padding=padding, **{name: "same"})


@pytest.mark.parametrize("wrong", [1.0, True, np.float64(1)])
def test_what_was_remembered_for_an_int_serves_no_other_kind(wrong):
    # all of these are equal to 1 and have its hash
    assert conv_transpose1d(X[0, 0][None], np.ones((5, 1, 3)), stride=1).shape == (1, 1, 8)
    for stride in (wrong, (wrong,), [wrong]):
        with pytest.raises(TypeError, match=r"^stride must be an int"):
            conv_transpose1d(X[0, 0][None], np.ones((5, 1, 3)), stride=stride)


def test_a_call_seen_before_is_remembered():
    arguments = "conv", 1, ((4, 9), (2, 4, 3), None), ("float32", "float32", None)
    first = read(*arguments, 2, 1, 0, 1, 1)
    assert read(*arguments, 2, 1, 0, 1, 1) is first
    assert read(*arguments, [2], [1], 0, 1, 1).problem == first.problem
    assert read(*arguments, 1, 1, 0, 1, 1) != first


TRANSPOSED = [
    ({"input": X[0, 0]}, r"input of conv_transpose2d must have 4 axes \(N, C, \*size\), or 3 "
     r"without a batch, got shape \(5, 6\)"),
    ({"input": X[None]}, r"input of conv_transpose2d must have 4 axes .* got shape \(1, 2, 4, 5, "),
    ({"input": X[:, :, :0]}, r"input of conv_transpose2d must have at least 1 position on every "
     r"spatial axis, got shape \(2, 4, 0, 6\)"),
    ({"weight": W[0]}, r"weight of conv_transpose2d must have 4 axes \(C_in, C_out/groups, "
     r"\*kernel_size\), got shape \(3, 3, 3\)"),
    ({"weight": W[:, :0]}, "out_channels must be at least 1, got 0"),
    ({"weight": W[..., :0]}, r"kernel_size must be at least 1 on every axis, got \(3, 0\)"),
    ({"input": X[:, :3]}, r"weight of shape \(4, 3, 3, 3\) with groups 1 takes 4 input channels, "
     r"but input of shape \(2, 3, 5, 6\) has 3"),
    ({"groups": 3}, "groups must divide in_channels, got groups 3 and in_channels 4"),
    ({"groups": 0}, "groups must be at least 1, got 0"),
    ({"bias": np.ones(4)}, r"bias must have shape \(3,\), one value per output channel, got \(4,"),
    ({"bias": np.ones((1, 3))}, r"bias must have shape \(3,\), .* got \(1, 3\)"),
    ({"bias": np.ones(3), "groups": 2}, r"bias must have shape \(6,\), .* got \(3,\)"),
    ({"weight": W.astype("f4")}, "input, weight and bias must have one dtype, got float64, "
     "float32; convert them to the same"),
    ({"bias": np.ones(3, int)}, "input, weight and bias must have one dtype, got float64, "
     "float64, int64; convert"),
    ({"stride": 0}, "stride must be at least 1 on every axis, got"),
    ({"stride": (1, 1, 1)}, r"stride must be an int or a sequence of 2, one entry per axis, "
     r"got \(1, 1, 1\)"),
    ({"dilation": []}, r"dilation must be an int or a sequence of 2, one entry per axis, got \(\)"),
    ({"dilation": (1, -1)}, r"dilation must be at least 1 on every axis, got \(1, -1\)"),
    ({"padding": -1}, r"padding must be at least 0, got -1; to add positions instead of removing "
     r"them write a pair \(-1, -1\)"),
    ({"padding": [(1, 2, 3), 0]}, r"a padding pair is \(begin, end\), got \(1, 2, 3\)"),
    ({"padding": "valid"}, r"padding must be an int, one int or \(begin, end\) pair per axis, or "
     "'same', got 'valid'; for no padding write 0"),
    ({"padding": "same", "output_padding": 1, "stride": 2}, "padding 'same' fixes the output to "
     r"input \* stride, so output_padding must be 0, got \(1, 1\)"),
    ({"output_padding": 1}, "output_padding must be smaller than stride or dilation, got "
     "output_padding 1 with stride 1 and dilation 1: 0 to 0 are allowed"),
    ({"output_padding": -1}, "output_padding must be at least 0 on every axis, got"),
    ({"stride": 2**61}, r"an output of shape \(2, 3, \d+, \d+\) is larger than any memory"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), TRANSPOSED, ids=str)
def test_a_transposed_convolution_refuses(change, text):
    with pytest.raises(GeometryError, match=f"^{text}") as caught:
        conv_transpose2d(**{"input": X, "weight": W, **change})
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, ValueError)


CONVOLUTION = [
    ({"weight": V[0]}, r"weight of conv2d must have 4 axes \(C_out, C_in/groups, \*kernel_size\)"),
    ({"groups": 2}, r"weight of shape \(3, 4, 3, 3\) with groups 2 takes 8 input channels, but "),
    ({"weight": V[:, :2], "groups": 2}, "groups must divide out_channels, got groups 2 and "
     "out_channels 3"),
    ({"padding": -1}, r"padding must be at least 0, got -1; to remove positions of the input "
     r"write a pair \(-1, -1\)"),
    ({"padding": "full"}, r"padding must be .* or 'same' or 'valid', got 'full'"),
    ({"padding": "same", "stride": (1, 2)}, r"padding 'same' keeps the size and needs stride 1, "
     r"got stride \(1, 2\); give padding in numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), CONVOLUTION, ids=str)
def test_a_convolution_refuses(change, text):
    with pytest.raises(GeometryError, match=f"^{text}"):
        conv2d(**{"input": X, "weight": V, **change})


def test_a_pair_for_one_axis_needs_its_brackets():
    text = r"padding must be an int or a sequence of 1, .* got \(0, 1\); .* write \[\(0, 1\)\]"
    with pytest.raises(GeometryError, match=text):
        conv1d(np.ones((4, 9)), np.ones((3, 4, 2)), padding=(0, 1))


def test_sizes_that_cannot_be():
    with pytest.raises(OutputSizeError, match="output size would be -1 on axis 0: input 5 gives a"):
        conv_transpose2d(X, W, padding=4)
    with pytest.raises(
        OutputSizeError, match="the kernel covers 9 positions and does not fit size 6"
    ):
        conv2d(X, V, dilation=(1, 4), padding=(0, 0))


@pytest.mark.parametrize("dtype", ["bool", "uint16", "longdouble", "object", ">f4", "U3"])
def test_other_dtypes(dtype):
    x, w = np.zeros(X.shape).astype(dtype), np.zeros(W.shape).astype(dtype)
    name = str(x.dtype)
    with pytest.raises(Unsupported, match=f"^arrays of dtype {name} are not computed; convert"):
        conv_transpose2d(x, w)
