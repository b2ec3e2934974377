"""Forward-mode derivatives inside compiled code are right: the operators, which have none, do not serve there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import lossfold as lf

X, V = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
LABELS, TARGETS = torch.randint(0, 3, (2, 8, 8)), torch.rand(2, 3, 8, 8)
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "label": lambda x: lf.CrossEntropyLoss()(x, LABELS),
    "histogram": lambda x: lf.LovaszLoss(exact=False)(x, LABELS),
    "map": lambda x: lf.CrossEntropyLoss(reduction="none")(x, LABELS).sum(),
    "dense": lambda x: lf.DiceLoss(link="sigmoid")(x, TARGETS),
    "pair": lambda x: lf.L1Loss()(x, TARGETS),
    "window": lambda x: lf.SSIMLoss(window_size=5)(x, TARGETS),
}


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    torch._dynamo.reset()
    return torch.compile(function, backend="aot_eager")


@pytest.mark.parametrize("name", ["label", *(pytest.param(name, marks=pytest.mark.slow) for name in list(LOSSES)[1:])])
def test_jvp_inside(name: str) -> None:
    loss = LOSSES[name]

    def along(x: Tensor, v: Tensor) -> Tensor:
        return torch.func.jvp(loss, (x,), (v,))[1]

    slope = torch.func.grad(loss)(X)
    torch.testing.assert_close(compiled(along)(X, V).float(), (slope * V).sum(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_jacfwd_inside_and_a_compiled_loss_outside() -> None:
    loss, x = LOSSES["label"], X[..., :2, :2]
    labels = LABELS[..., :2, :2]
    slope = torch.func.grad(lambda x: lf.CrossEntropyLoss()(x, labels))(x)
    found = compiled(lambda x: torch.func.jacfwd(lambda x: lf.CrossEntropyLoss()(x, labels))(x))(x)
    torch.testing.assert_close(found.float(), slope, rtol=1e-4, atol=1e-6)
    function = compiled(loss)  # the answer is kept in the graph, and guarded
    for _ in range(2):
        torch.testing.assert_close(function(X), loss(X))
        torch.testing.assert_close(
            torch.func.jvp(function, (X,), (V,))[1].float(), (torch.func.grad(loss)(X) * V).sum(), rtol=1e-4, atol=1e-5
        )
        leaf = X.clone().requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(function(leaf), leaf)[0], torch.func.grad(loss)(X), rtol=1e-4, atol=1e-6)


@pytest.mark.skipif("cpp" not in lf.engines.available(), reason="the eager engine serves everything")
def test_a_forced_engine_says_so() -> None:
    def along(x: Tensor, v: Tensor) -> Tensor:
        return torch.func.jvp(lambda x: lf.CrossEntropyLoss(engine="cpp")(x, LABELS), (x,), (v,))[1]

    with pytest.raises(Exception, match=r"no rules for torch\.func transforms"):
        compiled(along)(X, V)
