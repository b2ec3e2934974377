"""BasicSR's option files: ``pixel_opt``, ``perceptual_opt``, ``gan_opt`` and their kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossfold.config.dialects.converted import Converted, Dialect, given, refuse

GAN_TYPES = {name: name for name in ("vanilla", "lsgan", "wgan", "hinge")} | {"wgan_softplus": "wgan-logistic-ns"}
CRITERIA = {"l1": "l1", "l2": "mse"}
WEIGHTS = "the VGG's weights: add pretrained: torchvision, which downloads, or the path of a state dict"


def pixel(name: str) -> Any:
    """Return the conversion of a loss whose words are ours."""

    def convert(loss_weight: float = 1.0, reduction: str = "mean") -> Converted:
        return Converted(name, given(loss_weight=loss_weight, reduction=reduction))

    return convert


def charbonnier(loss_weight: float = 1.0, reduction: str = "mean", eps: float = 1e-12) -> Converted:
    """sqrt(d² + eps)."""
    return Converted(
        "CharbonnierLoss", given(loss_weight=loss_weight, reduction=reduction) | ({"eps": eps} if eps != 1e-12 else {})
    )


def total_variation(loss_weight: float = 1.0, reduction: str = "mean") -> Converted:
    """The mean of |dx| plus that of |dy|, under a weight."""
    if reduction != "mean":
        raise refuse("reduction", "'mean'", reduction)
    return Converted("MaskedTVLoss", given(loss_weight=loss_weight))


def perceptual(
    layer_weights: Mapping[str, float],
    vgg_type: str = "vgg19",
    use_input_norm: bool = True,
    range_norm: bool = False,
    perceptual_weight: float = 1.0,
    style_weight: float = 0.0,
    criterion: str = "l1",
    pretrained: str | None = None,
) -> Converted:
    """Features of a VGG; images in [0, 1] unless range_norm. ``pretrained`` is ours: BasicSR downloads unasked."""
    if criterion not in CRITERIA:
        raise refuse("criterion", "'l1' or 'l2'", criterion, "the Frobenius norm is not here")
    options = {
        "layer_weights": dict(layer_weights),
        "vgg_type": vgg_type,
        "use_input_norm": use_input_norm,
        "norm_img": range_norm,
        "perceptual_weight": perceptual_weight,
        "style_weight": style_weight,
        "criterion": CRITERIA[criterion],
    }
    if pretrained is None:
        return Converted("PerceptualLoss", options, missing=(WEIGHTS,))
    return Converted("PerceptualLoss", options | {"pretrained": pretrained})


def gan(gan_type: str, real_label_val: float = 1.0, fake_label_val: float = 0.0, loss_weight: float = 1.0) -> Converted:
    """The weight acts on the generator only."""
    if gan_type not in GAN_TYPES:
        raise refuse("gan_type", f"one of {', '.join(GAN_TYPES)}", gan_type)
    labels = {"real_label_val": real_label_val, "fake_label_val": fake_label_val} if gan_type in ("vanilla", "lsgan") else {}
    return Converted("GANLoss", {"gan_type": GAN_TYPES[gan_type], **labels, **given(loss_weight=loss_weight)})


BASICSR = Dialect(
    "basicsr",
    {
        "L1Loss": pixel("L1Loss"),
        "MSELoss": pixel("MSELoss"),
        "CharbonnierLoss": charbonnier,
        "WeightedTVLoss": total_variation,
        "PerceptualLoss": perceptual,
        "GANLoss": gan,
        "MultiScaleGANLoss": gan,
    },
    refused={"GANFeatLoss": "FeatureMatchingLoss(skip_last=True), with its weight times the number of layers, adds up as it does"},
    scopes=("basicsr",),
)
