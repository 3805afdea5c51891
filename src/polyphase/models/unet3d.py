"""3-D U-Net as nnU-Net plans it: Isensee et al. 2021, Nature Methods 18, arXiv 1904.08128.

The form goes back to Çiçek et al. 2016, arXiv 1606.06650.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

Stride = int | tuple[int, int, int]


class UNet3d(nn.Module):
    """The 3-D network of nnU-Net at full resolution; ``features`` and ``strides`` are per stage.

    Takes ``(N, in_channels, D, H, W)`` and returns ``(N, out_channels, D, H, W)``. Each size must
    be a multiple of the product of the strides, or a skip does not fit and torch raises
    ``RuntimeError``. The defaults are the plan for patches of 128 x 128 x 128: 32 features that
    double up to 320, five strided convolutions, two convolutions a stage, transposed convolutions
    whose kernel is their stride. A data set with thick slices has strides such as ``(1, 2, 2)``.

    Deep supervision, the further outputs that help training, is left out.

    >>> net = UNet3d(features=(4, 8, 12), strides=(1, (1, 2, 2), 2))
    >>> tuple(net(torch.zeros(1, 1, 4, 8, 8)).shape)
    (1, 2, 4, 8, 8)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (32, 64, 128, 256, 320, 320),
        strides: Sequence[Stride] = (1, 2, 2, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            nn.Sequential(_convolution(before, after, stride), _convolution(after, after))
            for (before, after), stride in zip(
                pairwise([in_channels, *features]), strides, strict=True
            )
        )
        levels = list(zip(pairwise(features), strides[1:], strict=True))[::-1]
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(deep, shallow, kernel_size=stride, stride=stride)
            for (shallow, deep), stride in levels
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(_convolution(2 * shallow, shallow), _convolution(shallow, shallow))
            for (shallow, _), _ in levels
        )
        self.head = nn.Conv3d(features[0], out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``(N, out_channels, D, H, W)`` of the volume ``x``."""
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(torch.cat([up(x), skips.pop()], dim=1))
        scores: Tensor = self.head(x)
        return scores


def _convolution(before: int, after: int, stride: Stride = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(before, after, kernel_size=3, stride=stride, padding=1),
        nn.InstanceNorm3d(after, affine=True),
        nn.LeakyReLU(0.01),
    )
