"""Weights of a set's terms that are learned beside the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lossfold.compose.loss_set import LossSet
from lossfold.compose.output import LossOutput
from lossfold.errors import LossError, is_number, python_scalar


class UncertaintyWeights(nn.Module):
    """A set whose terms are weighed by what the network can't know of each: Σ exp(-s_i)·L_i + s_i / 2, with s_i learned.

    s_i is the logarithm of a task's variance σ_i². L_i is the term times its weight in the set: give a squared error the 1/2 of
    its Gaussian (``0.5 * MSELoss()``), and a cross entropy 1. Give ``parameters()`` of this module to the optimiser, too, best
    without weight decay. It is called as the set is, and can't be a term of another.

    Args:
        criterion: the set.
        start: s of every term at first.

    Raises:
        LossError: for something that is no set, and a start that is no number.

    Gradient:
        Of s_i it is 1/2 - exp(-s_i)·L_i: where a term is 1/2 in the mean, s_i stays. A term that falls below 0 has no lower bound.

    Reference:
        Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018.

    Example:
        >>> criterion = UncertaintyWeights(LossSet(ce=CrossEntropyLoss(), dice=DiceLoss()))
        >>> out = criterion(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8)))
        >>> out.backward()
        >>> criterion.log_variances.grad.shape
        torch.Size([2])
    """

    def __init__(self, criterion: LossSet, *, start: float = 0.0) -> None:
        super().__init__()
        if not isinstance(criterion, LossSet):
            raise LossError("UncertaintyWeights", "criterion", "a LossSet", type(criterion).__name__)
        start = python_scalar(start)
        if not is_number(start):
            raise LossError("UncertaintyWeights", "start", "a number", repr(start))
        self.criterion = criterion
        self.names = [leaf.name for leaf in criterion.leaves()]
        self.log_variances = nn.Parameter(torch.full((len(self.names),), float(start)))

    def weights(self) -> dict[str, float]:
        """Return exp(-s) of every term, for logging."""
        return dict(zip(self.names, (-self.log_variances.detach()).exp().tolist(), strict=True))

    def explain(self, *inputs: Any, **named: Any) -> Any:
        """Say of one call which term of the set pulls how much, before the learned weights; see :meth:`LossSet.explain`."""
        return self.criterion.explain(*inputs, **named)

    def forward(self, *inputs: Any, **named: Any) -> LossOutput:
        """Return what the set returns, with the learned weights; ``terms`` are those of the set, before any weight."""
        compiles = torch.compiler.is_compiling()  # where a call's weighted terms have no graphs
        own = not compiles and self.criterion.as_it_is
        out = self.criterion(*inputs, **named) if own else self.criterion.output(inputs, named)
        if out.weighted.keys() != set(self.names):
            hint = "a hook, or a method of its own, on a set in it makes one term of that: make the UncertaintyWeights afterwards"
            raise LossError("UncertaintyWeights", "criterion", f"with the terms {self.names}", repr([*out.weighted]), hint)
        weighted: dict[str, Tensor] = {}
        ranks = self.criterion.ranks
        learned = self.log_variances if ranks is None else ranks.share(self.log_variances)
        for name, s in zip(self.names, learned.unbind(), strict=True):
            weighted[name] = torch.exp(-s) * out.weighted[name] + s / 2
        first, *others = weighted.values()
        return LossOutput(sum(others, first) if others else first.clone(), out.terms, weighted).closed()

    def __repr__(self) -> str:
        return f"UncertaintyWeights({self.criterion!r})"
