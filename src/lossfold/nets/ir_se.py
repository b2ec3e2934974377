"""IR-SE50, the network of faces' identities, by the names of the published ``model_ir_se50.pth``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

UNITS = ((64, 3), (128, 4), (256, 14), (512, 3))


class SqueezeExcite(nn.Module):
    """Channels weighted by what they are on the whole (Hu et al., Squeeze-and-Excitation Networks, CVPR 2018)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the weighted features."""
        whole = features.mean((2, 3), keepdim=True)
        return features * torch.sigmoid(self.fc2(torch.relu(self.fc1(whole))))


class Unit(nn.Module):
    """A residual unit of improved layout: BN, convolution, PReLU, convolution, BN, squeeze and excite."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            SqueezeExcite(outputs),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the features after the unit."""
        result: Tensor = self.res_layer(features) + self.shortcut_layer(features)
        return result


class IRSE50(nn.Module):
    """Identity features of faces: unit vectors ``[B, 512]`` of images ``[B, 3, 112, 112]`` in [-1, 1].

    Reference:
        Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        self.body = nn.Sequential(*self._units())
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(0.6), nn.Flatten(), nn.Linear(512 * 7 * 7, 512), nn.BatchNorm1d(512)
        )

    @staticmethod
    def _units() -> Iterator[Unit]:
        before = 64
        for width, count in UNITS:
            for number in range(count):
                yield Unit(before, width, stride=2 if number == 0 else 1)
                before = width

    def forward(self, images: Tensor) -> Tensor:
        """Return the identity features."""
        return nn.functional.normalize(self.output_layer(self.body(self.input_layer(images))))
