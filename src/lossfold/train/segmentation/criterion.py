"""The loss of a run: its default for each task, and what would make it unfit found before the training."""

from typing import Any

import torch

import lossfold as lf
from lossfold.train.data.base import Task
from lossfold.train.errors import TrainError

CHANNEL_LINKS = ("sigmoid", "hinge")
"""Links that read every channel of a network's scores as a yes or no of its own."""


def default_loss(task: Task, ignore_index: int) -> dict[str, Any]:
    """Return what `lossfold.build` takes: cross entropy and Dice, in the form that the task wants."""
    if task == "multiclass":
        return {"type": "CEDiceLoss", "ignore_index": ignore_index}
    return {
        "type": "LossSet",
        "bce": {"type": "BinaryCrossEntropyLoss", "ignore_index": ignore_index},
        "dice": {"type": "DiceLoss", "link": "sigmoid", "ignore_index": ignore_index, "loss_weight": 0.5},
    }


def build_criterion(config: dict[str, Any] | None, ignore_index: int, task: Task = "multiclass") -> lf.LossSet:
    """Build the loss, as a set, and see that it ignores what the data ignores and suits the task.

    Args:
        config: what `lossfold.build` takes; a single loss becomes a set with the one term `loss`. None: the default.
        ignore_index: the data's label of pixels that count nowhere.
        task: what the targets say.

    Raises:
        LossError: the config names an unknown loss or option.
        TrainError: a term would count the ignored pixels, or can't read the task's targets.
    """
    loss = lf.build(config or default_loss(task, ignore_index))
    criterion = loss if isinstance(loss, lf.LossSet) else lf.LossSet({"loss": loss})
    for name, term in criterion.named_modules():
        if getattr(term, "ignore_index", ignore_index) != ignore_index:
            raise TrainError(
                f"model.loss: {name or 'the loss'} ({type(term).__name__}) ignores label {term.ignore_index}, but the data "
                f"marks ignored pixels with {ignore_index}; give it ignore_index: {ignore_index}"
            )
        link = getattr(term, "link", None)
        if task != "multiclass" and link not in (None, *CHANNEL_LINKS):
            raise TrainError(
                f"model.loss: {name or 'the loss'} ({type(term).__name__}) reads the scores through link {link!r}, but the "
                f"channels of task {task} are scored one by one; give it link: sigmoid where it has that link, or choose "
                "BinaryCrossEntropyLoss in place of cross entropy"
            )
    return criterion


def check_targets(criterion: lf.LossSet, task: Task, channels: int) -> None:
    """Compute the loss of four pixels, so that one that can't read the task's targets is found before the training.

    Raises:
        TrainError: with the loss's own words.
    """
    channel_targets = task == "multilabel"
    targets = torch.zeros((1, channels, 2, 2) if channel_targets else (1, 2, 2), dtype=torch.uint8)
    try:
        with torch.no_grad():
            criterion(torch.zeros(1, channels, 2, 2), targets)
    except lf.LossError as error:
        shape = "[B,K,H,W] of 0 and 1" if channel_targets else "[B,H,W] of 0 and 1" if task == "binary" else "[B,H,W]"
        raise TrainError(f"model.loss does not take the targets of task {task} (integers {shape}): {error}") from error
