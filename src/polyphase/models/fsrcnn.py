"""FSRCNN, fast super-resolution: Dong, Loy & Tang 2016, arXiv 1608.00367."""

from torch import Tensor, nn


class FSRCNN(nn.Module):
    """FSRCNN(56, 12, 4): works on the small picture, one transposed convolution enlarges it.

    Takes luminance ``(N, 1, H, W)`` and returns ``(N, 1, scale * H, scale * W)``. It has the 12 464
    weights of table 1 of the paper, which counts neither biases nor the slopes of the PReLUs.

    >>> import torch
    >>> tuple(FSRCNN(scale=3)(torch.zeros(1, 1, 5, 7)).shape)
    (1, 1, 15, 21)
    """

    def __init__(
        self, scale: int = 3, features: int = 56, shrunk: int = 12, mappings: int = 4
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(1, features, kernel_size=5),
            *_convolution(features, shrunk, kernel_size=1),
            *(
                layer
                for _ in range(mappings)
                for layer in _convolution(shrunk, shrunk, kernel_size=3)
            ),
            *_convolution(shrunk, features, kernel_size=1),
        )
        self.up = nn.ConvTranspose2d(
            features, 1, kernel_size=9, stride=scale, padding=4, output_padding=scale - 1
        )
        nn.init.normal_(self.up.weight, std=0.001)

    def forward(self, luminance: Tensor) -> Tensor:
        """The enlarged luminance."""
        enlarged: Tensor = self.up(self.layers(luminance))
        return enlarged


def _convolution(before: int, after: int, kernel_size: int) -> tuple[nn.Module, nn.Module]:
    layer = nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2)
    slopes = nn.PReLU(after)
    nn.init.kaiming_normal_(layer.weight, a=0.25)
    return layer, slopes
