"""Presets and losses beside what their authors' code gives: numbers that it printed, in float32, for inputs made by formula.

Each test names the code and its version; all are held to a relative 1e-5, a few float32 roundings of sums.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from lossfold import presets


def wave(*shape: int, rate: float) -> Tensor:
    """sin(rate · i) of all elements i, rounded to float32 last."""
    return (torch.arange(torch.Size(shape).numel(), dtype=torch.float64) * rate).sin().reshape(shape)


def share(*shape: int, rate: float) -> Tensor:
    """The same from 0 to 1."""
    return (wave(*shape, rate=rate) * 0.5 + 0.5).float()


def classes(*shape: int, count: int, rate: float) -> Tensor:
    """Labels that follow each other in bands of unequal length."""
    return ((wave(*shape, rate=rate) * 0.5 + 0.5) * count).long().clamp(max=count - 1)


def same(value: Tensor, published: float) -> None:
    torch.testing.assert_close(value.detach().double(), torch.tensor(published, dtype=torch.float64), rtol=1e-5, atol=0)


def same_slopes(value: Tensor, leaves: list[Tensor], norms: list[float]) -> None:
    """The gradients' lengths."""
    for slope, norm in zip(torch.autograd.grad(value, leaves), norms, strict=True):
        same(slope.double().norm(), norm)


HEADS = ((6, 0.37), (12, 0.53), (24, 0.71))


@pytest.mark.parametrize(
    ("weights", "total", "norms"),
    [
        ({}, 105.90089416503906, [0.414910864240666, 0.6557819811634206, 0.5345064283013583]),
        ({"mae": 100.0}, 244.18264770507812, [0.6034812281075741, 0.9808610283160334, 0.865166356037199]),
        ({"mae": 100.0, "iou": 0.0}, 242.21051025390625, [0.6026946750232637, 0.9780613570675925, 0.8622939267164665]),
    ],
    ids=["DIS5K", "General", "Matting"],
)
def test_birefnet(weights: dict[str, float], total: float, norms: list[float]) -> None:
    """ZhengPeng7/BiRefNet at 25cb930, `loss.PixLoss` with the weights of each task in `config.py`."""
    heads = [(3 * wave(2, 1, side, side + 2, rate=rate)).float().requires_grad_() for side, rate in HEADS]
    target = (wave(2, 1, 24, 26, rate=0.19) * 1.5 + 0.5).clamp(0, 1).float()
    criterion = presets.birefnet(3, **weights)
    out = criterion(heads, target)
    same(out.total, total)
    same_slopes(out.total, heads, norms)
    if not weights:
        for name, published in (("bce", 90.61345481872559), ("iou", 1.9721328616142273), ("ssim", 13.315305709838867)):
            same(sum(criterion[f"{name}{i}"].loss_weight * out.terms[f"{name}{i}"].double() for i in range(3)), published)


def test_gaussian_splatting() -> None:
    """graphdeco-inria/gaussian-splatting at 15d64e6, `loss_utils`: 0.8 `l1_loss` + 0.2 (1 - `ssim`)."""
    pred, target = share(2, 3, 24, 20, rate=0.37).requires_grad_(), share(2, 3, 24, 20, rate=0.11)
    for criterion in (presets.gaussian_splatting(), lf.LossSet(both=lf.L1SSIMLoss())):
        out = criterion(pred, target)
        same(out.total, 0.4973108768463135)
        same_slopes(out.total, [pred], [0.021814484149217606])


def test_sam2() -> None:
    """facebookresearch/sam2 at 2b90b9f, `MultiStepMultiMasksAndIous`; its training's settings, with an empty mask."""
    logits, masks = (3 * wave(4, 3, 12, 10, rate=0.37)).float().requires_grad_(), wave(4, 12, 10, rate=0.19) > 0.2
    masks[2] = False
    ious, objects = share(4, 3, rate=0.7), (2 * wave(4, 1, rate=0.9)).float()
    out = presets.multimask_losses()(logits, masks, ious, objects)
    same(out.total, 6.891469955444336)
    same_slopes(out.total, [logits], [0.2938912510871887])
    published = {"focal": 0.27225273847579956, "dice": 0.3442849814891815, "iou": 0.2725868225097656, "objects": 0.8295433521270752}
    for name, value in published.items():
        same(out.terms[name], value)


def test_sam() -> None:
    """The same with SAM's settings: squared errors of the best candidate's IoU. There are no empty masks in it: the authors' code
    then trains them as objects, where the preset takes them as absent whether or not there is a score of that."""
    logits, masks = (3 * wave(4, 3, 12, 10, rate=0.37)).float().requires_grad_(), wave(4, 12, 10, rate=0.19) > 0.2
    out = presets.multimask_losses(quality="mse", objects=0, every_quality=False)(logits, masks, share(4, 3, rate=0.7))
    same(out.total, 8.09597396850586)
    same_slopes(out.total, [logits], [0.34796643257141113])


@pytest.mark.parametrize(("epsilon", "published"), [(1.0, 3.868483781814575), (2.0, 4.6522440910339355)])
def test_poly(epsilon: float, published: float) -> None:
    """abhuse/polyloss-pytorch at b9b2fb3, `Poly1CrossEntropyLoss`, pixels as its rows; the paper itself has a few lines."""
    same(lf.PolyLoss(epsilon=epsilon)(LOGITS, LABELS), published)


def test_poly_of_focal() -> None:
    """The same, `Poly1FocalLoss` with gamma 2, without alpha, which would weigh the focal part alone."""
    same(lf.PolyLoss(epsilon=1.5, gamma=2.0, link="sigmoid")(LOGITS, HOT), 1.357801079750061)


LOGITS = (3 * wave(2, 4, 5, 6, rate=0.37)).float()
LABELS = classes(2, 5, 6, count=4, rate=0.61)
HOT = functional.one_hot(LABELS, 4).movedim(-1, 1).float()


def test_exponential_logarithmic_dice() -> None:
    """IBM/multimodal-3d-image-segmentation at 4d2a5b2, `ExpDiceLoss`, by the paper's first author: Dice of each image and class."""
    logits = LOGITS.clone().requires_grad_()
    criterion = lf.ExpLogLoss(dice_weight=1.0, ce_weight=0.0, smooth=0.0, absent="count", per_image=True)
    value = criterion(logits, LABELS).total
    same(value, 1.1522653102874756)
    same_slopes(value, [logits], [0.025103360414505005])


def test_exponential_logarithmic_cross_entropy() -> None:
    """PyMIC 0.6.2, `ExpLogLoss`. It takes 0.005 + 0.99 p in the place of p and of Dice, where lossfold and the paper take them as
    they are; classes weigh (0.1 + their share)^-1/2; and the weighted sum is divided by the number of pixels."""
    weights = (HOT.mean((0, 2, 3)) + 0.1) ** -0.5
    squeezed = 0.005 + 0.99 * LOGITS.double().softmax(1)
    options: dict[str, Any] = {"dice_weight": 0.0, "ce_weight": 1.0, "link": "identity"}
    ce = lf.ExpLogLoss(class_weight=weights.tolist(), **options)(squeezed, LABELS).total
    same(ce * weights[LABELS].mean(), 2.093269109725952)
    scores = 1 - lf.DiceLoss(smooth=1e-5, absent="count", reduction="none")(LOGITS, LABELS)
    same(((-(0.005 + 0.99 * scores).log()) ** 0.3).mean(), 1.1387181282043457)


NNUNET = [
    (True, None, 2.4603710174560547, 2.675471782684326, [0.025005423041867775, 0.024348837245329536]),
    (True, 4, 2.4588756561279297, 2.6718597412109375, [0.026738592282028233, 0.025528763440052678]),
    (False, None, 2.4604334831237793, 2.6754801273345947, [0.02500534040921245, 0.024346254841968232]),
    (False, 4, 2.4590530395507812, 2.671858310699463, [0.026738632709144672, 0.025517668744545717]),
]


@pytest.mark.parametrize(("batch", "ignored", "deep", "single", "norms"), NNUNET)
def test_nnunet(batch: bool, ignored: int | None, deep: float, single: float, norms: list[float]) -> None:
    """nnunetv2 2.8.1 as its trainer builds it: `DC_and_CE_loss` with `MemoryEfficientSoftDiceLoss`, batch Dice and not, an ignored
    label, and `DeepSupervisionWrapper`, with labels of the nearest pixels. Its Dice is -score: it is 1 less than ours."""
    heads = [
        (3 * wave(2, 4, 24 // 2**i, 20 // 2**i, rate=rate)).float().requires_grad_() for i, rate in enumerate((0.37, 0.53, 0.71))
    ]
    labels = classes(2, 24, 20, count=4, rate=0.61)
    common: dict[str, Any] = {} if ignored is None else {"ignore_index": ignored}
    if ignored is not None:
        labels[:, :3] = ignored
    dice: dict[str, Any] = {"smooth": 1e-5, "absent": "count", "include_background": False}
    each = lf.LossSet(ce=lf.CrossEntropyLoss(**common), dice=lf.DiceLoss(per_image=True, **dice, **common))
    loss = lf.CEDiceLoss(**dice, **common) if batch else each
    same(lf.LossSet(one=loss)(heads[0], labels).total - 1, single)
    out = presets.deep_supervision(loss, 3, skip_last=True, at="heads")(heads, labels)
    same(out.total - 1, deep)
    same_slopes(out.total, heads[:2], norms)


def test_modnet() -> None:
    """ZHKKKe/MODNet at 28165a4, `src/trainer.supervised_training_iter`, of a network that returns these maps."""
    alpha = (wave(2, 1, 32, 32, rate=0.019) * 1.5 + 0.5).clamp(0, 1).float()
    reduced = [0.5004420876502991, 0.5004420876502991, 0.4995579421520233, 0.4995579421520233]
    reduced += [0.44966015219688416, 0.4497498571872711, 0.44886574149131775, 0.4489552974700928]  # by its blur
    step = {
        "semantic": share(2, 1, 2, 2, rate=0.9),
        "semantic_target": torch.tensor(reduced).view(2, 1, 2, 2),
        "detail": share(2, 1, 32, 32, rate=0.31),
        "matte": share(2, 1, 32, 32, rate=0.43),
        "alpha": alpha,
        "unknown": (alpha > 0) & (alpha < 1),
        "image": share(2, 3, 32, 32, rate=0.23),
    }
    out = presets.modnet()(step)
    same(out.total, 2.9952797889709473)
    same(10 * out.terms["semantic"], 0.967333972454071)
    same(10 * out.terms["detail"], 0.8308472633361816)


def test_rvm() -> None:
    """PeterL1n/RobustVideoMatting at 53d74c6, `train_loss.matting_loss`."""
    step = {
        "alpha": share(2, 3, 1, 64, 64, rate=0.31),
        "alpha_target": (wave(2, 3, 1, 64, 64, rate=0.007) * 1.5 + 0.5).clamp(0, 1).float(),
        "foreground": share(2, 3, 3, 64, 64, rate=0.43),
        "foreground_target": share(2, 3, 3, 64, 64, rate=0.011),
    }
    out = presets.rvm()(step)
    same(out.total, 6.896737575531006)
    published = {"alpha": 0.47320422530174255, "laplacian": 0.46533840894699097, "foreground": 0.24851809442043304}
    for name, value in published.items():
        same(out.terms[name], value)
    same(5 * out.terms["alpha_coherence"], 4.181919574737549)
    same(5 * out.terms["foreground_coherence"], 1.5277575254440308)


DEPTH = (wave(2, 1, 12, 16, rate=0.37) + 1.5).float(), (wave(2, 1, 12, 16, rate=0.11) * 2 + 2.5).float()


def test_depth_anything_of_metres() -> None:
    """DepthAnything/Depth-Anything-V2 at a561b84, `metric_depth/util/loss.SiLogLoss`, with a mask."""
    pred, target = DEPTH
    same(presets.depth_anything_v2(metric=True)(pred, target, (target >= 1) & (target <= 4)).total, 0.7905498147010803)


@pytest.mark.parametrize(
    ("image", "untrimmed", "trimmed", "gradients"),
    [
        (0, 0.6424301266670227, 0.4885580241680145, 7.629749298095703),
        (1, 0.6592188477516174, 0.5068532824516296, 9.004440307617188),
    ],
)
def test_depth_anything_of_disparities(image: int, untrimmed: float, trimmed: float, gradients: float) -> None:
    """MiDaS's losses of its authors, gist ranftlr/1d6194d, which Depth Anything names: `normalize_prediction_robust`,
    `trimmed_mae_loss` and `gradient_loss` of four scales; Depth Anything's own training of relative depth is not published.

    As it is written, `trimmed_mae_loss` cuts the pair of values and indices that `sort` returns, not the values, and trims nothing:
    that is the number `untrimmed`. `trimmed` is with the cut at the values, as in the paper. Its mean is halved, ours is whole.
    """
    pred, target = (one[image : image + 1] for one in DEPTH)
    same(presets.depth_anything_v2(trim=0.0)(pred, target).total, 2 * untrimmed + 2 * gradients)
    same(presets.depth_anything_v2(trim=0.1)(pred, target).total, 2 * trimmed + 2 * gradients)
    same(presets.depth_anything_v2(trim=0.1, gradients=0.0)(pred, target).total, 2 * trimmed)
