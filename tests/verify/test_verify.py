"""The contract of losses of one's own: losses here hold it, and every planted fault is found by the property it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import lossfold as lf
from examples.verify_public_formulas import HandDice, HandFocal, HandLovasz
from lossfold.cli.__main__ import main
from lossfold.verify import PROPERTIES, check

IGNORED = {"ignore_index": 255}


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (lf.CrossEntropyLoss, IGNORED),
        (lf.DiceLoss, {"link": "sigmoid"}),
        (lf.LovaszLoss, {}),
        (lf.SSIMLoss, {}),
        (lf.CEDiceLoss, IGNORED),
    ],
)
def test_losses_here_hold(loss: Any, options: dict[str, Any]) -> None:
    report = check(loss, options, skip=["compile"])
    assert report.ok, str(report)
    assert len(report.findings) == len(PROPERTIES) - 1


@pytest.mark.parametrize(
    ("loss", "broken"), [(HandDice, ["removed"]), (HandFocal, ["class_weights", "dtypes"]), (HandLovasz, ["nothing"])]
)
def test_faults_of_public_formulas(loss: type[nn.Module], broken: list[str]) -> None:
    report = check(loss, IGNORED, skip=["compile"])
    assert [one.name for one in report.broken] == broken, str(report)
    assert report.broken[0].example.startswith("pred = torch.tensor([") and "target = torch.tensor([[[" in report.broken[0].example
    with pytest.raises(AssertionError, match=f"BROKEN  {broken[0]}"):
        report.raise_if_broken()


def overwriting(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target.mul_(0.9)).square().mean()


def random(pred: Tensor, target: Tensor) -> Tensor:
    return ((pred - target) * torch.rand_like(pred)).square().mean()


def of_the_batch(pred: Tensor, target: Tensor) -> Tensor:
    return (pred[0] - target[0]).square().mean()


def detached(pred: Tensor, target: Tensor) -> Tensor:
    return ((pred - target) * (pred - target).detach()).mean()


def by_memory(pred: Tensor, target: Tensor) -> Tensor:
    one, other = (x.as_strided((x.numel(),), (1,)) for x in (pred, target))
    return (one - other).square().mean()


def overflowing(pred: Tensor, target: Tensor) -> Tensor:
    return (9 * (pred - target)).square().sum() / max(pred.numel(), 1)


def root(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target).square().sum().sqrt() / 0.0


def exponentials(logits: Tensor, labels: Tensor) -> Tensor:
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -p.gather(1, labels[:, None]).log().mean()


def by_class(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels) * (1 + labels.double().mean())


def means_of_classes(logits: Tensor, labels: Tensor) -> Tensor:
    ce = functional.cross_entropy(logits, labels, reduction="none")
    return torch.stack([ce[labels == c].mean() for c in range(logits.shape[1])]).mean()


def weight_in_the_denominator(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    ce = functional.cross_entropy(logits, labels, reduction="none")
    return ce.mean() if weight is None else (ce * weight).sum() / weight.numel()


class Keeping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(())

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (self.scale * (pred - target)).square().mean()


class Growing(Keeping):
    def __init__(self) -> None:
        super().__init__()
        del self.scale
        self.function = lambda x: x.square()

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return self.function(pred - target).mean()  # type: ignore[no-any-return, operator]


class Waiting(Keeping):
    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        error = (pred - target).square().mean()
        return error if error.item() > 0 else 0 * error


class Masked(nn.Module):
    """Cross entropy that multiplies what it should leave out."""

    ignore_index = 255

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        counted = labels != self.ignore_index
        ce = functional.cross_entropy(logits, labels * counted, reduction="none")
        return (ce * counted).sum() / counted.sum().clamp(min=1)


FAULTS: dict[str, list[Callable[..., Any]]] = {
    "inputs": [overwriting, random],
    "order": [of_the_batch, by_class],
    "gradient": [detached],
    "layout": [by_memory],
    "dtypes": [overflowing],
    "finite": [root],
    "extremes": [exponentials],
    "absent": [means_of_classes],
    "weights": [weight_in_the_denominator],
    "buffers": [Keeping],
    "objects": [Growing],
    "compile": [Waiting],
    "ignored": [Masked],
}


@pytest.mark.parametrize(("name", "loss"), [(name, loss) for name, losses in FAULTS.items() for loss in losses])
def test_planted_faults(name: str, loss: Callable[..., Any]) -> None:
    report = check(loss, only=[name])
    assert [one.name for one in report.broken] == [name], str(report)
    assert "\n" not in report.broken[0].text


def test_nobodys_random_numbers_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU's numbers are somebody's"))
    before = torch.get_rng_state()
    assert check(lf.L1Loss, only=["finite"]).ok
    assert torch.equal(torch.get_rng_state(), before)


def test_arguments_that_are_none() -> None:
    with pytest.raises(lf.LossError, match=r"GANLoss: options.*gan_type"):
        check(lf.GANLoss)
    with pytest.raises(lf.LossError, match=r"UnknownL1Loss: arguments.*region is missing"):
        check(lf.UnknownL1Loss)
    with pytest.raises(lf.LossError, match="did you mean 'dtypes'"):
        check(lf.L1Loss, only=["dtype"])
    with pytest.raises(lf.LossError, match="options must be left out"):
        check(lf.L1Loss(), {"reduction": "sum"})


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "L1Loss", "loss_weight=2.0", "--only", "finite", "dtypes", "order"]) == 0
    assert "L1Loss(loss_weight=2.0), called with images" in (text := capsys.readouterr().out) and text.endswith("hold.\n")
    file = "examples/verify_public_formulas.py:HandDice"
    assert main(["verify", file, "ignore_index=255", "--only", "removed"]) == 1
    assert "without them in the input" in capsys.readouterr().out
    for wrong, words in {
        "nowhere:Loss": "imported",
        "nowhere.py:Loss": "exists",
        "Dice": "package.module",
        "math:loss": "in math",
    }.items():
        assert main(["verify", wrong]) == 2
        assert words in capsys.readouterr().err
