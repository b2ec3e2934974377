"""ViTMatte's MattingCriterion, and the losses that it names."""

from lossfold.migrate.rows import MATTES, peer, read

CROPS = "divides by a fixed 512 × 512 there (reference_area=262144 here), which is exact for crops of that size alone"

VITMATTE = peer(
    "ViTMatte",
    ("modeling.criterion.matting_criterion", "modeling.criterion"),
    "the repository's criterion file, which is in no package; read, not compared",
    {
        "MattingCriterion": read(
            "MattingCriterion(losses=['unknown_l1_loss', 'known_l1_loss', 'loss_pha_laplacian', 'loss_gradient_penalty'])"
            "(region, {'phas': pred}, {'phas': target})",
            "MattingLoss(reference_area=262144)(pred, target, region)",
            f"the order of the arguments; a dict of losses there, a LossOutput here; it {CROPS}",
            MATTES,
        ),
        "unknown_l1_loss": read(
            "unknown_l1_loss(region, {'phas': pred}, {'phas': target})", "UnknownL1Loss(reference_area=262144)", CROPS, MATTES
        ),
        "known_l1_loss": read(
            "known_l1_loss(region, {'phas': pred}, {'phas': target})", "KnownL1Loss(reference_area=262144)", CROPS, MATTES
        ),
        "loss_pha_laplacian": read(
            "loss_pha_laplacian({'phas': pred}, {'phas': target})", "LaplacianPyramidLoss()(pred, target)", "the call", MATTES
        ),
        "loss_gradient_penalty": read(
            "loss_gradient_penalty(region, {'phas': pred}, {'phas': target})",
            "MattingGradientLoss(padding='zeros', reference_area=262144)",
            f"zero padding, which punishes an opaque alpha at the border (padding='replicate' is the default here); {CROPS}",
            MATTES,
        ),
    },
)
