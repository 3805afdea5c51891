"""Mask upscaler of Segment Anything: Kirillov et al. 2023, arXiv 2304.02643, section A."""

from torch import Tensor, nn


class SAMUpscaler(nn.Module):
    """The image embedding, four times as large for the masks, 73 952 parameters.

    Takes ``(N, channels, H, W)`` and returns ``(N, channels / 8, 4 H, 4 W)``.

    >>> import torch
    >>> tuple(SAMUpscaler()(torch.zeros(1, 256, 6, 7)).shape)
    (1, 32, 24, 28)
    """

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 4, kernel_size=2, stride=2),
            ChannelNorm(channels // 4),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 4, channels // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """The upscaled embedding, whose product with a mask token is a mask."""
        upscaled: Tensor = self.layers(embedding)
        return upscaled


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every position of ``(N, C, H, W)``.

    >>> import torch
    >>> ChannelNorm(2)(torch.tensor([[[[1.0]], [[3.0]]]])).flatten()
    tensor([-1.0000,  1.0000], grad_fn=...)
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with mean 0 and variance 1 over the channels, scaled and shifted."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
