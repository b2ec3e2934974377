"""Losses from plain configurations: dicts with the loss's name under ``type``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from lossfold.compose.loss_set import LossSet
from lossfold.errors import LossError, nearest
from lossfold.registry import LOSSES


def build(cfg: Mapping[str, Any] | nn.Module) -> nn.Module:
    """Build a loss from a dict: ``{"type": "DiceLoss", "ignore_index": 255}``.

    A ``LossSet`` takes its terms as further keys or under ``terms``; they are dicts of the same kind, sets included.

    Args:
        cfg: the configuration; it is not changed. A loss that is built already is returned as it is.

    Raises:
        LossError: for unknown names and options, with the path to them and the nearest valid ones.

    Example:
        >>> build({"type": "LossSet", "ce": {"type": "CrossEntropyLoss"}, "dice": {"type": "DiceLoss", "loss_weight": 0.5}})
        LossSet(ce=CrossEntropyLoss(), dice=DiceLoss(loss_weight=0.5))
    """
    return _build(cfg, "cfg")


def _build(cfg: object, path: str) -> nn.Module:
    if isinstance(cfg, nn.Module):
        return cfg
    if not isinstance(cfg, Mapping) or not all(isinstance(key, str) for key in cfg):
        raise LossError("lossfold.build", path, "a dict with the name of a loss under 'type'", f"{type(cfg).__name__} {cfg!r}"[:80])
    options = dict(cfg)
    name = options.pop("type", None)
    if not isinstance(name, str) or name not in LOSSES:
        raise LossError("lossfold.build", f"{path}.type", "the name of a registered loss", repr(name), nearest(name, LOSSES))
    cls = LOSSES[name]
    valid = inspect.signature(cls).parameters
    open_ended = any(p.kind == p.VAR_KEYWORD for p in valid.values())
    for key in options:
        if key not in valid and not open_ended:
            raise LossError(name, f"{path}.{key}", "an option of this loss", repr(options[key]), nearest(key, valid))
    try:
        if cls is LossSet:
            return _build_set(options, path)
        return cls(**options)
    except LossError as error:
        if error.argument.startswith(path):
            raise
        raise LossError(error.loss, f"{path}.{error.argument}", error.expected, error.got, error.hint) from None


def _build_set(options: dict[str, Any], path: str) -> nn.Module:
    settings = {key: options.pop(key) for key in ("loss_weight", "sync", "process_group") if key in options}
    terms = options.pop("terms", {})
    if not isinstance(terms, Mapping):
        raise LossError("lossfold.build", f"{path}.terms", "a dict of losses by name", type(terms).__name__)
    twice = sorted(terms.keys() & options.keys())
    if twice:
        raise LossError("lossfold.build", f"{path}.{twice[0]}", "given once", "the name of two terms")
    built = {key: _build(value, f"{path}.{key}") for key, value in {**terms, **options}.items()}
    return LossSet(built, **settings)
