"""DCGAN generator: Radford, Metz & Chintala 2016, arXiv 1511.06434.

The layers are those of PyTorch's DCGAN example, in which the paper's 5x5 kernels are 4x4 and the
widest layer has 512 channels instead of 1024.
"""

from torch import Tensor, nn


class DCGANGenerator(nn.Module):
    """Five transposed convolutions from a code to a picture of 64 x 64, 3 576 704 parameters.

    Takes ``(N, 100, 1, 1)`` and returns ``(N, 3, 64, 64)`` from -1 to 1. Weights are normal with
    deviation 0.02, as in the paper.

    >>> import torch
    >>> tuple(DCGANGenerator(width=4)(torch.zeros(2, 100, 1, 1)).shape)
    (2, 3, 64, 64)
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [8 * width, 4 * width, 2 * width, width]
        layers: list[nn.Module] = []
        before = 100
        for after in widths:
            # the first layer turns one position into 4x4, each further one doubles
            stride, padding = (1, 0) if not layers else (2, 1)
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            before = after
        layers += [nn.ConvTranspose2d(before, 3, 4, 2, 1, bias=False), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, code: Tensor) -> Tensor:
        """Pictures ``(N, 3, 64, 64)``."""
        pictures: Tensor = self.layers(code)
        return pictures


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.ConvTranspose2d):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1, std=0.02)
