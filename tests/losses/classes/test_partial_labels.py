"""Labels that say less than a class: several ignored ones, images searched for some classes only, and positives with weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.contract.refusals import refused

ENGINES = [name for name in lf.engines.available() if name != "triton"]
CLASSES = 5


def scores(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


def labels(*shape: int) -> Tensor:
    return torch.randint(0, CLASSES, shape, generator=torch.Generator().manual_seed(1))


def both_equal(ours: Tensor, theirs: Tensor, z: Tensor) -> None:
    torch.testing.assert_close(ours, theirs)
    slopes = (torch.autograd.grad(one, z, retain_graph=True)[0] for one in (ours, theirs))
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [torch.int64, torch.uint8])
def test_several_ignored_labels_are_one(engine: str, kind: torch.dtype) -> None:
    """In every loss, as a mean, a map and a set of one pass; also one that uint8 can't hold."""
    z, y = scores(2, CLASSES, 6, 7), labels(2, 6, 7)
    y[0, :2], y[1, 3:] = 254, 3
    plain = torch.where(y == 254, 3, y)
    several, one = {"ignore_index": [-100, 254, 3], "engine": engine}, {"ignore_index": 3, "engine": engine}
    losses = [lf.CrossEntropyLoss, lf.DiceLoss, lf.GeneralizedWassersteinDiceLoss, lf.OhemCrossEntropyLoss]
    for loss in losses:
        both_equal(loss(**several)(z, y.to(kind)), loss(**one)(z, plain), z)
    torch.testing.assert_close(
        lf.FocalLoss(reduction="none", **several)(z, y.to(kind)), lf.FocalLoss(reduction="none", **one)(z, plain)
    )
    pair = lf.LossSet(ce=lf.CrossEntropyLoss(**several), dice=lf.DiceLoss(**several))
    assert "passes over the pixels: 1 forward" in pair.plan(z, y.to(kind))
    both_equal(pair(z, y.to(kind)).total, (lf.CrossEntropyLoss(**one) + lf.DiceLoss(**one))(z, plain).total, z)
    assert "2 forward" in lf.LossSet(a=lf.CrossEntropyLoss(**several), b=lf.DiceLoss(**one)).plan(z, plain)


def test_what_ignored_labels_may_be() -> None:
    assert lf.DiceLoss(ignore_index=[255, 254, 255]).ignore_index == (255, 254) and lf.DiceLoss(ignore_index=[7]).ignore_index == 7
    loss = lf.build({"type": "CEDiceLoss", "ignore_index": [254, 255]})
    assert lf.to_config(loss)["ignore_index"] in ((254, 255), [254, 255]) and eval(repr(loss), vars(lf)).ignore_index == (254, 255)
    refused(lambda: lf.DiceLoss(ignore_index=[]), "ignore_index", "an integer, or a list of integers")
    refused(lambda: lf.DiceLoss(ignore_index=[1.5]), "ignore_index", "an integer, or a list of integers")
    bad = labels(1, 4, 4)
    bad[0, 0, 0] = 200
    refused(lambda: lf.DiceLoss(ignore_index=[254, 255])(scores(1, CLASSES, 4, 4), bad), "labels", "200")


@pytest.mark.parametrize("engine", ENGINES)
def test_unannotated_classes_are_background(engine: str) -> None:
    """The marginal loss written in probabilities; labels, soft targets and probabilities as scores."""
    z, y = scores(2, CLASSES, 6, 7), labels(2, 6, 7)
    y[0, 0] = 255
    known = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])
    p = z.softmax(1)
    rest = torch.stack([p[0, [0, 2, 4]].sum(0), p[1, 0]])[:, None]
    keep = (known & (torch.arange(CLASSES) > 0))[:, :, None, None]
    marginal = torch.where(keep, p, torch.cat([rest, torch.zeros_like(p[:, 1:])], 1))
    truth = torch.where((y[0] == 2) | (y[0] == 4), 0, y[0])
    truth = torch.stack([truth, y[1]])
    options = {"ignore_index": 255, "engine": engine}
    for loss in (lf.CrossEntropyLoss, lf.DiceLoss, lf.JaccardLoss):
        plain = loss(link="identity", **options)(marginal, truth)
        both_equal(loss(**options)(z, y, annotated=known), plain, z)
        torch.testing.assert_close(loss(link="identity", **options)(p, y, annotated=known), plain)
    hot = functional.one_hot(truth.masked_fill(truth == 255, 0), CLASSES).movedim(-1, 1).double()
    given = functional.one_hot(y.masked_fill(y == 255, 0), CLASSES).movedim(-1, 1)
    plain = lf.CrossEntropyLoss(link="identity", engine=engine)(marginal, hot)
    for target in (given.double(), given):
        both_equal(lf.CrossEntropyLoss(engine=engine)(z, target, annotated=known), plain, z)
    out = lf.LossSet(ce=lf.CrossEntropyLoss(**options), dice=lf.DiceLoss(**options))
    both_equal(
        out(z, y, annotated=known).total,
        lf.CrossEntropyLoss(link="identity", **options)(marginal, truth) + lf.DiceLoss(link="identity", **options)(marginal, truth),
        z,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_unannotated_channels_do_not_count(engine: str) -> None:
    z, t = scores(2, 3, 4, 5), torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(2)) > 0.5
    known = torch.tensor([[True, False, True], [True, True, False]])
    w = torch.rand(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    whole = known[:, :, None, None].expand(t.shape)
    for loss in (lf.BinaryCrossEntropyLoss(engine=engine), lf.DiceLoss(link="sigmoid", engine=engine)):
        both_equal(loss(z, t, annotated=known), loss(z, t, whole), z)
        both_equal(loss(z, t, w, annotated=known), loss(z, t, w[:, None] * whole), z)


def test_annotations_that_do_not_fit() -> None:
    z, y, known = scores(2, CLASSES, 4, 4), labels(2, 4, 4), torch.ones(2, CLASSES, dtype=torch.bool)
    refused(lambda: lf.DiceLoss()(z, y, annotated=known.float()), "annotated", r"bool tensor \[2, 5\]", "annotated > 0")
    refused(lambda: lf.DiceLoss()(z, y, annotated=known[:1]), "annotated", r"\[2, 5\]")
    refused(lambda: lf.DiceLoss()(z, labels(2, 8, 8), annotated=known), "annotated", "interpolate them before")
    refused(lambda: lf.CrossEntropyLoss(label_smoothing=0.1)(z, y, annotated=known), "annotated", "label_smoothing")


@pytest.mark.parametrize("engine", ENGINES)
def test_positive_weights_of_elements(engine: str) -> None:
    """Of soft and hard targets, with pixel weights and ignored elements, as PyTorch has it; also where a weight is 0."""
    generator = torch.Generator().manual_seed(4)
    z, soft = scores(2, 3, 4, 5), torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    a, w = ((3 * torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)) for _ in range(2))
    a[0, 0] = 0
    hard = (soft > 0.5).long()
    hard[1, 1] = -100
    for target in (soft, soft > 0.5, hard):
        counts = w * (target != -100)
        plain = functional.binary_cross_entropy_with_logits(z, target.double().clamp(0), pos_weight=a, reduction="none")
        loss = lf.BinaryCrossEntropyLoss(engine=engine)
        both_equal(loss(z, target, w, pos_weight_map=a), (counts * plain).sum() / counts.sum(), z)
        apart = (counts * plain).flatten(1).sum(1) / counts.flatten(1).sum(1)
        both_equal(lf.BinaryCrossEntropyLoss(per_image=True, engine=engine)(z, target, w, pos_weight_map=a), apart.mean(), z)
    plain = functional.binary_cross_entropy_with_logits(z, soft, pos_weight=a[0], reduction="none")
    torch.testing.assert_close(lf.BinaryCrossEntropyLoss(reduction="none", engine=engine)(z, soft, pos_weight_map=a[0]), plain)
    refused(lambda: lf.BinaryCrossEntropyLoss()(z, soft, pos_weight_map=3.0), "pos_weight_map", "float tensor")
    refused(lambda: lf.BinaryCrossEntropyLoss()(z, soft, pos_weight_map=a[:, :2]), "pos_weight_map", "of shape")


def test_positive_weights_of_what_does_not_count() -> None:
    """May be NaN: of ignored elements, and of those without a weight."""
    z, a, w = scores(2, 3, 4, 5), torch.rand(2, 3, 4, 5, dtype=torch.float64), torch.ones(2, 4, 5)
    hard, blank = (torch.rand(2, 3, 4, 5) > 0.5).long(), a.clone()
    hard[:, :, 0], w[:, 1] = -100, 0
    blank[:, :, :2] = torch.nan
    loss = lf.BinaryCrossEntropyLoss()
    both_equal(loss(z, hard, w, pos_weight_map=blank), loss(z, hard, w, pos_weight_map=a), z)


def test_focal_loss_of_targets_under_softmax() -> None:
    """One-hot targets are labels, in every engine; soft ones and several at once are sums over the classes."""
    z, y = scores(2, CLASSES, 4, 5), labels(2, 4, 5)
    hot = functional.one_hot(y, CLASSES).movedim(-1, 1)
    own = {"gamma": 1.5, "alpha": [0.1, 0.2, 0.3, 0.4, 0.5], "class_weight": [1.0, 2.0, 0.5, 1.0, 3.0]}
    for engine in ENGINES:
        loss = lf.FocalLoss(engine=engine, **own)
        both_equal(loss(z, hot.bool()), loss(z, y), z)
    both_equal(lf.FocalLoss(**own)(z, hot.double()), lf.FocalLoss(**own)(z, y), z)
    several = torch.rand(2, CLASSES, 4, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64) > 0.5
    p = z.softmax(1)
    for target in (several, several * 0.5):
        plain = (target * (1 - p) ** 2 * -p.log()).sum() / target.sum()
        both_equal(lf.FocalLoss()(z, target), plain, z)
    refused(lambda: lf.FocalLoss(normalize="focal")(z, hot.bool()), "normalize", "'pixels'")


@pytest.mark.parametrize("align_corners", [False, True])
def test_volumes_are_scored_at_label_resolution(align_corners: bool) -> None:
    """Trilinearly, labels and targets, both directions."""
    z, y = scores(2, 3, 3, 4, 5), torch.randint(0, 3, (2, 6, 8, 7))
    large = functional.interpolate(z, y.shape[1:], mode="trilinear", align_corners=align_corners)
    for loss in (lf.CEDiceLoss(align_corners=align_corners), lf.LovaszLoss(exact=True, align_corners=align_corners)):
        ours, plain = (lf.LossSet(a=loss)(x, y).total for x in (z, large))
        both_equal(ours, plain, z)
    masks = torch.rand(2, 3, 2, 3, 4, generator=torch.Generator().manual_seed(6)) > 0.5
    small = functional.interpolate(z, (2, 3, 4), mode="trilinear", align_corners=align_corners)
    loss = lf.BinaryCrossEntropyLoss(align_corners=align_corners)
    both_equal(loss(z, masks), loss(small, masks), z)
    refused(lambda: lf.DiceLoss(resize=False)(z, y), "labels", "resize=False")


@pytest.mark.parametrize("per_image", [False, True])
def test_parts_of_losses_of_maps(per_image: bool) -> None:
    """What sums a map up itself is exact over micro-batches."""
    y, z = labels(3, 6, 7), scores(3, CLASSES, 6, 7)
    criterion = lf.LossSet(
        wasserstein=lf.GeneralizedWassersteinDiceLoss(weighting="volume", per_image=per_image),
        power=lf.ExpLogLoss(per_image=per_image),
    )
    out = criterion(z, y)
    out.backward()
    whole, slope = criterion.accumulate(), z.grad
    parts = [z.detach()[i : i + 1].requires_grad_() for i in range(3)]
    for i, part in enumerate(parts):
        whole.add(part, y[i : i + 1])
    for i, part in enumerate(parts):
        whole.backward(part, y[i : i + 1])
    torch.testing.assert_close(whole.output.total, out.total.detach())
    torch.testing.assert_close(torch.cat([part.grad for part in parts if part.grad is not None]), slope)
