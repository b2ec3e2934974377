"""Sets of losses as well-known heads use them, ready to call."""

from __future__ import annotations

from typing import Any

from lossfold.compose.loss_set import LossSet
from lossfold.compose.term import Term
from lossfold.image_presets import depth_anything_v2 as depth_anything_v2
from lossfold.image_presets import gaussian_splatting as gaussian_splatting
from lossfold.image_presets import modnet as modnet
from lossfold.image_presets import rvm as rvm
from lossfold.losses.adversarial.gan import GANLoss
from lossfold.losses.adversarial.path_length import GeneratorPathRegularizer
from lossfold.losses.adversarial.penalties import R1GradientPenalty
from lossfold.losses.classes.focal import FocalLoss
from lossfold.losses.classes.overlap import DiceLoss
from lossfold.losses.masks.binary import BinaryCrossEntropyLoss
from lossfold.options import Number
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
