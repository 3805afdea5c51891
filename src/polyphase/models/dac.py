"""Decoder of the Descript Audio Codec: Kumar et al. 2023, arXiv 2306.06546.

Sizes are those of the released models: 44.1 kHz by default, 24 and 16 kHz with other rates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class DACDecoder(nn.Module):
    """A code becomes sound at 44.1 kHz, 512 samples a frame.

    Takes ``(N, latent, frames)`` and returns ``(N, 1, samples)`` from -1 to 1. Each transposed
    convolution has a kernel of two strides and the padding ``ceil(stride / 2)``, so an even stride
    gives ``n * stride`` positions, and the 5 of ``rates=(8, 5, 4, 2)`` gives ``5 * n - 1``.

    >>> tuple(DACDecoder(latent=8, width=32)(torch.zeros(1, 8, 3)).shape)
    (1, 1, 1536)
    >>> tuple(DACDecoder(latent=8, width=32, rates=(8, 5, 4, 2))(torch.zeros(1, 8, 3)).shape)
    (1, 1, 952)
    """

    def __init__(
        self, latent: int = 1024, width: int = 1536, rates: Sequence[int] = (8, 8, 4, 2)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(latent, width, kernel_size=7)]
        for rate in rates:
            up = nn.ConvTranspose1d(
                width, width // 2, 2 * rate, stride=rate, padding=(rate + 1) // 2
            )
            layers += [Snake(width), weight_norm(up)]
            width //= 2
            layers += [ResidualUnit(width, dilation) for dilation in (1, 3, 9)]
        layers += [Snake(width), _convolution(width, 1, kernel_size=7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, code: Tensor) -> Tensor:
        """Sound ``(N, 1, samples)``."""
        sound: Tensor = self.layers(code)
        return sound


class Snake(nn.Module):
    """``x + sin(a x)**2 / a`` with one learned ``a`` a channel: Liu et al. 2020, arXiv 2006.08195.

    >>> Snake(1)(torch.tensor([[[0.0, torch.pi / 2]]])).flatten()
    tensor([0.0000, 2.5708], grad_fn=...)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as ``x``."""
        # a learned `a` may come to 0
        return x + (self.a * x).sin().square() / (self.a + 1e-9)


class ResidualUnit(nn.Module):
    """A dilated convolution of 7 and one of 1, with a shortcut.

    >>> tuple(ResidualUnit(2, dilation=9)(torch.zeros(1, 2, 5)).shape)
    (1, 2, 5)
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(channels),
            _convolution(channels, channels, kernel_size=7, dilation=dilation),
            Snake(channels),
            _convolution(channels, channels, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as ``x``."""
        y: Tensor = x + self.block(x)
        return y


def _convolution(before: int, after: int, kernel_size: int, dilation: int = 1) -> nn.Module:
    padding = dilation * (kernel_size - 1) // 2
    layer = nn.Conv1d(before, after, kernel_size, padding=padding, dilation=dilation)
    normed: nn.Module = weight_norm(layer)
    return normed
