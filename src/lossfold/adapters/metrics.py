"""Accumulators of `lossfold.metrics` as what trainers log: torchmetrics' metrics, transformers' ``compute_metrics``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lossfold.metrics.accumulators import Accumulator
from lossfold.metrics.trackers import as_torchmetrics as as_torchmetrics
from lossfold.metrics.trackers import checked_accumulator as checked_accumulator


def named_values(name: str, value: Tensor | Mapping[str, Tensor]) -> dict[str, float]:
    """Return a metric's result as numbers by name: of a value for each class their mean, and each where it is one."""
    if isinstance(value, Mapping):
        return {f"{name}_{key}": float(one) for key, one in value.items()}
    if value.dim() == 0:
        return {name: float(value)}
    known = value[~value.isnan()]
    mean = float(known.double().mean()) if known.numel() else float("nan")
    return {f"mean_{name}": mean, **{f"{name}_{index}": float(one) for index, one in enumerate(value) if not one.isnan()}}


def hf_metrics(metric: Accumulator, name: str = "") -> Callable[..., dict[str, float]]:
    """Return what ``Trainer(compute_metrics=...)`` takes, for logits ``[B, C, h, w]`` and labels ``[B, H, W]``.

    Logits of another size than the labels are interpolated to it (bilinear), and the largest wins. Trainer keeps all logits of an
    evaluation unless ``batch_eval_metrics=True``, which this takes, too: batches are added up, and the last gives the result.

    Args:
        metric: an accumulator, as ``lossfold.metrics.IoU(C=19, ignore=255)``.
        name: what the values are called; by default after the metric: ``mean_iou``, ``iou_0``, ...

    Raises:
        LossError: for what is no accumulator.

    Example:
        >>> from lossfold import metrics
        >>> compute = hf_metrics(metrics.IoU(C=3, ignore=255))
        >>> sorted(compute((torch.randn(2, 3, 4, 4), torch.zeros(2, 8, 8).long())))[-1]
        'mean_iou'
    """
    score = checked_accumulator("hf_metrics", metric)
    title = name or type(metric).__name__.lower()

    def compute(prediction: Any, compute_result: bool = True) -> dict[str, float]:
        given = (prediction.predictions, prediction.label_ids) if hasattr(prediction, "predictions") else prediction
        logits, labels = (torch.as_tensor(one[0] if isinstance(one, tuple) else one) for one in given)
        if logits.shape[2:] != labels.shape[1:]:
            mode = {3: "linear", 5: "trilinear"}.get(logits.dim(), "bilinear")
            logits = interpolate(logits.float(), tuple(labels.shape[1:]), mode=mode, align_corners=False)
        score.update(logits.argmax(1), labels)
        if not compute_result:
            return {}
        values = named_values(title, score.compute())
        score.reset()
        return values

    return compute
