"""kornia's losses. Without ``reduction`` its focal and robust losses return maps."""

from lossfold.migrate.rows import BINARY, IMAGES, MASKS, differs, equal, peer, read

REGISTRATION = "of registered images"

KORNIA = peer(
    "kornia",
    ("kornia.losses",),
    "kornia 0.9.0, compared",
    {
        "DiceLoss": (
            equal("DiceLoss()", "DiceLoss(average='micro', smooth=0, eps=1e-8, per_image=True)"),
            equal(
                "DiceLoss(average='macro', ignore_index=255)",
                "DiceLoss(smooth=0, eps=1e-8, per_image=True, ignore_index=255)",
            ),
            equal("DiceLoss(weight=v)", "DiceLoss(average='micro', smooth=0, eps=1e-8, per_image=True, class_weight=v)"),
        ),
        "TverskyLoss": equal("TverskyLoss(0.3, 0.7)", "TverskyLoss(alpha=0.3, beta=0.7, smooth=0, eps=1e-8, per_image=True)"),
        "FocalLoss": (
            equal("FocalLoss(None, reduction='mean')", "1 / C * FocalLoss()"),
            equal("FocalLoss(0.25, reduction='sum')", "FocalLoss(alpha=[0.75, 0.25, 0.25, 0.25], reduction='sum')"),
            equal(
                "FocalLoss(None, reduction='mean', ignore_index=255)(logits, ignored)",
                "share / C * FocalLoss(ignore_index=255)(logits, ignored)",
            ),
            differs(
                "FocalLoss(None, reduction='mean', ignore_index=255)(logits, ignored)",
                "FocalLoss(ignore_index=255)(logits, ignored)",
                "the mean is over [B, C, *S]: theirs is ours / C times the share of the pixels that count",
                by=0.8,
            ),
        ),
        "BinaryFocalLossWithLogits": (
            equal("BinaryFocalLossWithLogits(0.25, reduction='mean')", "FocalLoss(link='sigmoid', alpha=0.25)", MASKS),
            equal("BinaryFocalLossWithLogits(None, reduction='mean')", "FocalLoss(link='sigmoid')", MASKS),
        ),
        "LovaszSoftmaxLoss": (
            equal("LovaszSoftmaxLoss()", "LovaszLoss(classes='all', per_image=True, exact=True)"),
            differs(
                "LovaszSoftmaxLoss()",
                "LovaszLoss()",
                "each image by itself, and absent classes count, there; the whole batch and the classes present here",
                by=0.066,
            ),
        ),
        "LovaszHingeLoss": equal("LovaszHingeLoss()", "LovaszLoss(link='hinge', exact=True)", BINARY),
        "CharbonnierLoss": (
            equal("CharbonnierLoss(reduction='mean')", "RobustLoss(alpha='charbonnier')", IMAGES),
            differs(
                "CharbonnierLoss(reduction='mean')",
                "CharbonnierLoss(eps=1.0)",
                "sqrt(d² + 1) - 1 there, sqrt(d² + eps) here: with eps=1 the gradients are equal, and the values differ by 1",
                IMAGES,
                by=1,
            ),
        ),
        "PSNRLoss": differs(
            "PSNRLoss(1.0)",
            "PSNRLoss()",
            "the PSNR of the whole batch's error, there; the mean of the images' own, here",
            IMAGES,
            by=0.13,
        ),
        "SSIMLoss": (
            equal("SSIMLoss(11, padding='valid')", "0.5 * SSIMLoss()", IMAGES),
            differs(
                "SSIMLoss(11)",
                "SSIMLoss()",
                "(1 - SSIM) / 2 there, 1 - SSIM here; and its padding is 'same', by reflection, unless it is told 'valid'",
                IMAGES,
                by=0.48,
            ),
        ),
        "TotalVariation": differs(
            "TotalVariation()(pred).mean()",
            "TVLoss()(pred)",
            "a sum for each image and channel there; the mean of |dx| plus the mean of |dy| here",
            IMAGES,
            by=5.5e02,
        ),
        "MS_SSIMLoss": equal("MS_SSIMLoss(compensation=1.0)", "MSSSIML1Loss(alpha=0.025)", IMAGES),
        "SSIM3DLoss": read(
            "SSIM3DLoss(11, padding='valid')",
            "0.5 * SSIMLoss()",
            "(1 - SSIM) / 2 there; its padding is 'same', by reflection, unless it is told 'valid'",
            "pred [B, C, D, H, W], target [B, C, D, H, W]",
        ),
        "HausdorffERLoss": "by erosions",
        "HausdorffERLoss3D": "by erosions",
        "CauchyLoss": equal("CauchyLoss(reduction='mean')", "RobustLoss(alpha='cauchy')", IMAGES),
        "GemanMcclureLoss": equal("GemanMcclureLoss(reduction='mean')", "RobustLoss(alpha='geman-mcclure')", IMAGES),
        "WelschLoss": equal("WelschLoss(reduction='mean')", "RobustLoss(alpha='welsch')", IMAGES),
        "InverseDepthSmoothnessLoss": equal(
            "InverseDepthSmoothnessLoss()(pred[:, :1], target)", "EdgeAwareSmoothnessLoss()(pred[:, :1], target)", IMAGES
        ),
        "MILossFromRef": REGISTRATION,
        "MILossFromRef2D": REGISTRATION,
        "MILossFromRef3D": REGISTRATION,
        "NMILossFromRef": REGISTRATION,
        "NMILossFromRef2D": REGISTRATION,
        "NMILossFromRef3D": REGISTRATION,
    },
)
