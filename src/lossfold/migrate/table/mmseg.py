"""MMSegmentation's losses.

``lossfold.build(cfg, dialect="mmseg")`` builds them with their own meaning and call; the rows say what changes with ours.
"""

from lossfold.migrate.rows import BINARY, IMAGES, ONE_HOT, differs, equal, peer, read

ALL_PIXELS = "its mean divides by ignored pixels too, unless avg_non_ignore=True: theirs is ours times the share that counts"
IGNORED_AS_BACKGROUND = (
    "ignored pixels count there with no target: their predictions are in the denominator; here they do not count"
)

MMSEG = peer(
    "mmseg",
    ("mmseg.models.losses", "mmseg.models", "mmseg"),
    "MMSegmentation 1.2.2, compared",
    {
        "CrossEntropyLoss": (
            equal("CrossEntropyLoss()", "CrossEntropyLoss()"),
            equal("CrossEntropyLoss(avg_non_ignore=True)(logits, ignored, ignore_index=255)", "CrossEntropyLoss(ignore_index=255)"),
            equal(
                "CrossEntropyLoss()(logits, ignored, ignore_index=255)",
                "share * CrossEntropyLoss(ignore_index=255)(logits, ignored)",
            ),
            differs(
                "CrossEntropyLoss()(logits, ignored, ignore_index=255)",
                "CrossEntropyLoss(ignore_index=255)(logits, ignored)",
                ALL_PIXELS,
                by=0.22,
            ),
            equal("CrossEntropyLoss(class_weight=v)", "CrossEntropyLoss(class_weight=v)"),
            equal("CrossEntropyLoss(use_sigmoid=True)", "BinaryCrossEntropyLoss()(logits, one_hot)"),
            differs(
                "CrossEntropyLoss()(logits, labels, w)",
                "CrossEntropyLoss()(logits, labels, w)",
                "pixel weights are not in its denominator: theirs is ours times their mean",
                by=0.49,
            ),
        ),
        "DiceLoss": (
            equal(
                "DiceLoss(naive_dice=True)",
                "DiceLoss(link='sigmoid', average='micro', per_image=True, smooth=1e-3)(logits, one_hot)",
            ),
            equal(
                "DiceLoss()",
                "DiceLoss(link='sigmoid', average='micro', per_image=True, squared=True, smooth=0, eps=2e-3)(logits, one_hot)",
            ),
            equal("DiceLoss(use_sigmoid=False, naive_dice=True)", "DiceLoss(average='micro', per_image=True, smooth=1e-3)"),
            differs(
                "DiceLoss(use_sigmoid=False, naive_dice=True)(logits, ignored)",
                "DiceLoss(average='micro', per_image=True, smooth=1e-3, ignore_index=255)(logits, ignored)",
                IGNORED_AS_BACKGROUND,
                by=0.03,
            ),
        ),
        "FocalLoss": (
            equal("FocalLoss(alpha=0.25)(logits, one_hot.long())", "FocalLoss(link='sigmoid', alpha=0.25)", ONE_HOT),
            differs(
                "FocalLoss(alpha=0.25)(logits, one_hot.long())",
                "FocalLoss(alpha=0.25)",
                "one sigmoid for each class there, softmax here; on CPUs it fails on labels of several classes",
                by=0.14,
            ),
        ),
        "LovaszLoss": (
            equal("LovaszLoss(reduction='none')(logits, ignored, ignore_index=255)", "LovaszLoss(exact=True, ignore_index=255)"),
            equal("LovaszLoss(per_image=True)", "LovaszLoss(exact=True, per_image=True)"),
            equal("LovaszLoss(loss_type='binary', per_image=True)", "LovaszLoss(link='hinge', exact=True)", BINARY),
            differs(
                "LovaszLoss(reduction='none', class_weight=v)",
                "LovaszLoss(exact=True, class_weight=v)",
                "the weighted sum is divided by the number of classes present there, by the sum of their weights here",
                by=0.17,
            ),
        ),
        "OhemCrossEntropy": (
            equal("OhemCrossEntropy(thres=0.9, min_kept=20)", "OhemCrossEntropyLoss(thresh=0.9, min_kept=20)"),
            equal(
                "OhemCrossEntropy(thres=0.2, min_kept=20)(logits, ignored)",
                "OhemCrossEntropyLoss(thresh=0.2, min_kept=20, ignore_index=255)(logits, ignored)",
            ),
            differs(
                "OhemCrossEntropy(thres=0.2, min_kept=20, class_weight=v)",
                "OhemCrossEntropyLoss(thresh=0.2, min_kept=20, class_weight=v)",
                "its mean divides by the number of hard pixels, here by the sum of their class weights",
                by=0.44,
            ),
            differs(
                "OhemCrossEntropy(thres=0, min_kept=1000)",
                "OhemCrossEntropyLoss(thresh=0, min_kept=1000)",
                "where fewer pixels than min_kept count, it drops the easiest of them (and is NaN where all are alike)",
                by=0.0042,
            ),
        ),
        "OHEMPixelSampler": read(
            "OHEMPixelSampler(context, thresh=0.2, min_kept=20)",
            "OhemCrossEntropyLoss(thresh=0.2, min_kept=20 * B)",
            "a sampler, whose weights reach the loss through the head: its mean divides by all pixels; min_kept is of an image",
        ),
        "TverskyLoss": (
            equal("TverskyLoss()", "TverskyLoss(alpha=0.3, beta=0.7, per_image=True, absent='count')"),
            equal(
                "TverskyLoss()(logits, ignored)",
                "TverskyLoss(alpha=0.3, beta=0.7, per_image=True, absent='count', ignore_index=255)(logits, ignored)",
            ),
            differs(
                "TverskyLoss(class_weight=v)",
                "TverskyLoss(alpha=0.3, beta=0.7, per_image=True, absent='count', class_weight=v)",
                "the weighted sum is divided by C there, by the sum of the weights here",
                by=0.25,
            ),
        ),
        "BoundaryLoss": differs(
            "BoundaryLoss()",
            "BinaryCrossEntropyLoss()",
            "positives weighted by the share of negatives and the reverse, over all pixels (PIDNet's); that of Kervadec et al."
            " has the same name",
            BINARY,
            by=0.5,
        ),
        "HuasdorffDisstanceLoss": "not yet",
        "KLDivLoss": "of two networks' scores",
        "SiLogLoss": equal(
            "SiLogLoss()(pred + 1, target + 1)", "SILogLoss(variance_focus=0.5, per_image=True)(pred + 1, target + 1)", IMAGES
        ),
        "Accuracy": "a metric: lossfold.metrics.accuracy",
    },
)
