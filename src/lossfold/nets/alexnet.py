"""AlexNet's and SqueezeNet's convolutions, by torchvision's names, with the features that LPIPS reads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lossfold.nets.vgg import IMAGENET
from lossfold.nets.weights import fill, from_torchvision, initialize, read

SOURCES = "the path of a state dict with torchvision's names, 'torchvision' (downloads through torchvision) or 'random'"


class Fire(nn.Module):
    """SqueezeNet's block: few channels, then as many of 1x1 as of 3x3 convolutions beside each other."""

    def __init__(self, inputs: int, squeezed: int, each: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, each, 1)
        self.expand3x3 = nn.Conv2d(squeezed, each, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return both kinds of channels."""
        few = self.squeeze(images).relu()
        return torch.cat([self.expand1x1(few).relu(), self.expand3x3(few).relu()], 1)


def alexnet() -> tuple[list[nn.Module], tuple[int, ...]]:
    """Return the layers of AlexNet's ``features``, and which of them are read."""
    made: list[nn.Module] = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    made += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for inputs, outputs in ((192, 384), (384, 256), (256, 256)):
        made += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return made, (1, 4, 7, 9, 11)


def squeezenet() -> tuple[list[nn.Module], tuple[int, ...]]:
    """Return the layers of SqueezeNet 1.1's ``features``, and which of them are read."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    made: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()]
    made += [Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256)]
    return [*made, Fire(512, 64, 256)], (1, 4, 7, 9, 10, 11, 12)


NETWORKS = {"alexnet": alexnet, "squeezenet1_1": squeezenet}
SMALLEST = {"alexnet": 31, "squeezenet1_1": 17}
"""The smallest side of which every feature has a pixel."""


class Convolutions(nn.Module):
    """The features of one of NETWORKS, of images in [0, 1].

    Reference:
        Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014; Iandola et al., SqueezeNet, 2016.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        layers, self.read = NETWORKS[name]()
        self.smallest = SMALLEST[name]
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(IMAGENET.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET.std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of images ``[B, 3, H, W]``, by the number of their layer."""
        images = (images - self.get_buffer("mean")) / self.get_buffer("std")
        found = {}
        for place, layer in enumerate(self.features):
            images = layer(images)
            if place in self.read:
                found[f"features.{place}"] = images
        return found


def load(name: str, pretrained: str) -> Convolutions:
    """Return one of NETWORKS with weights.

    Args:
        name: which.
        pretrained: a path, "torchvision" or "torchvision://" with the name, "random".
    """
    network = Convolutions(name)
    if pretrained == "random":
        initialize(network)
        return network
    known = pretrained == "torchvision" or pretrained.startswith("torchvision://")
    state: Mapping[str, Tensor] = from_torchvision(name, pretrained, "net") if known else read(pretrained)
    fill(network, state, pretrained, unused=("classifier.",))
    return network
