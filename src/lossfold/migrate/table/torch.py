"""PyTorch's own losses."""

from lossfold.migrate.rows import BINARY, IMAGES, MASKS, differs, equal, peer

VECTORS = "of vectors, not of pixels"

TORCH = peer(
    "torch",
    ("torch.nn", "torch.nn.modules.loss"),
    "PyTorch 2.14, compared",
    {
        "CrossEntropyLoss": (
            equal("CrossEntropyLoss()", "CrossEntropyLoss()"),
            equal("CrossEntropyLoss(weight=v, ignore_index=255)", "CrossEntropyLoss(class_weight=v, ignore_index=255)"),
            equal("CrossEntropyLoss(weight=v, label_smoothing=0.1)", "CrossEntropyLoss(class_weight=v, label_smoothing=0.1)"),
            equal("CrossEntropyLoss(reduction='none')", "CrossEntropyLoss(reduction='none')"),
            differs(
                "CrossEntropyLoss()(logits, labels * 0 - 100)",
                "CrossEntropyLoss()(logits, labels * 0 - 100)",
                "nothing counts: NaN there, 0 here",
            ),
        ),
        "NLLLoss": (
            equal("NLLLoss(weight=v)(logits.log_softmax(1), labels)", "CrossEntropyLoss(class_weight=v)"),
            equal("NLLLoss()(logits.softmax(1).log(), labels)", "CrossEntropyLoss(link='identity')(logits.softmax(1), labels)"),
        ),
        "BCEWithLogitsLoss": (
            equal("BCEWithLogitsLoss()", "BinaryCrossEntropyLoss()", MASKS),
            equal("BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))", "BinaryCrossEntropyLoss(pos_weight=3.0)", MASKS),
            equal("BCEWithLogitsLoss()(logits[:, 0], labels.to(logits))", "BinaryCrossEntropyLoss()", BINARY),
            differs(
                "BCEWithLogitsLoss(weight=w[:, None])",
                "BinaryCrossEntropyLoss()(logits, masks, w[:, None])",
                "weight= there divides by the number of elements, here by the sum of the weights",
                MASKS,
                by=0.49,
            ),
        ),
        "BCELoss": equal(
            "BCELoss()(logits.sigmoid(), masks)", "BinaryCrossEntropyLoss(link='identity')(logits.sigmoid(), masks)", MASKS
        ),
        "L1Loss": equal("L1Loss()", "L1Loss()", IMAGES),
        "MSELoss": equal("MSELoss()", "MSELoss()", IMAGES),
        "SmoothL1Loss": equal("SmoothL1Loss(beta=0.1)", "SmoothL1Loss(beta=0.1)", IMAGES),
        "HuberLoss": equal("HuberLoss(delta=0.1)", "HuberLoss(delta=0.1)", IMAGES),
        "MultiLabelSoftMarginLoss": equal("MultiLabelSoftMarginLoss()(logits, masks)", "BinaryCrossEntropyLoss()", MASKS),
        "SoftMarginLoss": equal("SoftMarginLoss()(logits, 2 * masks - 1)", "BinaryCrossEntropyLoss()", MASKS),
        "KLDivLoss": differs(
            "KLDivLoss(reduction='none')(logits.log_softmax(1), 0.6 * one_hot + 0.1).sum(1).mean()",
            "CrossEntropyLoss()(logits, 0.6 * one_hot + 0.1)",
            "cross entropy is the divergence plus the entropy of the targets, which has no gradient; the mean there is over"
            " B C or over B alone ('batchmean')",
            by=0.27,
        ),
        "AdaptiveLogSoftmaxWithLoss": "a layer of its own for words",
        "CTCLoss": "of sequences",
        "CosineEmbeddingLoss": VECTORS,
        "GaussianNLLLoss": "the network predicts a variance",
        "HingeEmbeddingLoss": VECTORS,
        "LinearCrossEntropyLoss": "a layer of its own for words",
        "MarginRankingLoss": VECTORS,
        "MultiLabelMarginLoss": VECTORS,
        "MultiMarginLoss": VECTORS,
        "PoissonNLLLoss": "of counts",
        "TripletMarginLoss": VECTORS,
        "TripletMarginWithDistanceLoss": VECTORS,
    },
)
