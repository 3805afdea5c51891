"""Layers of real models on which polyphase is measured: the public suite.

Each row is one transposed convolution as its model runs it. Per-axis values are tuples; a single
int serves every axis. ``src/polyphase/tools/bench/suite.txt`` holds the same layers as problem
lines, so that an installed polyphase knows them; a test keeps the two equal.
"""

from typing import NamedTuple


class Layer(NamedTuple):
    """One transposed convolution."""

    name: str
    batch: int
    in_channels: int
    input_size: tuple[int, ...]
    out_channels: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...]
    padding: int | tuple[int, ...] = 0
    output_padding: int | tuple[int, ...] = 0
    groups: int = 1
    dilation: int | tuple[int, ...] = 1

    def per_axis(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        """The value of every axis."""
        return value if isinstance(value, tuple) else (value,) * len(self.input_size)


LAYERS = [
    # generators and decoders
    Layer("dcgan-1", 64, 100, (1, 1), 512, 4, 1, 0),
    Layer("dcgan-2", 64, 512, (4, 4), 256, 4, 2, 1),
    Layer("dcgan-3", 64, 256, (8, 8), 128, 4, 2, 1),
    Layer("dcgan-4", 64, 128, (16, 16), 64, 4, 2, 1),
    Layer("dcgan-5", 64, 64, (32, 32), 3, 4, 2, 1),
    Layer("vae-1", 32, 256, (8, 8), 128, 3, 2, 1, 1),
    Layer("vae-2", 32, 64, (32, 32), 32, 3, 2, 1, 1),
    Layer("stylegan2-up", 1, 512, (32, 32), 256, 3, 2, 0),
    Layer("cyclegan-up", 1, 256, (64, 64), 128, 3, 2, 1, 1),
    # segmentation
    Layer("unet-1", 1, 1024, (28, 28), 512, 2, 2),
    Layer("unet-2", 1, 512, (56, 56), 256, 2, 2),
    Layer("unet-3", 1, 256, (112, 112), 128, 2, 2),
    Layer("unet-4", 1, 128, (224, 224), 64, 2, 2),
    Layer("sam-1", 1, 256, (64, 64), 64, 2, 2),
    Layer("sam-2", 1, 64, (128, 128), 32, 2, 2),
    Layer("fcn8s", 1, 21, (64, 64), 21, 16, 8, 4),
    Layer("fcn32s", 1, 21, (16, 16), 21, 64, 32, 16),
    Layer("nnunet3d-1", 1, 128, (24, 24, 24), 64, 2, 2),
    Layer("nnunet3d-2", 1, 64, (48, 48, 48), 32, 2, 2),
    Layer("volume-k4s2", 1, 64, (16, 16, 16), 32, 4, 2, 1),
    # keypoints, detection, flow
    Layer("pose-1", 8, 2048, (8, 6), 256, 4, 2, 1),
    Layer("pose-3", 8, 256, (32, 24), 256, 4, 2, 1),
    Layer("bilinear-dw", 1, 64, (64, 64), 64, 4, 2, 1, 0, 64),
    # super-resolution
    Layer("fsrcnn-x3", 1, 56, (85, 85), 1, 9, 3, 4, 2),
    # audio
    Layer("hifigan-1", 1, 512, (100,), 256, 16, 8, 4),
    Layer("hifigan-2", 1, 256, (800,), 128, 16, 8, 4),
    Layer("hifigan-3", 1, 128, (6400,), 64, 4, 2, 1),
    Layer("hifigan-4", 1, 64, (12800,), 32, 4, 2, 1),
    Layer("encodec-1", 1, 512, (75,), 256, 16, 8),
    Layer("istft-1024", 1, 1026, (224,), 1, 1024, 256),
    Layer("waveglow", 1, 80, (63,), 80, 1024, 256),
    # the documents that started the project
    Layer("seed-encoder-decoder", 1, 16, (6, 6), 16, 3, 2, 1, 1),
    Layer("seed-reference-square", 20, 16, (50, 100), 33, 3, 2),
    Layer("seed-reference-oblong", 20, 16, (50, 100), 33, (3, 5), (2, 1), (4, 2)),
    # stride 1 and dilation
    Layer("dilated-k3d2", 1, 64, (64, 64), 64, 3, 1, 2, 0, 1, 2),
    Layer("plain-k3s1", 1, 64, (64, 64), 64, 3, 1, 1),
]
