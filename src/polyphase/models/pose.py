"""Head of the simple baseline for pose estimation: Xiao, Wu & Wei 2018, arXiv 1804.06208."""

from torch import Tensor, nn

WIDTH = 256
JOINTS = 17


class PoseHead(nn.Module):
    """Three transposed convolutions and a 1x1 convolution: one heat map a joint.

    Takes the last map ``(N, in_channels, H, W)`` of a ResNet and returns ``(N, 17, 8 H, 8 W)``,
    one map for each joint of COCO. For ResNet-50 the head has 10 491 665 parameters, the whole
    network 34.0 million.

    >>> import torch
    >>> tuple(PoseHead(in_channels=8)(torch.zeros(1, 8, 8, 6)).shape)
    (1, 17, 64, 48)
    """

    def __init__(self, in_channels: int = 2048) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (in_channels, WIDTH, WIDTH):
            up = nn.ConvTranspose2d(before, WIDTH, 4, stride=2, padding=1, bias=False)
            nn.init.normal_(up.weight, std=0.001)
            layers += [up, nn.BatchNorm2d(WIDTH), nn.ReLU()]
        self.up = nn.Sequential(*layers)
        self.joints = nn.Conv2d(WIDTH, JOINTS, kernel_size=1)
        nn.init.normal_(self.joints.weight, std=0.001)

    def forward(self, features: Tensor) -> Tensor:
        """Heat maps ``(N, 17, 8 H, 8 W)``."""
        maps: Tensor = self.joints(self.up(features))
        return maps
