"""What a user and a breaker found in the dense fold's first version, each as a test."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf

ENGINES = lf.engines.available()


def masks(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 8, 8, generator=generator), torch.rand(5, 8, 8, generator=generator) > 0.5


def mask2former(logits: Tensor, true: Tensor, count: float) -> Tensor:
    z, t = logits.flatten(1), true.flatten(1).to(logits.dtype)
    p = z.sigmoid()
    bce = functional.binary_cross_entropy_with_logits(z, t, reduction="none").mean(1).sum() / count
    return 5 * bce + 5 * (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).sum() / count


def test_masks_without_a_channel_also_in_dicts_and_larger_sets() -> None:
    z, m = masks()
    expected = mask2former(z, m, 5)
    outer = lf.LossSet(a=lf.presets.mask_losses())
    for found in (
        lf.presets.mask_losses()(z, m, normalizer=5),
        lf.presets.mask_losses()(z, m),
        outer(z, m, normalizer=5),
        lf.presets.mask_losses()({"logits": z, "labels": m}),
        lf.presets.mask_losses(inputs={"logits": "p", "labels": "m"})({"p": z, "m": m}),
    ):
        torch.testing.assert_close(found.total, expected)


def test_masks_of_points_with_and_without_a_channel() -> None:
    z, m = (x.flatten(1) for x in masks())
    expected = mask2former(z, m, 5)
    for logits in (z, z[:, None]):
        for true in (m, m[:, None]):
            torch.testing.assert_close(lf.presets.mask_losses()(logits, true, normalizer=5).total, expected)


def test_soft_masks_follow_the_written_formula_with_and_without_a_normalizer() -> None:
    z, t = masks()[0], torch.rand(5, 8, 8)
    for normalizer in (None, 5, torch.tensor(5)):
        torch.testing.assert_close(lf.presets.mask_losses()(z, t, normalizer=normalizer).total, mask2former(z, t, 5))


@pytest.mark.parametrize("half_dtype", [torch.float16, torch.bfloat16], ids=str)
def test_points_of_large_maps_in_half_precision(half_dtype: torch.dtype) -> None:
    values, points = (torch.rand(1, 1, 1024, 1024) > 0.5).to(torch.float32), torch.rand(1, 2000, 2)
    half = lf.functional.sample_points(values.to(half_dtype), points)
    assert half.dtype == half_dtype
    torch.testing.assert_close(half.float(), lf.functional.sample_points(values, points), rtol=0, atol=1e-2)


def test_points_are_those_of_grid_sample() -> None:
    values, points = torch.randn(3, 2, 9, 11), torch.rand(3, 50, 2)
    expected = functional.grid_sample(values, 2 * points[:, :, None] - 1, align_corners=False).squeeze(3)
    torch.testing.assert_close(lf.functional.sample_points(values, points), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("link", ["sigmoid", "hinge"])
def test_weights_too_small_beside_the_others_give_nan(engine: str, link: str) -> None:
    z, y = torch.randn(1, 2, 40), torch.rand(1, 2, 40) > 0.5
    loss = lf.LovaszLoss(link=link, engine=engine, exact=False)
    for weight in (1e-9, 1e-3):  # in any units
        torch.testing.assert_close(loss(z, y, torch.full((1, 40), weight)), loss(z, y))
    assert loss(z, y, torch.where(y, 1e-20, 1.0)).isnan()
    assert loss(z, y, torch.where(y, 1e-9, 1.0)).isfinite()


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_gradients_of_uncounted_elements_of_a_map_are_dropped(engine: str) -> None:
    weight = torch.tensor([[1.0, 0.0, 2.0]])
    for loss, targets in (
        (lf.BinaryCrossEntropyLoss(reduction="none", engine=engine), torch.ones(1, 2, 3)),
        (lf.CrossEntropyLoss(reduction="none", engine=engine), torch.ones(1, 3, dtype=torch.int64)),
    ):
        scores = torch.zeros(1, 2, 3, requires_grad=True)
        values = loss(scores, targets, weight)
        (values / (weight if values.dim() == 2 else weight[:, None])).nansum().backward()
        assert scores.grad is not None and scores.grad.isfinite().all()


@pytest.mark.parametrize("engine", ENGINES)
def test_hinge_at_the_ends(engine: str) -> None:
    loss, true = lf.LovaszLoss(link="hinge", engine=engine), torch.tensor([[[True, False]]])
    for z, expected in ((torch.inf, 0.75), (-3e38, 3e38)):
        scores = torch.tensor([[[z, 0.5]]])
        torch.testing.assert_close(loss(scores, true), torch.tensor(expected), rtol=1e-3, atol=0)
    assert not loss(torch.tensor([[[-torch.inf, 0.5]]]), true).isfinite()


@pytest.mark.parametrize("engine", ENGINES)
def test_no_masks_at_low_resolution(engine: str) -> None:
    criterion = lf.presets.mask_losses(engine=engine)
    z = torch.randn(0, 1, 8, 8, requires_grad=True)
    criterion(z, torch.rand(0, 1, 16, 16), normalizer=1).total.backward()
    assert z.grad is not None and z.grad.shape == (0, 1, 8, 8)
    labels = torch.zeros(0, 16, 16, dtype=torch.int64)
    assert lf.CrossEntropyLoss(engine=engine)(torch.randn(0, 3, 8, 8), labels) == 0


def test_more_sums_than_a_pass_holds_take_another_pass() -> None:
    criterion = lf.LossSet({f"focal{i}": lf.FocalLoss(link="sigmoid", gamma=1 + i / 100) for i in range(40)})
    z, t = torch.randn(1, 2, 6), torch.rand(1, 2, 6)
    expected = sum(loss(z, t) for loss in criterion.members)
    torch.testing.assert_close(criterion(z, t).total, expected)
    assert criterion.plan().count("dense fold") == 2


def test_what_can_not_be_meant_is_refused() -> None:
    one, yes = torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4) > 0.5
    for loss in (lf.DiceLoss(), lf.CrossEntropyLoss()):
        with pytest.raises(lf.LossError, match="link must be 'sigmoid' for one channel"):
            loss(one, yes)
    with pytest.raises(lf.LossError, match="link='sigmoid'"):
        lf.FocalLoss()(one, yes.long())
    with pytest.raises(lf.LossError, match="normalizer"):
        lf.presets.mask_losses()(one, yes, normalizer=-1)
    with pytest.raises(lf.LossError, match="average='micro'"):
        lf.DiceLoss(link="sigmoid", per_image=True, average="micro")(one, yes, normalizer=2)
    with pytest.raises(lf.LossError, match="normalizer must be left out"):
        lf.GeneralizedDiceLoss(link="sigmoid", per_image=True)(one, yes.float() * 255, normalizer=2)
    with pytest.raises(lf.LossError, match="one_hot"):
        lf.BinaryCrossEntropyLoss()(torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4)))
    with pytest.raises(lf.LossError, match="weight=targets != 255"):
        lf.BinaryCrossEntropyLoss(ignore_index=255)(one, torch.where(yes, 1.0, 255.0))
    assert lf.BinaryCrossEntropyLoss(pos_weight=torch.ones(3, 1, 1)).pos_weight == (1.0, 1.0, 1.0)
    for options in ({"oversample_ratio": float("inf")}, {"importance_ratio": None}, {"num_points": 0}):
        with pytest.raises(lf.LossError, match=next(iter(options))):
            lf.functional.sample_uncertain_points(one, **({"num_points": 5} | options))
