"""The losses of MMDetection that MMSegmentation's configs name."""

from lossfold.migrate.rows import MASKS, differs, equal, peer

MMDET = peer(
    "mmdet",
    ("mmdet.models.losses", "mmdet.models", "mmdet"),
    "MMDetection 3.3.0, compared",
    {
        "CrossEntropyLoss": (
            equal("CrossEntropyLoss()", "CrossEntropyLoss()"),
            equal("CrossEntropyLoss(use_sigmoid=True)", "BinaryCrossEntropyLoss()", MASKS),
            differs(
                "CrossEntropyLoss(class_weight=v)",
                "CrossEntropyLoss(class_weight=v)",
                "its mean divides by the number of pixels, here by the sum of their class weights; avg_factor= divides at call",
                by=0.43,
            ),
        ),
        "DiceLoss": (
            equal("DiceLoss(naive_dice=True)", "DiceLoss(link='sigmoid', average='micro', per_image=True, smooth=1e-3)", MASKS),
            differs(
                "DiceLoss(naive_dice=True)(logits, masks, avg_factor=5.0)",
                "DiceLoss(link='sigmoid', per_image=True, absent='count', smooth=1e-3)(logits, masks, normalizer=5.0)",
                "a row of the batch is a mask there, every channel of every image here; both divide by what the call says",
                MASKS,
                by=0.77,
            ),
        ),
        "FocalLoss": (
            equal("FocalLoss()", "FocalLoss(link='sigmoid', alpha=0.25)", MASKS),
            differs(
                "FocalLoss()(logits, masks, avg_factor=10.0)",
                "FocalLoss(link='sigmoid', alpha=0.25)",
                "avg_factor= at call divides; and of labels, C stands for the background",
                MASKS,
                by=95,
            ),
        ),
    },
)
