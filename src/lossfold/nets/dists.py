"""The network of DISTS: VGG16 whose pooling has no aliasing, and the weights of its channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossfold.errors import wrong
from lossfold.folds.arithmetic import exactly, wide
from lossfold.nets.lpips import LAYERS, shipped
from lossfold.nets.vgg import VGG, WIDTHS, Layer, load
from lossfold.nets.weights import read

CHANNELS = (3, *WIDTHS)
"""Of the image itself, and of each feature."""


class RootMeanSquarePool(nn.Module):
    """Half the size, by the root of the squares' mean under [1 2 1]ᵀ[1 2 1] / 16."""

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", (taps[:, None] * taps)[None, None], persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the pooled features; the root's slope at 0 is finite."""
        with exactly(features):  # squares of halves overflow, and float16 has no 1e-12
            high = wide(features)
            kernel = self.get_buffer("kernel").to(high.dtype).expand(high.shape[1], 1, 3, 3)
            squares = functional.conv2d(high.square(), kernel, stride=2, padding=1, groups=high.shape[1])
            return (squares + 1e-12).sqrt().to(features.dtype)


class DISTSNet(VGG):
    """VGG16's features, pooled without aliasing, and the image itself.

    Reference:
        Ding et al., Image Quality Assessment: Unifying Structure and Texture Similarity, IEEE TPAMI 2022.
    """

    def _module(self, index: int, layer: Layer) -> nn.Module:
        return RootMeanSquarePool() if layer.name.startswith("pool") else super()._module(index, layer)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of images ``[B, 3, H, W]`` in [0, 1], by name."""
        return {"image": images, **super().forward(images)}


def network(pretrained: str) -> DISTSNet:
    """Return the network with weights; see :func:`lossfold.nets.vgg.load`."""
    made = load("vgg16", LAYERS, True, pretrained, DISTSNet)
    assert isinstance(made, DISTSNet)
    made.smallest = 1
    return made


def channel_weights(source: str) -> nn.ParameterList:
    """Return the weights of means and of structures, ``[2, C]`` for the image and for each feature, which sum to 1.

    Args:
        source: the path of a state dict with ``alpha`` and ``beta`` ``[1, C, 1, 1]``, or "torchmetrics" for what that ships.
    """
    if source == "torchmetrics":
        path = shipped("torchmetrics", "functional/image/dists_models/weights.pt")
        if path is None:
            hint = "pip install torchmetrics, or weights=None for equal ones"
            raise wrong("weights", "'torchmetrics' only where that package is installed", "no package torchmetrics", hint)
        source = path
    state = read(source, "weights")
    wanted = [1, sum(CHANNELS), 1, 1]
    for name in ("alpha", "beta"):
        if name not in state or list(state[name].shape) != wanted:
            got = f"{source!r} with {list(state[name].shape)}" if name in state else f"{source!r} without {name!r}"
            raise wrong("weights", f"weights of DISTS, {name!r} {wanted}", got)
    both = torch.stack([state[name].flatten().float() for name in ("alpha", "beta")])
    return nn.ParameterList([nn.Parameter(part.contiguous()) for part in torch.split(both / both.sum(), list(CHANNELS), 1)])
