"""MMagic's dicts, whose words are ours but for what stands here, and MMGeneration's, whose components have the losses' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossfold.config.dialects.converted import Converted, Converter, Dialect, given, refuse

SMGAN = "a fake's target is 1 in the hole there, its blur pads with zeros, and the generator's mean is taken before the mask"
LATENTS = "the dict of outputs has to hold the latents: the generator is called with them, not with num_batches"


def same(name: str, ours: str = "", **defaults: Any) -> Converter:
    """Return the conversion of a class whose words and meaning are ours, but for some defaults."""

    def convert(**options: Any) -> Converted:
        return Converted(ours or name, {**defaults, **options})

    return convert


def gan(gan_type: str, real_label_val: float = 1.0, fake_label_val: float = 0.0, loss_weight: float = 1.0) -> Converted:
    """The weight acts on the generator only."""
    labels = {"real_label_val": real_label_val, "fake_label_val": fake_label_val} if gan_type in ("vanilla", "lsgan") else {}
    options = {"gan_type": gan_type, **labels, **given(loss_weight=loss_weight)}
    return Converted("GANLoss", options, (SMGAN,) if gan_type == "smgan" else ())


def psnr(loss_weight: float = 1.0, toY: bool = False) -> Converted:  # noqa: N803 - as it is written there
    """PSNR of images."""
    decision = ("toY=True changes nothing there, and is left out; to_y=True takes the luma",) if toY else ()
    return Converted("PSNRLoss", given(loss_weight=loss_weight), missing=decision)


def light_cnn(pretrained: str, loss_weight: float = 1.0, criterion: str = "l1") -> Converted:
    """Features of LightCNN, whose weights are a file."""
    if "://" in str(pretrained):
        raise refuse("pretrained", "the path of light_cnn_feature.pth", pretrained, "nothing is downloaded for a config")
    return Converted("LightCNNFeatureLoss", {"pretrained": pretrained, **given(loss_weight=loss_weight), "criterion": criterion})


def path_length(
    loss_weight: float = 1.0,
    pl_batch_shrink: int = 1,
    decay: float = 0.01,
    pl_batch_size: int | None = None,
    sync_mean_buffer: bool = False,
    interval: int = 1,
    data_info: Mapping[str, str] | None = None,
    use_apex_amp: bool = False,
    loss_name: str | None = None,
) -> Converted:
    """The moving mean is over all ranks, and autocast is switched off inside."""
    if pl_batch_size is not None:
        raise refuse("pl_batch_size", "left out: pl_batch_shrink says the part of the latents", pl_batch_size)
    options = {"batch_shrink": pl_batch_shrink, "decay": decay, "interval": interval}
    info, missing = dict(data_info or {}), ()
    if info.pop("num_batches", None) is not None:
        info, missing = {"latents": "latents", **info}, (LATENTS,)  # type: ignore[assignment]
    named = {"data_info": without_scaler(info)} if data_info is not None else {}
    return Converted(
        "GeneratorPathRegularizerComps", {**given(loss_weight=loss_weight, loss_name=loss_name), **options, **named}, (), missing
    )


def penalty(name: str) -> Converter:
    """Return the conversion of a gradient penalty."""

    def convert(
        loss_weight: float = 1.0,
        norm_mode: str = "pixel",
        interval: int = 1,
        data_info: Mapping[str, str] | None = None,
        use_apex_amp: bool = False,
        loss_name: str | None = None,
    ) -> Converted:
        named = {} if data_info is None else {"data_info": without_scaler(data_info)}
        options = {"norm_mode": norm_mode, "interval": interval, **named}
        return Converted(name, {**given(loss_weight=loss_weight, loss_name=loss_name), **options})

    return convert


def without_scaler(info: Mapping[str, str]) -> dict[str, str]:
    """Return where arguments stand, but for the loss scaler: autocast is switched off inside a penalty."""
    return {name: path for name, path in info.items() if name != "loss_scaler"}


NAMES = (
    *("L1Loss", "MSELoss", "CharbonnierLoss", "HuberLoss", "MaskedTVLoss", "GradientLoss"),
    *("L1CompositionLoss", "MSECompositionLoss", "CharbonnierCompLoss"),
    *("GradientPenaltyLoss", "FaceIdLoss", "CLIPLoss", "GANLossComps", "FaceIdLossComps", "CLIPLossComps"),
)
VGG = {"pretrained": "torchvision"}
DIFFUSION = "of diffusion models, which are not here"

MMAGIC = Dialect(
    "mmagic",
    {
        **{name: same(name) for name in NAMES},
        "GANLoss": gan,
        "PSNRLoss": psnr,
        "DiscShiftLoss": same("DiscShiftLoss", loss_weight=0.1),
        "PerceptualLoss": same("PerceptualLoss", **VGG),
        "TransferalPerceptualLoss": same("TransferalPerceptualLoss"),
        "LightCNNFeatureLoss": light_cnn,
        "DiscShiftLossComps": same("DiscShiftLossComps", loss_weight=1.0),
        "GradientPenaltyLossComps": penalty("GradientPenaltyLossComps"),
        "R1GradientPenaltyComps": penalty("R1GradientPenaltyComps"),
        "GeneratorPathRegularizerComps": path_length,
    },
    refused={
        "AdvLoss": "it is several losses with a memory of past images; relativistic: GANLoss with gan_type='ragan'",
        "DDPMVLBLoss": DIFFUSION,
        "DDPMMSELoss": DIFFUSION,
    },
    scopes=("mmagic", "mmedit"),
)

MMGEN = Dialect(
    "mmgen",
    {
        **{name: same(name) for name in ("L1Loss", "MSELoss")},
        "GANLoss": gan,
        "DiscShiftLoss": same("DiscShiftLoss", "DiscShiftLossComps", loss_weight=1.0),
        "GradientPenaltyLoss": penalty("GradientPenaltyLossComps"),
        "R1GradientPenalty": penalty("R1GradientPenaltyComps"),
        "GeneratorPathRegularizer": path_length,
    },
    refused={"DDPMVLBLoss": DIFFUSION, "DDPMMSELoss": DIFFUSION},
    scopes=("mmgen",),
)
