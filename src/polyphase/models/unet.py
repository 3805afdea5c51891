"""The classic U-Net: Ronneberger, Fischer & Brox 2015, arXiv 1505.04597, figure 1."""

from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from polyphase.arithmetic.layers import Conv, ConvTranspose, Layer, Pool, SkipIn, SkipOut
from polyphase.arithmetic.network import Network

Join = Literal["plain", "crop", "output_size"]
POOLINGS = 4


class UNet(nn.Module):
    """U-Net with 23 convolutions, 31 030 658 parameters for one input channel and two classes.

    Takes ``(N, in_channels, H, W)`` with ``H`` and ``W`` at least 16 and returns
    ``(N, out_channels, H', W')``. As nearly everybody does, the 3x3 convolutions are padded by 1
    (the paper's are not padded), so only pooling and transposed convolution change the size.
    Pooling rounds down; ``join`` says what the decoder does about that when it meets the skip:

    - ``"plain"`` concatenates. Where the sizes differ, torch raises ``RuntimeError``.
    - ``"crop"`` cuts the skip to the decoder's size, as the paper does. The output comes out
      short: ``H'`` is ``H`` rounded down to a multiple of 16.
    - ``"output_size"`` has each transposed convolution produce the size of its skip, so that
      ``H' = H`` and ``W' = W`` for every input.

    Weights are drawn as in section 3 of the paper: standard deviation ``sqrt(2/N)`` for ``N``
    inputs of one neuron; biases are zero.

    >>> image = torch.zeros(1, 3, 37, 51)
    >>> for join in ("crop", "output_size"):
    ...     print(join, tuple(UNet(in_channels=3, width=4, join=join)(image).shape))
    crop (1, 2, 32, 48)
    output_size (1, 2, 37, 51)
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, width: int = 64, join: Join = "plain"
    ) -> None:
        super().__init__()
        if join not in get_args(Join):
            raise ValueError(f"join must be one of {', '.join(get_args(Join))}, got {join!r}")
        self.join = join
        channels = [width * 2**level for level in range(POOLINGS + 1)]
        self.encoder = nn.ModuleList(
            _two_convolutions(before, after) for before, after in pairwise([in_channels, *channels])
        )
        self.pool = nn.MaxPool2d(2)
        # "drop-out layers at the end of the contracting path", section 3.1
        self.dropout = nn.Dropout()
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, kernel_size=2, stride=2)
            for deep, shallow in pairwise(reversed(channels))
        )
        self.decoder = nn.ModuleList(
            _two_convolutions(2 * shallow, shallow) for shallow in reversed(channels[:-1])
        )
        self.head = nn.Conv2d(width, out_channels, kernel_size=1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``(N, out_channels, H', W')`` of the image ``x``."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)
            if level >= POOLINGS - 1:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            skip = skips.pop()
            size = skip.shape[2:] if self.join == "output_size" else None
            x = up(x, output_size=size)
            if self.join == "crop":
                skip = _centre(skip, x.shape[2], x.shape[3])
            x = block(torch.cat([skip, x], dim=1))
        scores: Tensor = self.head(x)
        return scores


def network() -> Network:
    """The sizes of :class:`UNet` as plain data; transposed layers bear the names they have there.

    >>> network().output_size((300, 451))
    (288, 448)
    """
    layers: list[Layer] = []
    for level in range(POOLINGS):
        layers += [*_two_windows(f"encoder.{level}"), SkipOut(f"level {level}")]
        layers.append(Pool(f"pool {level}", kernel_size=2))
    layers += _two_windows(f"encoder.{POOLINGS}")
    for step in range(POOLINGS):
        layers.append(ConvTranspose(f"up.{step}", kernel_size=2, stride=2))
        layers += [SkipIn(f"level {POOLINGS - 1 - step}"), *_two_windows(f"decoder.{step}")]
    return Network([*layers, Conv("head", kernel_size=1)])


def _two_windows(name: str) -> list[Layer]:
    return [Conv(f"{name}.{index}", kernel_size=3, padding=1) for index in (0, 2)]


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(after, after, kernel_size=3, padding=1),
        nn.ReLU(),
    )


def _centre(x: Tensor, height: int, width: int) -> Tensor:
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def _initialise(module: Any) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        inputs = module.weight[0].numel()
        if isinstance(module, nn.ConvTranspose2d):
            # kernel equals stride: one tap of every input channel reaches an output
            inputs = module.in_channels
        nn.init.normal_(module.weight, std=(2 / inputs) ** 0.5)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
