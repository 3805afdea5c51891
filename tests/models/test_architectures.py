"""Every built-in network against its paper: parameters, transposed layers, sizes, numbers."""

import sys
from math import prod
from subprocess import run

import pytest
import torch

from polyphase import models
from polyphase.models import ARCHITECTURES, build
from polyphase.models.dac import DACDecoder, Snake
from polyphase.models.fcn import IMAGE_OFFSET, POOL3_OFFSET, POOL4_OFFSET, bilinear_kernel
from polyphase.models.sam import ChannelNorm
from polyphase.models.unet3d import UNet3d


def layer(before, after, taps, bias=True):
    """Parameters of one convolution, ordinary or transposed."""
    return before * after * taps + (after if bias else 0)


def unet3d():
    """Isensee et al. 2021: two convolutions of 27 taps a stage, an instance norm after each."""
    features = [32, 64, 128, 256, 320, 320]

    def stage(before, after):
        return layer(before, after, 27) + layer(after, after, 27) + 2 * (2 * after)

    down = sum(stage(a, b) for a, b in zip([1, *features], features, strict=False))
    up = sum(layer(features[i + 1], features[i], 8) for i in range(5))
    return down + up + sum(stage(2 * f, f) for f in features[:-1]) + layer(32, 2, 1)


def hifigan(width):
    """Kong et al. 2020, appendix A: k_u 16 16 4 4, k_r 3 7 11, six convolutions a block."""
    total = layer(80, width, 7) + layer(width // 16, 1, 7)
    for level, taps in enumerate((16, 16, 4, 4)):
        before, after = width >> level, width >> level + 1
        total += layer(before, after, taps)
        total += sum(6 * layer(after, after, k) for k in (3, 7, 11))
    return total


def encodec():
    """Défossez et al. 2022, 3.1: four gates of an LSTM in two layers, then S = 8, 5, 4, 2."""
    total = layer(128, 512, 7) + 2 * 4 * (2 * 512 * 512 + 2 * 512)
    for before, stride in ((512, 8), (256, 5), (128, 4), (64, 2)):
        after, half = before // 2, before // 4
        total += layer(before, after, 2 * stride)
        total += layer(after, half, 3) + layer(half, after, 1) + layer(after, after, 1)
    return total + layer(32, 1, 7)


def dac():
    """Kumar et al. 2023: Snake has one parameter a channel, a residual unit two convolutions."""
    total = layer(1024, 1536, 7) + 96 + layer(96, 1, 7)
    for before, stride in ((1536, 8), (768, 8), (384, 4), (192, 2)):
        after = before // 2
        total += before + layer(before, after, 2 * stride)
        total += 3 * (2 * after + layer(after, after, 7) + layer(after, after, 1))
    return total


# parameters, without the gains of weight normalisation
PARAMETERS = {
    # counted in test_unet.py
    "unet": 31_030_658,
    "unet3d": unet3d(),
    "dcgan": sum(
        layer(before, after, 16, bias=False)
        for before, after in ((100, 512), (512, 256), (256, 128), (128, 64), (64, 3))
    )
    + 2 * (512 + 256 + 128 + 64),
    "vae": layer(32, 1024, 1)
    + layer(1024, 128, 25)
    + layer(128, 64, 25)
    + layer(64, 32, 36)
    + layer(32, 3, 36),
    "fcn8s": layer(256, 21, 1)
    + layer(512, 21, 1)
    + layer(4096, 21, 1)
    + 2 * layer(21, 21, 16, bias=False)
    + layer(21, 21, 256, bias=False),
    "sam": layer(256, 64, 4) + 2 * 64 + layer(64, 32, 4),
    "pose": layer(2048, 256, 16, bias=False)
    + 2 * layer(256, 256, 16, bias=False)
    + 3 * 2 * 256
    + layer(256, 17, 1),
    "fsrcnn": layer(1, 56, 25)
    + layer(56, 12, 1)
    + 4 * layer(12, 12, 9)
    + layer(12, 56, 1)
    + layer(56, 1, 81)
    + (56 + 12 + 4 * 12 + 56),
    "hifigan": hifigan(512),
    "encodec": encodec(),
    "dac": dac(),
}
# channels in and out, kernel, stride, padding, output padding of the transposed layers, in order
TRANSPOSED = {
    "unet": [(c, c // 2, 2, 2, 0, 0) for c in (1024, 512, 256, 128)],
    "unet3d": [
        (320, 320, 2, 2, 0, 0),
        (320, 256, 2, 2, 0, 0),
        (256, 128, 2, 2, 0, 0),
        (128, 64, 2, 2, 0, 0),
        (64, 32, 2, 2, 0, 0),
    ],
    "dcgan": [
        (100, 512, 4, 1, 0, 0),
        (512, 256, 4, 2, 1, 0),
        (256, 128, 4, 2, 1, 0),
        (128, 64, 4, 2, 1, 0),
        (64, 3, 4, 2, 1, 0),
    ],
    "vae": [
        (1024, 128, 5, 2, 0, 0),
        (128, 64, 5, 2, 0, 0),
        (64, 32, 6, 2, 0, 0),
        (32, 3, 6, 2, 0, 0),
    ],
    "fcn8s": [(21, 21, 4, 2, 0, 0), (21, 21, 4, 2, 0, 0), (21, 21, 16, 8, 0, 0)],
    "sam": [(256, 64, 2, 2, 0, 0), (64, 32, 2, 2, 0, 0)],
    "pose": [(2048, 256, 4, 2, 1, 0), (256, 256, 4, 2, 1, 0), (256, 256, 4, 2, 1, 0)],
    "fsrcnn": [(56, 1, 9, 3, 4, 2)],
    "hifigan": [
        (512, 256, 16, 8, 4, 0),
        (256, 128, 16, 8, 4, 0),
        (128, 64, 4, 2, 1, 0),
        (64, 32, 4, 2, 1, 0),
    ],
    "encodec": [
        (512, 256, 16, 8, 0, 0),
        (256, 128, 10, 5, 0, 0),
        (128, 64, 8, 4, 0, 0),
        (64, 32, 4, 2, 0, 0),
    ],
    "dac": [
        (1536, 768, 16, 8, 4, 0),
        (768, 384, 16, 8, 4, 0),
        (384, 192, 8, 4, 2, 0),
        (192, 96, 4, 2, 1, 0),
    ],
}
OUTPUTS = {
    "unet": (1, 2, 512, 512),
    "unet3d": (1, 2, 128, 128, 128),
    "dcgan": (64, 3, 64, 64),
    "vae": (32, 3, 64, 64),
    "fcn8s": (1, 21, 500, 500),
    "sam": (1, 32, 256, 256),
    "pose": (8, 17, 64, 48),
    "fsrcnn": (1, 1, 255, 255),
    "hifigan": (1, 1, 25600),
    "encodec": (1, 1, 24000),
    "dac": (1, 1, 44032),
}
# what makes the network small enough to be run in a test, and shapes to run it on
SMALL = {
    "unet": ({"width": 2}, [(1, 1, 32, 48)]),
    "unet3d": ({"features": (2, 3, 4), "strides": (1, 2, 2)}, [(1, 1, 8, 16, 12)]),
    "dcgan": ({"width": 2}, [(3, 100, 1, 1)]),
    "vae": ({}, [(2, 32)]),
    "fcn8s": ({}, [(1, 3, 40, 50), (1, 256, 30, 31), (1, 512, 15, 16), (1, 4096, 2, 2)]),
    "sam": ({"channels": 16}, [(1, 16, 5, 7)]),
    "pose": ({"in_channels": 8}, [(2, 8, 4, 3)]),
    "fsrcnn": ({"scale": 4}, [(1, 1, 7, 9)]),
    "hifigan": ({"width": 32}, [(1, 80, 3)]),
    "encodec": ({"width": 2}, [(1, 128, 8)]),
    "dac": ({"latent": 4, "width": 32}, [(1, 4, 3)]),
}


@pytest.fixture(scope="module")
def networks():
    # without memory: as large as they are, and made at once
    with torch.device("meta"):
        return {name: build(name).eval() for name in ARCHITECTURES}


def test_every_architecture_is_tested():
    for table in (PARAMETERS, TRANSPOSED, OUTPUTS, SMALL):
        assert table.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters(networks, name):
    counted = {
        parameter: values.numel()
        for parameter, values in networks[name].named_parameters()
        # the gains that weight normalisation adds
        if not parameter.endswith("weight.original0")
    }
    assert sum(counted.values()) == PARAMETERS[name]


def test_published_parameters():
    # table 1 of arXiv 1608.00367 counts neither biases nor slopes
    fsrcnn = build("fsrcnn")
    assert sum(p.numel() for p in fsrcnn.parameters() if p.ndim == 4) == 12_464
    # table 1 of arXiv 2010.05646, in millions, cut to two digits: V1 and V2
    assert [hifigan(width) // 10_000 for width in (512, 128)] == [1392, 92]
    # arXiv 1803.10122 gives the whole autoencoder; its encoder is four convolutions of 4x4 taps and
    # two dense layers
    encoder = sum(layer(a, b, 16) for a, b in ((3, 32), (32, 64), (64, 128), (128, 256)))
    assert PARAMETERS["vae"] + encoder + 2 * layer(1024, 32, 1) == 4_348_547
    # table 1 of arXiv 1902.09212 gives 34.0 million with ResNet-50, whose trunk has 23 508 032
    assert round((PARAMETERS["pose"] + 23_508_032) / 1e6, 1) == 34.0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_transposed_layers(networks, name):
    kinds = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
    found = []
    for module in networks[name].modules():
        if isinstance(module, kinds):
            spatial = (module.kernel_size, module.stride, module.padding, module.output_padding)
            assert all(len(set(value)) == 1 for value in spatial)
            found.append(
                (module.in_channels, module.out_channels, *(value[0] for value in spatial))
            )
    assert found == TRANSPOSED[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_output_shape_for_the_example_input(networks, name):
    inputs = [torch.empty(shape, device="meta") for shape in ARCHITECTURES[name].input_shapes]
    assert networks[name](*inputs).shape == OUTPUTS[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_small_networks_compute_and_learn(name):
    torch.manual_seed(0)
    options, shapes = SMALL[name]
    net = build(name, **options)
    inputs = [torch.randn(shape) for shape in shapes]
    output = net(*inputs)
    assert output.isfinite().all()
    # a constant output would say nothing about the layers
    assert output.std() > 0
    output.square().mean().backward()
    for parameter in net.parameters():
        assert not parameter.requires_grad or parameter.grad.isfinite().all()


def test_weight_norm_has_one_gain_per_input_channel_of_a_transposed_layer(networks):
    gains = dict(networks["hifigan"].named_parameters())
    assert gains["up.0.parametrizations.weight.original0"].shape == (512, 1, 1)


def test_thick_slices():
    net = UNet3d(features=(2, 3, 4), strides=(1, (1, 2, 2), 2))
    assert [up.kernel_size for up in net.up] == [(2, 2, 2), (1, 2, 2)]
    assert net(torch.zeros(1, 1, 6, 8, 12)).shape == (1, 2, 6, 8, 12)


@pytest.mark.parametrize(
    ("rates", "frames", "samples"),
    [((8, 8, 4, 2), 5, 5 * 512), ((8, 5, 4, 2), 5, ((5 * 8) * 5 - 1) * 8)],
)
def test_an_odd_stride_costs_the_audio_codec_samples(rates, frames, samples):
    net = DACDecoder(latent=2, width=16, rates=rates)
    assert net(torch.zeros(1, 2, frames)).shape == (1, 1, samples)


def test_causal_decoder_does_not_look_ahead():
    torch.manual_seed(0)
    net = build("encodec", width=2).eval()
    code = torch.randn(1, 128, 12)
    changed = code.clone()
    changed[..., 9:] += 1
    before, after = net(code), net(changed)
    assert torch.equal(before[..., : 9 * 320], after[..., : 9 * 320])
    assert not torch.equal(before[..., 9 * 320 :], after[..., 9 * 320 :])


def test_the_maps_of_the_fully_convolutional_network_lie_on_each_other():
    """The offsets of the cuts, from the place in the image that a position of each map sees."""

    def through(scale, shift, kernel_size, stride, padding):
        # position o of the layer sees, in the middle, position o * stride + middle of its input
        return scale * stride, shift + scale * ((kernel_size - 1) / 2 - padding)

    # VGG-16 up to fc7: pairs or triples of 3x3, a pooling of 2 after each; the border is 100
    place, places = (1, 0.0), []
    for block, convolutions in enumerate((2, 2, 3, 3, 3)):
        for convolution in range(convolutions):
            place = through(*place, 3, 1, 1 if block or convolution else 100)
        place = through(*place, 2, 2, 0)
        places.append(place)
    pool3, pool4, fc7 = places[2], places[3], through(*places[4], 7, 1, 0)

    def up(scale, shift, kernel_size, stride):
        return scale / stride, shift - scale / stride * (kernel_size - 1) / 2

    def begins(small, large):
        """At which position of the larger map the smaller one begins."""
        assert small[0] == large[0]
        return (small[1] - large[1]) / small[0]

    fused4 = up(*fc7, 4, 2)
    assert begins(fused4, pool4) == POOL4_OFFSET
    fused3 = up(*fused4, 4, 2)
    assert begins(fused3, pool3) == POOL3_OFFSET
    assert begins((1, 0.0), up(*fused3, 16, 8)) == IMAGE_OFFSET


def test_bilinear_weights_interpolate_each_class_by_itself():
    net = build("fcn8s", classes=3)
    weight = net.up_pool3.weight.detach()
    kernel = bilinear_kernel(16)
    assert torch.equal(weight[1, 1], torch.outer(kernel, kernel))
    assert not weight[0, 1].any()
    assert not net.up_pool3.weight.requires_grad
    assert net.up_fc7.weight.requires_grad
    # away from the border a plane stays a plane, eight times as fine
    ramp = torch.arange(6.0).repeat(6, 1).expand(1, 3, 6, 6)
    middle = net.up_pool3(ramp)[0, 0, 16:40, 16:40]
    assert torch.allclose(middle.diff(dim=1), torch.tensor(1 / 8), atol=1e-6)
    assert bilinear_kernel(3).tolist() == [0.5, 1, 0.5]


def test_channel_norm_is_layer_norm_of_each_position():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 3, 5)
    y = ChannelNorm(8)(x)
    assert torch.allclose(y.mean(1), torch.zeros(2, 3, 5), atol=1e-6)
    assert torch.allclose(y.var(1, correction=0), torch.ones(2, 3, 5), atol=1e-3)


def test_snake():
    snake = Snake(2)
    with torch.no_grad():
        snake.a[:, 1] = 2
    x = torch.tensor([[[0.3], [0.3]]])
    expected = [0.3 + torch.sin(torch.tensor(a * 0.3)).item() ** 2 / a for a in (1, 2)]
    assert snake(x).flatten().tolist() == pytest.approx(expected)


def test_the_registry_needs_no_torch():
    program = (
        "import sys; from polyphase.models import ARCHITECTURES;"
        "print(len(ARCHITECTURES), 'torch' in sys.modules)"
    )
    shown = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == f"{len(ARCHITECTURES)} False\n"


def test_every_architecture_says_what_it_is():
    for name, architecture in ARCHITECTURES.items():
        assert architecture.name == name
        assert "arXiv" in architecture.source
        assert architecture.title
        assert all(prod(shape) > 0 for shape in architecture.input_shapes)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"one of unet, unet3d, .*, dac, got 'segnet'"):
        build("segnet")


def test_missing_torch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"building sam needs torch; install it with: pip"):
        models.build("sam")
