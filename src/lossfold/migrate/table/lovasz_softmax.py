"""The functions of the Lovász paper's repository (bermanmaxim/LovaszSoftmax), which many copied."""

from lossfold.migrate.rows import BINARY, LABELS, peer, read

LOVASZ_SOFTMAX = peer(
    "LovaszSoftmax",
    ("lovasz_losses", "LovaszSoftmax"),
    "the repository's PyTorch file, which is in no package; its copies in smp and in MMSegmentation are compared",
    {
        "lovasz_softmax": read(
            "lovasz_softmax(logits.softmax(1), labels, ignore=255)",
            "LovaszLoss(ignore_index=255)",
            "takes probabilities; ours logits (link='identity' for probabilities), and sorts only with exact=True: within 1 / 4096",
            LABELS,
        ),
        "lovasz_hinge": read(
            "lovasz_hinge(logits[:, 0], labels, ignore=255)",
            "LovaszLoss(link='hinge', ignore_index=255)",
            "scores [B, H, W] there, [B, 1, H, W] here; sorted only with exact=True; without foreground the same formula",
            BINARY,
        ),
        "StableBCELoss": read("StableBCELoss()(logits[:, 0], labels)", "BinaryCrossEntropyLoss()", "nothing but the shape", BINARY),
        "binary_xloss": read(
            "binary_xloss(logits[:, 0], labels, ignore=255)",
            "BinaryCrossEntropyLoss(ignore_index=255)",
            "nothing but the shape",
            BINARY,
        ),
        "xloss": read("xloss(logits, labels, ignore=255)", "CrossEntropyLoss(ignore_index=255)", "nothing", LABELS),
        "iou": "a metric: lossfold.metrics.iou",
        "iou_binary": "a metric: lossfold.metrics.iou_binary",
    },
)
