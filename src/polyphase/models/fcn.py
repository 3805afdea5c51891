"""FCN-8s: Long, Shelhamer & Darrell 2015, arXiv 1411.4038; what follows VGG-16."""

import torch
from torch import Tensor, nn

# where a map of the right size begins in a larger one. VGG-16 is given its image with a border of
# 100, and no layer of the head is padded, so that every map that comes back is too large
POOL4_OFFSET = 5
POOL3_OFFSET = 9
IMAGE_OFFSET = 31


class FCN8sHead(nn.Module):
    """Scores three maps of VGG-16, upsamples and adds them, 190 239 parameters for 21 classes.

    Takes the image ``(N, 3, H, W)``, of which only the size counts, and what VGG-16 makes of it
    behind a border of 100: ``pool3`` with 256 channels, ``pool4`` with 512 and ``fc7`` with 4096.
    Returns ``(N, classes, H, W)``.

    The transposed convolutions start as bilinear interpolation of every class by itself; the last
    one stays so, the others are learned. The scoring layers, which the paper starts at zero, start
    as torch's layers do.

    >>> net = FCN8sHead()
    >>> image, pool3 = torch.zeros(1, 3, 40, 50), torch.zeros(1, 256, 30, 31)
    >>> pool4, fc7 = torch.zeros(1, 512, 15, 16), torch.zeros(1, 4096, 2, 2)
    >>> tuple(net(image, pool3, pool4, fc7).shape)
    (1, 21, 40, 50)
    """

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        self.score_pool3 = nn.Conv2d(256, classes, kernel_size=1)
        self.score_pool4 = nn.Conv2d(512, classes, kernel_size=1)
        self.score_fc7 = nn.Conv2d(4096, classes, kernel_size=1)
        self.up_fc7 = _bilinear(classes, kernel_size=4, stride=2)
        self.up_pool4 = _bilinear(classes, kernel_size=4, stride=2)
        self.up_pool3 = _bilinear(classes, kernel_size=16, stride=8)
        self.up_pool3.requires_grad_(False)

    def forward(self, image: Tensor, pool3: Tensor, pool4: Tensor, fc7: Tensor) -> Tensor:
        """Scores ``(N, classes, H, W)`` of the image."""
        x = self.up_fc7(self.score_fc7(fc7))
        x = self.up_pool4(x + _cut(self.score_pool4(pool4), POOL4_OFFSET, x))
        x = self.up_pool3(x + _cut(self.score_pool3(pool3), POOL3_OFFSET, x))
        return _cut(x, IMAGE_OFFSET, image)


def bilinear_kernel(kernel_size: int) -> Tensor:
    """Weights ``(kernel_size,)`` of linear interpolation by ``ceil(kernel_size / 2)``.

    >>> bilinear_kernel(4)
    tensor([0.2500, 0.7500, 0.7500, 0.2500])
    """
    factor = (kernel_size + 1) // 2
    return 1 - (torch.arange(kernel_size) - (kernel_size - 1) / 2).abs() / factor


def _bilinear(classes: int, kernel_size: int, stride: int) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(classes, classes, kernel_size, stride, bias=False)
    kernel = bilinear_kernel(kernel_size)
    with torch.no_grad():
        layer.weight.zero_()
        for channel in range(classes):
            layer.weight[channel, channel] = kernel[:, None] * kernel
    return layer


def _cut(x: Tensor, offset: int, like: Tensor) -> Tensor:
    height, width = like.shape[2:]
    return x[:, :, offset : offset + height, offset : offset + width]
