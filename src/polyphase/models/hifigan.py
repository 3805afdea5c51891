"""HiFi-GAN generator V1: Kong, Kim & Bae 2020, arXiv 2010.05646, appendix A."""

from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import weight_norm

RATES = (8, 8, 2, 2)
KERNEL_SIZES = (16, 16, 4, 4)
SLOPE = 0.1


class HiFiGANGenerator(nn.Module):
    """A mel spectrogram becomes sound, 256 samples a frame, 13.92 million parameters.

    Takes ``(N, 80, frames)`` and returns ``(N, 1, 256 * frames)`` from -1 to 1. A ``width`` of 128
    gives V2. All layers are weight-normalised, as in training; the published count is without the
    gains. A transposed layer has one gain per *input* channel, as in the published checkpoints.

    >>> import torch
    >>> tuple(HiFiGANGenerator(width=16)(torch.zeros(1, 80, 5)).shape)
    (1, 1, 1280)
    """

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv1d(80, width, kernel_size=7, padding=3))
        self.up = nn.ModuleList()
        self.fusion = nn.ModuleList()
        for rate, kernel_size in zip(RATES, KERNEL_SIZES, strict=True):
            padding = (kernel_size - rate) // 2
            up = nn.ConvTranspose1d(width, width // 2, kernel_size, rate, padding)
            self.up.append(_normed(up))
            width //= 2
            self.fusion.append(nn.ModuleList(ResidualBlock(width, k) for k in (3, 7, 11)))
        self.last = _normed(nn.Conv1d(width, 1, kernel_size=7, padding=3))

    def forward(self, mel: Tensor) -> Tensor:
        """Sound ``(N, 1, 256 * frames)``."""
        x = self.first(mel)
        for up, blocks in zip(self.up, self.fusion, strict=True):
            x = up(leaky_relu(x, SLOPE))
            assert isinstance(blocks, nn.ModuleList)
            x = sum(block(x) for block in blocks) / len(blocks)
        # the released code uses the default slope here
        sound: Tensor = self.last(leaky_relu(x)).tanh()
        return sound


class ResidualBlock(nn.Module):
    """Three pairs of convolutions, dilated by 1, 3 and 5 and then by 1, each with a shortcut.

    >>> import torch
    >>> tuple(ResidualBlock(4, kernel_size=3)(torch.zeros(1, 4, 9)).shape)
    (1, 4, 9)
    """

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.pairs = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(SLOPE),
                _convolution(width, kernel_size, dilation),
                nn.LeakyReLU(SLOPE),
                _convolution(width, kernel_size, 1),
            )
            for dilation in (1, 3, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``x`` and what the pairs add to it, of the same shape."""
        for pair in self.pairs:
            x = x + pair(x)
        return x


def _convolution(width: int, kernel_size: int, dilation: int) -> nn.Module:
    padding = dilation * (kernel_size - 1) // 2
    return _normed(nn.Conv1d(width, width, kernel_size, padding=padding, dilation=dilation))


def _normed(layer: nn.Conv1d | nn.ConvTranspose1d) -> nn.Module:
    nn.init.normal_(layer.weight, std=0.01)
    normed: nn.Module = weight_norm(layer)
    return normed
