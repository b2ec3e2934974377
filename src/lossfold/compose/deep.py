"""One loss on several outputs of a network, whatever their resolutions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossfold.compose.arguments import Handed
from lossfold.compose.loss_set import LossSet
from lossfold.compose.passes import Leaf, singles
from lossfold.errors import LossError, wrong
from lossfold.folds.fold import describe
from lossfold.losses.configured import Configured
from lossfold.losses.scores import ScoreLoss

AT = ("labels", "heads")
"""Where heads are scored: at the labels' resolution, or each at its own, with labels and weights of the nearest pixels."""
BESIDE = ("labels", "weight", "normalizer", "annotated")
"""What a loss may be given beside its logits."""


class HeadSet(LossSet):
    """A set whose terms are one loss on each of a network's heads; it is called with their list in the place of the logits."""

    def __init__(self, loss: nn.Module, weights: Sequence[float], at: str) -> None:
        self.at, self.weights = at, tuple(weights)
        taken = set[str]().union(*(part.arguments for part in parts_of(loss)))
        self.beside_logits = tuple(name for name in BESIDE if name in taken)
        super().__init__({f"head{i}": told(loss, i, weight) for i, weight in enumerate(weights) if weight != 0})

    def leaves(self, prefix: str = "") -> Iterator[Leaf]:
        """Yield every single loss; also those of the sets in it are handed this one's dict."""
        for leaf in super().leaves(prefix):
            yield leaf._replace(owner=self)

    def handed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Handed:
        """Return one dict, in which each term finds its head."""
        given = dict(zip(("heads", "labels", "weight"), inputs, strict=False)) | named
        heads = given.get("heads", given.pop("logits", None))
        count = len(self.weights)
        if not isinstance(heads, (list, tuple)) or len(heads) != count or not all(isinstance(head, Tensor) for head in heads):
            came = f"{len(heads)} of them" if isinstance(heads, (list, tuple)) else describe(heads)
            raise wrong("logits", f"a list of {count} heads' logits, as heads= says", came)
        if not isinstance(given.get("labels"), Tensor):
            raise wrong("labels", "a tensor", describe(given.get("labels")))
        unknown = given.keys() - {"heads", *self.beside_logits}
        if unknown:
            raise wrong(
                "arguments", f"(logits, {', '.join(self.beside_logits)})", ", ".join(f"{name}=" for name in sorted(unknown))
            )
        found: dict[str, Any] = {"heads": list(heads)}
        for name in self.beside_logits:
            value = given.get(name)
            at_head = name in ("labels", "weight") and isinstance(value, Tensor)
            found[name] = [self.beside(value, head) if at_head else value for head in heads]
        return (found,), {}

    def beside(self, values: Any, head: Tensor) -> Tensor:
        """Return labels or weights as a head is scored against them."""
        space = head.shape[2:]
        if self.at == "labels" or values.shape[values.dim() - len(space) :] == space:
            held: Tensor = values
            return held
        channels = values.dim() == head.dim()
        wide = values if values.is_floating_point() else values.to(torch.float32 if head.dtype != torch.float64 else head.dtype)
        near: Tensor = functional.interpolate(wide if channels else wide.unsqueeze(1), space, mode="nearest-exact").to(values.dtype)
        return near if channels else near.squeeze(1)


def parts_of(loss: nn.Module) -> list[ScoreLoss]:
    """Return the losses of a set, or the one; refuse what is not called with logits, labels and a weight."""
    parts = [leaf.loss for leaf in singles(loss.leaves())] if isinstance(loss, LossSet) else [loss]
    for part in parts:
        if not isinstance(part, ScoreLoss):
            raise LossError("deep_supervision", "loss", "losses of (logits, labels, weight=None)", type(part).__name__)
        if part.inputs is not None:
            raise LossError("deep_supervision", "loss", "without inputs", repr(part), "each term finds its own head")
    return parts  # type: ignore[return-value]  # just looked at


def told(loss: nn.Module, head: int, weight: float) -> Any:
    """Return a copy of a loss, or of a set, with a weight, that finds its arguments of one head in the dict."""
    own: Any = copy.deepcopy(loss)
    own.loss_weight = weight * own.loss_weight
    for part in [own] if isinstance(own, Configured) else parts_of(own):  # a set of options hands them to its terms
        beside = [name for name in BESIDE if name in part.arguments or part.open_call]
        part.inputs = {"logits": f"heads.{head}", **{name: f"{name}.{head}" for name in beside}}
    return own
