"""What a breaker found in the restoration and feature losses and in sets, so that it stays mended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import lossfold as lf

GATE, NONE = torch.tensor([True, False]), torch.zeros(2, dtype=torch.bool)


def images(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    target = torch.rand(*shape, generator=generator)
    return target + 0.1 * torch.rand(*shape, generator=generator), target


@pytest.mark.parametrize("engine", ["eager", "cpp"])
def test_ms_ssim_of_nan_is_nan(engine: str) -> None:
    pred, target = images(1, 1, 40, 40)
    pred[0, 0, 0, 0] = float("nan")
    assert lf.MSSSIMLoss(betas=(0.5, 0.5), engine=engine)(pred, target).isnan()


@pytest.mark.parametrize("options", [{"engine": "cpp"}, {"engine": "eager"}, {"reduction": "none"}], ids=repr)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_ssim_gives_no_gradient_to_what_no_window_counts(options: dict[str, Any], value: float) -> None:
    pred, target = images(1, 1, 40, 40)
    pred[..., :8, :] = value
    weight = torch.ones(1, 1, 40, 40)
    weight[..., :20, :] = 0
    pred.requires_grad_()
    (gradient,) = torch.autograd.grad(lf.SSIMLoss(**options)(pred, target, weight).sum(), pred, create_graph=True)
    assert gradient.isfinite().all() and torch.count_nonzero(gradient[..., 15:, :]) > 0
    assert torch.count_nonzero(gradient[..., :15, :]) == 0  # windows of 11 around row 20 see row 15


PAIR = [
    lf.MSELoss(),
    lf.CharbonnierLoss(),
    lf.PSNRLoss(),
    lf.SSIMLoss(window_size=3),
    lf.SSIMLoss(window_size=3, engine="eager"),
    lf.MSSSIMLoss(betas=(1.0,), window_size=3),
]


@pytest.mark.parametrize("loss", PAIR, ids=repr)
@pytest.mark.parametrize("when_mean", ["applicable", "all"])
def test_a_held_back_image_may_be_nan(loss: Any, when_mean: str) -> None:
    pred, target = images(2, 1, 16, 16)
    pred[1] = float("nan")
    pred.requires_grad_()
    criterion = lf.LossSet(a=lf.Term(loss, when="a", when_mean=when_mean), b=lf.Term(0.5 * loss, when="b", when_mean=when_mean))
    out = criterion(pred, target, a=GATE, b=NONE)
    (gradient,) = torch.autograd.grad(out.total, pred)
    assert out.total.isfinite() and torch.count_nonzero(gradient[0]) > 0 and torch.count_nonzero(gradient[1]) == 0


@pytest.mark.parametrize("engine", ["eager", "cpp"])
def test_held_back_scores_may_be_nan(engine: str) -> None:
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    logits[1] = float("nan")
    logits.requires_grad_()
    out = lf.LossSet(ce=lf.Term(lf.CrossEntropyLoss(engine=engine), when="a"))(logits, labels, a=GATE)
    (gradient,) = torch.autograd.grad(out.total, logits)
    assert out.total.isfinite() and torch.count_nonzero(gradient[0]) > 0 and torch.count_nonzero(gradient[1]) == 0


def test_who_counts_an_image_sees_its_nan() -> None:
    pred, target = images(2, 1, 8, 8)
    pred[1] = float("nan")
    assert lf.LossSet(a=lf.Term(lf.MSELoss(), when="a"), b=lf.MSELoss())(pred, target, a=GATE).total.isnan()


def test_a_weight_by_keyword_is_a_mask_too() -> None:
    (pred, target), mask = images(1, 3, 16, 16), torch.rand(1, 1, 16, 16) > 0.5
    criterion = lf.LossSet(l1=lf.L1Loss(), tv=lf.MaskedTVLoss())
    masked = lf.MaskedTVLoss()(pred, mask)
    assert masked != lf.MaskedTVLoss()(pred)
    for out in (criterion(pred, target, mask), criterion(pred, target, weight=mask)):
        torch.testing.assert_close(out.terms["tv"], masked)


def refusals() -> dict[str, tuple[Callable[[], object], str]]:
    (pred, target), weight = images(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    conv = nn.Conv2d(3, 4, 3)
    looks = lf.LossSet(l1=lf.L1Loss(), look=lf.LPIPSLoss(network=conv, linear=None))
    look = lf.PerceptualLoss(network=conv, layer_weights={"features": 1.0}, norm_img=False)
    levels = [torch.rand(2, 4, 8, 8), torch.rand(1, 4, 8, 8)]
    transferal = lf.TransferalPerceptualLoss()

    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(0, keepdim=True)

    return {
        "an argument too many": (lambda: looks(pred, target, weight), r"term 'look' \(LPIPSLoss\): arguments.*one dict"),
        "an unknown argument": (lambda: lf.LossSet(a=lf.L1Loss())(pred, target, mask=weight), "term 'a'.*arguments"),
        "a missing argument": (lambda: lf.LossSet(a=lf.L1Loss())(pred), "term 'a'.*target is missing"),
        "a missing argument of a loss": (lambda: lf.SSIMLoss()(pred), "SSIMLoss: arguments.*target is missing"),
        "other batches": (lambda: transferal(levels, torch.rand(2, 1, 8, 8), levels), "soft_attention"),
        "a sparse target": (lambda: look(pred, target.to_sparse()), "PerceptualLoss: target.*to_dense"),
        "eight bits": (lambda: look(pred, target.to(torch.float8_e4m3fn)), "PerceptualLoss: target.*float8"),
        "features of another batch": (lambda: lf.FaceIdLoss(network=Mean(), crop=False)(pred, target), "FaceIdLoss: network"),
        "no signature": (lambda: lf.masked_loss(max), "masked_loss: function.*signature"),
        "booleans": (lambda: lf.masked_loss(lambda p, t: p > t)(pred, target), "result of the function.*float"),
        "a boolean size": (lambda: lf.CLIPLoss(network=nn.Identity(), image_size=(True, 8)), "CLIPLoss"),
    }


@pytest.mark.parametrize("name", list(refusals()))
def test_refused(name: str) -> None:
    call, words = refusals()[name]
    with pytest.raises(lf.LossError, match=words):
        call()


def test_terms_take_what_they_name_from_one_dict() -> None:
    (pred, target), weight = images(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    criterion = lf.LossSet(l1=lf.L1Loss(), look=lf.LPIPSLoss(network=nn.Conv2d(3, 4, 3), linear=None))
    out = criterion({"pred": pred, "target": target, "weight": weight})
    torch.testing.assert_close(out.terms["l1"], lf.L1Loss()(pred, target, weight))


def test_features_on_meta() -> None:
    images = torch.rand(1, 3, 20, 20, device="meta")
    assert lf.LPIPSLoss(network=nn.Conv2d(3, 4, 3), linear=None).to("meta")(images, images).device.type == "meta"
