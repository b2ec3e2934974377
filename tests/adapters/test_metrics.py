"""Accumulators as torchmetrics' metrics, in MMEngine's Evaluator and as transformers' compute_metrics: the values are the same."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import lossfold as lf
from lossfold import metrics
from lossfold.adapters import as_torchmetrics, hf_metrics


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    found = []
    for _ in range(3):
        preds, labels = torch.randint(0, 3, (2, 6, 7)), torch.randint(0, 4, (2, 6, 7))
        found.append((preds, labels.masked_fill(labels == 3, 255)))
    return found


def whole(metric: metrics.Accumulator, given: Any) -> Any:
    for batch in given:
        metric.update(*batch)
    return metric.compute()


@pytest.mark.parametrize(
    "metric", [metrics.IoU(C=3, ignore=255), metrics.Accuracy(C=3, ignore=255), metrics.Confusion(C=3, ignore=255)]
)
def test_as_torchmetrics(metric: metrics.Accumulator) -> None:
    pytest.importorskip("torchmetrics")
    given = batches()
    theirs = metric.as_torchmetrics(sync_on_compute=False)
    for batch in given:
        theirs.update(*batch)
    truth = whole(copy.deepcopy(metric), given)
    torch.testing.assert_close(theirs.compute(), truth)
    first = theirs(*given[0])  # the batch's own value, and added to the rest
    torch.testing.assert_close(first, whole(copy.deepcopy(metric), given[:1]))
    theirs.reset()
    theirs.update(*given[1])
    torch.testing.assert_close(copy.deepcopy(theirs).compute(), whole(copy.deepcopy(metric), given[1:2]))
    assert not any(total.any() for total in metric.buffers())


def test_means_dicts_and_refusals() -> None:
    pytest.importorskip("torchmetrics")
    mean = metrics.IoU(C=4, empty="skip").as_torchmetrics(mean=True)
    mean.update(torch.zeros(1, 2, 2).long(), torch.zeros(1, 2, 2).long())
    assert mean.compute().item() == 100
    images = metrics.RestorationMetrics(("psnr",)).as_torchmetrics()
    images.update(torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.1))
    assert images.compute()["psnr"].item() == pytest.approx(20, abs=1e-4)
    with pytest.raises(lf.LossError, match="as_torchmetrics: metric"):
        as_torchmetrics(lf.DiceLoss())  # type: ignore[arg-type]


def test_hf_metrics() -> None:
    """Logits of half the labels' size, whole or batch by batch, as arrays and tensors."""
    logits, labels = torch.randn(4, 3, 4, 5), torch.randint(0, 3, (4, 8, 10))
    large = torch.nn.functional.interpolate(logits, (8, 10), mode="bilinear").argmax(1)
    truth = metrics.iou(large, labels, C=3)
    compute = hf_metrics(metrics.IoU(C=3))
    found = compute(SimpleNamespace(predictions=(logits.numpy(), np.zeros(1)), label_ids=labels.numpy()))
    assert found["mean_iou"] == pytest.approx(truth.mean().item()) and found["iou_2"] == pytest.approx(truth[2].item())
    assert compute((logits[:2], labels[:2]), compute_result=False) == {}
    assert compute((logits[2:], labels[2:]), compute_result=True) == pytest.approx(found)


def test_hf_metrics_of_volumes() -> None:
    logits, labels = torch.randn(1, 3, 2, 3, 4), torch.randint(0, 3, (1, 4, 6, 8))
    wide = torch.nn.functional.interpolate(logits, (4, 6, 8), mode="trilinear").argmax(1)
    truth = whole(metrics.IoU(C=3), [(wide, labels)])
    assert hf_metrics(metrics.IoU(C=3))((logits, labels))["mean_iou"] == pytest.approx(truth.mean().item())


def test_in_mmengine() -> None:
    pytest.importorskip("mmengine")
    from mmengine.evaluator import Evaluator
    from mmengine.structures import BaseDataElement, PixelData

    from lossfold.adapters.mmengine import LossfoldMetric

    given = batches()
    evaluator = Evaluator({"type": "LossfoldMetric", "metric": "IoU", "C": 3, "ignore": 255})
    for preds, labels in given:
        samples = [
            BaseDataElement(pred_sem_seg=PixelData(data=p[None]), gt_sem_seg=PixelData(data=y[None]))
            for p, y in zip(preds, labels, strict=True)
        ]
        evaluator.process(data_samples=samples, data_batch=None)
    truth = whole(metrics.IoU(C=3, ignore=255), given)
    assert evaluator.evaluate(6)["lossfold/mean_iou"] == pytest.approx(truth.mean().item())
    with pytest.raises(lf.LossError, match="did you mean 'IoU'"):
        LossfoldMetric("iou", C=3)


def test_lists_and_quotients() -> None:
    criterion = lf.LossSet([lf.CrossEntropyLoss(), lf.DiceLoss() / 2, lf.DiceLoss(loss_name="again")])
    assert criterion.names == ["cross_entropy_loss", "dice_loss", "again"]
    assert criterion["dice_loss"].loss_weight == 0.5 and repr(pickle.loads(pickle.dumps(criterion))) == repr(criterion)
    assert (criterion / 4).loss_weight == 0.25
    with pytest.raises(TypeError):
        lf.DiceLoss() / 0  # type: ignore[operator]
