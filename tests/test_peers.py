"""The libraries people use now, where they are right; and where one is wrong, what it does instead.

The second kind are assertions as well: should a peer be repaired, its test here fails and the note goes.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import lossfold as lf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    monai = pytest.importorskip("monai.losses")
    smp = pytest.importorskip("segmentation_models_pytorch.losses")
    kornia = pytest.importorskip("kornia.losses")
    torchvision = pytest.importorskip("torchvision.ops")
    segmentation = pytest.importorskip("torchmetrics.functional.segmentation")
    classification = pytest.importorskip("torchmetrics.functional.classification")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
CLASSES = 4


def data(ignore_index: int | None = None) -> tuple[Tensor, Tensor]:
    """Two images in which every class occurs."""
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(2, CLASSES, 8, 9, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (2, 8, 9), generator=generator)
    if ignore_index is not None:
        labels[torch.rand(labels.shape, generator=generator) < 0.2] = ignore_index
    return logits, labels


def one_hot(labels: Tensor) -> Tensor:
    """Float64: what MONAI makes of labels is float32, and some of its sums with it."""
    return functional.one_hot(labels, CLASSES).movedim(-1, 1).double()


def same(ours: nn.Module, theirs: Any, logits: Tensor, labels: Tensor, tolerance: float = 1e-9, scale: float = 1.0) -> None:
    """Values and gradients; `theirs` is a function of the logits."""
    leaf = logits.clone().requires_grad_()
    result = ours(leaf, labels)
    (gradient,) = torch.autograd.grad(result, leaf)
    twin = logits.clone().requires_grad_()
    expected = theirs(twin)
    (slope,) = torch.autograd.grad(expected, twin)
    torch.testing.assert_close(result, scale * expected.to(result), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient, scale * slope, rtol=tolerance, atol=tolerance)
    assert gradient.abs().max() > 1e-5


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("batch", [True, False])
class TestMonai:
    """MONAI has no ignore label for Dice, no pixel weights, and counts absent classes."""

    def options(self, background: bool, batch: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        theirs = {"softmax": True, "include_background": background, "batch": batch}
        return theirs, {"include_background": background, "per_image": not batch, "absent": "count"}

    def test_dice(self, background: bool, batch: bool) -> None:
        theirs, ours = self.options(background, batch)
        logits, labels = data()
        for squared in (False, True):
            peer = monai.DiceLoss(**theirs, smooth_nr=1.0, smooth_dr=1.0, squared_pred=squared)
            loss = lf.DiceLoss(**ours, smooth=1.0, squared=squared)
            same(loss, lambda x, peer=peer: peer(x, one_hot(labels)), logits, labels)

    def test_jaccard(self, background: bool, batch: bool) -> None:
        """Its Jaccard doubles numerator and denominator before smoothing: our s is twice that."""
        theirs, ours = self.options(background, batch)
        logits, labels = data()
        peer = monai.DiceLoss(**theirs, jaccard=True, smooth_nr=2.0, smooth_dr=2.0)
        same(lf.JaccardLoss(**ours, smooth=1.0), lambda x: peer(x, one_hot(labels)), logits, labels)

    def test_tversky(self, background: bool, batch: bool) -> None:
        theirs, ours = self.options(background, batch)
        logits, labels = data()
        peer = monai.TverskyLoss(**theirs, alpha=0.3, beta=0.7, smooth_nr=1.0, smooth_dr=1.0)
        loss = lf.TverskyLoss(**ours, alpha=0.3, beta=0.7, smooth=1.0)
        same(loss, lambda x: peer(x, one_hot(labels)), logits, labels)

    @pytest.mark.parametrize("weighting", ["square", "simple", "uniform"])
    def test_generalized_dice(self, background: bool, batch: bool, weighting: str) -> None:
        """Its factors are float32 whatever the input."""
        theirs, ours = self.options(background, batch)
        logits, labels = data()
        peer = monai.GeneralizedDiceLoss(**theirs, w_type=weighting, smooth_nr=0.0, smooth_dr=0.0)
        loss = lf.GeneralizedDiceLoss(**ours, weighting=weighting)
        same(loss, lambda x: peer(x, one_hot(labels)), logits, labels, 1e-6)

    def test_absent_classes_are_counted(self, background: bool, batch: bool) -> None:
        theirs, ours = self.options(background, batch)
        logits, labels = data()
        labels[labels == 2] = 1
        peer = monai.DiceLoss(**theirs, smooth_nr=1.0, smooth_dr=1.0)
        same(lf.DiceLoss(**ours), lambda x: peer(x, one_hot(labels)), logits, labels)


def test_monai_focal_is_the_mean_over_classes_too() -> None:
    """WRONG in MONAI: the mean runs over the zeros of the one-hot, so that C classes divide the loss by C.

    It computes in float32 whatever it is given.
    """
    logits, labels = data()
    peer = monai.FocalLoss(use_softmax=True, gamma=2.0)
    same(lf.FocalLoss(gamma=2.0), lambda x: peer(x, one_hot(labels)), logits, labels, 1e-6, scale=CLASSES)
    alpha = torch.tensor([0.75, 0.25, 0.25, 0.25], dtype=torch.float64)
    peer = monai.FocalLoss(use_softmax=True, gamma=2.0, alpha=alpha)
    loss = lf.FocalLoss(gamma=2.0, alpha=[0.75, 0.25, 0.25, 0.25])
    same(loss, lambda x: peer(x, one_hot(labels)), logits, labels, 1e-6, scale=CLASSES)


def test_monai_dice_ce() -> None:
    logits, labels = data()
    peer = monai.DiceCELoss(softmax=True, batch=True, smooth_nr=1.0, smooth_dr=1.0, lambda_dice=0.7, lambda_ce=1.3)
    loss = lf.LossSet(ce=1.3 * lf.CrossEntropyLoss(), dice=0.7 * lf.DiceLoss())
    preset = lf.CEDiceLoss(ce_weight=1.3, dice_weight=0.7)
    leaf = logits.clone().requires_grad_()
    expected = peer(leaf, one_hot(labels))
    torch.testing.assert_close(loss(logits, labels).total, expected.detach())
    torch.testing.assert_close(preset(logits, labels).total, expected.detach())


def test_smp_dice() -> None:
    """An absent class costs 0 and is counted: absent="zero". Its Dice is a Tversky score: twice its s is ours."""
    for ignore_index in (None, 255):
        for log in (False, True):
            logits, labels = data(ignore_index)
            if not log:
                labels[labels == 2] = 1
            peer = smp.DiceLoss("multiclass", smooth=0.5, log_loss=log, ignore_index=ignore_index)
            loss = lf.DiceLoss(absent="zero", log=log, ignore_index=255)
            same(loss, lambda x, peer=peer, labels=labels: peer(x, labels), logits, labels)


def test_smp_jaccard_and_tversky() -> None:
    logits, labels = data()
    peer = smp.JaccardLoss("multiclass", smooth=1.0)
    same(lf.JaccardLoss(absent="zero"), lambda x: peer(x, labels), logits, labels)
    peer = smp.TverskyLoss("multiclass", alpha=0.3, beta=0.7, smooth=1.0)
    same(lf.TverskyLoss(alpha=0.3, beta=0.7, absent="zero"), lambda x: peer(x, labels), logits, labels)


def test_smp_focal_tversky_raises_the_mean() -> None:
    """WRONG in smp: the exponent is of the mean over classes, not of each class (Abraham and Khan, ISBI 2019)."""
    logits, labels = data()
    peer = smp.TverskyLoss("multiclass", alpha=0.3, beta=0.7, gamma=0.75, smooth=1.0)(logits, labels)
    mean = lf.TverskyLoss(alpha=0.3, beta=0.7)(logits, labels)
    torch.testing.assert_close(peer, mean**0.75)
    classes = lf.TverskyLoss(alpha=0.3, beta=0.7, reduction="none")(logits, labels)
    ours = lf.TverskyLoss(alpha=0.3, beta=0.7, exponent=0.75)(logits, labels)
    torch.testing.assert_close(ours, (classes**0.75).mean())
    assert not torch.isclose(ours, peer, rtol=1e-6, atol=0)


def test_smp_focal_is_one_sigmoid_for_each_class() -> None:
    """WRONG as multi-class focal loss in smp: no softmax; at gamma 0 it is not the cross entropy."""
    logits, labels = data()
    peer = smp.FocalLoss("multiclass", gamma=0.0)(logits, labels)
    each = functional.binary_cross_entropy_with_logits(logits, functional.one_hot(labels, CLASSES).movedim(-1, 1).double())
    torch.testing.assert_close(peer, each)
    assert not torch.isclose(peer, functional.cross_entropy(logits, labels))
    torch.testing.assert_close(lf.FocalLoss(gamma=0.0)(logits, labels), functional.cross_entropy(logits, labels))


def test_smp_soft_cross_entropy_counts_ignored_pixels() -> None:
    """WRONG in smp: its mean divides by ignored pixels too; the sum is right."""
    logits, labels = data(255)
    peer = smp.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=255)(logits, labels)
    counted = (labels != 255).double().mean()
    truth = functional.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(peer, truth * counted)
    torch.testing.assert_close(lf.CrossEntropyLoss(ignore_index=255)(logits, labels), truth)


def test_kornia_dice() -> None:
    """No smoothing in its numerator; per image; micro by default."""
    logits, labels = data()
    ours = lf.DiceLoss(average="micro", smooth=0.0, per_image=True)
    same(ours, lambda x: kornia.dice_loss(x, labels, average="micro", eps=1e-12), logits, labels)
    ours = lf.DiceLoss(smooth=0.0, per_image=True)
    same(ours, lambda x: kornia.dice_loss(x, labels, average="macro", eps=1e-12), logits, labels)


def test_kornia_tversky() -> None:
    for ignore_index in (None, 255):
        logits, labels = data(ignore_index)
        ours = lf.TverskyLoss(alpha=0.3, beta=0.7, smooth=0.0, per_image=True, ignore_index=255)
        same(
            ours,
            lambda x, labels=labels, ignore=ignore_index: kornia.tversky_loss(
                x, labels, alpha=0.3, beta=0.7, eps=1e-12, ignore_index=-100 if ignore is None else ignore
            ),
            logits,
            labels,
        )


def test_kornia_focal_is_the_mean_over_classes_and_ignored_pixels_too() -> None:
    """WRONG in kornia: the mean runs over [B, C, H, W], so that C classes and ignored pixels divide the loss."""
    logits, labels = data()
    ours = lf.FocalLoss(gamma=1.5, alpha=[0.75, 0.25, 0.25, 0.25])
    same(
        ours,
        lambda x: kornia.focal_loss(x, labels, alpha=0.25, gamma=1.5, reduction="mean"),
        logits,
        labels,
        scale=CLASSES,
    )
    ignored = data(255)[1]
    counted = (ignored != 255).double().mean().item()
    same(
        lf.FocalLoss(gamma=1.5, ignore_index=255),
        lambda x: kornia.focal_loss(x, ignored, alpha=None, gamma=1.5, reduction="mean", ignore_index=255),
        logits,
        ignored,
        scale=CLASSES / counted,
    )


@pytest.mark.parametrize("ignore_index", [None, 255])
@pytest.mark.parametrize("per_image", [False, True])
def test_smp_lovasz(ignore_index: int | None, per_image: bool) -> None:
    """It takes float32 alone, and the differences of a cumulative sum in it."""
    logits, labels = data(ignore_index)
    labels[labels == 2] = 1  # not present: neither counts it
    peer = smp.LovaszLoss("multiclass", per_image=per_image, ignore_index=ignore_index)
    options: dict[str, Any] = {"per_image": per_image, "ignore_index": 255}
    same(lf.LovaszLoss(exact=True, **options), lambda x: peer(x.float(), labels), logits, labels, 2e-6)
    ours = lf.LovaszLoss(**options)(logits, labels)
    torch.testing.assert_close(ours.float(), peer(logits.float(), labels), rtol=0, atol=1 / 4096)


def test_kornia_lovasz_is_per_image_over_all_classes() -> None:
    """It differs from the others: images apart, absent classes counted (at their largest probability), no ignore label.

    So it is right under the options below (0.9; older releases took the label's number for the foreground), and gives other
    values than "present" over the batch.
    """
    logits, labels = data()
    labels[0][labels[0] == 2] = 1
    same(lf.LovaszLoss(classes="all", per_image=True, exact=True), lambda x: kornia.lovasz_softmax_loss(x, labels), logits, labels)
    ours = lf.LovaszLoss(classes="all", per_image=True)(logits, labels)
    torch.testing.assert_close(ours, kornia.lovasz_softmax_loss(logits, labels), rtol=0, atol=1 / 4096)
    assert not torch.isclose(lf.LovaszLoss()(logits, labels), ours, rtol=1e-2, atol=0)


def test_toolbelt_lovasz_takes_probabilities() -> None:
    """Its argument is called `logits`, and no softmax is applied to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        toolbelt = pytest.importorskip("pytorch_toolbelt.losses")
    for ignore_index in (None, 255):
        logits, labels = data(ignore_index)
        peer = toolbelt.LovaszLoss(ignore=ignore_index)
        ours = lf.LovaszLoss(exact=True, ignore_index=255)
        same(ours, lambda x, peer=peer, y=labels: peer(x.softmax(1).float(), y), logits, labels, 2e-6)
        ours = lf.LovaszLoss(exact=True, ignore_index=255, link="identity")
        same(ours, lambda p, peer=peer, y=labels: peer(p.float(), y), logits.softmax(1), labels, 2e-6)


def test_torchvision_focal() -> None:
    """Two classes with scores 0 and z are one sigmoid."""
    generator = torch.Generator().manual_seed(2)
    z = 3 * torch.randn(2, 50, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, (2, 50), generator=generator)
    logits = torch.stack([torch.zeros_like(z), z], 1)
    for gamma in (0.0, 2.0, 3.5):
        expected = torchvision.sigmoid_focal_loss(z, labels.double(), alpha=0.25, gamma=gamma, reduction="mean")
        ours = lf.FocalLoss(gamma=gamma, alpha=[0.75, 0.25])(logits, labels)
        torch.testing.assert_close(ours, expected)


def test_torchvision_focal_has_a_nan_gradient_at_saturation() -> None:
    """WRONG in torchvision: gamma below 1 with p = 1 gives a NaN gradient; ours is finite."""
    z = torch.tensor([100.0], dtype=torch.float64, requires_grad=True)
    torchvision.sigmoid_focal_loss(z, torch.ones(1).double(), gamma=0.5, reduction="sum").backward()
    assert z.grad is not None and z.grad.isnan().all()
    logits = torch.tensor([[[0.0], [100.0]]], dtype=torch.float64, requires_grad=True)
    lf.FocalLoss(gamma=0.5)(logits, torch.tensor([[1]])).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def hard(seed: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted labels, the same as one-hot probabilities, and true labels."""
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randint(0, CLASSES, (2, 12, 10), generator=generator)
    labels = torch.randint(0, CLASSES, (2, 12, 10), generator=generator)
    return predicted, functional.one_hot(predicted, CLASSES).movedim(-1, 1).double(), labels


def test_torchmetrics_scores_of_hard_predictions() -> None:
    predicted, scores, labels = hard()
    options: dict[str, Any] = {"link": "identity", "smooth": 0.0}
    iou = classification.multiclass_jaccard_index(predicted, labels, CLASSES, average="none")
    ours = lf.JaccardLoss(**options, reduction="none")(scores, labels)
    torch.testing.assert_close(1 - ours, iou.double(), rtol=1e-6, atol=1e-6)
    dice = segmentation.dice_score(predicted, labels, CLASSES, average="macro", input_format="index")
    images = [1 - lf.DiceLoss(**options)(scores[i : i + 1], labels[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(torch.stack(images), dice.double().flatten(), rtol=1e-6, atol=1e-6)
    ignored = labels.masked_fill(labels == 1, 255)
    iou = classification.multiclass_jaccard_index(predicted, ignored, CLASSES, average="none", ignore_index=255)
    ours = lf.JaccardLoss(**options, reduction="none", ignore_index=255)(scores, ignored)
    present = torch.tensor([True, False, True, True])
    torch.testing.assert_close((1 - ours)[present], iou.double()[present], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("weighting", "theirs"), [("square", "square"), ("simple", "simple"), ("uniform", "linear")])
def test_torchmetrics_generalized_dice(weighting: str, theirs: str) -> None:
    predicted, scores, labels = hard()
    score = segmentation.generalized_dice_score(predicted, labels, CLASSES, weight_type=theirs, input_format="index")
    loss = lf.GeneralizedDiceLoss(weighting=weighting, link="identity", per_image=True, reduction="none")
    torch.testing.assert_close(1 - loss(scores, labels), score.double().flatten(), rtol=1e-6, atol=1e-6)


def test_scikit_learn_log_loss_and_jaccard() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = data()
    rows = torch.softmax(logits, 1).movedim(1, -1).reshape(-1, CLASSES)
    flat = labels.flatten()
    weight = torch.rand(labels.shape, dtype=torch.float64)
    expected = metrics.log_loss(flat, rows, sample_weight=weight.flatten())
    assert float(lf.CrossEntropyLoss()(logits, labels, weight)) == pytest.approx(expected, abs=1e-9)
    predicted, scores, truth = hard()
    expected = metrics.jaccard_score(truth.flatten(), predicted.flatten(), average="macro", sample_weight=weight.new_ones(240))
    ours = lf.JaccardLoss(link="identity", smooth=0.0)(scores, truth)
    assert 1 - float(ours) == pytest.approx(expected, abs=1e-9)
