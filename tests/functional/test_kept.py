"""Packed weights are kept between inferences, and every change of a parameter is seen."""

import gc

import pytest
import torch

import polyphase as pp
from polyphase import GeometryError, Problem
from polyphase.engine.run import Packing
from polyphase.functional import conv_transpose2d
from polyphase.functional.tensors import kept


@pytest.fixture
def packings(monkeypatch):
    """How often weights were packed."""
    packed = []
    fill = Packing.fill
    monkeypatch.setattr(
        Packing, "fill", lambda self, *given: (packed.append(given), fill(self, *given))[1]
    )
    return packed


# few weights are their own digest, more have a checksum
@pytest.fixture(params=[4, 700], ids=["few weights", "many weights"])
def layer(request):
    torch.manual_seed(0)
    return pp.nn.ConvTranspose2d(3, request.param, 3, stride=2, padding=1).eval()


X = torch.randint(-3, 4, (2, 3, 5, 6)).float()


def infer(layer, x=X):
    with torch.no_grad():
        return layer(x)


def expected(layer, x=X):
    bias = None if layer.bias is None else layer.bias.detach().clone()
    return conv_transpose2d(
        x, layer.weight.detach().clone(), bias, layer.stride, layer.padding, layer.output_padding
    )


def test_weights_are_packed_once(layer, packings):
    results = [infer(layer) for _ in range(3)]
    assert len(packings) == 1
    assert all(torch.equal(y, expected(layer)) for y in results)
    other = infer(layer, X[:, :, :4])
    assert torch.equal(other, expected(layer, X[:, :, :4]))


def test_panels_of_several_kinds_stay(layer, packings):
    # strides stand for sizes of inputs that are computed in different ways
    kinds = [(s, s) for s in range(1, kept.MOST_KINDS + 2)]
    for stride in (*kinds[:-1], *kinds[:-1]):
        layer.stride = stride
        layer.output_padding = layer.padding = (0, 0)
        assert torch.equal(infer(layer), expected(layer))
    # the results to compare with are packed, too, in every call
    assert len(packings) == 3 * kept.MOST_KINDS
    layer.stride = kinds[-1]
    infer(layer)
    assert len(kept._kept[id(layer.weight)].panels) == kept.MOST_KINDS
    layer.weight.data.add_(1)
    assert torch.equal(infer(layer), expected(layer))
    assert len(kept._kept[id(layer.weight)].panels) == 1


def test_plain_tensors_are_packed_in_every_call(packings):
    w = torch.ones(3, 4, 3, 3)
    for _ in range(3):
        conv_transpose2d(X, w)
    assert len(packings) == 3


def in_numpy(layer):
    layer.weight.detach().numpy()[0, 0, 0, 0] += 1


def in_an_old_view(layer):
    view = layer.weight.detach().view(-1)
    infer(layer)
    view[-1] += 1


def under_no_grad(layer):
    with torch.no_grad():
        layer.weight[0] *= 2


def by_an_optimizer(layer):
    layer(X).square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()


def by_averaging(layer):
    average = torch.optim.swa_utils.AveragedModel(layer)
    by_an_optimizer(layer)
    average.update_parameters(layer)
    layer.load_state_dict(average.module.state_dict())


def to_double_and_back(layer):
    layer.weight.data = (layer.weight.data.double() * 1.5).float()


def a_new_parameter(layer):
    layer.weight = torch.nn.Parameter(layer.weight.detach() + 1)


def swapped_signs_of_zero(layer):
    with torch.no_grad():
        layer.weight.zero_()
    infer(layer)
    with torch.no_grad():
        layer.weight.neg_()


CHANGES = {
    "data in place": lambda layer: layer.weight.data.mul_(2),
    "data clamped": lambda layer: layer.weight.data.clamp_(-0.01, 0.01),
    "data assigned": lambda layer: setattr(layer.weight, "data", layer.weight.data + 1),
    "data of another layout": lambda layer: setattr(
        layer.weight,
        "data",
        (layer.weight.data + 1).contiguous(memory_format=torch.channels_last),
    ),
    "bias": lambda layer: layer.bias.data.add_(1),
    "bias assigned": lambda layer: setattr(layer, "bias", torch.nn.Parameter(layer.bias + 1)),
    "no bias": lambda layer: layer.register_parameter("bias", None),
    "numpy": in_numpy,
    "an old view": in_an_old_view,
    "no grad": under_no_grad,
    "optimizer": by_an_optimizer,
    "averaging": by_averaging,
    "initialisation": lambda layer: torch.nn.init.normal_(layer.weight),
    "reset": lambda layer: layer.reset_parameters(),
    "dtype": to_double_and_back,
    "parameter": a_new_parameter,
    "one element": lambda layer: layer.weight.data[-1, -1, -1, -1].add_(1),
    "state": lambda layer: layer.load_state_dict(
        {name: value + 1 for name, value in layer.state_dict().items()}
    ),
    "state assigned": lambda layer: layer.load_state_dict(
        {name: value + 1 for name, value in layer.state_dict().items()}, assign=True
    ),
    "shared memory": lambda layer: layer.share_memory().weight.data.add_(1),
    "storage refilled": lambda layer: layer.weight.untyped_storage().copy_(
        torch.ones(layer.weight.numel()).untyped_storage()
    ),
    "zeros of the other sign": swapped_signs_of_zero,
    "nothing": lambda layer: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_followed(layer, change):
    before = infer(layer)
    CHANGES[change](layer)
    after = infer(layer)
    assert torch.equal(after, expected(layer))
    if change not in ("nothing", "zeros of the other sign"):
        assert not torch.equal(after, before)


def test_a_parameter_shared_by_two_layers_is_packed_once(layer, packings):
    twin = pp.nn.ConvTranspose2d(3, layer.out_channels, 3, stride=2, padding=1)
    twin.weight, twin.bias = layer.weight, layer.bias
    assert torch.equal(infer(layer), infer(twin))
    assert len(packings) == 1
    twin.weight.data.add_(1)
    assert torch.equal(infer(layer), expected(layer))
    assert torch.equal(infer(twin), expected(layer))


def test_a_parameter_of_layers_that_read_it_differently(layer):
    for stride, padding in ((1, 0), (2, 1), (3, 0), (2, 1)):
        layer.stride, layer.padding = (stride, stride), (padding, padding)
        assert torch.equal(infer(layer), expected(layer))


def test_training_never_sees_weights_of_an_earlier_step(layer):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        y = layer(X)
        assert torch.equal(y, expected(layer))
        assert torch.equal(infer(layer), y)
        optimizer.zero_grad()
        y.square().mean().backward()
        optimizer.step()


def test_channels_last_weights_are_kept_as_they_lie(layer, packings):
    layer.to(memory_format=torch.channels_last)
    x = X.contiguous(memory_format=torch.channels_last)
    first, again = infer(layer, x), infer(layer, x)
    assert len(packings) == 1
    assert torch.equal(first, expected(layer))
    assert torch.equal(again, first)
    layer.weight.data.add_(1)
    assert torch.equal(infer(layer, x), expected(layer))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_autocast_converts_is_kept(layer, dtype, packings):
    def halves(layer):
        half = (t.detach().to(dtype) for t in (X, layer.weight, layer.bias))
        return conv_transpose2d(*half, layer.stride, layer.padding)

    with torch.autocast("cpu", dtype=dtype):
        results = [infer(layer) for _ in range(3)]
    wide = infer(layer)
    with torch.autocast("cpu", dtype=dtype):
        results.append(infer(layer))
    assert torch.equal(wide, infer(layer))
    # once of each type, which stay side by side
    assert len(packings) == 2
    for y in results:
        assert torch.equal(y, halves(layer))
    assert torch.equal(wide, expected(layer))
    for parameter in (layer.weight, layer.bias):
        parameter.data.add_(1)
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(infer(layer), halves(layer))
        assert torch.equal(infer(layer), expected(layer))


def test_the_same_bits_of_another_type_are_other_weights():
    weight = torch.nn.Parameter(torch.rand(3, 4, 3, 3).half(), requires_grad=False)
    bias = torch.rand(4).half()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        for change in ("none", "weight", "bias"):
            if change == "weight":
                weight.data = weight.data.view(torch.bfloat16)
            elif change == "bias":
                bias = bias.view(torch.bfloat16)
            copy = weight.detach().clone()
            assert torch.equal(conv_transpose2d(X, weight, bias), conv_transpose2d(X, copy, bias))


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_autocast_leaves_alone_what_it_does_not_convert(packings):
    x, w = X.double(), torch.nn.Parameter(torch.ones(3, 4, 3, 3).double())
    plain = torch.ones(3, 4, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert conv_transpose2d(x, w).dtype is torch.float64
        for dtype in (torch.complex32, torch.complex64):
            assert conv_transpose2d(X.to(dtype), plain.to(dtype)).dtype is dtype
        y = conv_transpose2d(X, plain)
        with pytest.raises(GeometryError, match="one dtype"):
            conv_transpose2d(X, w)
    assert y.dtype is torch.bfloat16
    assert torch.equal(y.float(), conv_transpose2d(X, plain))


def test_weights_with_gaps_are_not_kept(packings):
    wide = torch.nn.Parameter(torch.ones(3, 4, 3, 6))
    narrow = torch.nn.Parameter(wide.data[..., ::2])
    with torch.no_grad():
        for value in (1.0, 2.0):
            wide.data.fill_(value)
            assert conv_transpose2d(X, narrow).sum() == value * 36 * X.sum()
    assert len(packings) == 2


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_expanded_parameters_are_read_no_further_than_they_go(layer, name, monkeypatch):
    read = []
    checksum = kept.checksum
    monkeypatch.setattr(kept, "checksum", lambda *given: (read.append(given), checksum(*given))[1])
    infer(layer)
    assert read
    parameter = getattr(layer, name)
    parameter.data = torch.ones(1).expand(parameter.shape)
    assert torch.equal(infer(layer), expected(layer))
    assert all(size <= 4 for address, size in read if address == parameter.data_ptr())


def test_nothing_is_kept_of_a_parameter_that_is_gone():
    layer = pp.nn.ConvTranspose2d(3, 4, 3)
    infer(layer)
    key = id(layer.weight)
    assert key in kept._kept
    del layer
    gc.collect()
    assert key not in kept._kept


@pytest.mark.parametrize("rank", [1, 2])
def test_weights_that_are_read_as_they_lie_are_not_kept(rank):
    torch.manual_seed(0)
    convolve = getattr(pp.functional, f"conv{rank}d")
    weight = torch.nn.Parameter(torch.randint(-3, 4, (32, 16, *[64] * rank)).double())
    x = torch.randint(-3, 4, (1, 16, *[64 + 32] * rank)).double()
    if rank == 2:
        weight = torch.nn.Parameter(weight.detach().contiguous(memory_format=torch.channels_last))
        x = x.contiguous(memory_format=torch.channels_last)
    problem = Problem.parse(f"conv c16:32 i{'x'.join(['96'] * rank)} k{'x'.join(['64'] * rank)} "
                            f"s{'x'.join(['32'] * rank)} f64")  # fmt: skip
    assert pp.plan(problem).method.name == "taps"
    before = len(kept._kept)
    for change in (lambda: None, lambda: weight.data.mul_(2), lambda: weight.data.add_(1)):
        change()
        expected = getattr(torch.nn.functional, f"conv{rank}d")(x, weight.detach(), None, 32)
        for _ in range(3):
            with torch.inference_mode():
                result = convolve(x, weight, None, 32)
            # what was freed is somebody else's now
            others = [torch.full_like(weight, torch.nan) for _ in range(3)]
            assert torch.equal(result, expected)
            del others
    assert len(kept._kept) == before


def test_autocast_converts_weights_that_are_read_as_they_lie():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randint(-3, 4, (32, 16, 64)).float())
    x = torch.randint(-3, 4, (1, 16, 96)).float()
    assert pp.plan("conv c16:32 i96 k64 s32 f16").method.name == "taps"
    with torch.autocast("cpu", dtype=torch.float16), torch.no_grad():
        result = pp.functional.conv1d(x, weight, None, 32)
    assert result.dtype is torch.float16
    assert torch.equal(result.float(), torch.nn.functional.conv1d(x, weight.detach(), None, 32))
