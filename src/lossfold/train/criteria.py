"""Losses that compare what a module gives with a target of its kind: built from a config, and tried before the training."""

from typing import Any

import torch
from torch import Tensor

import lossfold as lf
from lossfold.train.errors import TrainError


def comparing(config: dict[str, Any], gives: str, takes: str, pred: Tensor, target: Tensor) -> lf.LossSet:
    """Build a loss, as a set, and see that it takes `(pred, target)`.

    Args:
        config: what `lossfold.build` takes; a single loss becomes a set with the one term `loss`.
        gives: what gives the output, for the message about a term that would read it as logits.
        takes: what the two arguments hold, for the message about a term that refuses them.
        pred, target: what the loss is tried with.

    Raises:
        LossError: the config names an unknown loss or option.
        TrainError: a term can't read these.
    """
    loss = lf.build(config)
    criterion = loss if isinstance(loss, lf.LossSet) else lf.LossSet({"loss": loss})
    for name, term in criterion.named_modules():
        link = getattr(term, "link", "identity")
        if link != "identity":
            raise TrainError(
                f"model.loss: {name or 'the loss'} ({type(term).__name__}) reads the output through link {link!r}, but {gives}; "
                "give it link: identity, or choose a loss that has it"
            )
    try:
        with torch.no_grad():
            criterion(pred, target)
    except (lf.LossError, TypeError) as error:
        raise TrainError(f"model.loss does not take (pred, target), each {takes}: {error}") from error
    return criterion
