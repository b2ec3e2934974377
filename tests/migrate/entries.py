"""The kinds of loss entries in other libraries' public option files and configs, written down as facts: each kind once.

BasicSR's 70 option files have 55 entries, MMagic's 250 configs 196 of 41 kinds, MMGeneration's 97 configs 213 of 42.
"""

from __future__ import annotations

from typing import Any


def entry(name: str, **options: Any) -> dict[str, Any]:
    return {"type": name, **options}


LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1}
VGG = {
    "vgg_type": "vgg19",
    "use_input_norm": True,
    "range_norm": False,
    "perceptual_weight": 1.0,
    "style_weight": 0,
    "criterion": "l1",
}
LABELS = {"real_label_val": 1.0, "fake_label_val": 0.0}

BASICSR: list[tuple[int, dict[str, Any]]] = [
    (20, entry("L1Loss", loss_weight=1.0, reduction="mean")),
    (7, entry("CharbonnierLoss", loss_weight=1.0, reduction="mean")),
    (4, entry("PerceptualLoss", layer_weights={"conv5_4": 1}, **VGG)),
    (4, entry("GANLoss", gan_type="vanilla", loss_weight=0.005, **LABELS)),
    (4, entry("CharbonnierLoss", loss_weight=1.0, reduction="sum")),
    (4, entry("L1Loss", loss_weight=0.01, reduction="mean")),
    (3, entry("PerceptualLoss", layer_weights=LAYERS, **VGG)),
    (3, entry("GANLoss", gan_type="vanilla", loss_weight=0.1, **LABELS)),
    (1, entry("CharbonnierLoss", loss_weight=0.01, reduction="sum")),
    (1, entry("PerceptualLoss", layer_weights={"relu1_1": 0.03125, "relu5_1": 1.0}, **{**VGG, "use_input_norm": False})),
    (1, entry("MultiScaleGANLoss", gan_type="lsgan", loss_weight=1.0, **LABELS)),
    (1, entry("GANFeatLoss", loss_weight=10.0, criterion="l1")),
    (1, entry("L1Loss", loss_weight=1.0, reduction="mean")),
    (1, entry("GANLoss", gan_type="wgan_softplus", loss_weight=1.0)),
]

V16 = {"vgg_type": "vgg16", "pretrained": "torchvision://vgg16", "criterion": "mse", "perceptual_weight": 0.01, "style_weight": 0}
MMAGIC: list[dict[str, Any]] = [
    *(entry("L1Loss", loss_weight=w, reduction="mean") for w in (1.0, 0.01)),
    *(entry("L1Loss", **options) for options in ({}, {"loss_weight": 1.0}, {"loss_weight": 6.0})),
    *(entry("MSELoss", loss_weight=w, reduction="mean") for w in (1.0, 0.1, 0.01)),
    *(entry("CharbonnierLoss", **options) for options in ({}, {"eps": 1e-9}, {"loss_weight": 0.5, "sample_wise": True})),
    *(entry("CharbonnierLoss", loss_weight=1.0, reduction=reduction) for reduction in ("mean", "sum")),
    *(entry("CharbonnierCompLoss", **options) for options in ({"loss_weight": 0.5}, {"loss_weight": 1.5, "sample_wise": True})),
    *(
        entry("GANLoss", gan_type="vanilla", real_label_val=1.0, fake_label_val=0, loss_weight=w)
        for w in (0.1, 0.05, 0.01, 0.005, 0.001)
    ),
    *(entry("GANLoss", gan_type=kind, loss_weight=0.1) for kind in ("wgan", "hinge", "vanilla", "smgan")),
    entry("GradientPenaltyLoss", loss_weight=10.0),
    entry("DiscShiftLoss", loss_weight=0.001),
    entry("MaskedTVLoss", loss_weight=0.1),
    entry("PSNRLoss"),
    entry("HuberLoss", delta=0.01),
    entry("AdvLoss", loss_type="ragan-ls"),
    entry(
        "PerceptualLoss",
        layer_weights={"34": 1.0},
        vgg_type="vgg19",
        perceptual_weight=1.0,
        style_weight=0,
        norm_img=False,
        criterion="l1",
    ),
    entry("PerceptualLoss", layer_weights={"14": 1}, criterion="mse"),
    entry("PerceptualLoss", layer_weights={"21": 1.0}, norm_img=False, **V16),
    entry("PerceptualLoss", layer_weights={"21": 1.0}, norm_img=True, **V16),
    entry("PerceptualLoss", layer_weights={"4": 1.0, "9": 1.0, "16": 1.0}, **{**V16, "style_weight": 120}),
    entry(
        "PerceptualLoss",
        layer_weights={"1": 1.0, "29": 1.0},
        layer_weights_style={"8": 1.0, "31": 1.0},
        vgg_type="vgg19",
        style_weight=250,
    ),
    entry("PerceptualLoss", layer_weights={"2": 0.1, "34": 1.0}, vgg_type="vgg19", style_weight=0, norm_img=False),
    entry("TransferalPerceptualLoss", loss_weight=0.01, use_attention=False, criterion="mse"),
    entry("LightCNNFeatureLoss", pretrained="https://example.org/light_cnn_feature.pth", loss_weight=0.1, criterion="l1"),
]

DISC = {"discriminator": "disc", "real_data": "real_imgs"}
BOTH = {**DISC, "fake_data": "fake_imgs"}
PATH = {"data_info": {"generator": "gen", "num_batches": "batch_size"}, "loss_weight": 8.0, "interval": 4, "pl_batch_shrink": 2}
PAIR = {"pred": "cycle_photo", "target": "real_photo"}
MMGEN: list[dict[str, Any]] = [
    *(entry("GANLoss", gan_type=kind) for kind in ("wgan-logistic-ns", "hinge", "wgan", "lsgan", "vanilla")),
    *(entry("GANLoss", gan_type=kind, loss_weight=1.0, **LABELS) for kind in ("lsgan", "vanilla")),
    entry("GANLoss", gan_type="wgan", loss_weight=1),
    entry("GeneratorPathRegularizer", **PATH),
    entry("GeneratorPathRegularizer", **PATH, use_apex_amp=False),
    *(
        entry("R1GradientPenalty", loss_weight=w, interval=16, norm_mode="HWC", data_info=DISC)
        for w in (80.0, 16.0, 26.4, 52.8, 262.4)
    ),
    entry("R1GradientPenalty", loss_weight=80.0, interval=16, norm_mode="HWC", data_info={**DISC, "loss_scaler": "loss_scaler"}),
    entry("R1GradientPenalty", loss_weight=80.0, interval=16, norm_mode="HWC", data_info=DISC, use_apex_amp=False),
    entry("R1GradientPenalty", loss_weight=10, norm_mode="HWC", data_info=DISC),
    *(
        entry("GradientPenaltyLoss", loss_weight=w, norm_mode=mode, data_info=BOTH)
        for w, mode in ((10, "HWC"), (50, "HWC"), (0.1, "pixel"))
    ),
    *(entry("DiscShiftLoss", loss_weight=0.0005, data_info={"pred": f"disc_pred_{kind}"}) for kind in ("fake", "real")),
    *(
        entry("L1Loss", loss_weight=w, reduction="mean", data_info=PAIR, loss_name=name)
        for w, name in ((10.0, "cycle_loss"), (0.5, "id_loss"))
    ),
    entry("MSELoss", loss_weight=10, data_info=PAIR),
    entry("DDPMVLBLoss", rescale_mode="constant"),
    entry("DDPMMSELoss"),
]
