"""Losses for which sums over ranks have to be known first: the backward adds their gradients up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

import lossfold as lf
from lossfold.losses.base import Loss
from lossfold.losses.reduce import Addends, mean_of
from tests.losses.adversarial.critics import images
from tests.ranks.splits import rows_of
from tests.ranks.work import close, counting


class Spread(Loss):
    """In three rounds: the mean, the variance about it, and a mean of what both make of the elements."""

    rounds = 3

    def addends(self, scores: Tensor, others: Tensor) -> Addends:
        """Return what adds up."""

        def about(total: Tensor, count: Tensor) -> Addends:
            mean = total / count
            return Addends(((scores - mean).square().sum(),), lambda square: within(mean, (square / count).sqrt()))

        def within(mean: Tensor, deviation: Tensor) -> Addends:
            last = mean_of([((scores - mean) / deviation).tanh()])
            return Addends(last.parts, lambda *sums: last.then(*sums) * mean + deviation)  # both by themselves, too

        return Addends((others.sum(), others.new_full((), others.numel())), about)

    def forward(self, scores: Tensor, others: Tensor) -> Tensor:
        """Return the loss."""
        return self.weigh(self.evaluate(scores, others))


class Unsaid(Spread):
    """The same, and does not say so."""

    rounds = 1


def known_first() -> None:
    """Sums that are known first, of which each rank makes something else: their gradients add up over the ranks."""
    rows = rows_of((3, 0, 2), distributed.get_rank())

    def found(options: dict[str, Any], rows: slice, twice: bool = False) -> tuple[Tensor, Tensor]:
        x, y = images(5, 2, 3).clone().requires_grad_(), images(5, 1, 4, seed=1).clone().requires_grad_()
        criterion = lf.LossSet({"spread": Spread(), "again": Spread(loss_weight=0.5)}, **options)
        total = criterion(x[rows].sin(), y[rows] + 1).total
        if twice:  # two calls in one backward
            total = total + criterion(x[rows].cos(), x[rows]).total
        with counting() as bytes_:
            total.backward()
        assert len(bytes_) == (2 + 2 * twice if options else 0), bytes_
        return total.detach(), torch.cat([one.grad.flatten() for one in (x, y) if one.grad is not None])

    for twice in (False, True):
        truth = found({}, slice(None), twice)
        for gradients, count in (("mean", 3), ("sum", 1)):
            total, slope = found({"sync": True, "gradients": gradients}, rows, twice)
            distributed.all_reduce(slope)
            close(total, truth[0], 1e-10, f"total, {gradients}")
            close(slope / count, truth[1], 1e-9, f"gradient, {gradients}")
    x, y = images(5, 2, 3)[rows].requires_grad_(), images(5, 1, 4)[rows]
    for loss, other, argument in (
        (Spread(), y.clone().requires_grad_(distributed.get_rank() != 1), "sync"),
        (Unsaid(), x, "rounds"),
    ):
        try:
            lf.LossSet(spread=loss, sync=True)(x, other)
        except lf.LossError as error:
            assert error.argument == argument, error
        else:
            raise AssertionError(f"{argument}: no refusal")
    (slope,) = torch.autograd.grad(lf.LossSet(spread=Spread(), sync=True)(x, x).total, x, create_graph=True)
    try:
        slope.sum().backward()
    except lf.LossError as error:
        assert error.argument == "sync", error
    else:
        raise AssertionError("second derivatives: no refusal")
