"""Decoder of EnCodec at 24 kHz: Défossez et al. 2022, arXiv 2210.13438, section 3.1.

The second kernel of a residual unit, its shortcut and the borders are those of the released model.
"""

from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import weight_norm

RATES = (8, 5, 4, 2)


class EnCodecDecoder(nn.Module):
    """A code of 75 frames a second becomes sound at 24 kHz, and no output depends on later frames.

    Takes ``(N, 128, frames)`` with at least 7 frames and returns ``(N, 1, 320 * frames)``. Every
    transposed convolution makes ``(n + 1) * stride`` samples, of which the last ``stride`` are cut
    off. All convolutions are weight-normalised.

    >>> import torch
    >>> tuple(EnCodecDecoder(width=2)(torch.zeros(1, 128, 7)).shape)
    (1, 1, 2240)
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        channels = width * 2 ** len(RATES)
        self.first = CausalConv(128, channels, kernel_size=7)
        self.lstm = nn.LSTM(channels, channels, num_layers=2, batch_first=True)
        layers: list[nn.Module] = []
        for rate in RATES:
            layers += [
                nn.ELU(),
                CausalUp(channels, channels // 2, rate),
                ResidualUnit(channels // 2),
            ]
            channels //= 2
        self.layers = nn.Sequential(*layers, nn.ELU(), CausalConv(channels, 1, kernel_size=7))

    def forward(self, code: Tensor) -> Tensor:
        """Sound ``(N, 1, 320 * frames)``."""
        x = self.first(code)
        remembered, _ = self.lstm(x.transpose(1, 2))
        sound: Tensor = self.layers(x + remembered.transpose(1, 2))
        return sound


class CausalConv(nn.Module):
    """A convolution of stride 1 whose input is reflected before its beginning, never after its end.

    >>> import torch
    >>> tuple(CausalConv(1, 2, kernel_size=7)(torch.zeros(1, 1, 9)).shape)
    (1, 2, 9)
    """

    def __init__(self, before: int, after: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = weight_norm(nn.Conv1d(before, after, kernel_size))
        self.reflected = kernel_size - 1

    def forward(self, x: Tensor) -> Tensor:
        """As many positions as ``x``."""
        y: Tensor = self.conv(pad(x, (self.reflected, 0), mode="reflect"))
        return y


class CausalUp(nn.Module):
    """A transposed convolution with a kernel of two strides, cut at the end to ``n * stride``.

    >>> import torch
    >>> tuple(CausalUp(2, 1, stride=5)(torch.zeros(1, 2, 9)).shape)
    (1, 1, 45)
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.up = weight_norm(nn.ConvTranspose1d(before, after, 2 * stride, stride))
        self.cut = stride

    def forward(self, x: Tensor) -> Tensor:
        """``stride`` times as many positions as ``x``."""
        y: Tensor = self.up(x)[..., : -self.cut]
        return y


class ResidualUnit(nn.Module):
    """Two convolutions, of 3 and of 1, through half the channels, beside a 1x1 shortcut.

    >>> import torch
    >>> tuple(ResidualUnit(4)(torch.zeros(1, 4, 9)).shape)
    (1, 4, 9)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ELU(),
            CausalConv(channels, channels // 2, kernel_size=3),
            nn.ELU(),
            CausalConv(channels // 2, channels, kernel_size=1),
        )
        self.shortcut = CausalConv(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as ``x``."""
        y: Tensor = self.shortcut(x) + self.block(x)
        return y
