"""torchvision's losses, which are functions."""

from lossfold.migrate.rows import MASKS, differs, equal, peer

BOXES = "of boxes"

TORCHVISION = peer(
    "torchvision",
    ("torchvision.ops", "torchvision.ops.focal_loss"),
    "torchvision 0.29, compared",
    {
        "sigmoid_focal_loss": (
            equal("sigmoid_focal_loss(logits, masks, reduction='mean')", "FocalLoss(link='sigmoid', alpha=0.25)", MASKS),
            equal(
                "sigmoid_focal_loss(logits, masks, alpha=-1, gamma=3, reduction='mean')",
                "FocalLoss(link='sigmoid', gamma=3)",
                MASKS,
            ),
            differs(
                "sigmoid_focal_loss(50 + 0 * logits, 1 + 0 * masks, gamma=0.5, reduction='sum')",
                "FocalLoss(link='sigmoid', alpha=0.25, gamma=0.5, reduction='sum')(50 + 0 * logits, 1 + 0 * masks)",
                "where p reaches 1 and gamma is below 1 its gradient is NaN, here it is finite",
                MASKS,
                by=1,
            ),
        ),
        "complete_box_iou_loss": BOXES,
        "distance_box_iou_loss": BOXES,
        "generalized_box_iou_loss": BOXES,
    },
)
