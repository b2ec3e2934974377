"""Sets of losses as well-known heads use them, ready to call."""

from __future__ import annotations

from typing import Any

from torch import nn

from lossfold.compose.deep import AT, HeadSet
from lossfold.compose.loss_set import LossSet
from lossfold.compose.multimask import QUALITIES, MultimaskSet
from lossfold.compose.term import Term
from lossfold.errors import LossError
from lossfold.losses.adversarial.gan import GANLoss
from lossfold.losses.adversarial.path_length import GeneratorPathRegularizer
from lossfold.losses.adversarial.penalties import R1GradientPenalty
from lossfold.losses.classes.focal import FocalLoss
from lossfold.losses.classes.overlap import DiceLoss
from lossfold.losses.masks.binary import BinaryCrossEntropyLoss
from lossfold.options import Number, Truth, Word
from lossfold.registry import preset

WEIGHT, SMOOTH = Number(), DiceLoss.kinds["smooth"]


@preset(bce=WEIGHT, dice=WEIGHT, focal=WEIGHT, smooth=SMOOTH)
def mask_losses(*, bce: float = 5.0, dice: float = 5.0, focal: float = 0.0, smooth: float = 1.0, **options: Any) -> LossSet:
    """Return binary cross entropy and Dice for instance masks, every mask for itself, empty ones included.

    The result is called ``(logits, masks, weight=None, normalizer=None)``, N masks as ``[N, H, W]`` or ``[N, P]``, with a channel
    ``[N, 1, ...]`` or without: with a ``normalizer``, say the number of masks in the batch over all ranks, the losses of the
    masks are added and divided by max(normalizer, 1); without, it is their mean.

    Args:
        bce: the weight of the cross entropy, the mean over a mask's pixels or points; 0 leaves it out.
        dice: the weight of the Dice loss, 1 - (2 Σpt + smooth) / (Σp + Σt + smooth) over a mask; 0 leaves it out.
        focal: the weight of the focal loss (γ = 2, α = 0.25); 0 leaves it out.
        smooth: of the Dice loss.
        options: further options of all the losses, such as ``engine``.

    Mask2Former takes 5 and 5 (the defaults); SAM ``bce=0, dice=1, focal=20``; LISA ``bce=2, dice=0.5, smooth=1e-3``.

    Raises:
        LossError: for options out of range, and if every weight is 0.

    Example:
        >>> criterion = mask_losses()
        >>> out = criterion(torch.randn(7, 64, 64), torch.rand(7, 64, 64) > 0.5, normalizer=7)
        >>> sorted(out.terms)
        ['bce', 'dice']

    Reference:
        Cheng et al., Mask2Former, CVPR 2022; Kirillov et al., Segment Anything, ICCV 2023; Lai et al., LISA, CVPR 2024.
    """
    options = {"per_image": True, **options}
    dice_options: dict[str, Any] = {"link": "sigmoid", "smooth": smooth, "absent": "count", "soft_overlap": "product"}
    criterion = LossSet(
        {
            **({"bce": BinaryCrossEntropyLoss(loss_weight=bce, **options)} if bce else {}),
            **({"dice": DiceLoss(loss_weight=dice, **dice_options, **options)} if dice else {}),
            **({"focal": FocalLoss(loss_weight=focal, link="sigmoid", alpha=0.25, **options)} if focal else {}),
        }
    )
    for _, loss, *_ in criterion.leaves():
        loss.without_channels = True  # type: ignore[assignment]
    return criterion


@preset(bce=WEIGHT, dice=WEIGHT, focal=WEIGHT, smooth=SMOOTH)
def pixel_losses(*, bce: float = 1.0, dice: float = 1.0, focal: float = 0.0, smooth: float = 1.0, **options: Any) -> LossSet:
    """Return binary cross entropy and Dice for the pixels of a binary or multi-label segmentation, over the whole batch.

    Args:
        bce: the weight of the cross entropy, the mean over all counted pixels and channels; 0 leaves it out.
        dice: the weight of the Dice loss, the mean over the channels that have foreground; 0 leaves it out.
        focal: the weight of the focal loss (γ = 2, α = 0.25); 0 leaves it out.
        smooth: of the Dice loss.
        options: further options of all the losses, such as ``ignore_index`` or ``class_weight``.

    Raises:
        LossError: for options out of range, and if every weight is 0.

    Example:
        >>> out = pixel_losses(ignore_index=255)(torch.randn(2, 3, 32, 32), torch.randint(0, 2, (2, 3, 32, 32)))
        >>> sorted(out.terms)
        ['bce', 'dice']
    """
    return LossSet(
        {
            **({"bce": BinaryCrossEntropyLoss(loss_weight=bce, **options)} if bce else {}),
            **({"dice": DiceLoss(loss_weight=dice, link="sigmoid", smooth=smooth, **options)} if dice else {}),
            **({"focal": FocalLoss(loss_weight=focal, link="sigmoid", alpha=0.25, **options)} if focal else {}),
        }
    )


@preset(heads=Number(at_least=1, whole=True), decay=Number(more_than=0), skip_last=Truth(), normalize=Truth(), at=Word(among=AT))
def deep_supervision(
    loss: nn.Module,
    heads: int,
    *,
    decay: float = 0.5,
    skip_last: bool = False,
    normalize: bool = True,
    at: str = "labels",
) -> LossSet:
    """Return one loss on each of a network's heads, of which the first, the finest, weighs most.

    The result is called ``(logits, labels, weight=None)`` with a list of the heads' logits, in two or three dimensions and of any
    resolutions. Its terms are ``head0``, ``head1``...; the weight of head i is decay^i.

    Args:
        loss: of scores, or a set of such losses, as :class:`CEDiceLoss`.
        heads: how many there are.
        decay: of the weights.
        skip_last: whether the last, the coarsest, has no weight.
        normalize: whether the weights are divided by their sum.
        at: ``"labels"`` scores every head at the labels' resolution, by interpolating its logits within the loss; ``"heads"`` each
            at its own, against the labels of the nearest pixels.

    nnU-Net's is ``deep_supervision(CEDiceLoss(smooth=1e-5, absent="count", include_background=False), heads, skip_last=True,
    at="heads")``; MONAI's has ``normalize=False``.

    Raises:
        LossError: for a loss that reads anything but logits and labels, and at the call for another number of heads.

    Example:
        >>> criterion = deep_supervision(CEDiceLoss(ignore_index=255), 3, skip_last=True)
        >>> heads = [torch.randn(2, 4, 32 // 2**i, 32 // 2**i) for i in range(3)]
        >>> sorted(criterion(heads, torch.randint(0, 4, (2, 32, 32))).terms)
        ['head0.ce', 'head0.dice', 'head1.ce', 'head1.dice']

    Reference:
        Isensee et al., nnU-Net, Nature Methods 2021; Lee et al., Deeply-Supervised Nets, AISTATS 2015.
    """
    weights = [decay**i for i in range(heads)]
    if skip_last:
        if heads == 1:
            raise LossError("deep_supervision", "skip_last", "False with one head", "True", "no head would be left")
        weights[-1] = 0.0
    total = sum(weights) if normalize else 1.0
    return HeadSet(loss, [weight / total for weight in weights], at)


@preset(focal=WEIGHT, dice=WEIGHT, iou=WEIGHT, objects=WEIGHT, smooth=SMOOTH, quality=Word(among=QUALITIES), every_quality=Truth())
def multimask_losses(
    *,
    focal: float = 20.0,
    dice: float = 1.0,
    iou: float = 1.0,
    objects: float = 1.0,
    smooth: float = 1.0,
    quality: str = "l1",
    every_quality: bool = True,
    **options: Any,
) -> LossSet:
    """Return SAM's losses of heads that give several candidate masks for each object: the best candidate alone is trained.

    The result is called ``(logits [N, K, H, W], masks [N, H, W], ious [N, K], objects [N], normalizer=None)``, with the IoUs that
    the network expects of its candidates, and the logits of whether the object is there; the last two are left out where their
    weights are 0. The candidate that counts is that of the least focal·focal loss + dice·Dice loss; an object whose mask is empty
    is absent, and only its score is trained. The losses of all objects are added and divided by max(normalizer, 1), whose default
    is N.

    Args:
        focal: the weight of the focal loss (γ = 2, α = 0.25), the mean over the candidate's pixels.
        dice: the weight of the Dice loss.
        iou: the weight of the errors of the expected IoUs.
        objects: the weight of the cross entropy of the objects' scores.
        smooth: of the Dice loss.
        quality: ``"l1"`` or ``"mse"``, of the expected IoUs.
        every_quality: whether all candidates' expected IoUs are trained, or the best one's alone.
        options: further options of the losses of masks, such as ``engine``.

    Masks hold 0 and 1, and no ignored label; others are refused where values are looked at (on CPUs, else with ``validate=True``).

    SAM 2's are the defaults; SAM's ``quality="mse", objects=0``.

    Raises:
        LossError: for options out of range, and at the call for shapes that do not fit.

    Example:
        >>> criterion = multimask_losses()
        >>> out = criterion(torch.randn(5, 3, 32, 32), torch.rand(5, 32, 32) > 0.5, torch.rand(5, 3), torch.randn(5))
        >>> sorted(out.terms)
        ['dice', 'focal', 'iou', 'objects']

    Reference:
        Kirillov et al., Segment Anything, ICCV 2023; Ravi et al., SAM 2, 2024.
    """
    return MultimaskSet(focal, dice, iou, objects, smooth, quality, every_quality, options)


@preset(r1_gamma=WEIGHT, r1_every=Term.kinds["every"])
def stylegan2_discriminator(*, r1_gamma: float = 10.0, r1_every: int = 16) -> LossSet:
    """Return StyleGAN2's objective of the discriminator, for one dict of a training step.

    It reads ``disc_pred_real``, ``disc_pred_fake``, ``disc`` (the discriminator) and ``real_imgs``: softplus(−real) +
    softplus(fake), and every 16 steps γ/2·16 times R1 over whole images. Call ``advance()`` after each step.

    Args:
        r1_gamma: γ, of the images' size: 10 for 256x256.
        r1_every: the interval of R1.

    Raises:
        LossError: for options out of range.

    Example:
        >>> print(stylegan2_discriminator().plan().splitlines()[-1])
        on its own: r1 (every 16 steps)

    Reference:
        Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020.
    """
    given: dict[str, Any] = {"gan_type": "wgan-logistic-ns", "is_disc": True}
    penalty = R1GradientPenalty(norm_mode="HWC", inputs={"discriminator": "disc", "real": "real_imgs"})
    return LossSet(
        real=GANLoss(target_is_real=True, inputs={"input": "disc_pred_real"}, **given),
        fake=GANLoss(target_is_real=False, inputs={"input": "disc_pred_fake"}, **given),
        r1=Term(r1_gamma / 2 * penalty, every=r1_every),
    )


@preset(
    path_weight=WEIGHT,
    path_every=Term.kinds["every"],
    batch_shrink=GeneratorPathRegularizer.kinds["batch_shrink"],
    decay=GeneratorPathRegularizer.kinds["decay"],
)
def stylegan2_generator(*, path_weight: float = 2.0, path_every: int = 4, batch_shrink: int = 2, decay: float = 0.01) -> LossSet:
    """Return StyleGAN2's objective of the generator, for one dict of a training step.

    It reads ``disc_pred_fake``, ``gen`` (the generator, which returns images and styles) and ``latents``: softplus(−fake), and
    every 4 steps 2·4 times the path-length regulariser on half of the batch. Call ``advance()`` after each step.

    Args:
        path_weight: the weight of the regulariser.
        path_every: its interval.
        batch_shrink, decay: as for :class:`GeneratorPathRegularizer`.

    Raises:
        LossError: for options out of range.

    Example:
        >>> print(stylegan2_generator().plan().splitlines()[-1])
        on its own: path (every 4 steps)

    Reference:
        Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020.
    """
    inputs = {"generator": "gen", "latents": "latents"}
    path = GeneratorPathRegularizer(batch_shrink=batch_shrink, decay=decay, inputs=inputs)
    return LossSet(
        gan=GANLoss("wgan-logistic-ns", target_is_real=True, inputs={"input": "disc_pred_fake"}),
        path=Term(path_weight * path, every=path_every),
    )
