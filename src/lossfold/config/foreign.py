"""Options of other libraries' losses, and what they are called here: for errors, not for translation."""

from __future__ import annotations

from collections.abc import Container

LEFT_OUT = "left out"

# their option: (ours, what to write)
FOREIGN: dict[str, tuple[tuple[str, str], ...]] = {
    # MMSegmentation, MMDetection, MMagic
    "use_sigmoid": (("link", "link='sigmoid' reads every channel for itself"), ("", "that is BinaryCrossEntropyLoss")),
    "use_mask": (("link", "link='sigmoid'"), ("", "that is BinaryCrossEntropyLoss")),
    "activate": (("link", "link='identity' takes probabilities"),),
    "use_smooth": (("smooth", "smooth"),),
    "naive_dice": (("squared", "squared (the opposite: naive_dice=False is squared=True)"),),
    "avg_non_ignore": (("ignore_index", "left out: ignored pixels are never in the mean"),),
    "thresh": (("threshold", "threshold"),),
    "loss_name": (("loss_weight", "the key of the term; in a list of losses loss_name names it"),),
    "pl_batch_shrink": (("batch_shrink", "batch_shrink"),),
    "pl_batch_size": (("batch_shrink", "batch_shrink: the first of so many parts of the latents"),),
    "sync_mean_buffer": (("batch_shrink", "left out: the mean is over all ranks"),),
    "use_apex_amp": (("loss_weight", "left out: autocast is switched off inside"),),
    "loss_scaler": (("loss_weight", "left out: autocast is switched off inside"),),
    "clip_model": (("network", "network=, the model of open_clip or transformers"),),
    # MONAI
    "sigmoid": (("link", "link='sigmoid'"),),
    "softmax": (("link", "link='softmax'"),),
    "other_act": (("link", "link='identity', on activated scores"),),
    "to_onehot_y": (("ignore_index", "left out: labels are class numbers"),),
    "squared_pred": (("squared", "squared"),),
    "jaccard": (("smooth", "left out, with JaccardLoss for True"),),
    "batch": (("per_image", "per_image (the opposite: batch=True is per_image=False)"),),
    "smooth_nr": (("smooth", "smooth, in numerator and denominator"),),
    "smooth_dr": (("smooth", "smooth, in numerator and denominator"),),
    "lambda_dice": (("dice_weight", "dice_weight"),),
    "lambda_ce": (("ce_weight", "ce_weight"),),
    # PyTorch, torchvision, segmentation-models-pytorch
    "weight": (("class_weight", "class_weight; pixel weights are an argument of the call"), ("loss_weight", "loss_weight")),
    "weights": (("class_weight", "class_weight; pixel weights are an argument of the call"), ("loss_weight", "loss_weight")),
    "size_average": (("reduction", "reduction"),),
    "reduce": (("reduction", "reduction"),),
    "mode": (("link", "link: 'softmax' for multiclass, 'sigmoid' for binary and multilabel"),),
    "from_logits": (("link", "link='identity' for from_logits=False"),),
    "log_loss": (("log", "log"),),
    "ignored_index": (("ignore_index", "ignore_index"),),
    "ignore_label": (("ignore_index", "ignore_index"),),
    "smooth_factor": (("label_smoothing", "label_smoothing"),),
}


def translation(option: str, valid: Container[str]) -> str:
    """Return what an option of another library is called here, "" if that is not known."""
    for ours, words in FOREIGN.get(option, ()):
        if ours in valid:
            return f"leave {option!r} out{words[len(LEFT_OUT) :]}" if words.startswith(LEFT_OUT) else f"write {words}"
    return ""
