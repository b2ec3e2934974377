"""What other libraries call options, values and losses, and what they are here: for errors, not for translation.

An entry says what is meant where a loss has an option of ours, by the value that was given if that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from lossfold.errors import is_number, python_scalar

LEFT_OUT = "left out"
Words = str | Mapping[Any, str] | Callable[[Any], str]

SIGMOID = {True: "link='sigmoid', which reads every channel for itself", False: LEFT_OUT}
OF_BINARY = {True: LEFT_OUT, False: "CrossEntropyLoss in place of this loss, for classes that exclude each other"}
WEIGHT = (("class_weight", "class_weight; pixel weights are an argument of the call"), ("loss_weight", "loss_weight"))
OF_SETS = "{who} as a term of a set, which adds over ranks: LossSet({{'loss': {who}(...)}}, sync=True)"
OF_COMPONENTS = "every= of a term in a set, or {who}Comps(interval=...)"


def smoothing(factor: int) -> Callable[[Any], str]:
    """Return what smoothing is, so many times theirs."""
    return lambda value: f"label_smoothing={factor * value:g}" if is_number(value) else "label_smoothing"


# their option: (ours, what to write)
FOREIGN: dict[str, tuple[tuple[str, Words], ...]] = {
    # MMSegmentation, MMDetection, MMagic, BasicSR
    "use_sigmoid": (("pos_weight", OF_BINARY), ("link", SIGMOID)),
    "use_mask": (("pos_weight", OF_BINARY), ("link", SIGMOID)),
    "activate": (("link", {True: LEFT_OUT, False: "link='identity', which takes probabilities"}),),
    "use_smooth": (("smooth", "smooth"),),
    "naive_dice": (("squared", {True: LEFT_OUT, False: "squared=True"}),),
    "avg_non_ignore": (("ignore_index", "left out: ignored pixels are never in the mean"),),
    "thresh": (("threshold", "threshold"),),
    "loss_name": (("loss_weight", "the key of the term; in a list of losses loss_name names it"),),
    "pl_batch_shrink": (("batch_shrink", "batch_shrink"),),
    "pl_batch_size": (("batch_shrink", "batch_shrink: the first of so many parts of the latents"),),
    "sync_mean_buffer": (("batch_shrink", "left out: the mean is over all ranks"),),
    "use_apex_amp": (("loss_weight", "left out: autocast is switched off inside"),),
    "loss_scaler": (("loss_weight", "left out: autocast is switched off inside"),),
    "clip_model": (("network", "network=, the model of open_clip or transformers"),),
    "range_norm": (("norm_img", "norm_img"),),
    # MONAI
    "sigmoid": (("pos_weight", OF_BINARY), ("link", SIGMOID)),
    "softmax": (
        ("pos_weight", {True: OF_BINARY[False], False: LEFT_OUT}),
        ("link", {True: LEFT_OUT, False: "link='identity' where the scores are probabilities; logits of classes are the default"}),
    ),
    "other_act": (("link", "link='identity', on activated scores"),),
    "to_onehot_y": (("ignore_index", "left out: labels are class numbers"),),
    "squared_pred": (("squared", {True: "squared=True", False: LEFT_OUT}),),
    "jaccard": (("smooth", {True: "JaccardLoss in place of this loss", False: LEFT_OUT}),),
    "batch": (("per_image", {True: LEFT_OUT, False: "per_image=True"}),),
    "smooth_nr": (("smooth", "smooth, in numerator and denominator"),),
    "smooth_dr": (("smooth", "smooth, in numerator and denominator"),),
    "lambda_dice": (("dice_weight", "dice_weight"),),
    "lambda_ce": (("ce_weight", "ce_weight"),),
    # PyTorch, torchvision, segmentation-models-pytorch
    "weight": WEIGHT,
    "weights": WEIGHT,
    "size_average": (("reduction", {True: "reduction='mean'", False: "reduction='sum'"}),),
    "reduce": (("reduction", {True: "reduction='mean'", False: "reduction='none'"}),),
    "mode": (
        ("pos_weight", {"multiclass": OF_BINARY[False], "binary": LEFT_OUT, "multilabel": LEFT_OUT}),
        ("link", {"multiclass": LEFT_OUT, "binary": "link='sigmoid'", "multilabel": "link='sigmoid'"}),
    ),
    "from_logits": (("link", {True: LEFT_OUT, False: "link='identity'"}),),
    "log_loss": (("log", "log"),),
    "eps": (("smooth", "smooth"),),
    "ignored_index": (("ignore_index", "ignore_index"),),
    "ignore_label": (("ignore_index", "ignore_index"),),
    # segmentation-models-pytorch moves 0 and 1 by the factor each, where smoothing moves both by half of it.
    "smooth_factor": (("pos_weight", smoothing(2)), ("label_smoothing", smoothing(1))),
    # ours, of sets
    "sync": (("loss_weight", OF_SETS),),
    "process_group": (("loss_weight", OF_SETS),),
    "interval": (("norm_mode", OF_COMPONENTS), ("batch_shrink", OF_COMPONENTS)),
}

# their word for a value: (ours among the valid ones)
VALUES = {
    "l2": "mse",
    "wgan_softplus": "wgan-logistic-ns",
    "wgan-softplus": "wgan-logistic-ns",
    "elementwise_mean": "mean",
    "batchmean": "mean",
    "multiclass": "softmax",
    "binary": "sigmoid",
    "multilabel": "sigmoid",
    "logits": "softmax",
    "fro": "mse",
    None: "none",
}

# their class: what it is here
LOSS_NAMES = {
    "BCELoss": "BinaryCrossEntropyLoss(link='identity')",
    "BCEWithLogitsLoss": "BinaryCrossEntropyLoss",
    "BCEDiceLoss": "presets.pixel_losses()",
    "BinaryFocalLoss": "FocalLoss(link='sigmoid')",
    "AsymmetricUnifiedFocalLoss": "UnifiedFocalLoss",
    "DC_and_CE_loss": "CEDiceLoss",
    "DeepSupervisionLoss": "presets.deep_supervision(loss, heads)",
    "DeepSupervisionWrapper": "presets.deep_supervision(loss, heads, skip_last=True, at='heads')",
    "DiceCELoss": "CEDiceLoss",
    "ExponentialLogarithmicLoss": "ExpLogLoss",
    "ExpDiceLoss": "ExpLogLoss(ce_weight=0.0, smooth=0.0, absent='count', per_image=True)",
    "GWDL": "GeneralizedWassersteinDiceLoss",
    "LogCoshDiceLoss": "DiceLoss(log_cosh=True)",
    "MultiStepMultiMasksAndIous": "presets.multimask_losses()",
    "PixLoss": "presets.birefnet(heads)",
    "Poly1CrossEntropyLoss": "PolyLoss",
    "Poly1FocalLoss": "PolyLoss(gamma=2.0)",
    "DiceFocalLoss": "LossSet(dice=DiceLoss(), focal=FocalLoss(link='sigmoid'))",
    "FocalLossV2": "FocalLoss",
    "IoULoss": "JaccardLoss",
    "LovaszHingeLoss": "LovaszLoss(link='hinge')",
    "LovaszSoftmax": "LovaszLoss",
    "LovaszSoftmaxLoss": "LovaszLoss",
    "MaskedDiceLoss": "DiceLoss, called with weight=mask",
    "MattingCriterion": "MattingLoss(reference_area=262144), called (pred, target, region)",
    "MS_SSIM": "MSSSIMLoss",
    "NLLLoss": "CrossEntropyLoss, of the logits before log_softmax",
    "OhemCrossEntropy": "OhemCrossEntropyLoss",
    "OhemCELoss": "OhemCrossEntropyLoss",
    "SigmoidFocalLoss": "FocalLoss(link='sigmoid')",
    "SoftBCEWithLogitsLoss": "BinaryCrossEntropyLoss, whose label_smoothing is twice the smooth_factor",
    "SoftCrossEntropyLoss": "CrossEntropyLoss, whose label_smoothing is the smooth_factor",
    "SoftDiceLoss": "DiceLoss",
    "SSIM": "SSIMLoss",
    "WeightedTVLoss": "MaskedTVLoss(order='l2'), called (pred, mask)",
}


def translation(option: str, valid: Container[str], value: Any = None, who: str = "the loss") -> str:
    """Return what an option of another library is called here, "" if that is not known."""
    for ours, words in FOREIGN.get(option, ()):
        if ours in valid:
            return said(option, words, python_scalar(value), who)
    return ""


def said(option: str, words: Words, value: Any, who: str) -> str:
    """Return what to do, by the value."""
    if callable(words):
        words = words(value)
    if isinstance(words, Mapping):
        known = isinstance(value, (bool, str)) and value in words
        if not known:
            return "; ".join(f"for {one!r} {said(option, text, one, who)}" for one, text in words.items())
        words = words[value]
    assert isinstance(words, str)
    words = words.format(who=who)
    if words.startswith(LEFT_OUT):
        return f"leave {option!r} out{words[len(LEFT_OUT) :] or ', which is the default here'}"
    return f"write {words}"


def meant(value: object, among: Container[str]) -> str:
    """Return which of some words another library's word for a value is, "" if that is not known."""
    ours = VALUES.get(value) if value is None or isinstance(value, str) else None
    return ours if ours is not None and ours in among else ""


def loss_meant(name: object) -> str:
    """Return what another library's loss is here, "" if that is not known."""
    ours = LOSS_NAMES.get(name.rpartition(".")[2]) if isinstance(name, str) else None
    return f"that is {ours}" if ours else ""
