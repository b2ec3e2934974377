"""Relativistic losses, reductions, LeCam's moving means and feature matching: golden values and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

import lossfold as lf
from tests.contract.case import close

REAL, FAKE = torch.tensor([2.0, -0.5, 1.0, 0.25]).double(), torch.tensor([0.5, 1.5, -1.0, 0.0]).double()


@pytest.mark.parametrize("is_disc", [True, False])
def test_paired_relativistic_loss(is_disc: bool) -> None:
    """R3GAN: softplus of the difference, either way round, pair by pair; for the generator with sides changed."""
    x, other = (REAL, FAKE) if is_disc else (FAKE, REAL)
    loss = lf.GANLoss("rpgan", loss_weight=0.5 if not is_disc else 1.0)
    expected = functional.softplus(-(x - other)).mean()
    close(loss(x, True, is_disc=is_disc, other=other), expected if is_disc else 0.5 * expected)
    close(lf.GANLoss("rpgan")(other, False, is_disc=True, other=x), expected)  # the other way to say it
    leaf, opposite = x.clone().requires_grad_(), other.clone().requires_grad_()
    slopes = torch.autograd.grad(lf.GANLoss("rpgan")(leaf, True, other=opposite), (leaf, opposite))
    close(slopes[0], -torch.sigmoid(other - x) / 4)
    close(slopes[0], -slopes[1])
    far = lf.GANLoss("rpgan")(torch.tensor([-3e4]).half(), True, other=torch.tensor([3e4]).half())
    assert far == 6e4
    with pytest.raises(lf.LossError, match="each output's own other"):
        loss(x, True, other=other[:3])
    with pytest.raises(lf.LossError, match="gan_type='ragan' or 'ragan-ls' or 'rpgan'"):
        lf.GANLoss("hinge")(x, True, other=other)


def test_relativistic_average_of_squares() -> None:
    loss = lf.GANLoss("ragan-ls", is_disc=True)
    close(loss(REAL, True, other=FAKE), (REAL - FAKE.mean() - 1).square().mean())
    close(loss(FAKE, False, other=REAL), (FAKE - REAL.mean() + 1).square().mean())


@pytest.mark.parametrize("kind", ["vanilla", "hinge", "ragan", "rpgan"])
def test_reductions(kind: str) -> None:
    call: dict[str, Any] = {"other": FAKE} if kind in ("ragan", "rpgan") else {}
    each = lf.GANLoss(kind, reduction="none", is_disc=True)(REAL, True, **call)
    assert each.shape == REAL.shape
    close(each.mean(), lf.GANLoss(kind, is_disc=True)(REAL, True, **call))
    close(each.sum(), lf.GANLoss(kind, reduction="sum", is_disc=True)(REAL, True, **call))
    both = {name: [one, 2 * one] for name, one in call.items()}
    doubled = {name: 2 * one for name, one in call.items()}
    halves = [each.sum(), lf.GANLoss(kind, reduction="sum", is_disc=True)(2 * REAL, True, **doubled)]
    close(lf.GANLoss(kind, reduction="sum", is_disc=True)([REAL, 2 * REAL], True, **both), sum(halves) / 2)
    with pytest.raises(lf.LossError, match="'mean' or 'sum' of a list"):
        lf.GANLoss(kind, reduction="none")([REAL], True, **{name: [one] for name, one in call.items()})


def test_reductions_of_inpainting() -> None:
    hole = torch.zeros(1, 1, 4, 4)
    hole[..., :2] = 1
    x = torch.rand(1, 1, 4, 4)
    costs = lf.GANLoss("smgan", reduction="none")(x, True, mask=hole)
    close(costs, hole * (x - 1).square())
    close(costs.sum() / 8, lf.GANLoss("smgan")(x, True, mask=hole))
    close(costs.sum(), lf.GANLoss("smgan", reduction="sum")(x, True, mask=hole))
    for real in (True, False):
        none, total, mean = (
            lf.GANLoss("smgan", reduction=reduction)(x, real, is_disc=True, mask=hole) for reduction in ("none", "sum", "mean")
        )
        assert none.shape == x.shape
        close(none.sum(), total)
        close(none.mean(), mean)


def test_lecam() -> None:
    """The moving means of the authors: the first call's at first, then with the decay; still in evaluation; kept."""
    loss = lf.LeCamRegularizer(decay=0.9)
    first = loss(REAL, FAKE)
    real, fake = REAL.mean(), FAKE.mean()
    close(first, (REAL - fake).relu().square().mean() + (real - FAKE).relu().square().mean())
    close(lf.LeCamRegularizer(clipped=False)(REAL, FAKE), (REAL - fake).square().mean() + (real - FAKE).square().mean())
    second = loss(3 * REAL, FAKE - 1)
    real, fake = 0.9 * real + 0.1 * 3 * real, 0.9 * fake + 0.1 * (fake - 1)
    close(loss.means, torch.stack([real, fake]))
    close(second, (3 * REAL - fake).relu().square().mean() + (real - FAKE + 1).relu().square().mean())
    kept = lf.LeCamRegularizer(decay=0.9)
    kept.load_state_dict(loss.state_dict())
    before = loss.means.clone()
    for one in (loss.eval(), copy.deepcopy(kept).eval()):
        close(one(REAL, FAKE), (REAL - fake).relu().square().mean() + (real - FAKE).relu().square().mean())
        close(one.means, before, 0, 0)
    with torch.no_grad():
        kept(REAL, FAKE)
    kept(torch.tensor([torch.inf]), FAKE)  # an overflow is skipped by GradScaler, and by the mean it would spoil
    assert kept.means[0] == before[0] and kept.means[1] != before[1]
    leaf = REAL.clone().requires_grad_()
    (slope,) = torch.autograd.grad(lf.LeCamRegularizer(clipped=False)(leaf, FAKE), leaf)
    close(slope, 2 * (REAL - FAKE.mean()) / 4)  # nothing through the means
    halves = lf.LeCamRegularizer()(torch.tensor([300.0]).half(), torch.tensor([-300.0]).half())
    assert halves.isfinite() and halves.dtype == torch.float32
    listed = lf.LeCamRegularizer()([REAL, REAL], [FAKE, FAKE])
    close(listed, first)


def test_feature_matching() -> None:
    """pix2pixHD's own sum, of two discriminators of three layers, is ours times its weights."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, 8, 8), (2, 8, 4, 4), (2, 1, 4, 4)]
    fake, real = ([[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2)] for _ in range(2))
    pairs = [two for a, b in zip(fake, real, strict=True) for two in zip(a[:-1], b[:-1], strict=True)]
    theirs = sum(10 * 0.5 * 4 / 3 * functional.l1_loss(*two) for two in pairs)
    close(40 * 2 / 3 * lf.FeatureMatchingLoss(skip_last=True)(fake, real), torch.as_tensor(theirs), 1e-5)
    close(lf.FeatureMatchingLoss(criterion="mse")(fake[0][0], real[0][0]), functional.mse_loss(fake[0][0], real[0][0]), 1e-5)
    leaf, held = fake[0][0].clone().requires_grad_(), real[0][0].clone().requires_grad_()
    value = lf.FeatureMatchingLoss()([leaf], [held])
    assert torch.autograd.grad(value, (leaf, held), allow_unused=True)[1] is None
    for wrong, message in (
        ((fake, real[0]), "features of fake's shapes"),
        (([], []), "none"),
        (("a", "b"), "a tensor of features"),
    ):
        with pytest.raises(lf.LossError, match=message):
            lf.FeatureMatchingLoss()(*wrong)


def test_moving_means_without_outputs() -> None:
    """Stay: an empty batch says nothing of a mean, be it the first."""
    loss, real = lf.LeCamRegularizer(), REAL.clone().requires_grad_()
    assert loss(real[:0], FAKE[:0]) == 0 and loss.means.isnan().all()
    loss(real, FAKE)
    before = loss.means.clone()
    assert loss(real[:0], FAKE).isfinite()
    torch.testing.assert_close(loss.means, before, rtol=1e-12, atol=1e-12)
