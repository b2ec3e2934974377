"""LossSet: named losses on the same tensors, one pass over the pixels for all that can share it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lossfold.errors import LossError, is_number
from lossfold.folds.dense import DenseNeeds
from lossfold.folds.label import LabelNeeds, LabelSpec
from lossfold.folds.pair import PairNeeds, PairSpec
from lossfold.losses.base import Folded, Loss
from lossfold.registry import LOSSES
from lossfold.routing import is_one_dict


@dataclass(frozen=True)
class LossOutput:
    """What a set returns; the keys are the same at every call.

    Attributes:
        total: the scalar to differentiate, the sum of ``weighted``.
        terms: every term before its weight, detached, for logging.
        weighted: every term times its weight, with its graph; in compiled code without, because torch.compile (seen in torch 2.14)
            fails in the backward of a graph that has differentiable outputs nobody differentiates.
    """

    total: Tensor
    terms: dict[str, Tensor]
    weighted: dict[str, Tensor]

    def backward(self) -> None:
        """Differentiate the total."""
        self.total.backward()  # type: ignore[no-untyped-call]


@dataclass
class Pass:
    """A fold that some terms share: who asked first, what it collects, from what."""

    who: str
    loss: Folded
    source: tuple[tuple[str, str], ...]
    needs: LabelNeeds | DenseNeeds | PairNeeds
    given: Any
    terms: list[str]

    def __str__(self) -> str:
        spec, engine = self.needs.spec, self.needs.engine or "fastest engine"
        if isinstance(spec, PairSpec):
            fold, how = "pair", f"link={spec.link}"
            collected = [f"{kind}({number:g})" if number else kind for kind, number, _ in spec.sums]
            collected = [f"{text} in {one.where}" if one.where else text for text, one in zip(collected, spec.sums, strict=True)]
        else:
            fold, how = "label" if isinstance(spec, LabelSpec) else "dense", f"link={spec.link}, ignore_index={spec.ignore_index}"
            collected = [kind if not gamma else f"{kind}({gamma:g})" for kind, gamma in spec.sums]
            collected += [f"bins({spec.bins.count})"] if spec.bins else []
        source = "".join(f", {argument}={path!r}" for argument, path in self.source if argument != path)
        return f"{fold} fold ({how}, {engine}{source}): {', '.join(self.terms)} [{', '.join(collected)}]"


class Leaf(NamedTuple):
    """A single loss of a set: its full name, its weight with those of the sets around it, and the set it stands in."""

    name: str
    loss: nn.Module
    weight: float
    owner: LossSet


@LOSSES.register
class LossSet(nn.Module):
    """A weighted sum of named losses on the same tensors.

    Label losses that agree on ``link``, ``ignore_index``, ``align_corners``, ``engine`` and ``inputs`` share one pass over the
    scores and one over their gradient, nested sets included. Any other module that maps the same arguments to a scalar can be a
    term too. For networks with several outputs, call the set with one dict and give the terms ``inputs``, from argument names to
    dotted paths in it: ``CrossEntropyLoss(inputs={"logits": "heads.0"})``.

    Args:
        terms: losses by name, as a dict, as keywords, or both. A set among them gives terms named ``"outer.inner"``.
        loss_weight: a factor on every term.

    Raises:
        LossError: for a name given twice, something that is no loss, or a term with ``reduction="none"``.

    Example:
        >>> criterion = LossSet(ce=CrossEntropyLoss(ignore_index=255), dice=0.5 * DiceLoss(ignore_index=255))
        >>> out = criterion(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8)))
        >>> sorted(out.terms)
        ['ce', 'dice']
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module] | None = None,
        /,
        *,
        loss_weight: float = 1.0,
        sync: bool = False,
        process_group: object = None,
        **named: nn.Module,
    ) -> None:
        super().__init__()
        who = type(self).__name__
        if sync or process_group is not None:
            hint = "DDP averages each rank's own loss meanwhile"
            raise LossError(who, "sync", "left out: sums over ranks are not available yet", repr(sync or process_group), hint)
        if not is_number(loss_weight):
            raise LossError(who, "loss_weight", "a number", repr(loss_weight))
        if terms is not None and not isinstance(terms, Mapping):
            raise LossError(who, "terms", "a dict of losses by name", type(terms).__name__)
        for name in (terms or {}).keys() & named.keys():
            raise LossError(who, name, "given once", "the name of two terms")
        self.loss_weight = loss_weight
        self.members = nn.ModuleList()
        self.names: list[str] = []
        for name, loss in {**(terms or {}), **named}.items():
            self._add(name, loss)
        if not self.names:
            raise LossError(who, "terms", "at least one loss", "none")

    def _add(self, name: str, loss: nn.Module) -> None:
        who = type(self).__name__
        if not isinstance(name, str) or not name or "." in name:
            raise LossError(who, "terms", "named by strings without dots", repr(name))
        if not isinstance(loss, nn.Module):
            hint = "use lossfold.build for dicts" if isinstance(loss, Mapping) else ""
            raise LossError(who, name, "a loss (an nn.Module)", type(loss).__name__, hint)
        if getattr(loss, "reduction", "mean") == "none":
            raise LossError(f"{who} term {name!r} ({type(loss).__name__})", "reduction", "'mean' or 'sum' in a set", "'none'")
        self.names.append(name)
        self.members.append(loss)

    def leaves(self, prefix: str = "") -> Iterator[Leaf]:
        """Yield every single loss with its full name and weight."""
        for name, loss in zip(self.names, self.members, strict=True):
            if isinstance(loss, LossSet):
                for leaf in loss.leaves(f"{prefix}{name}."):
                    yield leaf._replace(weight=self.loss_weight * leaf.weight)
            else:
                weight = self.loss_weight * (loss.loss_weight if isinstance(loss, Loss) else 1.0)
                yield Leaf(f"{prefix}{name}", loss, weight, self)

    @property
    def source(self) -> tuple[tuple[str, str], ...]:
        """Where this set's own inputs stand in one dict of outputs."""
        return ()

    def handed(self, inputs: tuple[Any, ...], named: dict[str, Any], who: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what the terms are given, from what the set is."""
        return inputs, named

    def value_of(self, leaf: Leaf, fold: Any, who: str, given: Any, handed: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
        """Turn the fold of one of this set's own terms into its value."""
        assert isinstance(leaf.loss, Folded)
        return leaf.loss.value(fold, who, given)

    def _passes(self, checked: Mapping[str, Any] | None = None) -> list[Pass]:
        passes: list[Pass] = []
        for name, loss, _, owner in self.leaves():
            if not isinstance(loss, Folded) or not loss.folds:
                continue
            given = checked[name] if checked else None
            needs, source = loss.asks(given), owner.source + loss.source
            for shared in passes:
                if shared.source == source and shared.needs.agree(needs):
                    shared.needs = shared.needs.merge(needs)
                    shared.given = shared.given.merge(given) if checked else None
                    shared.terms.append(name)
                    break
            else:
                passes.append(Pass(self._who(name, loss), loss, source, needs, given, [name]))
        return passes

    def _who(self, name: str, loss: nn.Module) -> str:
        return f"{type(self).__name__} term {name!r} ({type(loss).__name__})"

    def plan(self) -> str:
        """Say which terms share which pass."""
        passes = self._passes()
        lines = [str(one) for one in passes]
        served = {name for one in passes for name in one.terms}
        lines += [f"on its own: {name}" for name, *_ in self.leaves() if name not in served]
        return "\n".join(lines)

    def forward(self, *inputs: Any, **named: Any) -> LossOutput:
        """Return the losses of ``(logits, labels, weight=None, normalizer=None)``, or of whatever arguments the terms take."""
        leaves = list(self.leaves())
        arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        handed: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        checked: dict[str, Any] = {}
        for name, loss, _, owner in leaves:
            if id(owner) not in handed:
                handed[id(owner)] = owner.handed(inputs, named, type(owner).__name__)
            given, by_name = handed[id(owner)]
            if isinstance(loss, Loss) and (loss.inputs is not None or is_one_dict(given, by_name)):
                given, by_name = (), loss.routed(given, by_name, self._who(name, loss))
            arguments[name] = given, by_name
            if isinstance(loss, Folded):
                checked[name] = loss.check(self._who(name, loss), *given, **by_name)
        folds: dict[str, Any] = {}
        for one in self._passes(checked):
            fold = one.loss.collect(one.needs, one.who, one.given)
            folds.update(dict.fromkeys(one.terms, fold))
        terms: dict[str, Tensor] = {}
        weighted: dict[str, Tensor] = {}
        for leaf in leaves:
            name, loss, weight, owner = leaf
            given, by_name = arguments[name]
            if isinstance(loss, Folded) and name in folds:
                value = owner.value_of(leaf, folds[name], self._who(name, loss), checked[name], handed[id(owner)])
            elif isinstance(loss, Folded):
                value = loss.of(self._who(name, loss), checked[name])
            else:
                value = loss.raw(*given, **by_name) if isinstance(loss, Loss) else loss(*given, **by_name)
            self._check_scalar(name, loss, value)
            terms[name], weighted[name] = value.detach(), weight * value
        first, *others = weighted.values()
        total = sum(others, first)
        if torch.compiler.is_compiling():
            weighted = {name: value.detach() for name, value in weighted.items()}
        return LossOutput(total, terms, weighted)

    def _check_scalar(self, name: str, loss: nn.Module, value: object) -> None:
        if not isinstance(value, Tensor) or value.dim() != 0:
            came = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise LossError(self._who(name, loss), "result", "a scalar tensor", came)

    def __rmul__(self, factor: float) -> Self:
        if not is_number(factor):
            return NotImplemented
        scaled = copy.deepcopy(self)
        scaled.loss_weight = self.loss_weight * factor
        return scaled

    __mul__ = __rmul__

    def __repr__(self) -> str:
        terms = [f"{name}={loss!r}" for name, loss in zip(self.names, self.members, strict=True)]
        if not all(name.isidentifier() and name not in ("loss_weight", "sync", "process_group") for name in self.names):
            terms = ["{" + ", ".join(f"{name!r}: {loss!r}" for name, loss in zip(self.names, self.members, strict=True)) + "}"]
        weight = [f"loss_weight={self.loss_weight!r}"] if self.loss_weight != 1 else []
        return f"{type(self).__name__}({', '.join(terms + weight)})"
