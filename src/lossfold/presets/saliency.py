"""Sets of losses of papers that look for the one object of an image, ready to call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from lossfold.compose.arguments import Handed
from lossfold.compose.loss_set import LossSet
from lossfold.errors import LossError, wrong
from lossfold.folds.fold import describe
from lossfold.losses.classes.overlap import JaccardLoss
from lossfold.losses.images.pixel import L1Loss
from lossfold.losses.images.ssim import SSIMLoss
from lossfold.losses.masks.binary import BinaryCrossEntropyLoss
from lossfold.options import Number
from lossfold.registry import preset

WEIGHT = Number(at_least=0)
NAMES = ("heads", "target", "weight")


class SaliencySet(LossSet):
    """A set that is called with a list of heads of any size, which it interpolates to the size of the target.

    Args:
        terms: losses by name, which find their arguments in one dict.
        count: how many heads there are.
        alphas: whether the terms read the heads' sigmoids, too.
    """

    def __init__(self, terms: Mapping[str, nn.Module], count: int, alphas: bool) -> None:
        super().__init__(terms)
        self.count, self.alphas = count, alphas

    def handed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Handed:
        """Return one dict, in which each term finds its head."""
        given = dict(zip(NAMES, inputs, strict=False)) | named
        if len(inputs) > len(NAMES) or given.keys() - set(NAMES):
            raise wrong("arguments", f"({', '.join(NAMES)})", ", ".join([*given, *map(str, range(len(NAMES), len(inputs)))]))
        heads, target = given.get("heads"), given.get("target")
        if not isinstance(target, Tensor) or target.dim() != 4 or target.shape[1] != 1:
            raise wrong("target", "one map for each image, [B, 1, H, W]", describe(target))
        if not isinstance(heads, (list, tuple)) or len(heads) != self.count:
            came = f"{len(heads)} of them" if isinstance(heads, (list, tuple)) else describe(heads)
            raise wrong("heads", f"a list of {self.count} heads' logits, as heads= says", came)
        for head in heads:
            if not isinstance(head, Tensor) or head.dim() != 4 or head.shape[:2] != target.shape[:2]:
                raise wrong("heads", f"tensors [{len(target)}, 1, h, w]", describe(head))
        size = target.shape[2:]
        whole = [
            head if head.shape[2:] == size else functional.interpolate(head, size, mode="bilinear", align_corners=True)
            for head in heads
        ]
        alphas = [head.sigmoid() for head in whole] if self.alphas else []
        return ({"heads": whole, "alphas": alphas, "target": target, "weight": given.get("weight")},), {}


@preset(heads=Number(at_least=1, whole=True), bce=WEIGHT, iou=WEIGHT, ssim=WEIGHT, mae=WEIGHT)
def birefnet(heads: int = 1, *, bce: float = 30.0, iou: float = 0.5, ssim: float = 10.0, mae: float = 0.0) -> LossSet:
    """Return BiRefNet's objective of the maps at all its scales: cross entropy, IoU and SSIM of each, added up.

    The result is called ``(heads, target, weight=None)``: a list of logits ``[B, 1, h, w]`` of any sizes, and the true maps
    ``[B, 1, H, W]`` with values in [0, 1]. Each head is interpolated to H x W (bilinearly, with aligned corners). The terms are
    ``bce0``, ``iou0``, ``ssim0``, ``bce1``, ...; a weight of 0 leaves a term out.

    Args:
        heads: how many there are.
        bce: the weight of the cross entropy, the mean over all pixels.
        iou: the weight of 1 − Σpt / (Σp + Σt − Σpt), the *sum* over the images, as the authors' code has it; divide it by the batch
            size for a mean.
        ssim: the weight of (1 − SSIM) / 2, with zeros around the images.
        mae: the weight of the mean absolute error of the sigmoids.

    The defaults are those for dichotomous segmentation (DIS5K), camouflaged and salient objects; the authors' code has ``mae=100``
    for general use, and ``mae=100, iou=0`` for matting. Its cross entropy of edges and its classes are no part of this.

    Raises:
        LossError: for options out of range, if every weight is 0, and at the call for another number of heads.

    Example:
        >>> out = birefnet(2)([torch.randn(1, 1, 16, 16), torch.randn(1, 1, 32, 32)], torch.rand(1, 1, 32, 32))
        >>> list(out.terms)
        ['bce0', 'iou0', 'ssim0', 'bce1', 'iou1', 'ssim1']

    Reference:
        Zheng et al., Bilateral Reference for High-Resolution Dichotomous Image Segmentation, CAAI AIR 2024.
    """
    if not any((bce, iou, ssim, mae)):
        raise LossError("birefnet", "bce, iou, ssim, mae", "one of them at least other than 0", "0")
    terms: dict[str, nn.Module] = {}
    for i in range(heads):
        scores = {"logits": f"heads.{i}", "labels": "target", "weight": "weight"}
        images = {"pred": f"heads.{i}", "target": "target", "weight": "weight"}
        if bce:
            terms[f"bce{i}"] = BinaryCrossEntropyLoss(loss_weight=bce, inputs=scores)
        if iou:
            terms[f"iou{i}"] = JaccardLoss(
                loss_weight=iou,
                link="sigmoid",
                smooth=0.0,
                absent="count",
                soft_overlap="product",
                per_image=True,
                reduction="sum",
                inputs=scores,
            )
        if ssim:
            terms[f"ssim{i}"] = SSIMLoss(loss_weight=ssim / 2, padding="zeros", link="sigmoid", inputs=images)
        if mae:
            terms[f"mae{i}"] = L1Loss(loss_weight=mae, inputs={**images, "pred": f"alphas.{i}"})
    return SaliencySet(terms, heads, mae != 0)
