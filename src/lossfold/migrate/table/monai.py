"""MONAI's losses. Its labels have a channel, ``[B, 1, *S]``, and may be floats; here they are ``labels.squeeze(1).long()``.

Its means run over images and classes together, and count absent classes: ``per_image=True, absent="count"``.
"""

from lossfold.migrate.rows import BINARY, CRITIC, FEATURES, IMAGES, MASKS, ONE_HOT, differs, equal, peer, read

REGISTRATION = "of registered images"
DISTANCES = "[[0, 1, 1, 1], [1, 0, 0.5, 0.5], [1, 0.5, 0, 0.25], [1, 0.5, 0.25, 0]]"

MONAI = peer(
    "monai",
    ("monai.losses",),
    "MONAI 1.6.1, compared",
    {
        "DiceLoss": (
            equal("DiceLoss(softmax=True, to_onehot_y=True)", "DiceLoss(per_image=True, absent='count', smooth=1e-5)"),
            equal("DiceLoss(softmax=True, to_onehot_y=True, batch=True)", "DiceLoss(absent='count', smooth=1e-5)"),
            equal(
                "DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=0, smooth_dr=1e-3, squared_pred=True)",
                "DiceLoss(per_image=True, absent='count', smooth=0, eps=1e-3, squared=True)",
            ),
            equal(
                "DiceLoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)",
                "DiceLoss(include_background=False, absent='count', smooth=1e-5)",
            ),
            equal(
                "DiceLoss(sigmoid=True)",
                "DiceLoss(link='sigmoid', soft_overlap='product', per_image=True, absent='count', smooth=1e-5)",
                MASKS,
            ),
            equal(
                "DiceLoss(softmax=True, to_onehot_y=True, jaccard=True, smooth_nr=2, smooth_dr=2)",
                "JaccardLoss(per_image=True, absent='count', smooth=1)",
            ),
            equal(
                "DiceLoss(softmax=True, to_onehot_y=True, ignore_index=255)",
                "DiceLoss(per_image=True, absent='count', smooth=1e-5, ignore_index=255)",
            ),
            equal(
                "DiceLoss(softmax=True, to_onehot_y=True, weight=v)",
                "sum(v) / C * DiceLoss(per_image=True, absent='count', smooth=1e-5, class_weight=v)",
            ),
            differs(
                "DiceLoss(softmax=True, to_onehot_y=True, weight=v)",
                "DiceLoss(per_image=True, absent='count', smooth=1e-5, class_weight=v)",
                "the weighted sum is divided by C there, by the sum of the weights here: theirs is sum(v) / C times ours",
                by=0.25,
            ),
        ),
        "MaskedDiceLoss": equal(
            "MaskedDiceLoss(sigmoid=True)(logits, masks, w[:, None].round())",
            "DiceLoss(link='sigmoid', soft_overlap='product', per_image=True, absent='count', smooth=1e-5)"
            "(logits, masks, w[:, None].round())",
            MASKS,
        ),
        "GeneralizedDiceLoss": (
            equal(
                "GeneralizedDiceLoss(softmax=True, to_onehot_y=True)",
                "GeneralizedDiceLoss(per_image=True, absent='count', smooth=1e-5)",
            ),
            equal(
                "GeneralizedDiceLoss(softmax=True, to_onehot_y=True, batch=True, w_type='simple')",
                "GeneralizedDiceLoss(weighting='simple', absent='count', smooth=1e-5)",
            ),
        ),
        "DiceCELoss": (
            equal(
                "DiceCELoss(softmax=True, to_onehot_y=True)",
                "LossSet(dice=DiceLoss(per_image=True, absent='count', smooth=1e-5), ce=CrossEntropyLoss())",
            ),
            equal(
                "DiceCELoss(softmax=True, to_onehot_y=True, batch=True, lambda_dice=0.7, lambda_ce=1.3)",
                "CEDiceLoss(dice_weight=0.7, ce_weight=1.3, absent='count', smooth=1e-5)",
            ),
        ),
        "DiceFocalLoss": (
            equal(
                "DiceFocalLoss(softmax=True)",
                "LossSet(dice=DiceLoss(soft_overlap='product', per_image=True, absent='count', smooth=1e-5),"
                " focal=FocalLoss(link='sigmoid'))",
                ONE_HOT,
            ),
            differs(
                "DiceFocalLoss(softmax=True, to_onehot_y=True)",
                "LossSet(dice=DiceLoss(per_image=True, absent='count', smooth=1e-5), focal=FocalLoss())",
                "its focal part is one sigmoid for each channel beside the softmax of the Dice part; softmax's here",
                by=0.52,
            ),
        ),
        "GeneralizedDiceFocalLoss": equal(
            "GeneralizedDiceFocalLoss(softmax=True)",
            "LossSet(dice=GeneralizedDiceLoss(per_image=True, absent='count', smooth=1e-5), focal=FocalLoss(link='sigmoid'))",
            ONE_HOT,
        ),
        "FocalLoss": (
            equal("FocalLoss()", "FocalLoss(link='sigmoid')", MASKS),
            equal("FocalLoss(alpha=0.25)", "FocalLoss(link='sigmoid', alpha=0.25)", MASKS),
            equal("FocalLoss(use_softmax=True, to_onehot_y=True)", "1 / C * FocalLoss()"),
            differs(
                "FocalLoss(use_softmax=True, to_onehot_y=True)",
                "FocalLoss()",
                "the mean runs over the zeros of the one-hot, too: theirs is ours / C",
                by=0.75,
            ),
        ),
        "TverskyLoss": (
            equal(
                "TverskyLoss(softmax=True, to_onehot_y=True, alpha=0.3, beta=0.7)",
                "TverskyLoss(alpha=0.3, beta=0.7, per_image=True, absent='count', smooth=1e-5)",
            ),
            equal(
                "TverskyLoss(softmax=True, to_onehot_y=True, batch=True, smooth_nr=0)",
                "TverskyLoss(absent='count', smooth=0, eps=1e-5)",
            ),
        ),
        "SSIMLoss": equal("SSIMLoss(spatial_dims=2)", "SSIMLoss()", IMAGES),
        "PatchAdversarialLoss": (
            equal(
                "PatchAdversarialLoss(criterion='hinge')(score, True, True)",
                "GANLoss('hinge')(score.tanh(), True, is_disc=True)",
                CRITIC,
            ),
            equal(
                "PatchAdversarialLoss(criterion='least_squares', no_activation_leastsq=True)(score, True, True)",
                "GANLoss('lsgan')(score, True, is_disc=True)",
                CRITIC,
            ),
            equal(
                "PatchAdversarialLoss(criterion='bce')(score, True, True)", "GANLoss('vanilla')(score, True, is_disc=True)", CRITIC
            ),
            differs(
                "PatchAdversarialLoss(criterion='hinge')(score, True, False)",
                "GANLoss('hinge')(score, True)",
                "tanh before the hinge, a leaky ReLU before the squares unless it is told not to; the generator's hinge is the"
                " discriminator's there, -mean here",
                CRITIC,
                by=16,
            ),
        ),
        "MaskedLoss": "masks logits and targets before any loss; the losses here take weight=, in which masked pixels do not count",
        "PerceptualLoss": read(
            "PerceptualLoss(spatial_dims=2, network_type='vgg')",
            "LPIPSLoss()",
            "LPIPS there, of 2-D slices for 3-D; PerceptualLoss here is the VGG distance of Johnson et al.",
            FEATURES,
        ),
        "DeepSupervisionLoss": "of a list of heads: presets.deep_supervision(loss, heads, normalize=False, at='heads')",
        "MultiScaleLoss": REGISTRATION,
        "AUCMLoss": "of whole images' scores",
        "AsymmetricUnifiedFocalLoss": (
            equal(
                "AsymmetricUnifiedFocalLoss()(logits.sigmoid(), labels[:, None])",
                "0.25 * AsymmetricFocalLoss(link='sigmoid', delta=0.7, gamma=0.5)"
                " + 0.5 * AsymmetricFocalTverskyLoss(link='sigmoid', delta=0.7, gamma=0.5, per_image=True, absent='count')",
                BINARY,
            ),
            differs(
                "AsymmetricUnifiedFocalLoss(True, delta=0.6)(torch.cat([-logits, logits], 1).softmax(1), labels[:, None])",
                "UnifiedFocalLoss()(torch.cat([-logits, logits], 1), labels).total",
                "two classes alone; the focal part is a mean over channels, half of the paper's sum; no sigmoid is applied,"
                " although its documentation says so; each image has a Tversky index of its own",
                BINARY,
                by=0.34,
            ),
        ),
        "BarlowTwinsLoss": "of vectors",
        "BendingEnergyLoss": REGISTRATION,
        "BoundaryLoss": equal(
            "BoundaryLoss(softmax=True, to_onehot_y=True, include_background=True)", "BoundaryLoss(absent='count')"
        ),
        "BoxGIoULoss": "of boxes",
        "ContrastiveLoss": "of vectors",
        "DiffusionLoss": REGISTRATION,
        "GeneralizedWassersteinDiceLoss": (
            equal(
                f"GeneralizedWassersteinDiceLoss(torch.tensor({DISTANCES}))(logits, labels)",
                f"GeneralizedWassersteinDiceLoss(distances={DISTANCES}, per_image=True)",
            ),
            equal(
                f"GeneralizedWassersteinDiceLoss(torch.tensor({DISTANCES}), weighting_mode='GDL')(logits, labels)",
                f"GeneralizedWassersteinDiceLoss(distances={DISTANCES}, weighting='volume', per_image=True)",
            ),
        ),
        "GlobalMutualInformationLoss": REGISTRATION,
        "HausdorffDTLoss": equal(
            "HausdorffDTLoss(softmax=True, to_onehot_y=True, include_background=True)", "HausdorffDTLoss(absent='count')"
        ),
        "JukeboxLoss": "of spectra of volumes",
        "LocalNormalizedCrossCorrelationLoss": REGISTRATION,
        "LogHausdorffDTLoss": equal(
            "LogHausdorffDTLoss(softmax=True, to_onehot_y=True, include_background=True)",
            "HausdorffDTLoss(log=True, absent='count')",
        ),
        "MCCLoss": (
            equal("MCCLoss(softmax=True, to_onehot_y=True)", "MCCLoss(per_image=True, absent='count')"),
            equal("MCCLoss(sigmoid=True, batch=True)", "MCCLoss(link='sigmoid', absent='count')", MASKS),
        ),
        "NACLLoss": "smooths labels by their neighbours",
        "SURELoss": "of a denoiser without a target",
        "SoftDiceclDiceLoss": equal(
            "SoftDiceclDiceLoss(softmax=True, to_onehot_y=True, smooth=1e-20)",
            "LossSet(dice=0.5 * DiceLoss(per_image=True, absent='count'),"
            " cldice=0.5 * CLDiceLoss(average='micro', per_image=True))",
        ),
        "SoftclDiceLoss": equal(
            "SoftclDiceLoss(softmax=True, to_onehot_y=True, smooth=1e-20)", "CLDiceLoss(average='micro', per_image=True)"
        ),
    },
)
