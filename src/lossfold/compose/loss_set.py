"""LossSet: named losses on the same tensors, one pass over the pixels for all that can share it."""

from __future__ import annotations

import copy
import keyword
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lossfold.compose.arguments import Handed, arguments_for, conditions_of, names_of
from lossfold.compose.gates import gate_of
from lossfold.compose.members import Members
from lossfold.compose.output import LossOutput as LossOutput
from lossfold.compose.passes import Call, Leaf, in_one_launch, passes_of
from lossfold.compose.plan import plan_of
from lossfold.compose.term import Term, advance
from lossfold.errors import LossError, is_number, naming, nearest, python_scalar, wrong
from lossfold.folds.checks import plain
from lossfold.folds.fold import describe
from lossfold.losses.base import Summable, left_out
from lossfold.losses.folded import Folded
from lossfold.options import Kind, Number, Only, checked_options
from lossfold.registry import LOSSES, snake_case
from lossfold.routing import is_one_dict, one_dict

PATIENCE = 200
"""After so many calls of a set in training that never advances, it warns."""


@LOSSES.register
class LossSet(Summable):
    """A weighted sum of named losses on the same tensors.

    Label losses that agree on ``link``, ``ignore_index``, ``align_corners``, ``engine`` and ``inputs`` share one pass over the
    scores and one over their gradient, nested sets included. Any other module that maps the same arguments to a scalar can be a
    term too; one that takes no target, as :class:`TVLoss`, leaves it out of ``(pred, target, weight)``. For networks with several
    outputs, call the set with one dict and give the terms ``inputs``, from argument names to dotted paths in it:
    ``CrossEntropyLoss(inputs={"logits": "heads.0"})``.

    A loss in a :class:`Term` has a schedule, a condition for each image or an interval; :meth:`advance` tells the set that a step
    of the training is done.

    Args:
        terms: losses by name, as a dict, as keywords, or both. A set among them gives terms named ``"outer.inner"``;
            ``criterion["outer"]`` is the set.
        loss_weight: a factor on every term.
        sync, process_group: for sums over ranks, which are not there yet: anything but the defaults is refused.

    Raises:
        LossError: for a name given twice, something that is no loss, or a term with ``reduction="none"``.

    Example:
        >>> criterion = LossSet(ce=CrossEntropyLoss(ignore_index=255), dice=0.5 * DiceLoss(ignore_index=255))
        >>> out = criterion(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8)))
        >>> sorted(out.terms)
        ['ce', 'dice']
    """

    kinds: ClassVar[dict[str, Kind]] = {"loss_weight": Number(), "sync": Only(default=False), "process_group": Only()}
    ready: bool  # of the sets whose terms are built from options: whether they are
    every_image: bool = False  # whether a term's mean is over all images, those that it does not apply to with the loss 0
    inputs: Mapping[str, str] | None = None  # of the sets that have arguments of their own: where these stand

    def __init__(
        self,
        terms: Mapping[str, nn.Module] | None = None,
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
        with naming(who):
            self.loss_weight: float = checked_options(LossSet.kinds, {"loss_weight": loss_weight})["loss_weight"]
        if terms is not None and not isinstance(terms, Mapping):
            raise LossError(who, "terms", "a dict of losses by name", type(terms).__name__)
        for name in (terms or {}).keys() & named.keys():
            raise LossError(who, name, "given once", "the name of two terms")
        self.calls_at_start = 0
        self.fill({**(terms or {}), **named})

    def fill(self, terms: Mapping[str, nn.Module]) -> None:
        """Take these terms in place of those there are."""
        self.members = Members()
        for name, loss in terms.items():
            self._add(name, loss)
        if not len(self.members):
            raise LossError(type(self).__name__, "terms", "at least one loss", "none")

    def take(self, terms: Mapping[str, nn.Module]) -> None:
        """Become the set of the terms that options ask for; after an option has changed, with its mode and hooks as they were."""
        if not self.ready:
            LossSet.__init__(self, terms, loss_weight=self.loss_weight)
            self.ready = True
            return
        device = next((buffer.device for buffer in self.buffers()), None)
        self.fill(terms)
        self.members.to(device).train(self.training)

    @property
    def names(self) -> list[str]:
        """The names of the terms."""
        return self.members.names

    def __getitem__(self, name: str) -> nn.Module:
        """Return the loss, set or :class:`Term` of a name."""
        if name not in self.names:
            raise LossError(type(self).__name__, "name", "that of a term", repr(name), nearest(name, self.names))
        return self.members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def _add(self, name: str, loss: nn.Module) -> None:
        who = type(self).__name__
        if not isinstance(name, str) or not name or "." in name or name == "total":
            raise LossError(who, "terms", "named by strings without dots, other than 'total'", repr(name))
        if not isinstance(loss, nn.Module):
            hint = "use lossfold.build for dicts" if isinstance(loss, Mapping) else ""
            hint = "LOSSES.register_module() makes a class of a function f(pred, target)" if callable(loss) else hint
            raise LossError(who, name, "a loss (an nn.Module)", type(loss).__name__, hint)
        inner = loss.loss if isinstance(loss, Term) else loss
        here = f"{who} term {name!r} ({type(inner).__name__})"
        reduction = getattr(inner, "reduction", "mean")
        if reduction == "none":
            raise LossError(here, "reduction", "'mean' or 'sum' in a set", "'none'")
        if isinstance(loss, Term) and loss.when is not None:
            if not isinstance(inner, Folded) or not inner.folds:
                hint = "give it to the losses in the set" if isinstance(inner, LossSet) else ""
                raise LossError(here, "when", "left out: this loss has no value for each image", repr(loss.when), hint)
            if loss.when_mean == "all" and reduction != "mean":
                raise LossError(here, "when_mean", "'applicable' unless reduction='mean'", "'all'")
        self.members.add(name, loss)

    def leaves(self, prefix: str = "") -> Iterator[Leaf]:
        """Yield every single loss with its full name and weight."""
        for name, member in zip(self.names, self.members, strict=True):
            terms, loss = ((member,), member.loss) if isinstance(member, Term) else ((), member)
            if isinstance(loss, LossSet):
                for leaf in loss.leaves(f"{prefix}{name}."):
                    yield leaf._replace(weight=self.loss_weight * leaf.weight, terms=terms + leaf.terms, root=type(self).__name__)
            else:
                yield Leaf(f"{prefix}{name}", loss, self.loss_weight, self, terms, type(self).__name__)

    def advance(self, steps: int = 1) -> None:
        """Tell the schedules and intervals of this set, and of the sets in it, that so many steps of the training are done.

        Call it after each step of the optimiser, outside of compiled code; ``state_dict`` keeps where they are.
        """
        steps = python_scalar(steps)
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
            raise LossError(type(self).__name__, "steps", "an integer >= 0", repr(steps))
        advance(self, steps)

    def handed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Handed:
        """Return what the terms are given, from what the set is."""
        return inputs, named

    def gate_for(self, name: str, handed: Handed) -> Tensor | None:
        """Return to which images ``[B]`` one of this set's own terms applies; None for all."""
        return None

    def plan(self) -> str:
        """Say which terms share which pass."""
        return plan_of(self.leaves())

    def forward(self, *inputs: Any, **named: Any) -> LossOutput:
        """Return the losses of ``(logits, labels, weight=None, normalizer=None)``, or of whatever arguments the terms take.

        A keyword that the condition of a term is named after is for that alone.
        """
        leaves = list(self.leaves())
        self._remind(leaves)
        inputs, named = plain((inputs, named))
        with naming(type(self).__name__):
            calls = {call.leaf.name: call for call in self._calls(leaves, inputs, named)}
        for one in passes_of(list(calls.values())):
            one.collect()
        terms: dict[str, Tensor] = {}
        weighted: dict[str, Tensor] = {}
        fused, summed = in_one_launch(calls)
        for leaf in leaves:
            call = calls.get(leaf.name)
            if call is not None and leaf.name in fused:
                terms[leaf.name], weighted[leaf.name] = fused[leaf.name]
                continue
            with naming(leaf.who):
                value = left_out((inputs, named)) if call is None else call.value()
                if not isinstance(value, Tensor) or value.dim() != 0:
                    raise wrong("result", "a scalar tensor", describe(value))
                terms[leaf.name], weighted[leaf.name] = value.detach(), value if call is None else call.weigh(value)
        first, *others = [*summed, *(value for name, value in weighted.items() if name not in fused)]
        total = sum(others, first)
        if torch.compiler.is_compiling():
            weighted = {name: value.detach() for name, value in weighted.items()}
        return LossOutput(total, terms, weighted)

    def _calls(self, leaves: Sequence[Leaf], inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Call]:
        """Return what each active loss is handed, checked."""
        keywords = named
        outputs: Any = one_dict(inputs, named) if is_one_dict(inputs, named) else named
        if outputs is keywords:
            conditions = conditions_of(leaves)
            named = {name: value for name, value in named.items() if name not in conditions}
        handed: dict[int, Handed] = {}
        names = names_of(leaves)
        calls = []
        for leaf in leaves:
            if not leaf.active:
                continue
            owner = leaf.owner
            if id(owner) not in handed:
                with naming(type(owner).__name__):
                    handed[id(owner)] = owner.handed(inputs, named)
            with naming(leaf.who):
                arguments = arguments_for(leaf, handed[id(owner)], names)
                if arguments is None:
                    continue
                call = Call(leaf, *arguments, gate=owner.gate_for(leaf.name.rpartition(".")[2], handed[id(owner)]))
                if leaf.condition is not None:
                    call.gate = gate_of(leaf.condition, outputs, outputs is keywords, *arguments)
                    if leaf.folded is None:
                        raise wrong("when", "left out: this loss has no value for each image", repr(leaf.condition.when))
                own = leaf.own
                if isinstance(own, Folded) and own.as_written:
                    call.checked = own.check(*call.given, **call.named)
                    if call.gate is not None and own.selects:
                        call.checked = own.gated(call.checked, call.gate)
                calls.append(call)
        return calls

    def _remind(self, leaves: Sequence[Leaf]) -> None:
        """Warn once where a training goes on without a word about its steps."""
        if torch.compiler.is_compiling() or not self.training or not any(term.moves for leaf in leaves for term in leaf.terms):
            return
        self.calls_at_start += 1
        if self.calls_at_start == PATIENCE and all(term.step == 0 for leaf in leaves for term in leaf.terms):
            text = f"{PATIENCE} calls without {type(self).__name__}.advance(): schedules and intervals stay at step 0"
            warnings.warn(text, stacklevel=4)

    @staticmethod
    def sum_of(*losses: nn.Module) -> LossSet:
        """Return a set of losses and of the terms of sets, named after their classes, and numbered where a name is taken."""
        terms: dict[str, nn.Module] = {}
        for loss in losses:
            pairs: list[tuple[str, nn.Module]] = [("", loss)]
            if type(loss) is LossSet and loss.loss_weight == 1:
                pairs = list(zip(loss.names, loss.members, strict=True))
            for name, one in pairs:
                inner = one.loss if isinstance(one, Term) else one
                name = free = name or snake_case(type(inner).__name__)
                number = 2
                while free in terms:
                    free, number = f"{name}_{number}", number + 1
                terms[free] = one
        return LossSet(terms)

    def __rmul__(self, factor: float) -> Self:
        factor = python_scalar(factor)
        if not is_number(factor):
            return NotImplemented
        if not is_number(self.loss_weight * factor):
            raise LossError(type(self).__name__, "loss_weight", "a number", repr(self.loss_weight * factor))
        scaled = copy.deepcopy(self)
        scaled.loss_weight = self.loss_weight * factor
        return scaled

    __mul__ = __rmul__

    def __repr__(self) -> str:
        terms = [f"{name}={loss!r}" for name, loss in zip(self.names, self.members, strict=True)]
        taken = ("terms", "loss_weight", "sync", "process_group")
        if not all(name.isidentifier() and not keyword.iskeyword(name) and name not in taken for name in self.names):
            terms = ["{" + ", ".join(f"{name!r}: {loss!r}" for name, loss in zip(self.names, self.members, strict=True)) + "}"]
        weight = [f"loss_weight={self.loss_weight!r}"] if self.loss_weight != 1 else []
        return f"{type(self).__name__}({', '.join(terms + weight)})"


Summable.sum_of = staticmethod(LossSet.sum_of)
