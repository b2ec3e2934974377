"""Losses in MMEngine: names in its registries, and a hook for schedules and intervals."""

from __future__ import annotations

from typing import Any

from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS, Registry
from torch import Tensor, nn

from lossfold import metrics
from lossfold.adapters.metrics import checked_accumulator, named_values
from lossfold.adapters.steps import advance
from lossfold.compose.loss_set import LossSet
from lossfold.config.build import build
from lossfold.config.dialects import Dialect, dialect_named
from lossfold.config.dialects.heads import called_by_heads
from lossfold.errors import LossError, nearest
from lossfold.metrics.accumulators import Accumulator
from lossfold.registry import LOSSES
from lossfold.routing import walk


def register_into(registry: Registry, *, prefix: str = "", force: bool = False, dialect: str | None = None) -> list[str]:
    """Enter every registered loss into an MMEngine registry, as ``MODELS``, and return the names.

    Sets are entered too: their terms may be configurations, as in :func:`lossfold.build`. Under MMDistributedDataParallel, which
    averages gradients, ``dict(type="LossSet", sync=True, ...)`` has the loss of all ranks' batches; an OptimWrapper with
    ``accumulative_counts`` averages the losses of micro-batches, each of them that of all ranks.

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


@METRICS.register_module()
class LossfoldMetric(BaseMetric):
    """An accumulator of `lossfold.metrics` in MMEngine: ``val_evaluator=dict(type="LossfoldMetric", metric="IoU", C=19)``.

    Args:
        metric: an accumulator, or the name of one with its options beside.
        pred, target: where a sample's class map ``[H, W]`` or ``[1, H, W]`` stands in it, as dotted paths.
        collect_device, prefix: MMEngine's.
        options: of the accumulator, where it is named.

    Raises:
        LossError: for a metric of no such name, or something else.
    """

    default_prefix = "lossfold"

    def __init__(
        self,
        metric: str | Accumulator,
        *,
        pred: str = "pred_sem_seg.data",
        target: str = "gt_sem_seg.data",
        collect_device: str = "cpu",
        prefix: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if isinstance(metric, str):
            names = [name for name, one in vars(metrics).items() if isinstance(one, type) and issubclass(one, Accumulator)]
            if metric not in names or metric == "Accumulator":
                raise LossError("LossfoldMetric", "metric", "the name of an accumulator", repr(metric), nearest(metric, names))
            metric = getattr(metrics, metric)(**options)
        self.score, self.paths = checked_accumulator("LossfoldMetric", metric), (pred, target)

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Add the samples of a batch; MMEngine collects the sums of all ranks."""
        for sample in data_samples:
            maps = [walk(path, path, sample) for path in self.paths]
            one, other = (value if value.dim() == 3 else value[None] for value in maps)
            self.score.reset()
            self.score.update(one, other)
            self.results.append([value.cpu().clone() for value in self.score.buffers()])

    def compute_metrics(self, results: list[list[Tensor]]) -> dict[str, float]:
        """Return the metric of all samples, each of which stands for itself."""
        self.score.reset()
        for sums in results:
            for total, value in zip(self.score.buffers(), sums, strict=True):
                total.add_(value.to(total.device))
        return named_values(type(self.score).__name__.lower(), self.score.compute())
