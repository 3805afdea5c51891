"""The layers where they differ from PyTorch's, and where they must not."""

import copy
import inspect
import re

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations, parametrize

import polyphase as pp
from polyphase import GeometryError, OutputSizeError, Unsupported

LAYERS = {1: pp.nn.ConvTranspose1d, 2: pp.nn.ConvTranspose2d, 3: pp.nn.ConvTranspose3d}
THEIRS = {
    1: torch.nn.ConvTranspose1d,
    2: torch.nn.ConvTranspose2d,
    3: torch.nn.ConvTranspose3d,
}


def integers(*shape):
    return torch.randint(-3, 4, shape).double()


def exact(layer):
    """The layer with small integers for weights, on which sums are exact."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(integers(*parameter.shape))
    return layer


@pytest.mark.parametrize("name", pp.nn.__all__)
def test_the_signatures_are_pytorchs(name):
    ours, theirs = (inspect.signature(getattr(home, name)) for home in (pp.nn, torch.nn))
    assert list(ours.parameters) == list(theirs.parameters)
    for one, other in zip(ours.parameters.values(), theirs.parameters.values(), strict=True):
        assert one.default == other.default
    assert issubclass(getattr(pp.nn, name), getattr(torch.nn, name))


REFUSED = {
    "kernel 0": ({"kernel_size": 0}, GeometryError, "kernel_size must be at least 1"),
    "stride 0": ({"stride": 0}, GeometryError, "stride must be at least 1"),
    "dilation 0": ({"dilation": (1, 0)}, GeometryError, "dilation must be at least 1"),
    "padding -1": ({"padding": -1}, GeometryError, "padding must be at least 0"),
    "output padding": ({"output_padding": 2, "stride": 2}, GeometryError, "0 to 1 are allowed"),
    "negative output padding": ({"output_padding": -1}, GeometryError, "at least 0"),
    "axes": ({"kernel_size": (3, 3, 3)}, GeometryError, "sequence of 2"),
    "a word": ({"padding": "valid"}, GeometryError, "'same'"),
    "same and more": ({"padding": "same", "output_padding": 1, "stride": 2}, GeometryError, "same"),
    "a float": ({"stride": 2.0}, TypeError, "stride must be an int"),
    "mode": ({"padding_mode": "circular"}, ValueError, "zeros"),
    "groups 0": ({"groups": 0}, ValueError, "positive"),
    "groups": ({"groups": 3}, ValueError, "divisible"),
    "groups 2.0": ({"groups": 2.0}, TypeError, "groups must be an int, got 2.0"),
    "a typing mistake": (
        {"strid": 2},
        TypeError,
        "unexpected keyword argument 'strid'; did you mea",
    ),
    "another": ({"kernal": 2}, TypeError, "'kernal'; did you mean 'kernel_size'"),
    "a word that is none": (
        {"foo": 2},
        TypeError,
        "'foo'; it takes .*out_channels, kernel_size,",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_constructor_refuses(case):
    keywords, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        pp.nn.ConvTranspose2d(4, 4, **{"kernel_size": 3, **keywords})
    # a lazy layer knows its parameters at once, and its channels later
    if case != "groups":
        with pytest.raises(error, match=text):
            pp.nn.LazyConvTranspose2d(4, **{"kernel_size": 3, **keywords})


def test_what_the_constructor_says_of_channels():
    text = "in_channels 16 and out_channels 8 must be divisible by groups, got groups 3: it can be "
    with pytest.raises(GeometryError, match=f"{text}1, 2, 4 or 8"):
        pp.nn.ConvTranspose2d(16, 8, 3, groups=3)
    with pytest.raises(TypeError, match=r"LazyConvTranspose2d: .* 'strid'; did you mean 'stride'"):
        pp.nn.LazyConvTranspose2d(8, 3, strid=2)
    with pytest.raises(TypeError, match=re.escape("in_channels must be an int, got '16' (str)")):
        pp.nn.ConvTranspose2d("16", 8, 3)
    with pytest.raises(RuntimeError, match="out_channels must be at least 0, got -1"):
        pp.nn.ConvTranspose2d(16, -1, 3)
    missing = r"ConvTranspose2d: missing a required argument: 'kernel_size'"
    with pytest.raises(TypeError, match=missing):
        pp.nn.ConvTranspose2d(16, 8)


def test_what_a_subclass_takes_is_its_own_affair():
    class Named(pp.nn.ConvTranspose2d):
        def __init__(self, *args, label, **kwargs):
            super().__init__(*args, **kwargs)
            self.label = label

    assert Named(4, 2, 3, label="up").label == "up"
    with pytest.raises(
        TypeError, match="Named: got an unexpected keyword argument 'stide'; did yo"
    ):
        Named(4, 2, 3, label="up", stide=2)


CALLS = {
    "an array": (
        {"input": np.zeros((1, 4, 5, 5))},
        TypeError,
        "input must be a torch.Tensor, got n",
    ),
    "an array and a size": (
        {"input": np.zeros((1, 4, 5, 5)), "output_size": (9, 9)},
        TypeError,
        "input must be a torch.Tensor, got ndarray; convert it with torch.as_tensor(input)",
    ),
    "an int": (
        {"output_size": 10},
        TypeError,
        "output_size must be a sequence of 2 ints, one per spatial axis, got 10; write (10, 10)",
    ),
    "text": ({"output_size": "10"}, TypeError, "output_size must be a sequence of 2 ints, one per"),
    "floats": ({"output_size": (10.0, 10)}, TypeError, "output_size must be an int, got 10.0"),
    "channels": (
        {"input": torch.zeros(1, 3, 5, 5)},
        RuntimeError,
        "weight of shape (4, 2, 3, 3) with groups 1 takes 4 input channels, but input of shape "
        "(1, 3, 5, 5) has 3: give it 4, or make the weight for 3",
    ),
    "channels last": (
        {"input": torch.zeros(1, 5, 5, 4)},
        RuntimeError,
        "has 5: its last axis has 4, and channels come before the spatial axes",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_refuses(case):
    keywords, error, text = CALLS[case]
    layer = pp.nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1)
    with pytest.raises(error, match=re.escape(text)):
        layer(**{"input": torch.zeros(1, 4, 5, 5), **keywords})


@pytest.mark.parametrize("rank", LAYERS)
def test_every_reachable_output_size_is_reached(rank):
    for stride, dilation in ((2, 1), (3, 2), (1, 4)):
        layer = exact(LAYERS[rank](2, 1, 2, stride=stride, dilation=dilation).double())
        for batch in ((), (2,)):
            x = integers(*batch, 2, *(3,) * rank)
            base = layer(x).shape[-1]
            for extra in range(max(stride, dilation)):
                size = (base + extra,) * rank
                for lead in ((), (*batch, 1)):
                    y = layer(x, output_size=(*lead, *size))
                    assert y.shape == (*batch, 1, *size)
                # PyTorch's layer refuses this for large dilations; its function does not
                function = getattr(torch.nn.functional, f"conv_transpose{rank}d")
                keywords = {"stride": stride, "dilation": dilation, "output_padding": extra}
                assert torch.equal(y, function(x, layer.weight, layer.bias, **keywords))
            for size in (base - 1, base + max(stride, dilation)):
                with pytest.raises(OutputSizeError, match="cannot be reached"):
                    layer(x, output_size=(size,) * rank)


def test_the_error_names_the_sizes_of_an_input_without_a_batch():
    layer = pp.nn.ConvTranspose2d(4, 1, 3, stride=2, padding=1)
    text = r"output_size \(12, 9\) cannot be reached from input_size \(5, 5\).* 9 and 10"
    with pytest.raises(ValueError, match=text):
        layer(torch.zeros(4, 5, 5), output_size=(12, 9))
    with pytest.raises(GeometryError, match="must have 2 entries, or 3 with those in front"):
        layer(torch.zeros(4, 5, 5), output_size=(1, 1, 9, 9))
    with pytest.raises(GeometryError, match="must have 2 entries, or 4 with those in front"):
        layer(torch.zeros(1, 4, 5, 5), output_size=[9])


def test_output_size_as_pytorch_writes_it():
    # from PyTorch's documentation: down and up again
    down = torch.nn.Conv2d(4, 4, 3, stride=2, padding=1)
    up = pp.nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1)
    for size in ((12, 11), (7, 8)):
        x = torch.zeros(1, 4, *size)
        assert up(down(x), output_size=x.size()).size() == x.size()
        assert up(down(x), output_size=list(size)).size() == x.size()
    assert up(down(x)).size() == (1, 4, 7, 7)


def test_padding_same_and_pairs():
    x = integers(2, 3, 4, 5)
    same = exact(pp.nn.ConvTranspose2d(3, 2, (4, 3), stride=(2, 3), padding="same").double())
    assert same(x).shape == (2, 2, 8, 15)
    assert same(x, output_size=(8, 15)).shape == (2, 2, 8, 15)
    with pytest.raises(OutputSizeError, match=r"gives input \* stride, \(8, 15\)"):
        same(x, output_size=(9, 15))
    assert "padding=same" in repr(same)
    pairs = pp.nn.ConvTranspose2d(3, 2, (4, 3), stride=(2, 3), padding=[(1, 1), (0, 0)]).double()
    pairs.load_state_dict(same.state_dict())
    assert torch.equal(pairs(x), same(x))
    assert "padding=((2, 0), 1)" in repr(pp.nn.ConvTranspose2d(3, 2, 3, padding=[(2, 0), (1, 1)]))
    line = pp.nn.ConvTranspose1d(3, 2, 4, stride=2, padding=[(0, 2)])
    assert line(torch.zeros(3, 5)).shape == (2, 10)
    assert line(torch.zeros(3, 5), output_size=(11,)).shape == (2, 11)


@pytest.mark.parametrize("rank", LAYERS)
def test_the_same_seed_draws_the_same_weights(rank):
    layers = []
    for kind in (LAYERS[rank], THEIRS[rank]):
        torch.manual_seed(3)
        layers.append(kind(6, 4, 3, stride=2, groups=2))
        layers[-1].reset_parameters()
    ours, theirs = layers
    assert repr(ours) == repr(theirs)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
    assert ours.load_state_dict(theirs.state_dict()).missing_keys == []


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrizations(wrap):
    layers = []
    for kind in (pp.nn.ConvTranspose2d, torch.nn.ConvTranspose2d):
        torch.manual_seed(0)
        layers.append(wrap(kind(3, 4, 3, stride=2)))
    ours, theirs = layers
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x = torch.randn(2, 3, 5, 5)
    for _ in range(2):
        y, z = ours(x), theirs(x)
        torch.testing.assert_close(y, z)
        y.square().sum().backward()
        z.square().sum().backward()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-3)
            with torch.no_grad():
                one -= 0.001 * one.grad
                other -= 0.001 * other.grad
    for layer in layers:
        layer.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
        parametrize.remove_parametrizations(ours, "weight")
        parametrize.remove_parametrizations(theirs, "weight")
        torch.testing.assert_close(ours(x), theirs(x))
    assert type(ours) is pp.nn.ConvTranspose2d


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_lazy_layers_become_ours():
    layer = pp.nn.LazyConvTranspose2d(4, 3, stride=2, padding="same", groups=2)
    assert layer.has_uninitialized_params()
    assert layer(torch.zeros(2, 6, 5, 5)).shape == (2, 4, 10, 10)
    assert type(layer) is pp.nn.ConvTranspose2d
    assert (layer.in_channels, layer.weight.shape) == (6, (6, 2, 3, 3))
    with pytest.raises(ValueError, match="divisible"):
        pp.nn.LazyConvTranspose2d(4, 3, groups=2)(torch.zeros(2, 5, 5, 5))


def test_shape_inverse_of_a_convolution():
    for conv, size in (
        (torch.nn.Conv1d(3, 6, 5, stride=3, padding=2, dilation=2, groups=3, bias=False), (17,)),
        (torch.nn.Conv2d(2, 4, (3, 4), stride=(1, 2), padding="valid"), (9, 8)),
        (torch.nn.Conv2d(2, 4, (3, 5), padding="same"), (9, 8)),
        (torch.nn.Conv3d(2, 4, 2, stride=2, dtype=torch.float64), (4, 5, 6)),
    ):
        rank = len(size)
        layer = LAYERS[rank].inverse_of(conv)
        x = torch.zeros(1, conv.in_channels, *size, dtype=conv.weight.dtype)
        assert layer(conv(x), output_size=x.shape).shape == x.shape
        assert layer.weight.shape == conv.weight.shape
        assert (layer.bias is None) == (conv.bias is None)
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Conv2d, got Conv1d"):
        pp.nn.ConvTranspose2d.inverse_of(torch.nn.Conv1d(1, 1, 1))
    with pytest.raises(Unsupported, match="circular"):
        pp.nn.ConvTranspose2d.inverse_of(torch.nn.Conv2d(1, 1, 3, padding_mode="circular"))


# ideas of PyTorch's own tests of its convolutions


@pytest.mark.parametrize("rank", [2, 3])
def test_a_kernel_of_one_position(rank):
    layer = exact(LAYERS[rank](3, 3, 1).double())
    x = integers(2, 3, *(2,) * rank)
    mixed = torch.einsum("nc...,co->no...", x, layer.weight.flatten(1))
    assert torch.equal(layer(x), mixed + layer.bias.reshape(-1, *(1,) * rank))


@pytest.mark.parametrize("rank", LAYERS)
def test_empty_batches_and_empty_channels(rank):
    layer = LAYERS[rank](4, 8, 3, stride=2)
    x = torch.zeros(0, 4, *(5,) * rank, requires_grad=True)
    y = layer(x)
    assert y.shape == (0, 8, *(11,) * rank)
    y.sum().backward()
    assert torch.equal(layer.weight.grad, torch.zeros_like(layer.weight))
    assert x.grad.shape == x.shape
    for shape in ((2, 0, *(5,) * rank), (2, 4, 0, *(5,) * (rank - 1))):
        with pytest.raises(RuntimeError):
            layer(torch.zeros(shape))


def test_groups_are_layers_side_by_side():
    whole = exact(pp.nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2).double())
    x = integers(2, 4, 6, 6).requires_grad_()
    y = whole(x)
    gy = integers(*y.shape)
    y.backward(gy)
    for part in range(2):
        half = pp.nn.ConvTranspose2d(2, 3, 3, stride=2).double()
        here, there = slice(2 * part, 2 * part + 2), slice(3 * part, 3 * part + 3)
        half.weight.data = whole.weight.detach()[here].clone()
        half.bias.data = whole.bias.detach()[there].clone()
        z = half(x.detach()[:, here])
        assert torch.equal(z, y[:, there])
        z.backward(gy[:, there])
        assert torch.equal(half.weight.grad, whole.weight.grad[here])
        assert torch.equal(half.bias.grad, whole.bias.grad[there])


@pytest.mark.parametrize("rank", LAYERS)
def test_gradients_do_not_depend_on_memory_formats(rank):
    # PyTorch's backward once read channels-last gradients as if they were not
    layer = exact(LAYERS[rank](4, 4, 3, stride=2).double())
    x = integers(1, 4, *(3,) * rank)
    gy = integers(*layer(x).shape)
    last = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}[rank]
    found = []
    for x_format in (torch.contiguous_format, last):
        for gy_format in (torch.contiguous_format, last):
            leaf = x.contiguous(memory_format=x_format).requires_grad_()
            y = layer(leaf)
            inputs = (leaf, *layer.parameters())
            found.append(torch.autograd.grad(y, inputs, gy.contiguous(memory_format=gy_format)))
    for one, *others in zip(*found, strict=True):
        assert all(torch.equal(one, other) for other in others)


# with groups, channels one by one, few in line with many taps, none, and a single tap
@pytest.mark.parametrize("case", [(40, 33, 3, 1), (6, 9, 4, 3), (5, 5, 3, 5), (21, 21, 16, 1),
                                  (3, 1, 2, 1), (4, 6, 1, 1)])  # fmt: skip
@pytest.mark.parametrize("rank", [2, 3])
def test_gradients_of_weights_lie_as_the_weights_do(rank, case):
    *channels, kernel, groups = case
    # otherwise PyTorch copies them, element by element, before an optimizer sees them
    last = {2: torch.channels_last, 3: torch.channels_last_3d}[rank]
    kernel_size = (*(2,) * (rank - 2), kernel, kernel)
    stride = max(1, kernel // 2)
    layer = exact(LAYERS[rank](*channels, kernel_size, stride=stride, groups=groups).double())
    x = integers(2, channels[0], *(3,) * rank)
    gy = integers(*layer(x).shape)
    expected = torch.autograd.grad(layer(x), layer.weight, gy)[0]
    other = copy.deepcopy(layer)
    for memory in (layer.to(memory_format=last), other):
        for x_format in (torch.contiguous_format, last):
            y = memory(x.contiguous(memory_format=x_format))
            found = torch.autograd.grad(y, memory.weight, gy.contiguous(memory_format=x_format))[0]
            assert torch.equal(found, expected)
            # an axis of one element has any stride
            strides = zip(found.shape, found.stride(), memory.weight.stride(), strict=True)
            assert all(mine == theirs for size, mine, theirs in strides if size > 1)


def test_gradients_of_an_expanded_sum():
    layer = exact(pp.nn.ConvTranspose2d(2, 3, 3, stride=2).double())
    x = integers(2, 2, 4, 4).requires_grad_()
    layer(x).sum().backward()
    twin = exact(torch.nn.ConvTranspose2d(2, 3, 3, stride=2).double())
    twin.load_state_dict(layer.state_dict())
    z = x.detach().requires_grad_()
    twin(z).sum().backward()
    assert torch.equal(x.grad, z.grad)
    assert torch.equal(layer.weight.grad, twin.weight.grad)


def test_the_layer_transposes_the_convolution():
    conv = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False, dtype=torch.float64)
    layer = exact(pp.nn.ConvTranspose2d.inverse_of(conv))
    conv.weight = layer.weight
    x, y = integers(2, 3, 8, 7), integers(2, 5, 4, 4)
    assert (conv(x) * y).sum() == (layer(y, output_size=x.shape) * x).sum()


@pytest.mark.parametrize("rank", LAYERS)
def test_inputs_of_the_wrong_shape(rank):
    layer = LAYERS[rank](3, 2, 2)
    for shape in ((3,), (1, 2, *(4,) * rank), (1, 1, 3, *(4,) * rank)):
        with pytest.raises(RuntimeError):
            layer(torch.zeros(shape))
