"""What people found who tried to break the pair fold, and must not come back."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests.contract.case import ENGINES

B, H, W = 2, 20, 24


def data(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(B, 1, H, W, generator=generator) for _ in range(3))


@pytest.mark.parametrize("first", [lf.UnknownL1Loss(), lf.L1Loss(), lf.MattingLoss()], ids=lambda loss: type(loss).__name__)
def test_losses_of_other_tensors_make_a_pass_of_their_own(first: torch.nn.Module) -> None:
    pred, target, region = data()
    fg, bg, merged = (torch.rand(B, 3, H, W) for _ in range(3))
    outputs = {"pred": pred, "target": target, "region": region, "pred_alpha": pred, "fg": fg, "bg": bg, "ori_merged": merged}
    alone = lf.L1CompositionLoss()(pred, fg, bg, merged)
    out = lf.LossSet(first=first, composed=lf.L1CompositionLoss())(outputs)
    torch.testing.assert_close(out.terms["composed"], alone)


def test_composition_losses_that_read_alpha_differently_make_a_pass_each() -> None:
    logits = torch.randn(B, 1, H, W)
    images = [torch.rand(B, 3, H, W) for _ in range(3)]
    of_logits, of_alphas = lf.L1CompositionLoss(link="sigmoid"), lf.L1CompositionLoss()
    out = lf.LossSet(a=of_logits, b=of_alphas)(logits, *images)
    torch.testing.assert_close(out.terms["a"], of_logits(logits, *images))
    torch.testing.assert_close(out.terms["b"], of_alphas(logits, *images))
    assert not torch.allclose(out.terms["a"], out.terms["b"])


def test_a_region_of_the_same_name_beside_a_matting_set() -> None:
    pred, target, region = data()
    unknown = (region > 0.9).float()
    matting, other = lf.MattingLoss(losses=["unknown_l1_loss"]), lf.UnknownL1Loss(inputs={"region": "unknown"})
    out = lf.LossSet(m=matting, o=other)({"pred": pred, "target": target, "region": region, "unknown": unknown})
    torch.testing.assert_close(out.terms["m.unknown_l1_loss"], matting(pred, target, region).total)
    torch.testing.assert_close(out.terms["o"], lf.UnknownL1Loss()(pred, target, unknown))


def test_terms_read_predictions_as_the_set_does() -> None:
    with pytest.raises(lf.LossError, match="MattingLoss: alpha_link must be 'sigmoid'"):
        lf.MattingLoss(losses=[lf.L1Loss(link="sigmoid")])
    with pytest.raises(lf.LossError, match="MattingLoss: terms must be losses that take link='sigmoid'"):
        lf.MattingLoss(losses=[lf.CrossEntropyLoss()], alpha_link="sigmoid")
    pred, target, region = data()
    own = lf.MattingLoss(losses=[lf.SmoothL1Loss()], alpha_link="sigmoid")(pred, target, region).total
    torch.testing.assert_close(own, lf.SmoothL1Loss()(pred.sigmoid(), target))


def test_terms_without_a_value_for_each_sample_are_refused() -> None:
    for loss in (lf.LovaszLoss(link="sigmoid"), lf.OhemCrossEntropyLoss(link="identity")):
        with pytest.raises(lf.LossError, match="a value for each sample"):
            lf.MixedMattingLoss(segmentation=[loss], alpha_link=loss.link)
    pred, target, region = data()
    mixed = lf.MixedMattingLoss(segmentation={"lovasz": lf.LovaszLoss(link="identity", per_image=True)})
    expected = lf.LovaszLoss(link="identity", per_image=True)(pred, target.round())
    torch.testing.assert_close(mixed(pred, target.round(), region).terms["lovasz"], expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wrong", [255.0, -0.5, float("nan")])
def test_regions_out_of_range_are_found_wherever_they_are(engine: str, wrong: float) -> None:
    for side in (3, 17, 64):
        pred, target, region = (torch.rand(1, 1, side, side) for _ in range(3))
        region[..., -1, -1] = wrong
        for loss in (lf.LaplacianPyramidLoss(engine=engine, residual=True), lf.UnknownL1Loss(engine=engine)):
            with pytest.raises(lf.LossError, match="region must be in"):
                loss(pred, target, region)
        for loss in (lf.UnknownL1Loss(reduction="none"), lf.MattingGradientLoss(reduction="none")):
            with pytest.raises(lf.LossError, match="region must be in"):
                loss(pred, target, region)


def test_a_map_can_not_be_forced_on_the_cpp_engine() -> None:
    pred, target, _ = data()
    with pytest.raises(lf.LossError, match="engine must be 'eager' or None"):
        lf.L1Loss(reduction="none", engine="cpp")(pred, target)


@pytest.mark.parametrize("shape", [(1000, 4), (40, 64, 7, 7), (300, 1, 5), (300, 2, 3, 4)])
@pytest.mark.parametrize("engine", ENGINES)
def test_many_small_images(engine: str, shape: tuple[int, ...]) -> None:
    pred, target = torch.rand(shape, requires_grad=True), torch.rand(shape)
    weight = torch.rand(shape[0], 1, *shape[2:])
    loss = lf.SmoothL1Loss(engine=engine)(pred, target, weight)
    elements = torch.nn.functional.smooth_l1_loss(pred.double(), target.double(), reduction="none")
    truth = (elements * weight).sum() / weight.double().expand(shape).sum()
    torch.testing.assert_close(loss.double(), truth, rtol=1e-6, atol=0)
    (gradient,), (expected,) = torch.autograd.grad(loss, pred), torch.autograd.grad(truth, pred)
    torch.testing.assert_close(gradient, expected.float())
    each = lf.SmoothL1Loss(engine=engine, sample_wise=True)(pred, target, weight)
    flat, w = elements.flatten(1), weight.double().expand(shape).flatten(1)
    torch.testing.assert_close(each.double(), ((flat * w).sum(1) / w.sum(1)).mean(), rtol=1e-6, atol=0)


def test_a_changed_weight_builds_nothing_anew() -> None:
    criterion = lf.MattingLoss()
    criterion.members[1].loss_weight = 3.0
    criterion.eval()
    criterion.loss_weight = 2.0
    assert criterion.members[1].loss_weight == 3.0 and not criterion.training
    assert (0.5 * criterion).members[1].loss_weight == 3.0
    pred, target, region = data()
    out = criterion(pred, target, region)
    torch.testing.assert_close(out.total, sum(2.0 * (3 if i == 1 else 1) * term for i, term in enumerate(out.terms.values())))
    with pytest.raises(lf.LossError, match="MattingLoss: loss_weight"):
        criterion.loss_weight = "2"


@pytest.mark.parametrize("inputs", ["a", {"pred": 3}, [1]])
def test_inputs_of_a_set_are_checked(inputs: object) -> None:
    with pytest.raises(lf.LossError, match="MattingLoss: inputs"):
        lf.MattingLoss(inputs=inputs)


def test_nan_logits_where_nothing_counts() -> None:
    pred, target, region = data()
    region[..., :4] = 0
    pred[..., :4] = float("nan")
    pred.requires_grad_()
    loss = lf.UnknownL1Loss(link="sigmoid", engine=ENGINES[-1])(pred, target, region)
    (gradient,) = torch.autograd.grad(loss, pred)
    assert loss.isfinite() and (ENGINES[-1] == "eager" or gradient.isfinite().all())


def test_limits_of_the_parabolas() -> None:
    for loss, option in ((lf.HuberLoss, "delta"), (lf.SmoothL1Loss, "beta"), (lf.KnownSmoothL1Loss, "beta")):
        with pytest.raises(lf.LossError, match=option):
            loss(**{option: 1e300})
