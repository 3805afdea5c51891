"""What a finding says to type is typed, and the fault is gone."""

import itertools
import math
import re

import pytest
import torch
from torch import nn

import polyphase as pp
from polyphase.tools.check import torch_walk
from polyphase.tools.check.checking import check
from polyphase.tools.check.layer_faults import layer_faults
from polyphase.tools.check.loading import Subject
from polyphase.tools.check.neighbours import Neighbours
from polyphase.tools.check.size_faults import size_faults

THEIRS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
OURS = {1: pp.nn.ConvTranspose1d, 2: pp.nn.ConvTranspose2d, 3: pp.nn.ConvTranspose3d}


def findings(model, *shapes):
    """What is found in the layers; sizes have tests of their own."""
    return list(layer_faults(torch_walk.walk(model, [(shape, "float32") for shape in shapes])))


def found(model, code, *shapes):
    return [finding for finding in findings(model, *shapes) if finding.code == code]


def typed(mend):
    """The parameters that a mend tells to type."""
    told = re.split(r" (?:makes|reach|in polyphase|never)", mend)[0].removeprefix("Use ")
    return eval(f"dict({told})")


def rebuilt(layer, mend):
    """The layer as the mend tells, of polyphase and, where it says nothing else, of PyTorch."""
    rank = len(layer.kernel_size)
    given = {
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "output_padding": layer.output_padding,
        "dilation": layer.dilation,
        "groups": layer.groups,
        **typed(mend),
    }
    kinds = [OURS] if "polyphase.nn" in mend else [OURS, THEIRS]
    return [kind[rank](layer.in_channels, layer.out_channels, **given) for kind in kinds]


def grown(layer, mend):
    weight = layer.weight.detach()
    return eval(
        re.search(r"torch\.nn\.functional\.pad\(.*?\)\)", mend)[0],
        {"torch": torch, "weight": weight},
    )


def parameters():
    """Kernels that are no multiple of their stride, in one to three dimensions."""
    for k, s, p, op, d in itertools.product((3, 5, 7), (2, 3, 4), (0, 1, 2), (0, 1), (1, 2, 3)):
        # where stride and dilation have a common divisor, no kernel is even
        if k > s and k % s and p <= d * (k - 1) // 2 and math.gcd(s, d) == 1:
            yield 1, k, s, p, op, d
    yield 2, 3, 2, 1, 0, 1
    yield 2, 5, 2, 0, 0, 1
    yield 2, (3, 4), 2, (1, 1), (1, 0), 1
    yield 2, (4, 5), (2, 3), (1, 0), 0, 1
    yield 3, 3, 2, 1, 1, 1
    yield 3, (2, 3, 5), (2, 2, 2), (0, 1, 2), 0, 1


@pytest.mark.parametrize(("rank", "k", "s", "p", "op", "d"), list(parameters()))
def test_the_mend_of_uneven_overlap_is_even_and_keeps_size_and_result(rank, k, s, p, op, d):
    torch.manual_seed(0)
    layer = THEIRS[rank](2, 2, k, s, p, op, dilation=d)
    nn.init.uniform_(layer.weight, 0.5, 1.5)
    shape = (1, 2, *(5, 6, 4)[:rank])
    uneven = found(nn.Sequential(layer), "uneven-overlap", shape)
    x = torch.randn(shape)
    for mended in rebuilt(layer, uneven[0].mend):
        assert not found(nn.Sequential(mended), "uneven-overlap", shape)
        assert not found(nn.Sequential(mended), "bias-only", shape)
        mended.weight.data = grown(layer, uneven[0].mend)
        mended.bias = layer.bias
        torch.testing.assert_close(mended(x), layer(x))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pairs_have_one_entry_for_each_axis_and_are_said_to_be_polyphases_own(rank):
    layer = OURS[rank](2, 2, 5, 2, padding=((0, 3),) * rank)
    shape = (1, 2, *(6,) * rank)
    mend = found(nn.Sequential(layer), "uneven-overlap", shape)[0].mend
    assert typed(mend)["padding"] == ((0, 4),) * rank
    assert "in polyphase.nn (torch.nn takes no such pairs)" in mend
    mended = rebuilt(layer, mend)[0]
    mended.weight.data, mended.bias = grown(layer, mend), layer.bias
    torch.testing.assert_close(mended(torch.ones(shape)), layer(torch.ones(shape)))


@pytest.mark.parametrize("k", [3, 4, 6])
@pytest.mark.parametrize("op", [(1,), (1, 0), (1, 1, 2)])
def test_the_mend_of_positions_of_bias_gives_them_taps(k, op):
    rank, s = len(op), 2 if max(op) == 1 else 3
    layer = THEIRS[rank](2, 2, k, s, 0, op)
    shape = (1, 2, *(5, 6, 4)[:rank])
    fault = found(nn.Sequential(layer), "bias-only", shape)
    x = torch.randn(shape)
    assert [f.severity for f in fault] == ["warning"]
    for mended in rebuilt(layer, fault[0].mend):
        assert not {f.code for f in findings(nn.Sequential(mended), shape)} & {
            "bias-only", "uneven-overlap", "empty-phases", "dead-taps",
        }  # fmt: skip
        mended.weight.data = grown(layer, fault[0].mend)
        mended.bias = layer.bias
        torch.testing.assert_close(mended(x), layer(x))


class Level(nn.Module):
    """An encoder of one level whose decoder is asked for the size of the skip."""

    def __init__(self, up):
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.up = up

    def forward(self, x):
        return torch.cat([self.up(self.pool(x), output_size=x.shape[2:]), x], 1)


def test_positions_that_a_skip_asks_for_are_a_note():
    fault = found(Level(nn.ConvTranspose2d(2, 2, 2, 2)), "bias-only", (1, 2, 17, 17))
    assert [f.severity for f in fault] == ["note"]
    assert fault[0].mend.startswith("Nothing")


@pytest.mark.parametrize("size", [(16, 17), (17, 16), (17, 17), (18, 18)])
def test_an_uneven_layer_that_is_asked_for_sizes_goes_on_reaching_them(size):
    up = nn.ConvTranspose2d(2, 2, 3, 2, 1)
    mend = found(Level(up), "uneven-overlap", (1, 2, 17, 17))[0].mend
    for mended in rebuilt(up, mend):
        mended.weight.data, mended.bias = grown(up, mend), up.bias
        x = torch.randn(1, 2, *(n // 2 for n in size))
        wanted = [2 * n - 1 + n % 2 for n in (x.shape[2], x.shape[3])]
        torch.testing.assert_close(mended(x, output_size=wanted), up(x, output_size=wanted))
        assert not found(Level(mended), "uneven-overlap", (1, 2, 17, 17))


class Cut(nn.Module):
    """A layer whose result loses positions at both ends of each axis."""

    def __init__(self, up, cuts):
        super().__init__()
        self.up = up
        self.cuts = cuts

    def forward(self, x):
        return self.up(x)[(..., *(slice(a, -b or None) for a, b in self.cuts))]


@pytest.mark.parametrize(
    ("up", "cuts"),
    [
        (nn.ConvTranspose1d(1, 1, 6, 3), [(1, 2)]),
        (nn.ConvTranspose1d(1, 1, 6, 3, 1, 1), [(1, 1)]),
        (nn.ConvTranspose2d(1, 1, 4, 2), [(1, 1), (1, 1)]),
        (nn.ConvTranspose2d(1, 1, 4, 2), [(1, 1), (0, 2)]),
        (nn.ConvTranspose2d(1, 1, (4, 6), 2), [(1, 1), (2, 2)]),
    ],
)
def test_a_crop_behind_a_layer_is_told_as_padding(up, cuts):
    net = Cut(up, cuts)
    x = torch.randn(1, 1, *(5,) * len(cuts))
    walk = torch_walk.walk(net, [(tuple(x.shape), "float32")])
    fault = next(f for f in size_faults(walk, Neighbours()) if f.code == "cropped")
    for mended in rebuilt(up, fault.mend):
        mended.load_state_dict(up.state_dict())
        torch.testing.assert_close(mended(x), net(x))


def test_a_layer_that_other_sizes_ask_more_of_stays_able_to_reach_them():
    up = nn.ConvTranspose2d(2, 2, 3, 2, 1, 1)
    walk = torch_walk.walk(nn.Sequential(up), [((1, 2, 8, 8), "float32")])
    fault = next(f for f in layer_faults(walk, {0}) if f.code == "uneven-overlap")
    assert typed(fault.mend)["padding"] == ((1, 2), (1, 2))
    x = torch.randn(1, 2, 8, 8)
    for mended in rebuilt(up, fault.mend):
        mended.weight.data, mended.bias = grown(up, fault.mend), up.bias
        torch.testing.assert_close(mended(x), up(x))
        for size in ((15, 16), (16, 15), (15, 15)):
            torch.testing.assert_close(mended(x, output_size=size), up(x, output_size=size))


class Cropping(nn.Module):
    """Its layer's result is cut to the size of the input, which is one or two less."""

    def __init__(self, up):
        super().__init__()
        self.up = up

    def forward(self, x):
        return self.up(x[..., ::2])[..., : x.shape[-1]] + x


def test_the_mend_of_a_crop_reaches_the_sizes_that_are_met():
    up = nn.ConvTranspose1d(1, 1, 4, 2, 1)
    report = check(Subject("net", "net", Cropping(up), (((1, 1, 17), "float32"),)))
    # 17 becomes 9 becomes 18, and output_size=17 is one that this layer refuses
    with pytest.raises(ValueError, match="requested an output size"):
        up(torch.randn(1, 1, 9), output_size=[17])
    assert not [one for one in report.findings if one.code == "cropped"]
    mend = next(one.mend for one in report.findings if one.code == "repaired")
    assert "called with output_size=" in mend
    mended = pp.nn.ConvTranspose1d(1, 1, 4, 2, **typed(mend.replace(", called", " makes")))
    mended.load_state_dict(up.state_dict())
    for n in range(16, 32):
        x = torch.randn(1, 1, n)
        wanted = Cropping(up)(x)
        torch.testing.assert_close(mended(x[..., ::2], output_size=[n]) + x, wanted)


def test_a_crop_that_changes_with_the_size_is_told_for_this_size_alone():
    class Fixed(Cropping):
        def forward(self, x):
            return self.up(x[..., ::4])[..., 1 : 1 + x.shape[-1]]

    net = Fixed(nn.ConvTranspose1d(1, 1, 8, 4))
    report = check(Subject("net", "net", net, (((1, 1, 16), "float32"),)))
    fault = next(one for one in report.findings if one.code == "cropped")
    assert "for this size alone, padding=((1, 3),)" in fault.mend


def test_what_is_true_of_several_layers_alike_is_told_once():
    ups = [nn.ConvTranspose1d(2, 2, 3, 2, 1, 1) for _ in range(3)]
    remarks = found(nn.Sequential(*ups), "not-portable", (1, 2, 8))
    assert [one.layer for one in remarks] == ["0, 1 and 2"]


def test_a_grouped_layer_that_computes_much_is_not_called_slow():
    shape = (1, 512, 32, 32)
    assert not found(
        nn.Sequential(nn.ConvTranspose2d(512, 512, 4, 2, 1, groups=2)), "slow-path", shape
    )
    assert found(
        nn.Sequential(nn.ConvTranspose2d(512, 512, 4, 2, 1, groups=512)), "slow-path", shape
    )


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose1d(2, 2, 3, 2, 1),
        nn.ConvTranspose1d(2, 2, 11, 5, 2),
        nn.ConvTranspose2d(2, 2, 5, 2, 1),
        nn.ConvTranspose2d(2, 2, (3, 5), 2, 2),
    ],
)
def test_a_size_off_the_multiple_is_mended_evenly_in_one_step(layer):
    size = (8,) * len(layer.kernel_size)
    walk = torch_walk.walk(nn.Sequential(layer), [((1, 2, *size), "float32")])
    fault = next(f for f in size_faults(walk, Neighbours()) if f.code == "off-multiple")
    even = fault.mend.rpartition(", and ")[2]
    for mended in rebuilt(layer, re.sub(r" gives it evenly\.", " makes", even)):
        made = mended(torch.randn(1, 2, *size)).shape[2:]
        assert made == tuple(8 * s for s in layer.stride)
        assert not found(nn.Sequential(mended), "uneven-overlap", (1, 2, *size))
