"""The convolutions of LightCNN on colour images, by the names of MMagic's ``light_cnn_feature.pth``."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaxFeature(nn.Module):
    """A convolution to twice the channels, of whose halves the larger value is taken."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(inputs, 2 * outputs, size, padding=size // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Return the larger halves."""
        return torch.maximum(*self.filter(features).chunk(2, dim=1))


class LightCNN(nn.Module):
    """Features ``[B, 128, H/16, W/16]`` of faces ``[B, 3, H, W]`` (published for 128x128).

    Reference:
        Wu et al., A Light CNN for Deep Face Representation with Noisy Labels, IEEE TIFS 2018 (there on grey images).
    """

    def __init__(self) -> None:
        super().__init__()

        def pool() -> nn.Module:
            return nn.MaxPool2d(2, 2, ceil_mode=True)

        self.features = nn.Sequential(
            *(MaxFeature(3, 48, 5), pool()),
            *(MaxFeature(48, 48, 1), MaxFeature(48, 96, 3), pool()),
            *(MaxFeature(96, 96, 1), MaxFeature(96, 192, 3), pool()),
            *(MaxFeature(192, 192, 1), MaxFeature(192, 128, 3)),
            *(MaxFeature(128, 128, 1), MaxFeature(128, 128, 3), pool()),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        result: Tensor = self.features(images)
        return result
