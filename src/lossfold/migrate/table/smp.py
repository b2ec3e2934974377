"""segmentation-models-pytorch's losses: ``mode="multiclass"`` reads labels, ``"multilabel"`` and ``"binary"`` masks.

An absent class costs nothing there and is counted: ``absent="zero"``.
"""

from lossfold.migrate.rows import BINARY, MASKS, differs, equal, peer

SMP = peer(
    "smp",
    ("segmentation_models_pytorch.losses",),
    "segmentation-models-pytorch 0.6.0, compared",
    {
        "DiceLoss": (
            equal("DiceLoss('multiclass')", "DiceLoss(smooth=0, absent='zero')"),
            equal("DiceLoss('multiclass', ignore_index=255)", "DiceLoss(smooth=0, absent='zero', ignore_index=255)"),
            equal("DiceLoss('multiclass', smooth=0.5)", "DiceLoss(smooth=1, absent='zero')"),
            equal("DiceLoss('multiclass', classes=[0, 2])", "DiceLoss(smooth=0, absent='zero', class_weight=[1, 0, 1, 0])"),
            equal("DiceLoss('multiclass', log_loss=True)", "DiceLoss(smooth=0, absent='zero', log=True)"),
            equal("DiceLoss('multiclass', class_weights=v)", "DiceLoss(smooth=0, absent='zero', class_weight=v)"),
            equal("DiceLoss('multilabel')", "DiceLoss(link='sigmoid', smooth=0, absent='zero')", MASKS),
            equal("DiceLoss('binary')", "DiceLoss(link='sigmoid', smooth=0, absent='zero')", BINARY),
        ),
        "JaccardLoss": (
            equal("JaccardLoss('multiclass')", "JaccardLoss(smooth=0, absent='zero')"),
            equal(
                "JaccardLoss('multiclass', smooth=1, ignore_index=255)", "JaccardLoss(smooth=1, absent='zero', ignore_index=255)"
            ),
            equal("JaccardLoss('multilabel')", "JaccardLoss(link='sigmoid', smooth=0, absent='zero')", MASKS),
        ),
        "TverskyLoss": (
            equal("TverskyLoss('multiclass', alpha=0.3, beta=0.7)", "TverskyLoss(alpha=0.3, beta=0.7, smooth=0, absent='zero')"),
            equal(
                "TverskyLoss('multilabel', alpha=0.3, beta=0.7)",
                "TverskyLoss(link='sigmoid', alpha=0.3, beta=0.7, smooth=0, absent='zero')",
                MASKS,
            ),
            differs(
                "TverskyLoss('multiclass', gamma=0.75)",
                "TverskyLoss(exponent=0.75, smooth=0, absent='zero')",
                "the exponent there is of the mean over classes, here of each class (Abraham and Khan, 2019)",
                by=0.075,
            ),
        ),
        "FocalLoss": (
            equal("FocalLoss('multilabel', alpha=0.25)", "FocalLoss(link='sigmoid', alpha=0.25)", MASKS),
            equal("FocalLoss('binary')", "FocalLoss(link='sigmoid')", BINARY),
            equal("FocalLoss('multiclass')", "FocalLoss(link='sigmoid')(logits, one_hot)"),
            differs("FocalLoss('multiclass')", "FocalLoss()", "one sigmoid for each class there, softmax here", by=0.66),
            differs(
                "FocalLoss('multilabel', normalized=True)",
                "FocalLoss(link='sigmoid', normalize='focal')",
                "divided by the sum of the factors and then by the number of elements there; a mean of each channel's own",
                MASKS,
                by=1,
            ),
        ),
        "LovaszLoss": (
            equal("LovaszLoss('multiclass')", "LovaszLoss(exact=True)"),
            equal(
                "LovaszLoss('multiclass', per_image=True, ignore_index=255)",
                "LovaszLoss(exact=True, per_image=True, ignore_index=255)",
            ),
            equal("LovaszLoss('binary', per_image=True)", "LovaszLoss(link='hinge', exact=True)", BINARY),
            equal(
                "LovaszLoss('multilabel')",
                "LovaszLoss(link='hinge', per_image=False, exact=True)(logits.flatten(1)[:, None], masks.flatten(1)[:, None])",
                MASKS,
            ),
            differs(
                "LovaszLoss('multilabel')",
                "LovaszLoss(link='hinge', per_image=False, exact=True)",
                "all channels are one mask there, each its own here",
                MASKS,
                by=0.22,
            ),
        ),
        "SoftBCEWithLogitsLoss": (
            equal("SoftBCEWithLogitsLoss()", "BinaryCrossEntropyLoss()", MASKS),
            equal("SoftBCEWithLogitsLoss(smooth_factor=0.1)", "BinaryCrossEntropyLoss(label_smoothing=0.2)", MASKS),
            differs(
                "SoftBCEWithLogitsLoss(ignore_index=255)(logits, ignored[:, None].double())",
                "BinaryCrossEntropyLoss(ignore_index=255)(logits, ignored[:, None])",
                "its mean divides by ignored pixels too; here by those that count",
                BINARY,
                by=0.18,
            ),
        ),
        "SoftCrossEntropyLoss": (
            equal("SoftCrossEntropyLoss(smooth_factor=0.1)", "CrossEntropyLoss(label_smoothing=0.1)"),
            equal(
                "SoftCrossEntropyLoss(smooth_factor=0, ignore_index=255)(logits, ignored)",
                "share * CrossEntropyLoss(ignore_index=255)(logits, ignored)",
            ),
            differs(
                "SoftCrossEntropyLoss(smooth_factor=0, ignore_index=255)(logits, ignored)",
                "CrossEntropyLoss(ignore_index=255)(logits, ignored)",
                "its mean divides by ignored pixels too: theirs is ours times the share of the pixels that count",
                by=0.22,
            ),
        ),
        "MCCLoss": equal(
            "MCCLoss()(logits.sigmoid(), labels[:, None])", "MCCLoss(link='sigmoid', smooth=1e-5, absent='count')", BINARY
        ),
    },
)
