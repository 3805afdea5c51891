"""The U-Net: the paper's layers, and what each way of joining makes of awkward sizes."""

import pytest
import torch

from polyphase.models.unet import UNet, _centre, network

# figure 1 of arXiv 1505.04597, from left to right: kernel size, channels in, channels out
FIGURE_1 = [
    (3, 1, 64),
    (3, 64, 64),
    (3, 64, 128),
    (3, 128, 128),
    (3, 128, 256),
    (3, 256, 256),
    (3, 256, 512),
    (3, 512, 512),
    (3, 512, 1024),
    (3, 1024, 1024),
    (2, 1024, 512),
    (3, 1024, 512),
    (3, 512, 512),
    (2, 512, 256),
    (3, 512, 256),
    (3, 256, 256),
    (2, 256, 128),
    (3, 256, 128),
    (3, 128, 128),
    (2, 128, 64),
    (3, 128, 64),
    (3, 64, 64),
    (1, 64, 2),
]
# multiples of 16, one off either way, odd all the way down, and photographs
SIZES = [(16, 16), (17, 31), (32, 33), (37, 51), (47, 79), (64, 96), (100, 75), (111, 127)]


def tiny(join):
    return UNet(in_channels=1, out_channels=1, width=2, join=join).eval()


def output_sizes(net, size):
    """What the net and each of its transposed layers produce."""
    seen = {}
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.ConvTranspose2d):
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: seen.update({name: output.shape[2:]})
            )
    with torch.inference_mode():
        whole = net(torch.zeros(1, 1, *size))
    return tuple(whole.shape[2:]), {name: tuple(shape) for name, shape in seen.items()}


def test_parameters_are_those_of_the_paper():
    expected = sum((size**2 * before + 1) * after for size, before, after in FIGURE_1)
    assert len(FIGURE_1) == 23
    assert sum(p.numel() for p in UNet().parameters()) == expected == 31_030_658


def test_weights_keep_the_scale_that_the_paper_asks_for():
    torch.manual_seed(0)
    net = UNet(width=32)
    assert net.encoder[2][2].weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert net.up[0].weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert not net.up[0].bias.any()


@pytest.mark.parametrize("size", SIZES)
def test_cropped_skips_lose_what_does_not_fill_sixteen(size):
    assert output_sizes(tiny("crop"), size)[0] == tuple(n // 16 * 16 for n in size)


@pytest.mark.parametrize("size", SIZES)
def test_mended_output_has_the_size_of_the_input(size):
    assert output_sizes(tiny("output_size"), size)[0] == size


@pytest.mark.parametrize("size", SIZES)
def test_plain_join_works_for_multiples_of_sixteen_only(size):
    net = tiny("plain")
    if any(n % 16 for n in size):
        with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
            output_sizes(net, size)
    else:
        assert output_sizes(net, size)[0] == size


@pytest.mark.parametrize("size", SIZES)
def test_the_plain_data_describe_the_network(size):
    report = network().report(size)
    cropped, layers = output_sizes(tiny("crop"), size)
    assert report.output_size == cropped
    assert layers == {
        row.layer.name: row.after for row in report.rows if row.layer.kind == "conv_transpose"
    }
    _, mended = output_sizes(tiny("output_size"), size)
    proposed = report.output_paddings.layers if report.output_paddings else ()
    assert mended == ({layer.name: layer.output_size for layer in proposed} if proposed else layers)


def test_joins_agree_where_nothing_has_to_be_mended():
    image = torch.rand(1, 1, 32, 48)
    outputs = []
    for join in ("plain", "crop", "output_size"):
        torch.manual_seed(0)
        outputs.append(tiny(join)(image))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_cropping_takes_the_middle_of_the_skip():
    skip = torch.arange(5 * 7).reshape(1, 1, 5, 7)
    assert _centre(skip, 3, 4).tolist() == skip[:, :, 1:4, 1:5].tolist()


def test_unknown_join():
    with pytest.raises(ValueError, match=r"one of plain, crop, output_size, got 'pad'"):
        UNet(join="pad")
