"""The default network: a small U-Net that takes images of any size and trains on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers)


class SmallUNet(nn.Module):
    """A U-Net of a few levels: convolutions down, bilinear upsampling and skip connections up.

    Args:
        classes: number of classes scored at every pixel.
        width: channels of the first level; each level below has twice as many.
        levels: number of resolutions.
        stem_stride: stride of the first convolution. 2 costs a quarter of the time, and the scores are then
            upsampled to the image's size.
        in_channels: channels of the image.

    Example:
        >>> SmallUNet(classes=4, width=8)(torch.zeros(1, 3, 50, 70)).shape
        torch.Size([1, 4, 50, 70])
    """

    def __init__(self, classes: int = 2, width: int = 24, levels: int = 4, stem_stride: int = 1, in_channels: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.stem = nn.Conv2d(in_channels, width, 5, stem_stride, padding=2)
        self.down = nn.ModuleList(_block(widths[max(level - 1, 0)], widths[level]) for level in range(levels))
        self.up = nn.ModuleList(_block(widths[level] + widths[level + 1], widths[level]) for level in reversed(range(levels - 1)))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Score images `[B,3,H,W]`; returns logits `[B,classes,H,W]`."""
        features = self.stem(images)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            features = block(functional.max_pool2d(features, 2, ceil_mode=True) if level else features)
            skips.append(features)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            features = functional.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            features = block(torch.cat([features, skip], dim=1))
        logits: Tensor = self.head(features)
        if logits.shape[-2:] != images.shape[-2:]:
            logits = functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits
