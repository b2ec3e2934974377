"""pytorch-toolbelt's losses."""

from lossfold.migrate.rows import BINARY, MASKS, differs, equal, peer

TOOLBELT = peer(
    "toolbelt",
    ("pytorch_toolbelt.losses",),
    "pytorch-toolbelt 0.8.0, compared",
    {
        "DiceLoss": (
            equal("DiceLoss('multiclass', ignore_index=255)", "DiceLoss(smooth=0, absent='zero', ignore_index=255)"),
            equal("DiceLoss('multilabel', smooth=0.5)", "DiceLoss(link='sigmoid', smooth=0.5, absent='zero')", MASKS),
        ),
        "JaccardLoss": (
            equal("JaccardLoss('multiclass')", "JaccardLoss(smooth=0, absent='zero')"),
            equal("JaccardLoss('multilabel')", "JaccardLoss(link='sigmoid', smooth=0, absent='zero')", MASKS),
        ),
        "CrossEntropyFocalLoss": differs(
            "CrossEntropyFocalLoss()",
            "FocalLoss()",
            "sigmoid cross entropy of every channel, with factors of softmax probabilities; its mean divides by ignored pixels too",
            by=0.0025,
        ),
        "BinaryFocalLoss": (
            equal("BinaryFocalLoss()", "FocalLoss(link='sigmoid')", MASKS),
            equal("BinaryFocalLoss(alpha=0.25)", "FocalLoss(link='sigmoid', alpha=0.25)", MASKS),
        ),
        "LovaszLoss": (
            equal("LovaszLoss(ignore=255)(logits.softmax(1), ignored)", "LovaszLoss(exact=True, ignore_index=255)"),
            differs("LovaszLoss()", "LovaszLoss()", "its argument is called logits, and no softmax is applied to it", by=3.5),
        ),
        "BinaryLovaszLoss": equal("BinaryLovaszLoss(per_image=True)", "LovaszLoss(link='hinge', exact=True)", BINARY),
        "SoftBCEWithLogitsLoss": (
            equal("SoftBCEWithLogitsLoss()", "BinaryCrossEntropyLoss()", MASKS),
            equal("SoftBCEWithLogitsLoss(smooth_factor=0.1)", "BinaryCrossEntropyLoss(label_smoothing=0.2)", MASKS),
        ),
        "SoftCrossEntropyLoss": (
            equal("SoftCrossEntropyLoss(smooth_factor=0.1)", "CrossEntropyLoss(label_smoothing=0.1)"),
            equal(
                "SoftCrossEntropyLoss(ignore_index=255)(logits, ignored)",
                "share * CrossEntropyLoss(ignore_index=255)(logits, ignored)",
            ),
            differs(
                "SoftCrossEntropyLoss(ignore_index=255)(logits, ignored)",
                "CrossEntropyLoss(ignore_index=255)(logits, ignored)",
                "its mean divides by ignored pixels too: theirs is ours times the share of the pixels that count",
                by=0.22,
            ),
        ),
        "BalancedBCEWithLogitsLoss": "weights from the share of positives: give weight= or pos_weight=",
        "BiTemperedLogisticLoss": "of tempered logarithms",
        "BinaryBiTemperedLogisticLoss": "of tempered logarithms",
        "BinarySoftF1Loss": "the F1 of probabilities over the whole batch: DiceLoss(link='sigmoid', smooth=0)",
        "SoftF1Loss": "the F1 of probabilities over the whole batch: DiceLoss(average='micro', smooth=0)",
        "FocalCosineLoss": "of vectors",
        "LogCoshLoss": "not yet",
        "QualityFocalLoss": "focal loss of soft targets with the factor |p - t|^beta",
        "WingLoss": "of landmarks",
    },
)
