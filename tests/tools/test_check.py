"""Faults that are put into small networks are found, and what is right is left alone."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import polyphase as pp
from polyphase import models
from polyphase.acceleration import accelerate
from polyphase.arithmetic.geometry import Geometry
from polyphase.models.unet import UNet
from polyphase.tools.check import loading, neighbours, torch_walk
from polyphase.tools.check.checking import check
from polyphase.tools.check.evenness import evenness, tap_counts

# true of every model, and a remark rather than a fault
ALWAYS = {"nondeterminism"}


def report_of(model, *shapes, **options):
    inputs = tuple((shape, "float32") for shape in shapes)
    return check(loading.Subject("model", "model", model, inputs), **options)


def codes(model, *shapes):
    return {f.code for f in report_of(model, *shapes).findings} - ALWAYS


def finding(model, code, *shapes):
    return next(f for f in report_of(model, *shapes).findings if f.code == code)


class Skipping(nn.Module):
    """One level of an encoder and a decoder."""

    def __init__(self, up, join):
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.up = up
        self.join = join

    def forward(self, x):
        return self.join(self.up(self.down(x)), x)


def cropped(y, x):
    return torch.cat([y, x[:, :, : y.shape[2], : y.shape[3]]], 1)


def padded(y, x):
    missing = (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2])
    return torch.cat([functional.pad(y, missing), x], 1)


# what is found in each built-in network, the remark apart; the reasons are in docs/check.md
EXPECTED = {
    "unet": {"skip-mismatch"},
    "unet3d": {"skip-mismatch"},
    "dcgan": {"foldable-norm"},
    "vae": {"uneven-overlap"},
    "fcn8s": {"repaired", "cropped", "diagonal-weights"},
    "sam": set(),
    "pose": {"foldable-norm"},
    "fsrcnn": {"not-portable"},
    "hifigan": set(),
    "encodec": {"cropped"},
    "dac": set(),
}
SMALL = {
    "unet": {"width": 4},
    "unet3d": {"features": (4, 8, 12), "strides": (1, 2, 2)},
    "dcgan": {"width": 4},
    "hifigan": {"width": 16},
    "encodec": {"width": 2},
    "dac": {"width": 32},
    "pose": {"in_channels": 8},
}
SHAPES = {
    "unet": ((1, 1, 64, 64),),
    "unet3d": ((1, 1, 16, 16, 16),),
    "pose": ((1, 8, 8, 6),),
    "hifigan": ((1, 80, 20),),
    "encodec": ((1, 128, 8),),
    "dac": ((1, 1024, 8),),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_found_in_the_built_in_networks(name, monkeypatch):
    # a few sizes are enough, except for those networks that have an encoder
    monkeypatch.setattr(neighbours, "LARGEST", 16 if name in ("unet", "unet3d") else 3)
    torch.manual_seed(0)
    model = models.build(name, **SMALL.get(name, {}))
    shapes = SHAPES.get(name, models.ARCHITECTURES[name].input_shapes)
    assert codes(model, *shapes) == EXPECTED[name]


def test_every_built_in_network_is_expected():
    assert set(EXPECTED) == set(models.ARCHITECTURES)


@pytest.mark.parametrize("name", ["dac", "fsrcnn", "vae", "sam"])
def test_sizes_are_those_of_a_run(name):
    model = models.build(name, **SMALL.get(name, {})).eval()
    shapes = SHAPES.get(name, models.ARCHITECTURES[name].input_shapes)
    walked = torch_walk.walk(model, [(shape, "float32") for shape in shapes])
    seen = []
    handles = [
        module.register_forward_hook(lambda _m, _x, y: seen.append(tuple(y.shape)))
        for module in model.modules()
        if isinstance(module, nn.modules.conv._ConvTransposeNd)
    ]
    with torch.no_grad():
        made = model(*(torch.zeros(shape) for shape in shapes))
    for handle in handles:
        handle.remove()
    assert [layer.problem.output_shape for layer in walked.layers] == seen
    assert walked.outputs == (tuple(made.shape),)


def test_a_plain_unet_misses_every_skip_of_an_awkward_size():
    found = report_of(UNet(width=4), (1, 1, 300, 451))
    misfits = [f for f in found.findings if f.code == "skip-mismatch"]
    assert [f.layer for f in misfits] == ["up.0", "up.1", "up.2", "up.3"]
    assert {f.severity for f in misfits} == {"error"}
    assert "makes 36x56 and meets 37x56" in misfits[0].says
    assert "output_padding 1x0" in misfits[0].mend
    assert "multiple of 16" in misfits[0].mend


def test_a_cropping_unet_is_short_at_sizes_that_do_not_divide():
    found = finding(UNet(width=2, join="crop"), "output-size", (1, 1, 300, 451))
    assert found.severity == "error"
    assert "300x451 gives 288x448, short by 12x3" in found.says
    assert "multiple of 16" in found.mend


def test_a_mended_unet_is_clean():
    found = report_of(UNet(width=2, join="output_size"), (1, 1, 37, 51)).findings
    assert [(f.code, f.severity) for f in found] == [
        ("bias-only", "note"),
        ("nondeterminism", "note"),
    ]
    assert "up.1, up.2 and up.3 add" in found[0].says
    assert found[0].mend.startswith("Nothing")


def test_a_unet_is_warned_of_at_a_size_that_divides():
    found = report_of(UNet(width=2), (1, 1, 64, 64))
    misfits = [f for f in found.findings if f.code == "skip-mismatch"]
    assert {f.severity for f in misfits} == {"warning"}
    assert "multiple of 16" in misfits[0].mend


@pytest.mark.parametrize(("join", "kind"), [(cropped, "crop"), (padded, "pad")])
def test_a_repair_is_seen(join, kind):
    net = Skipping(nn.ConvTranspose2d(4, 2, 4, 2, 2), join)
    found = finding(net, "repaired", (1, 2, 16, 16))
    assert kind in found.says
    assert "14x14" in found.says


def test_a_functional_call_is_found_and_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.ones(1, 1, 4))

        def forward(self, x):
            return functional.conv_transpose1d(x, self.kernel, stride=2, padding=1)

    report = report_of(Net(), (1, 1, 6))
    assert [layer.layer.name for layer in report.layers] == ["kernel"]
    assert report.walk.outputs == ((1, 1, 12),)


@pytest.mark.parametrize("convert", [lambda net: net, accelerate])
def test_layers_of_polyphase_are_found_as_those_of_pytorch(convert):
    net = nn.Sequential(nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.ConvTranspose2d(2, 2, 3, 2, 1, 1))
    report = report_of(convert(net), (1, 4, 8, 8))
    assert [str(layer.layer.problem) for layer in report.layers] == [
        "conv_transpose n1 c4:2 g1 i8x8 k4x4 s2x2 p1x1 o0x0 d1x1 f32 nchw",
        "conv_transpose n1 c2:2 g1 i16x16 k3x3 s2x2 p1x1 o1x1 d1x1 f32 nchw",
    ]
    assert report.layers[0].evenness.measured


@pytest.mark.parametrize(
    "convert", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 4, 8, 8))]
)
def test_layers_in_torchscript_are_found(convert):
    net = nn.Sequential(nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.ReLU())
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        scripted = convert(net)
    report = report_of(scripted, (1, 4, 8, 8))
    assert [layer.layer.name for layer in report.layers] == ["0"]
    assert report.layers[0].layer.problem.output_shape == (1, 2, 16, 16)


def test_pairs_and_single_samples_of_polyphase_are_read():
    class Net(nn.Module):
        def forward(self, x):
            return pp.functional.conv_transpose1d(
                x, torch.ones(2, 3, 4), stride=2, padding=[(0, 1)]
            )

    layer = report_of(Net(), (2, 5)).layers[0].layer
    assert layer.problem.geometry.pads == ((0, 1),)
    assert layer.problem.output_shape == (1, 3, 11)


def test_two_layers_with_one_weight_keep_their_names():
    net = nn.Sequential(nn.ConvTranspose1d(2, 2, 4, 2, 1), nn.ConvTranspose1d(2, 2, 4, 2, 1))
    net[1].weight = net[0].weight
    assert [layer.layer.name for layer in report_of(net, (1, 2, 4)).layers] == ["0", "1"]


def test_a_module_that_is_called_twice_is_two_layers():
    up = nn.ConvTranspose1d(1, 1, 2, 2)
    report = report_of(nn.Sequential(up, up), (1, 1, 4))
    assert [layer.layer.problem.output_size for layer in report.layers] == [(8,), (16,)]
    assert len({layer.layer.name for layer in report.layers}) == 2


@pytest.mark.parametrize(
    "normed", [parametrizations.weight_norm, parametrizations.spectral_norm, lambda layer: layer]
)
def test_weights_are_those_that_the_layer_uses(normed):
    layer = normed(nn.ConvTranspose1d(3, 2, 3, 2)).eval()
    seen = report_of(nn.Sequential(layer), (1, 3, 5)).layers[0].layer.weights()
    assert np.array_equal(seen, layer.weight.detach().numpy())


def test_old_weight_norm_leaves_the_model_as_it_was():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.ConvTranspose1d(3, 2, 3, 2))
    before = layer(torch.ones(1, 3, 5))
    report = report_of(nn.Sequential(layer), (1, 3, 5))
    assert report.layers[0].evenness.measured
    assert torch.equal(layer(torch.ones(1, 3, 5)), before)
    assert layer.training


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        (nn.ConvTranspose1d(4, 4, 4, 2, 1), 8, set()),
        (nn.ConvTranspose1d(4, 4, 3, 2, 1), 8, {"uneven-overlap", "off-multiple"}),
        (nn.ConvTranspose1d(4, 4, 3, 2, 1, 1), 8, {"uneven-overlap", "not-portable"}),
        (nn.ConvTranspose1d(4, 4, 2, 2, 0, 1), 8, {"bias-only"}),
        (nn.ConvTranspose1d(4, 4, 1, 2), 8, {"empty-phases"}),
        (nn.ConvTranspose1d(4, 4, 4, 2, 1, groups=4), 8, {"slow-path"}),
        (nn.ConvTranspose1d(4, 4, 64, 16, 24), 8, {"slow-path"}),
        (nn.ConvTranspose1d(4, 4, 10, 5, 3), 8, {"off-multiple"}),
        (nn.ConvTranspose1d(4, 4, 4, 2, 1), 1, {"dead-taps"}),
        (nn.ConvTranspose1d(4, 4, 2, 1, 0, 1, dilation=4), 8,
         {"bias-only", "rejected-elsewhere", "not-portable"}),
        (nn.ConvTranspose1d(4, 4, 2, 2, dilation=2), 8, {"empty-phases"}),
    ],
)  # fmt: skip
def test_one_layer_has_these_faults(layer, size, expected):
    torch.manual_seed(0)
    nn.init.normal_(layer.weight)
    assert codes(nn.Sequential(layer), (1, 4, size)) == expected


def test_equal_taps_of_a_kernel_of_3_are_two_to_one():
    found = evenness(Geometry(3, stride=2), np.ones((1, 1, 3)))
    assert found.gains.tolist() == [2, 1]
    assert found.unevenness == pytest.approx(2 / 3)
    assert tap_counts(Geometry(3, stride=2, padding=1).axes[0]) == [1, 2]


def test_the_gains_are_what_a_constant_input_gives():
    layer = nn.ConvTranspose2d(1, 1, (5, 3), (2, 3), (1, 0), bias=False)
    geometry = Geometry((5, 3), (2, 3), padding=(1, 0))
    found = evenness(geometry, layer.weight.detach().numpy())
    response = layer(torch.ones(1, 1, 9, 9))[0, 0, 6:8, 6:9].detach().abs().numpy()
    assert found.gains == pytest.approx(response, rel=1e-5)


def test_weights_that_make_up_for_the_overlap_are_a_note():
    layer = nn.ConvTranspose1d(1, 1, 3, 2, 1, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[0.5, 1, 0.5]]]))
    assert finding(nn.Sequential(layer), "uneven-overlap", (1, 1, 8)).severity == "note"


def test_arithmetic_is_counted_as_pytorch_counts_it():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 4, 2, 2))
    report = report_of(net, (2, 3, 10, 10))
    convolution, transposed = 2 * 8 * 100 * 27, 2 * 8 * 4 * 100 * 4
    assert report.multiply_adds == convolution + transposed
    assert report.layers[0].share == transposed / (convolution + transposed)


def test_a_size_that_depends_on_values_is_partial_and_computing_mends_it():
    class Cutting(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose1d(1, 1, 2, 2)

        def forward(self, x):
            return self.up(x)[..., : 3 + int(x.sum() > 1e9)]

    partial = report_of(Cutting(), (1, 1, 4))
    assert partial.is_partial
    assert partial.fails("error")
    assert len(partial.layers) == 1
    assert "--compute" in partial.findings[0].mend
    whole = report_of(Cutting(), (1, 1, 4), compute=True)
    assert not whole.is_partial
    assert whole.walk.outputs == ((1, 1, 3),)


def test_nothing_is_computed():
    class Huge(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(4096, 4096, 4, 2, 1)

        def forward(self, x):
            return self.up(x)

    model, real = torch_walk.built(Huge, limit=10**6)
    assert not real
    report = report_of(model, (1, 4096, 4096, 4096))
    assert report.walk.outputs == ((1, 4096, 8192, 8192),)
    assert not report.layers[0].evenness.measured
