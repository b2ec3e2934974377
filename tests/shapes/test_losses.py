"""Hausdorff and clDice beside MONAI's, where these are right; soft skeletons by definition; what does not count; memory.

Where MONAI's differ: SoftclDiceLoss adds 1e-4 to the harmonic mean's denominator, so that a perfect prediction costs (set to
nothing here); it adds up the classes of an image, never each apart; neither it nor HausdorffDTLoss knows ignored pixels or weights,
and both count classes that are absent (``absent="count"``).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from skimage import data
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from lossfold.shapes import soft_skeletons

monai: Any = pytest.importorskip("monai.losses")


def masks(kind: str) -> tuple[Tensor, Tensor]:
    """Logits and labels: of noise, or of a real silhouette beside a shifted one."""
    if kind == "noise":
        return 2 * torch.randn(2, 4, 13, 17), torch.randint(0, 4, (2, 13, 17))
    if kind == "volume":
        return 2 * torch.randn(2, 3, 5, 6, 7), torch.randint(0, 3, (2, 5, 6, 7))
    horse = torch.from_numpy(data.horse() == 0)[None, ::4, ::4].long()
    logits = functional.avg_pool2d(functional.one_hot(horse.roll(3, -1), 2).movedim(-1, 1).float(), 3, 1, 1)
    return 6 * logits.double() + 0.01 * torch.randn(logits.shape, dtype=torch.float64), horse  # without ties


def both(loss: Any, peer: Any, logits: Tensor, labels: Tensor, targets: Tensor, tight: float = 1e-5) -> None:
    """Values and gradients."""
    mine, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value, expected = loss(mine, labels), peer(other, targets)
    torch.testing.assert_close(value, expected, rtol=tight, atol=tight)
    slope, known = torch.autograd.grad(value, mine)[0], torch.autograd.grad(expected, other)[0]
    assert known.abs().max() > 0
    torch.testing.assert_close(slope, known, rtol=1e-3, atol=tight * known.abs().max().item())


@pytest.mark.parametrize("kind", ["noise", "volume", "horse"])
@pytest.mark.parametrize("background", [True, False])
def test_beside_monai(kind: str, background: bool) -> None:
    logits, labels = masks(kind)
    targets = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits)
    peer: dict[str, Any] = {"softmax": True, "include_background": background}
    mine: dict[str, Any] = {"include_background": background}
    for alpha, log in ((2.0, False), (1.5, True)):
        theirs = (monai.LogHausdorffDTLoss if log else monai.HausdorffDTLoss)(alpha=alpha, **peer)
        both(lf.HausdorffDTLoss(alpha=alpha, log=log, absent="count", **mine), theirs, logits, labels, targets)
    ours = lf.CLDiceLoss(iterations=3, average="micro", per_image=True, **mine)
    both(ours, monai.SoftclDiceLoss(iter_=3, smooth=1e-20, **peer), logits, labels, targets)


def test_dice_and_cldice_of_one_channel_beside_monai() -> None:
    logits, labels = masks("horse")
    logits, target = logits[:, 1:], labels[:, None].to(logits)
    for share in (0.3, 1.0):
        peer = monai.SoftDiceclDiceLoss(iter_=2, alpha=share, smooth=1e-20, sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
        both(lf.CLDiceLoss(link="sigmoid", iterations=2, dice_weight=1 - share), peer, logits, target, target)


def test_dice_and_cldice_without_class_0_beside_monai() -> None:
    """Of more classes that are left, MONAI's takes the mean of their Dice beside the clDice of all together."""
    logits, labels = masks("horse")
    targets = functional.one_hot(labels, 2).movedim(-1, 1).to(logits)
    options: dict[str, Any] = {"softmax": True, "include_background": False, "smooth_nr": 1.0, "smooth_dr": 1.0}
    peer = monai.SoftDiceclDiceLoss(iter_=2, alpha=0.3, smooth=1e-20, **options)
    both(lf.CLDiceLoss(iterations=2, dice_weight=0.7, include_background=False), peer, logits, labels, targets)


@pytest.mark.parametrize("kind", ["noise", "volume", "horse"])
@pytest.mark.parametrize("background", [True, False])
def test_boundary_beside_monai(kind: str, background: bool) -> None:
    """Which has neither ignored labels nor weights, and counts absent classes."""
    logits, labels = masks(kind)
    targets = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits)
    peer = monai.BoundaryLoss(include_background=background, softmax=True)
    both(lf.BoundaryLoss(include_background=background, absent="count"), peer, logits, labels, targets)
    peer = monai.BoundaryLoss(include_background=background, sigmoid=True)
    both(lf.BoundaryLoss(link="sigmoid", include_background=background, absent="count"), peer, logits, targets.bool(), targets)


def test_a_perfect_prediction_costs_nothing() -> None:
    """MONAI's costs 5e-5."""
    target = masks("horse")[1][:, None].float()
    assert lf.CLDiceLoss(link="identity", iterations=4)(target, target).abs() < 1e-6
    assert lf.HausdorffDTLoss(link="identity")(target, target) == 0
    assert monai.SoftclDiceLoss()(target, target) > 2e-5


@pytest.mark.parametrize("kind", ["HausdorffDTLoss", "CLDiceLoss", "BoundaryLoss", "SkeletonRecallLoss"])
def test_what_does_not_count_is_as_if_it_were_cut_off(kind: str) -> None:
    """By its label, by weight 0, and by a border: values and gradients; nothing behind it is read."""
    loss = lf.LOSSES[kind](ignore_index=255)
    logits, labels = torch.randn(2, 3, 9, 12).double(), torch.randint(0, 3, (2, 9, 12))
    truth = logits[..., :8].clone().requires_grad_()
    expected = loss(truth, labels[..., :8])
    (slope,) = torch.autograd.grad(expected, truth)
    spoilt = logits.clone()
    spoilt[..., 8:] = torch.nan
    ignored = labels.clone()
    ignored[..., 8:] = 255
    seen = torch.ones_like(labels, dtype=torch.bool)
    seen[..., 8:] = False
    for given in ((ignored,), (labels, seen), (labels, seen.double())):
        leaf = spoilt.clone().requires_grad_()
        value = loss(leaf, *given)
        torch.testing.assert_close(value, expected)
        (found,) = torch.autograd.grad(value, leaf)
        torch.testing.assert_close(found[..., :8], slope)
        assert found[..., 8:].abs().max() == 0


@pytest.mark.parametrize("space", [(30,), (11, 13), (5, 6, 7)], ids=str)
@pytest.mark.parametrize("kind", ["HausdorffDTLoss", "CLDiceLoss", "BoundaryLoss", "SkeletonRecallLoss", "StructureLoss"])
def test_a_weight_of_nothing_is_an_ignored_label(kind: str, space: tuple[int, ...]) -> None:
    """Of pixels and of elements, whatever the target is there; elsewhere weights weigh, and move no map."""
    smaller: dict[str, Any] = {"kernel_size": 5} if kind == "StructureLoss" else {}
    loss = lf.LOSSES[kind](link="sigmoid", ignore_index=255, **smaller)
    logits, target = torch.randn(2, 2, *space).double().requires_grad_(), (torch.rand(2, 2, *space) < 0.6).long()
    weights: list[Tensor] = [(torch.rand(2, *space) < 0.8), torch.rand(2, 2, *space).double().sub(0.2).clamp_min(0)]
    for weight in weights:
        nothing = (weight if weight.dim() == target.dim() else weight[:, None]).expand(target.shape) == 0
        ignored = target.masked_fill(nothing, 255)
        truth = loss(logits, ignored, weight)
        (expected,) = torch.autograd.grad(truth, logits)
        assert expected.abs().max() > 0 and nothing.any()
        for other in (target, ignored.where(~nothing, 0), ignored.where(~nothing, 1)):
            value = loss(logits, other, weight)
            torch.testing.assert_close(value, truth, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(torch.autograd.grad(value, logits)[0], expected, rtol=1e-12, atol=1e-14)
        if weight.dtype == torch.bool:
            torch.testing.assert_close(loss(logits, ignored), truth, rtol=1e-12, atol=1e-14)


def test_edges_of_masks() -> None:
    """Absent, full, one pixel, and the spacing of each sample; two channels of what one has."""
    logits = torch.full((1, 1, 5, 6), -9.0)
    none, full = torch.zeros(1, 1, 5, 6), torch.ones(1, 1, 5, 6)
    options: dict[str, Any] = {"link": "sigmoid", "absent": "count"}
    assert lf.HausdorffDTLoss(**options)(logits, none) == lf.HausdorffDTLoss(**options)(-logits, full) == 0
    one = none.clone()
    one[0, 0, 2, 3] = 1
    far = lf.HausdorffDTLoss(link="identity", alpha=1.0)
    shifted = one.roll(2, -1)
    # The two pixels are wrong, and each 2 from the other's mask and 1 from its own end.
    assert far(shifted, one).item() == pytest.approx(2 * (1 + 2) / 30)
    assert far(shifted, one, spacings=[[1.0, 0.5]]).item() == pytest.approx(2 * (0.5 + 1.0) / 30)
    assert lf.HausdorffDTLoss(link="identity", alpha=1.0, spacing=[1.0, 0.5])(shifted, one).item() == pytest.approx(0.1)
    both_samples = far(torch.cat([shifted] * 2), torch.cat([one] * 2), spacings=[[1.0, 1.0], [1.0, 0.5]])
    assert both_samples.item() == pytest.approx((0.2 + 0.1) / 2)


def test_shapes_of_large_and_extreme_logits() -> None:
    labels = torch.randint(0, 3, (2, 9, 8))
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        for scale in (25.0, 1e4):
            for loss in (lf.HausdorffDTLoss(), lf.CLDiceLoss(iterations=2)):
                leaf = (scale * torch.randn(2, 3, 9, 8)).to(dtype).requires_grad_()
                value = loss(leaf, labels)
                assert value.isfinite() and torch.autograd.grad(value, leaf)[0].isfinite().all()


def test_wrong_calls_are_refused() -> None:
    logits, labels = torch.randn(2, 3, 4, 5), torch.zeros(2, 4, 5).long()
    for call, words in (
        (lambda: lf.HausdorffDTLoss(alpha=0), "alpha"),
        (lambda: lf.HausdorffDTLoss(spacing=[1, -1]), "spacing"),
        (lambda: lf.HausdorffDTLoss(spacing=[1, 1, 1])(logits, labels), "spacing"),
        (lambda: lf.HausdorffDTLoss(engine="cpp")(logits, labels), "engine.*shapes"),
        (lambda: lf.CLDiceLoss(iterations=-1), "iterations"),
        (lambda: lf.CLDiceLoss()(torch.randn(2, 3), torch.zeros(2).long()), "logits"),
        (lambda: lf.CLDiceLoss()(logits, labels + 7), "labels"),
        (lambda: lf.CLDiceLoss(link="identity")(logits, labels), "probabilities"),
        (lambda: lf.functional.soft_skeleton(logits.long()), "image"),
        (lambda: lf.functional.soft_skeleton(logits, -1), "iterations"),
        (lambda: lf.functional.soft_skeleton(logits, 1, labels), "counted"),
    ):
        with pytest.raises(lf.LossError, match=words):
            call()


@pytest.mark.parametrize("space", [(9,), (7, 8), (4, 5, 3)], ids=str)
def test_the_lean_skeleton_is_the_definition(space: tuple[int, ...]) -> None:
    """Values, gradients and second derivatives, with ties, with ones and zeros, and with what does not count."""
    smooth = torch.rand(2, 2, *space, dtype=torch.float64)
    for image in (smooth, (smooth * 4).round() / 4, (smooth > 0.4).double()):
        for counted in (None, torch.rand(2, 1, *space) < 0.8):
            first, second = image.clone().requires_grad_(), image.clone().requires_grad_()
            truth, found = soft_skeletons.definition(first, counted, 3), soft_skeletons.skeleton(second, counted, 3)
            torch.testing.assert_close(found, truth, rtol=1e-12, atol=1e-14)
            seed = torch.rand_like(image)
            slopes = [torch.autograd.grad(s, x, seed)[0] for s, x in ((found, second), (truth, first))]
            torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-13)
    leaf = smooth[:1, :1].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: soft_skeletons.skeleton(x, None, 1), (leaf,), fast_mode=True)


def test_the_skeleton_keeps_nothing_for_its_iterations() -> None:
    """Of what autograd keeps there are as many bytes after thirty iterations as after three."""
    kept: dict[int, int] = {}
    for iterations in (3, 30):
        sizes: list[int] = []
        leaf = torch.rand(1, 1, 24, 24, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.nbytes) or t, lambda t: t):  # type: ignore[arg-type]
            lf.CLDiceLoss(link="identity", iterations=iterations)(leaf, (leaf > 0.5).detach())
        kept[iterations] = sum(sizes)
    assert kept[3] == kept[30] > 0


def test_compiled_once() -> None:
    """Without a graph break, and with the same numbers."""
    torch._dynamo.reset()
    logits, labels = torch.randn(1, 3, 6, 7).double(), torch.randint(0, 3, (1, 6, 7))
    labels[0, 0] = 255
    terms = lf.LossSet(h=lf.HausdorffDTLoss(ignore_index=255), c=lf.CLDiceLoss(ignore_index=255, iterations=1))
    found = []
    for function in (terms, torch.compile(lambda *x: terms(*x), fullgraph=True, backend="aot_eager")):
        leaf = logits.clone().requires_grad_()
        total = function(leaf, labels).total
        found += [total.detach(), torch.autograd.grad(total, leaf)[0]]
    torch._dynamo.reset()
    torch.testing.assert_close(found[:2], found[2:])


def test_channels_that_are_not_annotated_have_no_structure() -> None:
    x, t = torch.randn(2, 3, 9, 8, dtype=torch.float64), torch.rand(2, 3, 9, 8) > 0.5
    annotated = torch.tensor([[True, False, True], [True, True, False]])
    loss = lf.StructureLoss(kernel_size=5, absent="skip")
    weight = annotated[:, :, None, None].expand(t.shape).double()
    torch.testing.assert_close(loss(x, t, annotated=annotated), loss(x, t, weight))
