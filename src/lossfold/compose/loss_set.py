"""LossSet: named losses on the same tensors, one pass over the pixels for all that can share it."""

from __future__ import annotations

import copy
import keyword
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lossfold.compose.again import Plan, likeness, plan_for
from lossfold.compose.arguments import Handed
from lossfold.compose.calls import added_up, calls_of, output_of
from lossfold.compose.members import Members, by_names, check_member
from lossfold.compose.output import LossOutput as LossOutput
from lossfold.compose.parts import Whole
from lossfold.compose.passes import Leaf, is_watched
from lossfold.compose.plan import plan_of, plan_of_call
from lossfold.compose.ranks import GRADIENTS, Exchange, Ranks
from lossfold.compose.term import Term, advance
from lossfold.errors import LossError, is_number, naming, nearest, python_scalar
from lossfold.folds.checks import are_plain, plain
from lossfold.losses.base import Summable, are_ours
from lossfold.memory import Memory
from lossfold.options import Kind, Number, Only, Truth, Word, checked_options
from lossfold.registry import LOSSES

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
        terms: losses by name, as a dict, as keywords, or both; or a list of losses, named after their
            classes. A set among them gives terms named ``"outer.inner"``; ``criterion["outer"]`` is the set.
        loss_weight: a factor on every term.
        sync: the losses are those of the batches of all ranks together, the same on every rank, to rounding those of one
            process. What the terms add up goes through one all_reduce a call (:meth:`plan` says how many bytes). Without a process
            group, or with one rank, nothing happens. Each rank's call takes part, also one with an empty batch; where one rank's
            call is refused, all ranks raise.
        process_group: the ranks that add up, a ProcessGroup or a DeviceMesh of one dimension; None for all.
        gradients: what the trainer does with the ranks' gradients: "mean" (DDP, FSDP, Lightning) or "sum"; either way the
            result is the gradient of the loss of all.

    Raises:
        LossError: for a name given twice, something that is no loss, or a term with ``reduction="none"``; with ``sync`` for
            a loss that can't be split over ranks, and where another rank's call is refused, or is another one.

    Example:
        >>> criterion = LossSet(ce=CrossEntropyLoss(ignore_index=255), dice=0.5 * DiceLoss(ignore_index=255))
        >>> out = criterion(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8)))
        >>> sorted(out.terms)
        ['ce', 'dice']
    """

    kinds: ClassVar[dict[str, Kind]] = {
        "loss_weight": Number(),
        "sync": Truth(),
        "process_group": Only(),
        "gradients": Word(among=GRADIENTS),
    }
    ranks: Ranks | None = None  # those that it adds up with
    ready: bool  # of the sets whose terms are built from options: whether they are
    as_written: ClassVar[bool] = True  # whether a call is lossfold's, so that a set around it may take its terms for its own
    every_image: bool = False  # whether a term's mean is over all images, those that it does not apply to with the loss 0
    inputs: Mapping[str, str] | None = None  # of the sets that have arguments of their own: where these stand

    def __init__(
        self,
        terms: Mapping[str, nn.Module] | Sequence[nn.Module] | None = None,
        *,
        loss_weight: float = 1.0,
        sync: bool = False,
        process_group: object = None,
        gradients: str = "mean",
        **named: nn.Module,
    ) -> None:
        super().__init__()
        who = type(self).__name__
        with naming(who):
            found = checked_options(LossSet.kinds, {"loss_weight": loss_weight, "sync": sync, "gradients": gradients})
        self.loss_weight: float = found["loss_weight"]
        if not sync and (process_group is not None or gradients != "mean"):
            raise LossError(who, "sync", "True with process_group= or gradients=", "False")
        self.ranks = Ranks(process_group, gradients) if sync else None
        if isinstance(terms, (list, tuple)):
            terms = by_names(terms, LossSet)
        if terms is not None and not isinstance(terms, Mapping):
            raise LossError(who, "terms", "a dict of losses by name, or a list of them", type(terms).__name__)
        for name in (terms or {}).keys() & named.keys():
            raise LossError(who, name, "given once", "the name of two terms")
        self.calls_at_start = 0
        self.memory = Memory()
        self.fill({**(terms or {}), **named})

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.as_written = are_ours(cls, "__call__", "forward", "output")

    @property
    def as_it_is(self) -> bool:
        """Whether somebody has changed its call, or watches it, so that a set around it calls it as it is."""
        return not self.as_written or is_watched(self)

    def fill(self, terms: Mapping[str, nn.Module]) -> None:
        """Take these terms in place of those there are."""
        self.members = Members()
        for name, loss in terms.items():
            check_member(type(self).__name__, name, loss, LossSet)
            self.members.add(name, loss)
        if not len(self.members):
            raise LossError(type(self).__name__, "terms", "at least one loss", "none")
        for name, member in zip(self.names, self.members, strict=True):
            if isinstance(member, Term) and member.balance is not None and member.balance not in set(self.names) - {name}:
                here, others = f"{type(self).__name__} term {name!r}", [one for one in self.names if one != name]
                raise LossError(here, "balance", "the name of another term", repr(member.balance), nearest(member.balance, others))
        self._refuse_unsplit(self.ranks is not None)

    def _refuse_unsplit(self, sync: bool) -> None:
        for leaf in self.leaves():
            if sync and leaf.in_one_part:
                raise LossError(leaf.who, "sync", "left out: this loss can't be split over ranks", "True", leaf.in_one_part)

    def over_ranks(self, process_group: object = None, *, gradients: str = "mean") -> Self:
        """Become a set whose losses are those of all ranks, as ``LossSet(..., sync=True)`` is; for sets that other classes build.

        Args:
            process_group, gradients: as for the set itself.

        Raises:
            LossError: for a loss that can't be split over ranks.
        """
        with naming(type(self).__name__):
            checked_options(LossSet.kinds, {"gradients": gradients})
        self._refuse_unsplit(True)
        self.ranks = Ranks(process_group, gradients)
        return self

    @contextmanager
    def alone(self) -> Iterator[Self]:
        """Within it the losses are those of this rank, as in an evaluation whose ranks have unequally many batches."""
        ranks, self.ranks = self.ranks, None
        try:
            yield self
        finally:
            self.ranks = ranks

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

    def leaves(self, prefix: str = "") -> Iterator[Leaf]:
        """Yield every single loss with its full name and weight."""
        for name, member in zip(self.names, self.members, strict=True):
            terms, loss = ((member,), member.loss) if isinstance(member, Term) else ((), member)
            inner = isinstance(loss, LossSet)
            if inner and loss.ranks is not None:
                here = f"{type(self).__name__} term {name!r} ({type(loss).__name__})"
                raise LossError(here, "sync", "left out of a set in a set: that around it says it", "True")
            watched = loss.as_it_is if inner else is_watched(loss)
            within = tuple(loss.leaves(f"{prefix}{name}.")) if inner else ()
            if inner and not watched:
                for leaf in within:
                    yield leaf._replace(weight=self.loss_weight * leaf.weight, terms=terms + leaf.terms, root=type(self).__name__)
            else:
                yield Leaf(f"{prefix}{name}", loss, self.loss_weight, self, terms, type(self).__name__, watched, within)

    def advance(self, steps: int = 1) -> None:
        """Tell the schedules and intervals of this set, and of the sets in it, that so many steps of the training are done.

        Call it after each step of the optimiser, outside of compiled code; ``state_dict`` keeps where they are.
        """
        steps = python_scalar(steps)
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
            raise LossError(type(self).__name__, "steps", "an integer >= 0", repr(steps))
        advance(self, steps)

    def accumulate(self, *, rng: bool = False, parts: int | None = None) -> Whole:
        """Begin a batch that comes in parts, micro-batches or tiles of images: the gradients of all parts are exactly the whole's.

        Each part is seen twice: ``add`` keeps what the whole adds up to, without a graph, and ``backward`` adds the part's share
        of the gradient of the whole's loss. With ``sync`` the parts of all ranks are one whole, in one all_reduce.

        Args:
            rng: the random numbers of each part's second pass are those of its first, so that dropout falls alike (no other
                random numbers may be drawn between the parts).
            parts: how many parts there are; to be given with ``rng``.

        Returns:
            ``whole.add(...)`` and ``whole.backward(...)`` take what the set takes, and ``images=`` for tiles; ``whole.share(...)``
            is the scalar that ``backward`` differentiates; ``whole.output`` is the :class:`LossOutput` of the whole;
            ``whole.needs_scores`` says whether ``add`` needs the scores, or ``add(labels=...)`` will do, without a network.

        Raises:
            LossError: for losses that can't be split, a part in the second pass that is not that of the first, and for tiles of a
                loss in which neighbours count.

        Gradient:
            First derivatives. The gradients of the parts add up to that of the whole.

        Example:
            >>> criterion, network = LossSet(ce=CrossEntropyLoss(), dice=DiceLoss()), torch.nn.Conv2d(3, 5, 3, padding=1)
            >>> parts = [(torch.randn(2, 3, 8, 8), torch.randint(0, 5, (2, 8, 8))) for _ in range(4)]
            >>> whole = criterion.accumulate()
            >>> for images, labels in parts:
            ...     with torch.no_grad():
            ...         whole.add(network(images), labels)
            >>> for images, labels in parts:
            ...     whole.backward(network(images), labels)
            >>> sorted(whole.output.terms)
            ['ce', 'dice']
        """
        return Whole(self, rng, parts)

    def handed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Handed:
        """Return what the terms are given, from what the set is."""
        return inputs, named

    def gate_for(self, name: str, handed: Handed) -> Tensor | None:
        """Return to which images ``[B]`` one of this set's own terms applies; None for all."""
        return None

    def plan(self, *inputs: Any, **named: Any) -> str:
        """Say which terms share which pass, which engine serves it, and with ``sync`` how many bytes a call sends.

        With the arguments of a call it is that call's plan, by its tensors' devices, dtypes and sizes, and no pass is made;
        without, arguments of the same names are taken to be the same tensors.
        """
        if not inputs and not named:
            return plan_of(self.leaves(), self.ranks)
        inputs, named = plain((inputs, named))
        return plan_of_call(list(self.leaves()), inputs, named, self.ranks)

    def forward(self, *inputs: Any, **named: Any) -> LossOutput:
        """Return the losses of ``(logits, labels, weight=None, normalizer=None)``, or of whatever arguments the terms take.

        A keyword that the condition of a term is named after is for that alone.
        """
        return self.output(inputs, named).closed()

    def output(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> LossOutput:
        """Return the losses of a call, each with its graph."""
        if named or not are_plain(inputs):
            inputs, named = plain((inputs, named))
        known = self.memory.of(likeness(self, LossSet, inputs)) if not named and self.ranks is None else None
        if known:
            plan: Plan = known["plan"]
            return output_of(plan.leaves, {call.leaf.name: call for call in plan.calls(inputs)}, None, (inputs, named), known)
        leaves = list(self.leaves())
        self._remind(leaves)
        if known is not None:
            made, passes = calls_of(leaves, inputs, named, in_parts=False)
            found = plan_for(leaves, passes, inputs)
            if found is not None:
                known["plan"] = found
            return output_of(leaves, {call.leaf.name: call for call in made}, None, (inputs, named))
        exchange = None if self.ranks is None else self.ranks.exchange()
        if exchange is None or torch.compiler.is_compiling():
            return self._settled(leaves, inputs, named, exchange)
        try:
            return self._settled(leaves, inputs, named, exchange)
        except Exception:
            exchange.fail(inputs, named)
            raise

    def _settled(
        self, leaves: Sequence[Leaf], inputs: tuple[Any, ...], named: dict[str, Any], exchange: Exchange | None
    ) -> LossOutput:
        """Return the losses of one call, or those of all ranks' calls together."""
        calls = {call.leaf.name: call for call in calls_of(leaves, inputs, named, in_parts=exchange is not None)[0]}
        values = None if exchange is None else added_up(leaves, calls, exchange)
        return output_of(leaves, calls, values, (inputs, named))

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
        return LossSet(by_names(losses, LossSet))

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
        taken = ("terms", "loss_weight", "sync", "process_group", "gradients")
        if not all(name.isidentifier() and not keyword.iskeyword(name) and name not in taken for name in self.names):
            terms = ["{" + ", ".join(f"{name!r}: {loss!r}" for name, loss in zip(self.names, self.members, strict=True)) + "}"]
        weight = [f"loss_weight={self.loss_weight!r}"] if self.loss_weight != 1 else []
        ranks = [] if self.ranks is None else ["sync=True"]
        if self.ranks is not None and self.ranks.gradients != "mean":
            ranks.append(f"gradients={self.ranks.gradients!r}")
        return f"{type(self).__name__}({', '.join(terms + weight + ranks)})"


Summable.sum_of = staticmethod(LossSet.sum_of)
