"""What every loss over a fold is: check, needs and formula; module, function, set and tests derive from these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.collect import collect
from lossfold.folds.fold import Fold, Needs
from lossfold.folds.histogram import Bins
from lossfold.losses import fused
from lossfold.losses.base import Loss, are_ours
from lossfold.losses.reduce import Addends, Last, Ratio, second_mean

WORKED_OUT = ("formula", "reduce", "settled", "last")  # the ways from a fold to the loss


class Folded(Loss):
    """A loss that is a formula over a fold: ``check`` its arguments, say what it ``needs``, and turn the fold into a ratio."""

    reduction: str

    of_each: ClassVar[bool] = False  # the formula is one of each image by itself, also where their mean is taken together
    beside: ClassVar[tuple[str, ...]] = ()  # arguments that may differ within a pass
    linear: ClassVar[bool] = False  # numerators and denominators are linear in the sums, and so add up as these do
    of_sums: ClassVar[bool] = False  # the formula reads options, sums and what is integrated over a histogram, and nothing else

    own_formula: ClassVar[bool] = False  # whether its evaluation and its formula are lossfold's
    one_pass: ClassVar[bool] = False  # whether at_once gives what the formula says: nobody has changed that since

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "formula" in vars(cls) and "linear" not in vars(cls):
            cls.linear = False  # whoever writes a formula says so
        after = {name: next(i for i, c in enumerate(cls.__mro__) if name in vars(c)) for name in ("at_once", *WORKED_OUT)}
        cls.own_formula = are_ours(cls, *WORKED_OUT) and cls.as_written
        cls.one_pass = all(after["at_once"] <= after[name] for name in WORKED_OUT)

    @property
    def folds(self) -> bool:
        """Whether the loss is a formula over its fold, so that a set may make the pass for it; else it is ``direct``."""
        return True

    @property
    def reading(self) -> tuple[str, ...]:
        """What else makes the pass's tensors others than the arguments, in words, for plans."""
        return ()

    @property
    def second(self) -> str:
        """How the images' own losses are averaged: "counted" leaves out the empty ones, "all" does not; "" where there are none."""
        return ""

    @property
    def apart(self) -> bool:
        """Whether the formula is to be one of each image; else their sums are added before."""
        return self.of_each or bool(self.second)

    @property
    def histogram(self) -> Bins | None:
        """The histogram that the formula reads an integral of, if there is one."""
        return None

    def integral(self, table: Tensor) -> Tensor:
        """Return what the formula reads of its histogram ``[I, 4, C, bins]``, ``[I, C]``."""
        raise NotImplementedError

    @property
    def selects(self) -> bool:
        """Whether what one image adds to the fold depends on the others."""
        return False

    def gated(self, given: Any, gate: Tensor) -> Any:
        """Return a call's arguments without the images that a gate ``[B]`` holds back, for a loss that selects."""
        raise NotImplementedError

    def chosen(self, given: Any, needs: Any, then: Callable[[Any], Addends]) -> Addends:
        """Return what adds up until it is chosen what counts, of a loss that selects, and go on with the arguments that say it."""
        raise NotImplementedError

    def check(self, *inputs: Any, **named: Any) -> Any:
        """Refuse what can't be folded, or does not fit the options; return a call's arguments."""
        raise NotImplementedError

    def needs(self, given: Any = None) -> Needs[Any]:
        """Return what the formula reads of a call whose arguments have been checked (without them, of the usual call)."""
        raise NotImplementedError

    def formula(self, fold: Fold, given: Any) -> Ratio:
        """Return numerators and denominators ``[..., I, X]``; see :mod:`lossfold.losses.reduce`."""
        raise NotImplementedError

    def unreduced(self, ratio: Ratio) -> Tensor:
        """Return what ``reduction="none"`` gives of the formula."""
        raise NotImplementedError

    def direct(self, given: Any) -> Tensor:
        """Return the loss of checked arguments where it is no formula over a fold."""
        raise NotImplementedError

    @property
    def in_one_pass(self) -> bool:
        """Whether one pass finds value and gradient, if the engine that serves has such a pass and the scores are no halves."""
        return False

    def ready_at_once(self, given: Any) -> Any:
        """Return what makes a pass for value and gradient, None where none will do."""
        return None

    def at_once(self, given: Any) -> Tensor | None:
        """Return the loss of checked arguments where one pass finds value and gradient; else None, and the fold comes first."""
        return None

    def evaluate(self, *inputs: Any, **named: Any) -> Tensor:
        """Return the loss before ``loss_weight``."""
        given = self.check(*inputs, **named)
        if not self.folds:
            return self.direct(given)
        value = self.at_once(given) if self.one_pass else None
        if value is None:
            fold = collect(self.needs(given), given)
            value = fused.alone(self, fold, given)
        return self.reduce(fold, given) if value is None else value

    def reduce(self, fold: Fold, given: Any, gate: Tensor | None = None, every_image: bool = False) -> Tensor:
        """Turn the fold of checked arguments into the loss, before ``loss_weight``.

        Args:
            fold: what the pass has collected.
            given: the arguments.
            gate: to which images ``[B]`` the loss applies; None for all.
            every_image: the mean is over all images, those behind the gate with the loss 0.
        """
        fold = fold if gate is None else fold.only(gate)
        ratio = self.formula(fold if every_image or self.apart else fold.sum_images(), given)
        return self.settled(ratio, fold.dtype, gate, every_image)

    def settled(self, ratio: Ratio, dtype: torch.dtype, gate: Tensor | None = None, every_image: bool = False) -> Tensor:
        """Turn numerators and denominators into the loss; the arguments are those of :meth:`reduce`."""
        value = self.unreduced(ratio) if self.reduction == "none" else self.last(ratio, gate, every_image).value
        return value.to(dtype)

    def last(self, ratio: Ratio, gate: Tensor | None = None, every_image: bool = False) -> Last:
        """Return what is divided in the end: sums over images and classes, or over the images' own losses ``[I]``.

        Images in which nothing counts have the loss 0. They are left out of a mean that is "counted" (``per_image``), and are in
        one over "all" (``sample_wise``, as MMagic has it).
        """
        if self.reduction == "sum":
            return Last(ratio.above.sum(), None)
        if not (every_image or self.second):
            return ratio.pooled()
        values, counted = ratio.of_images()
        values = values if gate is None else torch.where(gate, values, 0.0)
        applicable = counted if self.second == "counted" else gate
        return second_mean(values, None if every_image else applicable)

    def addends(self, *inputs: Any, **named: Any) -> Addends:
        """Return what adds up over parts of a batch; see :meth:`lossfold.losses.base.Loss.addends`."""
        given = self.check(*inputs, **named)
        return self.added(collect(self.needs(given).adding(), given), given) if self.folds else self.added_directly(given)

    def added(self, fold: Fold, given: Any, gate: Tensor | None = None, every_image: bool = False) -> Addends:
        """Return what adds up over parts of a batch: the fold of a formula over the batch, else the last ratio.

        The arguments are those of :meth:`reduce`.
        """
        fold = fold if gate is None else fold.only(gate)
        fold = fold if every_image or self.apart else fold.sum_images()
        if self.sends_fold(every_image):
            has_table = getattr(self.needs(given).spec, "bins", None) is not None
            parts = fold.tensors if has_table else fold.tensors[:1]
            return Addends(parts, lambda *sums: self.settled(self.formula(fold.of(*sums), given), fold.dtype))
        return self.last(self.formula(fold, given), gate, every_image).addends(fold.dtype)

    def sends_fold(self, every_image: bool = False) -> bool:
        """Whether parts of a batch add folds up, for a formula over the batch, and not last ratios."""
        return self.folds and not (every_image or self.apart or self.linear)

    @property
    def lasts(self) -> int:
        """How many numbers the last ratio has."""
        return 1 if self.reduction == "sum" else 2

    def added_directly(self, given: Any) -> Addends:
        """Return what adds up over parts of a batch where the loss is no formula over a fold."""
        raise NotImplementedError
