"""Sums over parts of a batch: gradients that are accumulated over micro-batches, or over tiles of images, are those of the whole.

In a first pass over the parts a whole adds up what the terms add up, without a graph. In a second each part's loss is that of the
whole, with the whole's sums in the place of the part's own: its backward is the part's share of the whole gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lossfold.compose.calls import calls_of, output_of
from lossfold.compose.output import LossOutput
from lossfold.compose.passes import Call
from lossfold.compose.randomness import Randomness
from lossfold.compose.ranks import Exchange, in_rounds
from lossfold.compose.splitting import (
    KNOWN_FIRST,
    images_of,
    knows_denominators,
    refuse_tiles,
    why_not_in_parts,
    with_unseen_scores,
)
from lossfold.compose.standing import standing
from lossfold.compose.stores import Hardest, Rows
from lossfold.errors import LossError, naming, wrong
from lossfold.folds.arithmetic import widest_on
from lossfold.losses.classes.ohem import OhemCrossEntropyLoss
from lossfold.losses.folded import Folded
from lossfold.losses.reduce import Addends

if TYPE_CHECKING:
    from lossfold.compose.loss_set import LossSet

SAME = 1e-5
"""How far, relatively, a part's sums may be off in the second pass: more than rounding, less than another draw of dropout."""


class Whole:
    """A batch that comes in parts; what :meth:`lossfold.LossSet.accumulate` returns."""

    def __init__(self, criterion: LossSet, rng: bool, parts: int | None) -> None:
        self.criterion, self.who = criterion, type(criterion).__name__
        self.leaves = list(criterion.leaves())
        for leaf in self.leaves:
            why = why_not_in_parts(leaf)
            if why:
                raise LossError(leaf.who, "accumulate()", "left out: this loss can't be split into parts", "a call", why)
        with naming(self.who):
            self.randomness = Randomness(rng, parts)
        self.parts = parts
        self.exchange: Exchange | None = None if criterion.ranks is None else criterion.ranks.exchange()
        self.calls: dict[str, Call] = {}  # of the part at hand
        self.last_calls: dict[str, Call] = {}  # of the last part of the first pass
        self.marks: list[Tensor] = []  # of each part, by which it is known again
        self.sums: list[Tensor] = []  # over the parts
        self.last: dict[str, Any] = {}  # of the last part: what each term makes of sums, or where these are kept
        self.kept: list[Callable[[], None]] = []  # what is to be kept of a part, once it is not refused
        self.hardest: dict[str, Hardest] = {}  # of terms that select
        self.rows: dict[str, Rows] = {}  # of terms whose images come in tiles
        self.totals: dict[str, tuple[Tensor, ...]] = {}  # of each term, over parts and ranks
        self.seen: bool | None = None  # whether the first pass sees scores
        self.closed, self.shares = False, 0
        self.values: dict[str, Tensor] = {}
        self.outcome: LossOutput | None = None

    @property
    def needs_scores(self) -> bool:
        """Whether the first pass has to see scores; else labels (targets) and weights will do."""
        return not all(knows_denominators(leaf) for leaf in self.leaves if leaf.active)

    def add(self, *inputs: Any, images: Sequence[int] | Tensor | None = None, **named: Any) -> None:
        """Add a part, in the first pass.

        Args:
            inputs, named: what the set is called with; by name and without the scores, if not ``needs_scores``.
            images: which image each row belongs to, ``[B]`` integers, where images come in tiles: those that have losses of
                their own (``per_image``) have them of all their tiles. An image's tiles are all on one rank.
        """
        with self._taking_part(inputs, named), torch.no_grad():
            if self.closed:
                raise wrong("add()", "called before the second pass begins", "a part after it")
            inputs, named, seen = with_unseen_scores(self.leaves, inputs, named, self.needs_scores)
            if self.seen not in (None, seen):
                raise wrong("add()", "called for all parts with scores, or for all without", "both")
            self.seen = seen
            pending, marks = self._pending(inputs, named, images_of(images))
            parts = parts_of(pending)
            if self.sums and [one.shape for one in self.sums] != [one.shape for one in parts]:
                shapes = [[list(one.shape) for one in some] for some in (self.sums, parts)]
                raise wrong("add()", f"called for parts with the same classes and terms: {shapes[0]}", str(shapes[1]))
            for keep in self.kept:  # nothing is kept of a part that is refused
                keep()
            self.sums = [a + b for a, b in zip(self.sums, parts, strict=True)] if self.sums else parts
            self.marks.append(marks)
            self.last, self.last_calls = pending, self.calls
            self.randomness.after_add(len(self.marks))

    def share(self, *inputs: Any, images: Sequence[int] | Tensor | None = None, **named: Any) -> Tensor:
        """Return the loss whose backward is a part's share of the gradient, in the second pass: parts in the same order.

        Its value is that of the whole; where the first pass saw no scores, the part's share of it.

        Args:
            inputs, named, images: as for :meth:`add`, with the scores.
        """
        self.close()
        with self._taking_part(inputs, named):
            if self.shares >= len(self.marks):
                raise wrong("backward()", f"called for the {len(self.marks)} parts of the first pass", f"part {self.shares + 1}")
            pending, marks = self._pending(inputs, named, images_of(images), second=True)
            self._compare(marks)
            values = {name: self._standing(name, one) for name, one in pending.items()}
            output = output_of(self.leaves, self.calls, values, (inputs, named))
            self.shares += 1
            if not self.seen:
                self._collect(values)
            self.randomness.after_share(self.shares)
            self.calls = {}  # the next part's scores take the place of these
        return output.total

    def backward(self, *inputs: Any, images: Sequence[int] | Tensor | None = None, **named: Any) -> None:
        """Add a part's share to the gradients, in the second pass; the arguments are those of :meth:`share`."""
        self.share(*inputs, images=images, **named).backward()  # type: ignore[no-untyped-call]

    @property
    def output(self) -> LossOutput:
        """The losses of the whole, without a graph: after the first pass, or where that saw no scores after the second."""
        with naming(self.who):
            if self.shares not in (0, len(self.marks)) or (self.shares == 0 and self.seen is False):
                raise wrong("output", f"read after backward() of all {len(self.marks)} parts", f"{self.shares} of them")
        self.close()
        assert self.outcome is not None
        return self.outcome

    def close(self) -> None:
        """End the first pass: add up over ranks, and make the losses of the whole; the second pass does it where nobody has."""
        if self.closed:
            return
        with self._taking_part(), torch.no_grad():
            if not self.marks:
                raise wrong("backward()", "called after add() of all parts", "no part yet")
            if self.parts not in (None, len(self.marks)):
                raise wrong("backward()", f"called after add() of all {self.parts} parts", f"{len(self.marks)} of them")
            own = parts_of(self.last)
            pending: dict[str, Any] = {}
            for place, leaf in enumerate(self.leaves):
                if leaf.name not in self.last:
                    continue
                if self.exchange is not None:
                    self.exchange.takes(place)
                pending[leaf.name] = self._noted(leaf.name, self._whole_of(leaf.name, own))
            values = in_rounds(pending, as_they_are if self.exchange is None else self.exchange.add, self.leaves)
            self.closed = True
            if self.seen:
                self.outcome = output_of(self.leaves, self.last_calls, values, ())
            self.last, self.last_calls = {}, {}

    def _pending(self, inputs: Any, named: Any, images: list[int] | None, second: bool = False) -> tuple[dict[str, Any], Tensor]:
        """Return what each term adds up of a part, or the store that keeps it, and by what the part is known again."""
        self.calls = {call.leaf.name: call for call in calls_of(self.leaves, inputs, named, in_parts=True)[0]}
        pending: dict[str, Any] = {}
        marks: list[Tensor] = []
        self.kept = []
        for name, call in self.calls.items():
            loss = call.leaf.loss
            with naming(call.leaf.who):
                if images is not None:
                    refuse_tiles(call, images)
                if isinstance(loss, OhemCrossEntropyLoss) and loss.selects:
                    needs = call.leaf.needs(call.checked)
                    store = self.hardest.setdefault(name, Hardest(loss, needs))  # type: ignore[arg-type]
                    found = store.measured(call.checked)
                    marks.append(found.mark.repeat_interleave(2))  # their magnitudes are themselves
                    if second:
                        pending[name] = call.added(store.chosen(call.checked, found))
                    else:
                        pending[name] = store
                        self.kept.append(functools.partial(store.add, found))
                elif images is not None and isinstance(loss, Folded) and (loss.apart or call.leaf.every_image):
                    assert call.fold is not None
                    has_table = getattr(call.leaf.needs(call.checked).spec, "bins", None) is not None
                    fold = call.fold if has_table else call.fold.of(call.fold.sums)
                    marks += map(mark_of, fold.tensors)
                    if second:
                        call.fold = self.rows[name].standing(fold, images)
                        pending[name] = call.addends()
                    else:
                        pending[name] = rows = self.rows.setdefault(name, Rows())
                        self.kept.append(functools.partial(rows.add, fold, images))
                else:
                    pending[name] = call.addends()
                    marks += map(mark_of, pending[name].parts[not self.seen :])
        return pending, torch.cat(marks) if marks else torch.zeros(0)

    def _whole_of(self, name: str, own: list[Tensor]) -> Any:
        """Return what a term adds up over all parts."""
        one = self.last[name]
        if isinstance(one, Hardest):
            return one.addends()
        if isinstance(one, Rows):
            self.last_calls[name].fold = one.fold
            return self.last_calls[name].addends()
        sums = tuple(next(total for part, total in zip(own, self.sums, strict=True) if part is mine) for mine in one.parts)
        return one._replace(parts=sums)

    def _noted(self, name: str, one: Any) -> Any:
        """Return a term's addends, whose last sums are kept when they are known."""
        if not isinstance(one, Addends):
            return one

        def then(*sums: Tensor) -> Any:
            self.totals[name] = sums
            found = one.then(*sums)
            if isinstance(found, Addends) and name not in self.hardest:  # they are the last part's alone
                raise wrong("accumulate()", "left out: this loss can't be split into parts", "a call", KNOWN_FIRST)
            return self._noted(name, found)

        return Addends(one.parts, then)

    def _standing(self, name: str, one: Addends) -> Tensor:
        """Return a term's loss with the whole's sums in the place of the part's."""
        factor = 1.0 if self.exchange is None else float(self.exchange.count)
        own = [part.to(total.dtype) for part, total in zip(one.parts, self.totals[name], strict=True)]
        totals = list(self.totals[name])
        if not self.seen:  # the numerator is not known yet
            totals[0] = own[0].detach()
        found: Tensor = one.then(*(standing(part, total, factor) for part, total in zip(own, totals, strict=True)))
        return found if self.exchange is None else self.exchange.ranks.share(found)

    def _compare(self, marks: Tensor) -> None:
        """Refuse a part that is another one than in the first pass."""
        before = self.marks[self.shares]
        expected = f"the part that was number {self.shares + 1} in the first pass, with the same scores"
        hint = "parts come in the same order; dropout falls alike with rng=True"
        if before.shape != marks.shape:
            raise wrong("part", expected, "one that adds up other sums", hint)
        if not len(before):  # of a step without terms
            return
        scale = before.view(-1, 2)[:, 1:]
        same = ((before - marks).view(-1, 2).abs() <= SAME * scale + 1e-12).all() | ~marks.isfinite().all()
        if marks.device.type != "cpu":
            torch._assert_async(same, "lossfold: accumulate: a part differs from that of the first pass")
        elif not same:
            raise wrong("part", expected, "other sums", hint)

    def _collect(self, values: dict[str, Tensor]) -> None:
        """Add up the parts' shares of the losses, whose numerators were not known; after the last, those of all ranks."""
        self.values = {name: self.values.get(name, 0) + value.detach() for name, value in values.items()}
        if self.shares < len(self.marks):
            return
        if self.exchange is not None:
            (found,) = self.exchange.add([torch.stack(list(self.values.values()))])
            dtypes = [value.dtype for value in self.values.values()]
            self.values = {name: one.to(dtype) for name, one, dtype in zip(self.values, found.unbind(), dtypes, strict=True)}
        with torch.no_grad():
            self.outcome = output_of(self.leaves, self.calls, self.values, ())

    @contextmanager
    def _taking_part(self, *given: Any) -> Iterator[None]:
        """Within it errors are the set's, and where other ranks wait for this one's sums, they learn of them."""
        waiting = not self.closed or (self.seen is False and self.outcome is None)
        try:
            with naming(self.who):
                yield
        except Exception:
            if self.exchange is not None and waiting:
                self.exchange.fail(*given)
            raise


def as_they_are(parts: Sequence[Tensor], first: bool) -> list[Tensor]:
    """Return the sums of one rank."""
    return list(parts)


def parts_of(pending: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that terms add up, each once."""
    parts: list[Tensor] = []
    for one in pending.values():
        if isinstance(one, Addends):
            parts += [part for part in one.parts if not any(part is other for other in parts)]
    return parts


def mark_of(part: Tensor) -> Tensor:
    """Return by what a tensor is known again: its sum, and that of its magnitudes."""
    part = part.detach().to(widest_on(part.device))
    return torch.stack([part.sum(), part.abs().sum()])
