"""Losses of several candidate masks for each object, the best of which is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lossfold.compose.arguments import Handed
from lossfold.compose.loss_set import LossSet
from lossfold.errors import wrong
from lossfold.folds.collect import collect
from lossfold.folds.fold import describe
from lossfold.folds.looks import can_look, span
from lossfold.losses.base import Loss
from lossfold.losses.classes.focal import FocalLoss
from lossfold.losses.classes.overlap import DiceLoss
from lossfold.losses.masks.binary import BinaryCrossEntropyLoss
from lossfold.losses.reduce import Addends, Last
from lossfold.options import configured, option

QUALITIES = ("l1", "mse")
TERM_OF = {"ious": "iou", "objects": "objects"}
NAMES = ("logits", "masks", "ious", "objects", "normalizer")


@configured
class QualityLoss(Loss):
    """Errors of expected IoUs, Σ w e / max(normalizer, 1)."""

    quality: str = option("l1", words=QUALITIES)

    def addends(self, ious: Tensor, truth: Tensor, weight: Tensor, normalizer: Tensor) -> Addends:
        """Return what adds up over parts of a batch."""
        apart = ious.to(truth) - truth
        errors = apart.abs() if self.quality == "l1" else apart * apart
        return Addends(((errors * weight).sum(), normalizer), lambda above, below: Last(above, below.clamp_min(1)).value)

    def forward(self, ious: Tensor, truth: Tensor, weight: Tensor, normalizer: Tensor) -> Tensor:
        """Return the loss of ``[N, K]`` IoUs against the true ones, with weights of both."""
        return self.weigh(self.evaluate(ious, truth, weight, normalizer))


class MultimaskSet(LossSet):
    """See :func:`lossfold.presets.multimask_losses`."""

    def __init__(
        self,
        focal: float,
        dice: float,
        iou: float,
        objects: float,
        smooth: float,
        quality: str,
        every_quality: bool,
        options: Mapping[str, Any],
    ) -> None:
        self.every_quality, self.validate = every_quality, options.get("validate", False)
        masks: dict[str, Any] = {"link": "sigmoid", "per_image": True, **options}
        own = {"logits": "best", "labels": "masks", "weight": "weight", "normalizer": "normalizer"}
        areas: dict[str, Any] = {"smooth": smooth, "absent": "count", "soft_overlap": "product"}
        found: dict[str, Loss] = {}
        if focal:
            found["focal"] = FocalLoss(loss_weight=focal, alpha=0.25, inputs=own, **masks)
        if dice:
            found["dice"] = DiceLoss(loss_weight=dice, inputs=own, **areas, **masks)
        if iou:
            found["iou"] = QualityLoss(loss_weight=iou, quality=quality, inputs={"weight": "of_ious"})
        if objects:
            there = {"logits": "objects", "labels": "present", "weight": "nothing"}
            found["objects"] = BinaryCrossEntropyLoss(loss_weight=objects, per_image=True, inputs=there)
        super().__init__(found)

    def handed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Handed:
        """Return one dict: the best candidates, and what the others are held against."""
        given = dict(zip(NAMES, inputs, strict=False)) | named
        if len(inputs) > len(NAMES) or given.keys() - set(NAMES):
            raise wrong("arguments", f"({', '.join(NAMES)})", ", ".join([*given, *map(str, range(len(NAMES), len(inputs)))]))
        logits, masks = self.checked(given)
        present = masks.flatten(1).any(1)
        normalizer = given.get("normalizer")
        count = (
            logits.new_full((), len(logits) if normalizer is None else float(normalizer), dtype=torch.float32)
            if not isinstance(normalizer, Tensor)
            else normalizer.to(logits.device, torch.float32)
        )
        every = masks[:, None].expand(-1, logits.shape[1], *masks.shape[1:])
        best = self.best(logits.detach(), every)
        index = best.view(-1, 1, 1, 1)
        found: dict[str, Any] = {
            "best": logits.gather(1, index.expand(-1, 1, *logits.shape[2:])),
            "masks": masks[:, None],
            "weight": present[:, None, None].expand(masks.shape),
            "normalizer": count,
            "nothing": None,
        }
        if "iou" in self.names:
            hard = logits.detach() > 0
            both, either = ((hard & every).flatten(2).sum(2), (hard | every).flatten(2).sum(2))
            found["ious"], found["truth"] = given["ious"].view(both.shape), both / either.clamp_min(1)
            share = torch.zeros_like(found["truth"]).scatter(1, best[:, None], 1.0)
            share = torch.full_like(share, 1 / logits.shape[1]) if self.every_quality else share
            found["of_ious"] = share * present[:, None]
        if "objects" in self.names:
            found["objects"], found["present"] = given["objects"].view(-1, 1), present[:, None]
        return (found,), {}

    def best(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the candidate of the least loss of each object, ``[N]``."""
        if logits.shape[1] == 1:
            return torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        losses = [loss for _, loss, *_ in self.leaves() if isinstance(loss, (FocalLoss, DiceLoss))]
        with torch.no_grad():
            checked = [loss.check(logits, masks) for loss in losses]
            needs = losses[0].needs(checked[0])
            for loss, one in zip(losses[1:], checked[1:], strict=True):
                needs = needs.merge(loss.needs(one))  # type: ignore[arg-type]
            fold = collect(needs, checked[0])
            costs = [loss.loss_weight * loss.masks(fold) for loss in losses]
            return sum(costs[1:], costs[0]).argmin(1)

    def checked(self, given: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return logits and masks as booleans; refuse what does not fit them."""
        logits, masks = given.get("logits"), given.get("masks")
        if not isinstance(logits, Tensor) or logits.dim() != 4 or not logits.is_floating_point() or logits.shape[1] == 0:
            raise wrong("logits", "float [N, K, H, W], K candidates for each object", describe(logits))
        shape = (len(logits), *logits.shape[2:])
        if not isinstance(masks, Tensor) or tuple(masks.shape) not in (shape, (shape[0], 1, *shape[1:])):
            raise wrong("masks", f"of shape {list(shape)}, one for each object", describe(masks))
        for name, wanted in (("ious", tuple(logits.shape[:2])), ("objects", (len(logits),))):
            value = given.get(name)
            if TERM_OF[name] not in self.names:
                if value is not None:
                    raise wrong(name, "left out: its term has no weight", describe(value))
                continue
            if not isinstance(value, Tensor) or not value.is_floating_point() or tuple(value.shape) not in (wanted, (*wanted, 1)):
                raise wrong(name, f"float {list(wanted)}", describe(value))
        if masks.dtype != torch.bool and can_look(masks, bool(self.validate)) and not bool(((masks == 0) | (masks == 1)).all()):
            hint = "masks > 0 makes masks of files; there is no ignored label, and no part of an object"
            raise wrong("masks", "0 and 1, or bool", span(masks), hint)
        return logits, masks.reshape(shape) > 0
