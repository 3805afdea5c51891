"""Decoder of the variational autoencoder of World Models: Ha & Schmidhuber 2018, arXiv 1803.10122.

DreamerV2 (arXiv 2010.02193) uses the same transposed layers.
"""

from torch import Tensor, nn


class VAEDecoder(nn.Module):
    """A code of 32 numbers becomes a frame of 64 x 64, as in appendix A.1 of the paper.

    Takes ``(N, 32)`` and returns ``(N, 3, 64, 64)`` from 0 to 1. No layer is padded: 1, 5, 13, 30,
    64 are the sizes; kernels of 5 with stride 2 overlap unevenly.

    >>> import torch
    >>> tuple(VAEDecoder()(torch.zeros(2, 32)).shape)
    (2, 3, 64, 64)
    """

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(32, 1024)
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(1024, 128, kernel_size=5, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, kernel_size=5, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, kernel_size=6, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, kernel_size=6, stride=2),
            nn.Sigmoid(),
        )

    def forward(self, code: Tensor) -> Tensor:
        """Frames ``(N, 3, 64, 64)``."""
        frames: Tensor = self.layers(self.dense(code)[:, :, None, None])
        return frames
