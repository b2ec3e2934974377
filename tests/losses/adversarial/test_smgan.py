"""The soft-masked loss of AOT-GAN: its blur, its resize, its labels, and a mask that acts."""

from __future__ import annotations

import pytest
import scipy.ndimage
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.losses.adversarial import oracles
from tests.losses.adversarial.oracles import array, number
from tests.losses.adversarial.test_types import LABELS, logits, run


def holes(rows: int = 24, columns: int = 20, batch: int = 2) -> Tensor:
    """A hole in each image, one of them at the border, which replication makes larger."""
    mask = torch.zeros(batch, 1, rows, columns, dtype=torch.float64)
    mask[0, :, 5:14, 8:15] = 1
    mask[1:, :, rows // 2 :, : columns // 3] = 1
    return mask


@pytest.mark.parametrize("labels", LABELS, ids=str)
@pytest.mark.parametrize("polarity", ["paper", "inverted"])
@pytest.mark.parametrize(("real", "disc"), [(True, True), (False, True), (True, False)], ids=["real-disc", "fake-disc", "gen"])
def test_values_and_gradients(real: bool, disc: bool, polarity: str, labels: tuple[float, float]) -> None:
    mask, x = holes(), logits(2, 1, 24, 20)
    loss = lf.GANLoss("smgan", polarity=polarity, real_label_val=labels[0], fake_label_val=labels[1], loss_weight=0.3)
    expected, slope = oracles.smgan(array(x), array(mask), real, disc, polarity, labels)
    value, gradient = run(loss, x, real, disc, mask)
    factor = 1.0 if disc else 0.3
    assert value.dtype == torch.float64
    assert number(value) == pytest.approx(factor * expected, rel=1e-9)
    torch.testing.assert_close(gradient, torch.from_numpy(factor * slope), rtol=1e-9, atol=1e-12)


def test_the_blur_is_scipys_and_kornias() -> None:
    """A discriminator's target for fakes, read off the gradient: x - t."""
    for size in ((24, 20), (90, 80), (1, 1)):
        mask = (torch.rand(2, 1, *size, dtype=torch.float64) < 0.3).double()
        x = logits(2, 1, *size)
        gradient = run(lf.GANLoss("smgan"), x, False, True, mask)[1]
        target = x - gradient * x.numel() / 2
        expected = scipy.ndimage.gaussian_filter(array(mask), 10.0, mode="nearest", radius=35, axes=(2, 3))
        torch.testing.assert_close(1 - target, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)
        kornia = pytest.importorskip("kornia.filters")
        peer = kornia.gaussian_blur2d(mask, (71, 71), (10.0, 10.0), border_type="replicate")
        torch.testing.assert_close(1 - target, peer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("small", [(6, 5), (3, 10), (1, 1), (48, 40), (24, 7)], ids=str)
@pytest.mark.parametrize(("real", "disc"), [(True, True), (False, True), (True, False)], ids=["real-disc", "fake-disc", "gen"])
def test_logits_of_another_size_are_resized_to_the_mask(real: bool, disc: bool, small: tuple[int, int]) -> None:
    mask, x = holes(), logits(2, 1, *small)
    large = oracles.aligned(array(x), (24, 20))
    expected = oracles.smgan(large, array(mask), real, disc)[0]
    value, gradient = run(lf.GANLoss("smgan"), x, real, disc, mask)
    assert number(value) == pytest.approx(expected, rel=1e-9)
    assert gradient.shape == x.shape and gradient.any()
    enlarged = functional.interpolate(x, (24, 20), mode="bilinear", align_corners=True)
    torch.testing.assert_close(enlarged, torch.from_numpy(large))
    torch.testing.assert_close(value, lf.GANLoss("smgan")(enlarged, real, disc, mask))


def test_the_mask_acts_on_the_generator() -> None:
    """Logits outside of the hole cost nothing and get no gradient, and the mean is over the hole, not over the image."""
    mask, x = holes(), logits(2, 1, 24, 20)
    value, gradient = run(lf.GANLoss("smgan"), x, True, False, mask)
    assert torch.count_nonzero(gradient[mask == 0]) == 0 and torch.count_nonzero(gradient[mask == 1]) == mask.sum()
    torch.testing.assert_close(value, (x[mask == 1] - 1).square().mean())
    elsewhere = torch.where(mask == 1, x, 1e4)
    torch.testing.assert_close(lf.GANLoss("smgan")(elsewhere, True, False, mask), value)
    inverted = lf.GANLoss("smgan", polarity="inverted")(x, True, False, mask)
    torch.testing.assert_close(inverted, value)  # the polarity is the discriminator's labels'


def test_the_labels_of_fakes_follow_the_paper() -> None:
    """Far inside of the hole a fake is fake, far outside it is real; the published code has it the other way round."""
    mask = torch.zeros(1, 1, 200, 20, dtype=torch.float64)
    mask[:, :, :100] = 1
    x = torch.zeros_like(mask)
    for polarity, top, bottom in (("paper", 0.0, 1.0), ("inverted", 1.0, 0.0)):
        gradient = run(lf.GANLoss("smgan", polarity=polarity), x, False, True, mask)[1]
        target = -gradient * x.numel() / 2
        torch.testing.assert_close(target[:, :, :60], torch.full_like(target[:, :, :60], top), rtol=0, atol=1e-12)
        torch.testing.assert_close(target[:, :, 140:], torch.full_like(target[:, :, 140:], bottom), rtol=0, atol=1e-12)
        step = target[0, 0, :, 0].diff()
        assert ((step >= -1e-12) if polarity == "paper" else (step <= 1e-12)).all()
    assert number(lf.GANLoss("smgan")(x, True, True, mask)) == 1.0  # everything real is real, whatever the mask


def test_masks_of_all_kinds() -> None:
    x, mask = logits(2, 1, 24, 20).float(), holes()
    for side in ((True, True), (False, True), (True, False)):
        expected = lf.GANLoss("smgan")(x, *side, mask.float())
        assert expected.dtype == torch.float32
        torch.testing.assert_close(lf.GANLoss("smgan")(x, *side, mask.bool()), expected)
        torch.testing.assert_close(lf.GANLoss("smgan")(x, *side, mask=mask.half()), expected)
    soft = 0.25 + 0.5 * holes()
    for side in ((False, True), (True, False)):
        value, gradient = run(lf.GANLoss("smgan"), x.double(), *side, soft)
        expected_value, slope = oracles.smgan(array(x), array(soft), *side)
        assert number(value) == pytest.approx(expected_value, rel=1e-9)
        torch.testing.assert_close(gradient, torch.from_numpy(slope), rtol=1e-9, atol=1e-12)


def test_an_empty_mask() -> None:
    x = logits(2, 1, 6, 5)
    empty = torch.zeros(2, 1, 24, 20)
    value, gradient = run(lf.GANLoss("smgan"), x, True, False, empty)
    assert number(value) == 0 and torch.count_nonzero(gradient) == 0
    for side in ((True, True), (False, True)):  # without a hole a fake is the real image
        value, gradient = run(lf.GANLoss("smgan"), x, *side, empty)
        large = oracles.aligned(array(x), (24, 20))
        assert number(value) == pytest.approx(number(((large - 1) ** 2).mean()), rel=1e-9)
        assert torch.isfinite(gradient).all() and gradient.any()
    value = lf.GANLoss("smgan")(x, False, True, torch.ones(2, 1, 24, 20))  # all hole: fake everywhere
    assert number(value) == pytest.approx(number((large**2).mean()), rel=1e-9)


def test_lists_share_the_mask() -> None:
    mask, outputs = holes(), [logits(2, 1, 6, 5), logits(2, 1, 24, 20, seed=1)]
    for side in ((True, True), (False, True), (True, False)):
        each = [lf.GANLoss("smgan")(x, *side, mask) for x in outputs]
        torch.testing.assert_close(lf.GANLoss("smgan")(outputs, *side, mask), sum(each) / 2)


def test_the_mask_gets_no_gradient_and_stays_as_it_was() -> None:
    mask = holes().requires_grad_()
    before = mask.detach().clone()
    x = logits(2, 1, 24, 20).requires_grad_()
    lf.GANLoss("smgan")(x, False, True, mask).backward()
    assert torch.equal(mask.detach(), before) and x.grad.any()


@pytest.mark.parametrize("side", [(True, True), (False, True), (True, False)], ids=["real-disc", "fake-disc", "gen"])
def test_second_derivatives(side: tuple[bool, bool]) -> None:
    mask, x = holes(6, 5), logits(2, 1, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: lf.GANLoss("smgan")(y, *side, mask), x)
    assert torch.autograd.gradgradcheck(lambda y: lf.GANLoss("smgan")(y, *side, mask), x)


def test_a_mask_may_leave_out_its_channel() -> None:
    mask, x = holes(), logits(2, 1, 6, 5)
    for side in ((True, True), (False, True), (True, False)):
        torch.testing.assert_close(lf.GANLoss("smgan")(x, *side, mask[:, 0]), lf.GANLoss("smgan")(x, *side, mask))
