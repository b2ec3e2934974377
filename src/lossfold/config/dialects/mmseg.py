"""MMSegmentation's dicts. Labels are ignored where the head's ignore_index says, 255."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from lossfold.config.dialects.converted import Converted, Converter, given, refuse
from lossfold.config.dialects.head_losses import Boundary, ChosenClass, EachChannel, HardPixels, MaskDice, Whole
from lossfold.config.dialects.heads import HeadLoss
from lossfold.losses.base import Loss
from lossfold.losses.classes.focal import FocalLoss
from lossfold.losses.classes.lovasz import LovaszLoss
from lossfold.losses.classes.overlap import TverskyLoss
from lossfold.losses.masks.binary import BinaryCrossEntropyLoss

IGNORED = {"ignore_index": 255}
ONE_HOT = (
    "called with targets of the scores' shape, functional.one_hot((labels * (labels != 255)).long(), C).movedim(-1, 1), and with "
    "weight=labels != 255 where 255 is ignored"
)
ALL_PIXELS = "its mean divides by ignored pixels too (avg_non_ignore=False); here by those that count"
BACKGROUND = "ignored pixels count there, as pixels of no class; here they do not"
CALLED = "avg_factor= at call is normalizer= here, with per_image=True"
NOT_YET = "it is not here yet"
Weights = Sequence[float] | str | None


def weights(values: Weights) -> list[float] | None:
    """Return class weights; those in a file are left there."""
    if isinstance(values, str):
        raise refuse("class_weight", "a list of numbers", values, "no file is read for a config: write its numbers")
    return None if values is None else list(values)


def made(
    module: type[HeadLoss], name: str, options: dict[str, Any], loss_name: str, loss_weight: float, /, **own: Any
) -> Callable[[], nn.Module]:
    """Return what builds a loss under a head's call."""
    return partial(module, name=name, options=given(**options), loss_name=loss_name, loss_weight=loss_weight, **own)


def cross_entropy(
    use_sigmoid: bool = False,
    use_mask: bool = False,
    reduction: str = "mean",
    class_weight: Weights = None,
    loss_weight: float = 1.0,
    loss_name: str = "loss_ce",
    avg_non_ignore: bool = False,
    ignore_index: int | None = None,
    *,
    detection: bool = False,
) -> Converted:
    """Of the chosen class, or of each channel with use_sigmoid."""
    said = {"use_sigmoid": use_sigmoid, "class_weight": class_weight, "reduction": reduction, "avg_non_ignore": avg_non_ignore}
    shared: dict[str, Any] = {"reduction": reduction, "ignore_index": -100 if ignore_index is None else ignore_index}
    shared["avg_non_ignore"] = avg_non_ignore
    v, common = weights(class_weight), given(reduction=reduction, loss_weight=loss_weight, loss_name=loss_name)
    changes: tuple[str, ...] = () if avg_non_ignore or reduction != "mean" or detection else (ALL_PIXELS,)
    if use_mask:
        raise refuse("use_mask", "False", use_mask, "gather the mask of the labelled class, and take BinaryCrossEntropyLoss")
    own: dict[str, Any] = {"class_weight": v, "weighted_mean": not detection}
    if use_sigmoid:
        own = {"kind": BinaryCrossEntropyLoss, "given": {"pos_weight": v}, "background": detection}
    make = made(EachChannel if use_sigmoid else ChosenClass, "CrossEntropyLoss", said, loss_name, loss_weight, **shared, **own)
    if use_sigmoid:
        options = common | ({"pos_weight": v} if v else {})
        return Converted("BinaryCrossEntropyLoss", options, (CALLED,) if detection else (*changes, ONE_HOT), make=make)
    if detection:
        changes = ("class weights are in the mean's denominator here, not there", CALLED) if v else (CALLED,)
    return Converted("CrossEntropyLoss", ({} if detection else IGNORED) | given(class_weight=v) | common, changes, make=make)


def dice(
    use_sigmoid: bool = True,
    activate: bool = True,
    reduction: str = "mean",
    naive_dice: bool = False,
    loss_weight: float = 1.0,
    ignore_index: int | None = 255,
    eps: float = 1e-3,
    loss_name: str = "loss_dice",
) -> Converted:
    """Of each image, all classes together. ``ignore_index`` is a channel that is left out."""
    said = {"use_sigmoid": use_sigmoid, "activate": activate, "reduction": reduction, "naive_dice": naive_dice, "eps": eps}
    link = "identity" if not activate else "sigmoid" if use_sigmoid else "softmax"
    make = made(
        MaskDice,
        "DiceLoss",
        said,
        loss_name,
        loss_weight,
        reduction=reduction,
        link=link,
        naive=naive_dice,
        eps=eps,
        without=ignore_index,
    )
    form: dict[str, Any] = {"smooth": eps} if naive_dice else {"smooth": 0.0, "eps": 2 * eps, "squared": True}
    options: dict[str, Any] = {} if link == "softmax" else {"link": link}
    options = {
        **options,
        "average": "micro",
        "per_image": True,
        **form,
        **given(reduction=reduction, loss_weight=loss_weight, loss_name=loss_name),
    }
    return Converted("DiceLoss", options, (BACKGROUND, *((ONE_HOT,) if link == "sigmoid" else ())), make=make)


def focal(
    use_sigmoid: bool = True,
    gamma: float = 2.0,
    alpha: float | Sequence[float] = 0.5,
    reduction: str = "mean",
    class_weight: Weights = None,
    loss_weight: float = 1.0,
    loss_name: str = "loss_focal",
    *,
    ignore: int = 255,
    changes: tuple[str, ...] = (ALL_PIXELS, ONE_HOT),
) -> Converted:
    """Of each channel."""
    if not use_sigmoid:
        raise refuse("use_sigmoid", "True", use_sigmoid)
    v = weights(class_weight)
    said = {"gamma": gamma, "alpha": alpha, "class_weight": class_weight, "reduction": reduction}
    given_ = {"link": "sigmoid", "gamma": gamma, "alpha": alpha, **given(class_weight=v)}
    shared = {"kind": FocalLoss, "given": given_, "reduction": reduction, "ignore_index": ignore, "background": True}
    make = made(EachChannel, "FocalLoss", said, loss_name, loss_weight, **shared)
    return Converted(
        "FocalLoss", {**given_, **given(reduction=reduction, loss_weight=loss_weight, loss_name=loss_name)}, changes, make=make
    )


def lovasz(
    loss_type: str = "multi_class",
    classes: str | Sequence[int] = "present",
    per_image: bool = False,
    reduction: str = "mean",
    class_weight: Weights = None,
    loss_weight: float = 1.0,
    loss_name: str = "loss_lovasz",
) -> Converted:
    """Sorted, as there; without exact=True ours counts into bins, and is faster."""
    if loss_type not in ("multi_class", "binary"):
        raise refuse("loss_type", "'multi_class' or 'binary'", loss_type)
    if not per_image and reduction != "none":
        raise refuse("reduction", "'none' with per_image=False, as MMSegmentation wants it", reduction)
    if class_weight is not None:
        raise refuse("class_weight", "left out", class_weight, "it is in the mean's denominator here, and not there")
    if per_image and reduction != "mean":
        raise refuse("reduction", "'mean' with per_image=True", reduction)
    own: dict[str, Any] = (
        {"link": "hinge"} if loss_type == "binary" else {"classes": classes if isinstance(classes, str) else list(classes)}
    )
    own |= {"per_image": per_image, "exact": True}
    said = {"loss_type": loss_type, "classes": classes, "per_image": per_image, "reduction": reduction}
    make = made(Whole, "LovaszLoss", said, loss_name, loss_weight, ignore_index=255, for_label=partial(sorted_lovasz, own))
    note = ("exact=True sorts, as it does there; without it 4096 bins serve, within 1/4096 and faster",)
    return Converted("LovaszLoss", {**own, **IGNORED, **given(loss_weight=loss_weight, loss_name=loss_name)}, (), note, make)


def sorted_lovasz(own: dict[str, Any], ignore_index: int) -> Loss:
    """Return ours, for a label that is ignored."""
    return LovaszLoss(ignore_index=ignore_index, **own)


def ohem(
    ignore_label: int = 255,
    thres: float = 0.7,
    min_kept: int = 100000,
    loss_weight: float = 1.0,
    class_weight: Weights = None,
    loss_name: str = "loss_ohem",
) -> Converted:
    """Class weights are not in its denominator."""
    v = weights(class_weight)
    own = {"thresh": thres, "min_kept": max(1, min_kept), **given(class_weight=v)}
    said = {"ignore_label": ignore_label, "thres": thres, "min_kept": min_kept, "class_weight": class_weight}
    make = made(Whole, "OhemCrossEntropy", said, loss_name, loss_weight, for_label=partial(hard_pixels, own, ignore_label))
    changes = ("class weights are in the mean's denominator here, not there",) if v else ()
    options = {"ignore_index": ignore_label, **own, **given(loss_weight=loss_weight, loss_name=loss_name)}
    return Converted("OhemCrossEntropyLoss", options, changes, make=make)


def hard_pixels(own: dict[str, Any], ignore_label: int, ignore_index: int) -> Loss:
    """Return ours with the mean over the hard pixels; the ignored label is that of the constructor, as there."""
    return HardPixels(ignore_index=ignore_label, **own)


def tversky(
    smooth: float = 1,
    class_weight: Weights = None,
    loss_weight: float = 1.0,
    ignore_index: int | None = 255,
    alpha: float = 0.3,
    beta: float = 0.7,
    loss_name: str = "loss_tversky",
) -> Converted:
    """Of each image and class; the weighted sum is divided by C."""
    v = weights(class_weight)
    own = {"alpha": alpha, "beta": beta, "smooth": smooth, "per_image": True, "absent": "count"} | given(class_weight=v)
    label = -100 if ignore_index is None else ignore_index
    said = {"alpha": alpha, "beta": beta, "smooth": smooth, "class_weight": class_weight}
    mean = sum(v) / len(v) if v else 1.0  # what divides by the sum of the weights here divides by C there
    make = made(Whole, "TverskyLoss", said, loss_name, mean * loss_weight, for_label=partial(tversky_of, own, label))
    options = {**own, **given(loss_weight=mean * loss_weight, loss_name=loss_name), "ignore_index": label}
    return Converted("TverskyLoss", options, make=make)


def tversky_of(own: dict[str, Any], label: int, ignore_index: int) -> Loss:
    """Return ours; the ignored label is that of the constructor, as there."""
    return TverskyLoss(ignore_index=label, **own)


def boundary(loss_weight: float = 1.0, loss_name: str = "loss_boundary") -> Converted:
    """PIDNet's."""
    note = ("positives weigh the share of negatives there, and the reverse: give these weights at call, or pos_weight=",)
    make = made(Boundary, "BoundaryLoss", {}, loss_name, loss_weight)
    return Converted("BinaryCrossEntropyLoss", given(loss_weight=loss_weight, loss_name=loss_name), note, make=make)


def sampler(thresh: float | None = None, min_kept: int = 100000) -> Converted:
    """A sampler is no loss: what a head makes of it and of cross entropy is one here."""
    ours = "{'type': 'OhemCrossEntropyLoss', " + (f"'thresh': {thresh}, " if thresh is not None else "'thresh': 0.0, ")
    hint = f"in place of sampler and loss: {ours}'min_kept': {min_kept} * the images of a batch, 'ignore_index': 255}}"
    raise refuse("type", "a loss", "OHEMPixelSampler", hint)


LOSSES: dict[str, Converter] = {
    "CrossEntropyLoss": cross_entropy,
    "DiceLoss": dice,
    "FocalLoss": focal,
    "LovaszLoss": lovasz,
    "OhemCrossEntropy": ohem,
    "TverskyLoss": tversky,
    "BoundaryLoss": boundary,
    "OHEMPixelSampler": sampler,
}
REFUSED = {"HuasdorffDisstanceLoss": NOT_YET, "SiLogLoss": NOT_YET, "KLDivLoss": "it compares two networks' scores"}
