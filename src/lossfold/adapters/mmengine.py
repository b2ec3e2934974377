"""Losses in MMEngine: names in its registries, and a hook for schedules and intervals."""

from __future__ import annotations

from typing import Any

from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, Registry
from torch import nn

from lossfold.adapters.steps import advance
from lossfold.compose.loss_set import LossSet
from lossfold.config.build import build
from lossfold.config.dialects import Dialect, dialect_named
from lossfold.config.dialects.heads import called_by_heads
from lossfold.errors import LossError
from lossfold.registry import LOSSES


def register_into(registry: Registry, *, prefix: str = "", force: bool = False, dialect: str | None = None) -> list[str]:
    """Enter every registered loss into an MMEngine registry, as ``MODELS``, and return the names.

    Sets are entered too: their terms may be configurations, as in :func:`lossfold.build`.

    Args:
        registry: of MMEngine, or of a library on it.
        prefix: stands before every name: "lf" enters ``lfDiceLoss``.
        force: take names that are taken; without it nothing is entered if one is.
        dialect: "mmseg" or "mmdet": for registries whose heads call ``loss(pred, target, weight=, avg_factor=, ignore_index=)``
            and read ``loss_name``. That library's own names then build what its configs mean, on lossfold's folds (see
            :func:`lossfold.build`); all other losses are lossfold's, called likewise. "mmagic" likewise, without heads.

    Raises:
        LossError: for something that is no registry of MMEngine, for names that are taken, and for an unknown dialect.

    Example:
        >>> _ = register_into(MODELS)
        >>> MODELS.build({"type": "DiceLoss", "loss_weight": 0.5, "data_info": {"logits": "seg_logits"}})
        DiceLoss(loss_weight=0.5, inputs={'logits': 'seg_logits'})
    """
    if not isinstance(registry, Registry):
        raise LossError("register_into", "registry", "a Registry of MMEngine", type(registry).__name__)
    words = None if dialect is None else dialect_named(dialect)
    names = {prefix + name: name for name in (*LOSSES, *(words.losses if words else ())) if "." not in name}
    taken = [name for name in names if name in registry.module_dict]
    if taken and not force:
        hint = "prefix='lf' keeps them apart, force=True takes them"
        raise LossError("register_into", "registry", "without these names", ", ".join(taken), hint)
    for entered, name in names.items():
        plain = words is None and not issubclass(LOSSES[name], LossSet)
        registry.register_module(name=entered, force=force, module=LOSSES[name] if plain else _maker(name, words))
    return list(names)


def _maker(name: str, words: Dialect | None) -> Any:
    def make(**options: Any) -> nn.Module:
        entry = {"type": name} | ConfigDict(options).to_dict()
        if words is not None and words.knows(name):
            return build(entry, dialect=words.name)
        return called_by_heads(build(entry), name) if words is not None and words.heads else build(entry)

    make.__name__ = make.__qualname__ = name
    return make


@HOOKS.register_module()
class AdvanceLosses(Hook):
    """Advance the sets of a model after every iteration in which an optimiser has stepped.

    With accumulated gradients that is once an optimiser step. MMEngine's checkpoints keep the steps of the sets in the model (to
    resume from one, MMEngine 0.10.7 wants ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` with torch 2.6 or later, whatever the loss).

    Example:
        >>> custom_hooks = [dict(type="AdvanceLosses")]  # in a Runner's configuration
    """

    priority = "LOW"

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance where an optimiser has stepped."""
        wrapper = runner.optim_wrapper
        if any(one.should_update() for one in (wrapper.values() if hasattr(wrapper, "optim_wrappers") else [wrapper])):
            advance(runner.model)
