"""What every metric counts: pixels by image, true class and predicted class, after the arguments are checked."""
# ruff: noqa: N803 - C is the number of classes

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from lossfold.errors import LossError
from lossfold.folds.checks import plain
from lossfold.folds.looks import can_look, mention_all_ignored

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)


def check_metrics(who: str, metrics: Any, known: Collection[str]) -> None:
    """Refuse what is no list of known metrics."""
    listed = isinstance(metrics, (tuple, list)) and len(metrics) > 0
    fine = listed and all(isinstance(name, str) and name in known for name in metrics) and len(set(metrics)) == len(metrics)
    check_option(who, "metrics", fine, f"a list of {', '.join(map(repr, known))}, each at most once", metrics)


def check_option(who: str, argument: str, holds: bool, expected: str, got: object) -> None:
    """Refuse the value of an option."""
    if not holds:
        raise LossError(who, argument, expected, repr(got))


def check_classes(who: str, C: object, ignore: object) -> None:
    """Refuse a number of classes or an ignored label that is no integer."""
    check_option(who, "C", isinstance(C, int) and not isinstance(C, bool) and C >= 1, "a number of classes >= 1", C)
    whole = isinstance(ignore, int) and not isinstance(ignore, bool) and -(2**63) <= ignore < 2**63
    check_option(who, "ignore", ignore is None or whole, "a label (an integer) or None", ignore)


def check_maps(who: str, preds: object, labels: object, per_image: bool, binary: bool) -> None:
    """Refuse what are not two class maps of one shape with a batch dimension."""
    hints = {"preds": "take logits > 0" if binary else "take logits.argmax(1)", "labels": "take labels.long()"}
    for name, given in (("preds", preds), ("labels", labels)):
        kind = "an integer or boolean tensor" if binary else "an integer tensor"
        if not isinstance(given, Tensor):
            raise LossError(who, name, kind, type(given).__name__)
        if given.dtype not in INTEGERS and not (binary and given.dtype == torch.bool):
            hint = hints[name] if given.is_floating_point() else "take .long()"
            raise LossError(who, name, kind, f"{given.dtype} {list(given.shape)}", hint)
    assert isinstance(preds, Tensor) and isinstance(labels, Tensor)
    if preds.dim() < 2:
        raise LossError(who, "preds", "[B, *S]", f"{list(preds.shape)}", "the batch dimension is required: image[None]")
    if preds.shape != labels.shape:
        raise LossError(who, "labels", f"of preds' shape {list(preds.shape)}", f"{list(labels.shape)}")
    if preds.device != labels.device:
        raise LossError(who, "labels", f"on preds' device {preds.device}", f"{labels.device}")


def check_range(who: str, name: str, values: Tensor, counted: Tensor, C: int, ignore: int | None) -> None:
    """Refuse values outside of [0, C) at counted pixels: with a LossError on CPU, elsewhere with an assert on the device."""
    bad = counted & ((values < 0) | (values >= C))
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        torch._assert_async(~bad.any(), f"lossfold: {name} of {who} out of range [0, {C})")
    elif bad.any():
        found = values[bad]
        also = f" or ignore={ignore}" if name == "labels" else ""
        hint = "name the label that does not count: ignore=..." if name == "labels" and ignore is None else ""
        if C == 2 and set(found.tolist()) == {255}:
            hint = "foreground is 1: take > 0 of masks of 0 and 255, or name what does not count: ignore=255"
        raise LossError(who, name, f"in [0, {C}){also}", f"values from {int(found.min())} to {int(found.max())}", hint)


def count(who: str, preds: Tensor, labels: Tensor, C: int, ignore: int | None, per_image: bool, binary: bool = False) -> Tensor:
    """Return the confusion matrix int64 ``[I, C, C]`` (truth, prediction) of checked options; I is B, or 1 without per_image.

    Predictions at ignored pixels take no part, whatever they are.
    """
    preds, labels = plain((preds, labels))
    check_maps(who, preds, labels, per_image, binary)
    images = preds.shape[0] if per_image else 1
    if binary and can_look(labels, False):
        mention_all_ignored("labels", labels, ignore, "ignore")
    # In int64 before anything is compared: a uint8 tensor would wrap ignore=-100 to 156.
    truth, found = labels.long(), preds.long()
    counted = torch.ones_like(truth, dtype=torch.bool) if ignore is None else truth != ignore
    check_range(who, "labels", truth, counted, C, ignore)
    check_range(who, "preds", found, counted, C, ignore)
    # Each image has one more cell, for the pixels that do not count.
    cells = C * C + 1
    index = torch.where(counted, truth * C + found, C * C)
    if per_image:
        first = torch.arange(images, device=index.device) * cells
        index = index + first.reshape(-1, *[1] * (index.dim() - 1))
    index = index.reshape(-1)
    ones = torch.ones((), dtype=torch.int64, device=index.device).expand(index.shape)
    table = torch.zeros(images * cells, dtype=torch.int64, device=index.device).index_add_(0, index, ones)
    return table.reshape(images, cells)[:, :-1].reshape(images, C, C)
