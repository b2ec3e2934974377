"""Faults of single losses that were seen in use: each stays mended."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from lossfold import metrics

ENGINES = lf.engines.available()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weighting", ["square", "simple", "uniform"])
def test_generalised_dice_of_soft_targets(engine: str, weighting: str) -> None:
    """Both forms, as Dice has them: a target that is met costs nothing, or the product of the paper."""
    t = torch.rand(2, 3, 40, dtype=torch.float64)
    p = torch.rand(2, 3, 40, dtype=torch.float64)
    options = {"link": "identity", "weighting": weighting, "engine": engine}
    assert lf.GeneralizedDiceLoss(**options)(t, t).abs() < 1e-12
    size = t.sum((0, 2))
    omega = {"square": 1 / size**2, "simple": 1 / size, "uniform": torch.ones(3, dtype=torch.float64)}[weighting]
    for form, both in (("product", p * t), ("distance", (p + t - (p - t).abs()) / 2)):
        expected = 1 - 2 * (omega * both.sum((0, 2))).sum() / (omega * (p + t).sum((0, 2))).sum()
        torch.testing.assert_close(lf.GeneralizedDiceLoss(soft_overlap=form, **options)(p, t), expected)


@pytest.mark.parametrize("name", ["cross_entropy_loss", "dice_loss", "lovasz_loss", "ce_dice_loss", "binary_cross_entropy_loss"])
def test_weights_of_classes_in_the_third_place(name: str) -> None:
    """N weights of C = N classes would pass for those of N pixels."""
    x, y, w = torch.randn(3, 3), torch.tensor([2, 0, 0]), torch.tensor([1.0, 2.0, 3.0])
    y = torch.eye(3) if name == "binary_cross_entropy_loss" else y
    function = getattr(lf.functional, name)
    with pytest.raises(lf.LossError, match=rf"{name}: weight must be given by name.*class_weight="):
        function(x, y, w)
    assert function(x, y, weight=w) != function(x, y, class_weight=w)
    torch.testing.assert_close(
        lf.functional.cross_entropy_loss(x, torch.tensor([0, 1, 2]), class_weight=w),
        torch.nn.functional.cross_entropy(x, torch.tensor([0, 1, 2]), w),
    )


def test_heads_of_lpips_that_make_distances_negative(tmp_path) -> None:  # type: ignore[no-untyped-def]
    state = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate((64, 128, 256, 512, 512))}
    path = tmp_path / "heads.pth"
    torch.save(state, path)
    lf.LPIPSLoss(pretrained="random", linear=str(path))
    for bad in (-0.1, torch.nan):
        state["lin2.model.1.weight"][0, 7] = bad
        torch.save(state, path)
        with pytest.raises(lf.LossError, match="linear must be weights of LPIPS, all >= 0"):
            lf.LPIPSLoss(pretrained="random", linear=str(path))


@pytest.mark.parametrize("metric", [metrics.iou_binary, metrics.dice_binary])
def test_metrics_of_one_dimensional_space(metric) -> None:  # type: ignore[no-untyped-def]
    preds, labels = torch.rand(3, 50) > 0.5, torch.rand(3, 50) > 0.5
    assert metric(preds, labels) == metric(preds[..., None], labels[..., None])
    assert metrics.iou(preds.long(), labels.long(), C=2, per_image=True).shape == (2,)
    with pytest.raises(lf.LossError, match=r"image\[None\]"):
        metric(preds[0], labels[0])


def test_components_have_the_defaults_of_their_dialect() -> None:
    assert lf.DiscShiftLossComps().loss_weight == lf.build({"type": "DiscShiftLossComps"}).loss_weight == 1.0
    assert lf.GeneratorPathRegularizerComps().batch_shrink == 1
    assert lf.DiscShiftLoss().loss_weight == 0.1 and lf.GeneratorPathRegularizer().batch_shrink == 2
    assert repr(lf.DiscShiftLossComps(loss_weight=0.1)) == "DiscShiftLossComps(loss_weight=0.1)"
    with pytest.raises(lf.LossError, match="batch_shrink"):
        lf.GeneratorPathRegularizerComps(batch_shrink=0)


def test_a_hole_at_the_border_of_smgan() -> None:
    """MMagic pads its blur with zeros; in the middle of an image both are alike."""
    x, hole = torch.randn(1, 1, 160, 160), torch.zeros(1, 1, 160, 160)
    hole[..., 76:84, 76:84] = 1
    for zeros, same in ((lf.GANLoss("smgan", padding="zeros"), True), (lf.GANLoss("smgan", padding="zeros"), False)):
        given = {"target_is_real": False, "is_disc": True, "mask": hole if same else hole.roll(76, 3)}
        assert torch.isclose(zeros(x, **given), lf.GANLoss("smgan")(x, **given), rtol=1e-5) == same
    edge = hole.roll(76, 3)
    steps = torch.arange(71.0) - 35
    taps = torch.softmax(-0.5 * (steps / 10).square(), 0)
    blurred = torch.nn.functional.conv2d(edge, (taps[:, None] * taps)[None, None], padding=35)
    expected = (x - (1 - blurred)).square().mean()
    torch.testing.assert_close(lf.GANLoss("smgan", padding="zeros")(x, False, True, edge), expected)
    with pytest.raises(lf.LossError, match="padding"):
        lf.GANLoss("hinge", padding="zeros")
