"""MMagic's losses, with the names that they had in MMEditing and MMGeneration; ``dialect="mmagic"`` builds their dicts."""

from lossfold.migrate.rows import CRITIC, FEATURES, IMAGES, differs, equal, peer, read

WEIGHTS = "the same words; weights are pretrained='torchvision' or a path here, and nothing is downloaded unasked"
COMPONENT = "the same words; a component's interval multiplies nothing, as there"
MERGED = "pred_alpha, fg, bg, ori_merged [B, C, H, W]"

MMAGIC = peer(
    "mmagic",
    ("mmagic.models.losses", "mmagic.models", "mmagic", "mmedit.models.losses", "mmgen.models.losses"),
    "MMagic 1.2.0, compared, but for networks and random draws",
    {
        "L1Loss": (
            equal("L1Loss(loss_weight=0.5)", "L1Loss(loss_weight=0.5)", IMAGES),
            equal("L1Loss(sample_wise=True)(pred, target, w)", "L1Loss(sample_wise=True)(pred, target, w)", IMAGES),
        ),
        "MSELoss": equal("MSELoss()(pred, target, w)", "MSELoss()(pred, target, w)", IMAGES),
        "CharbonnierLoss": (
            equal("CharbonnierLoss(eps=1e-6)", "CharbonnierLoss(eps=1e-6)", IMAGES),
            equal("CharbonnierLoss(reduction='sum')(pred, target, w)", "CharbonnierLoss(reduction='sum')(pred, target, w)", IMAGES),
        ),
        "MaskedTVLoss": equal("MaskedTVLoss()(pred, w)", "MaskedTVLoss()(pred, w)", IMAGES),
        "PSNRLoss": (
            equal("PSNRLoss()", "PSNRLoss()", IMAGES),
            differs(
                "PSNRLoss(toY=True)",
                "PSNRLoss(to_y=True)",
                "toY changes nothing there; to_y takes the luma here",
                IMAGES,
                by=0.16,
            ),
        ),
        "GradientLoss": equal("GradientLoss()(pred[:, :1], target[:, :1])", "GradientLoss()(pred[:, :1], target[:, :1])", IMAGES),
        "L1CompositionLoss": equal("L1CompositionLoss()", "L1CompositionLoss()", MERGED),
        "MSECompositionLoss": equal("MSECompositionLoss()", "MSECompositionLoss()", MERGED),
        "CharbonnierCompLoss": equal("CharbonnierCompLoss()", "CharbonnierCompLoss()", MERGED),
        "GANLoss": (
            equal("GANLoss('vanilla', loss_weight=0.1)(score, True)", "GANLoss('vanilla', loss_weight=0.1)(score, True)", CRITIC),
            equal("GANLoss('lsgan')(score, False, is_disc=True)", "GANLoss('lsgan')(score, False, is_disc=True)", CRITIC),
            equal("GANLoss('hinge')(score, False, is_disc=True)", "GANLoss('hinge')(score, False, is_disc=True)", CRITIC),
            equal("GANLoss('wgan')(score, True)", "GANLoss('wgan')(score, True)", CRITIC),
            differs(
                "GANLoss('smgan')(score, False, is_disc=True, mask=mask)",
                "GANLoss('smgan')(score, False, is_disc=True, mask=mask)",
                "there a fake's target is 1 in the hole (polarity='inverted' here), the blur pads with zeros, not the border, and"
                " the generator's mean is taken before the mask",
                CRITIC,
                by=0.39,
            ),
        ),
        "AdvLoss": "several losses of DeblurGAN in one, with memories of past images; relativistic: GANLoss('ragan')",
        "GradientPenaltyLoss": read(
            "GradientPenaltyLoss(10.0)", "GradientPenaltyLoss(loss_weight=10.0)", "nothing but the draw", CRITIC
        ),
        "DiscShiftLoss": equal("DiscShiftLoss()(score)", "DiscShiftLoss()(score)", CRITIC),
        "PerceptualLoss": read(
            "PerceptualLoss(layer_weights={'34': 1.0})",
            "PerceptualLoss(layer_weights={'34': 1.0}, pretrained='torchvision')",
            WEIGHTS,
            FEATURES,
        ),
        "TransferalPerceptualLoss": read("TransferalPerceptualLoss()", "TransferalPerceptualLoss()", "the same words", FEATURES),
        "LightCNNFeatureLoss": read(
            "LightCNNFeatureLoss(pretrained=path)",
            "LightCNNFeatureLoss(pretrained=path)",
            "the same words; a path, no address",
            FEATURES,
        ),
        "FaceIdLoss": read("FaceIdLoss()", "FaceIdLoss(pretrained=path)", WEIGHTS, FEATURES),
        "CLIPLoss": read("CLIPLoss(clip_model=...)", "CLIPLoss(network=...)", WEIGHTS, FEATURES),
        "GANLossComps": read("GANLossComps('vanilla')", "GANLossComps('vanilla')", COMPONENT, CRITIC),
        "GradientPenaltyLossComps": read("GradientPenaltyLossComps()", "GradientPenaltyLossComps()", COMPONENT, CRITIC),
        "R1GradientPenaltyComps": read("R1GradientPenaltyComps()", "R1GradientPenaltyComps()", COMPONENT, CRITIC),
        "GeneratorPathRegularizerComps": read(
            "GeneratorPathRegularizerComps(pl_batch_shrink=2)", "GeneratorPathRegularizerComps(batch_shrink=2)", COMPONENT, CRITIC
        ),
        "DiscShiftLossComps": read("DiscShiftLossComps()", "DiscShiftLossComps(loss_weight=1.0)", COMPONENT, CRITIC),
        "FaceIdLossComps": read("FaceIdLossComps()", "FaceIdLossComps(pretrained=path)", WEIGHTS, FEATURES),
        "CLIPLossComps": read("CLIPLossComps(clip_model=...)", "CLIPLossComps(network=...)", WEIGHTS, FEATURES),
        "DDPMVLBLoss": "of diffusion models",
        "DDPMMSELoss": "of diffusion models",
    },
)
