"""Trainer's losses: the same with accumulated gradients as without, terms in the logs, schedules in step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from lossfold.adapters.hugging_face import ExactAccumulation, TrainerLoss, hf_loss  # noqa: E402


class Head(nn.Module):
    """A network that gives its outputs as a dict or a tuple."""

    def __init__(self, kind: str = "dict") -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)
        self.kind = kind
        with torch.no_grad():
            generator = torch.Generator().manual_seed(3)
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, images: Tensor) -> Any:
        scores = self.layer(images)
        return {"dict": {"logits": scores}, "named": {"heads": [scores]}, "tuple": (scores, images)}[self.kind]


def data(ignored: bool, count: int = 4) -> list[dict[str, Tensor]]:
    """Images; if so, the n-th has n rows more that are not labelled."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    labels = torch.randint(0, 4, (count, 8, 8), generator=generator)
    for number in range(count if ignored else 0):
        labels[number, : 2 * (number % 4)] = -100
    return [{"images": image, "labels": label} for image, label in zip(images, labels, strict=True)]


def trained(loss: TrainerLoss, folder: Path, batch: int, pieces: int, kind: str = "dict", **options: Any) -> Any:
    """Train with plain SGD."""
    settings: dict[str, Any] = {
        "max_steps": 1,
        "learning_rate": 1.0,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "label_names": ["labels"],
    }
    samples, kind_of = options.pop("samples"), options.pop("trainer", transformers.Trainer)
    resume, head, optimizers = options.pop("resume", None), options.pop("head", None), options.pop("optimizers", (None, None))
    arguments = transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=batch, gradient_accumulation_steps=pieces, **(settings | options)
    )
    others = {"compute_loss_func": loss, "callbacks": [loss.callback], "optimizers": optimizers}
    trainer = kind_of(head or Head(kind), arguments, train_dataset=samples, eval_dataset=samples, **others)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def moved(trainer: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


MEANS = {
    "ce": (lambda: lf.CrossEntropyLoss(ignore_index=-100), True),
    "set": (lambda: lf.LossSet(ce=lf.CrossEntropyLoss(ignore_index=-100), focal=0.5 * lf.FocalLoss(ignore_index=-100)), True),
    "dice-by-image": (lambda: lf.DiceLoss(per_image=True), False),
}


@pytest.mark.parametrize("name", MEANS)
def test_accumulation_changes_nothing_for_means(name: str, tmp_path: Path) -> None:
    """One step over four images is the step over the four in pieces, and reports the same loss."""
    make, ignored = MEANS[name]
    whole = trained(hf_loss(make()), tmp_path, 4, 1, samples=data(ignored))
    for batch, pieces in ((1, 4), (2, 2)):
        parts = trained(hf_loss(make()), tmp_path, batch, pieces, samples=data(ignored))
        torch.testing.assert_close(moved(parts), moved(whole), rtol=1e-5, atol=1e-6)
        for key in whole.state.log_history[0].keys() - {"epoch", "learning_rate", "grad_norm", "step"}:
            assert parts.state.log_history[0][key] == pytest.approx(whole.state.log_history[0][key], rel=1e-5)
    assert (moved(whole) - torch.cat([p.detach().flatten() for p in Head().parameters()])).abs().max() > 1e-3


def test_what_is_no_mean_is_the_mean_of_the_pieces(tmp_path: Path) -> None:
    """Dice of a whole batch has no pieces: accumulated, it is the Dice loss by image (and says so in the documentation)."""
    with pytest.warns(UserWarning, match="loss: with accumulated gradients the mean.*ExactAccumulation"):
        pieces = trained(hf_loss(lf.DiceLoss()), tmp_path, 1, 4, samples=data(False))
    images = trained(hf_loss(lf.DiceLoss(per_image=True)), tmp_path, 4, 1, samples=data(False))
    whole = trained(hf_loss(lf.DiceLoss()), tmp_path, 4, 1, samples=data(False))
    torch.testing.assert_close(moved(pieces), moved(images), rtol=1e-5, atol=1e-6)
    assert (moved(pieces) - moved(whole)).abs().max() > 1e-4


class ExactTrainer(ExactAccumulation, transformers.Trainer):  # type: ignore[misc, name-defined]
    """Looks at all micro-batches of a step beforehand."""


def test_every_loss_is_that_of_the_batch_where_the_trainer_is_exact(tmp_path: Path) -> None:
    """Formulas over the batch, other ignored labels, uneven pieces, and the last that is short; as the loss and in the logs."""
    samples = data(True, 5)
    for sample in samples:
        sample["labels"][sample["labels"] == -100] = 3

    def criterion() -> lf.LossSet:
        hard = lf.OhemCrossEntropyLoss(min_kept=20, thresh=0.1, ignore_index=3)
        return lf.LossSet(dice=lf.DiceLoss(ignore_index=3), ce=lf.CrossEntropyLoss(class_weight=[1.0, 2.0, 3.0, 1.0]), hard=hard)

    losses = []
    for _ in range(2):
        with pytest.warns(UserWarning, match="ignore_index=3"):
            losses.append(hf_loss(criterion()))
    whole = trained(losses[0], tmp_path, 5, 1, samples=samples)
    parts = trained(losses[1], tmp_path, 2, 3, samples=samples, trainer=ExactTrainer)
    torch.testing.assert_close(moved(parts), moved(whole), rtol=1e-5, atol=1e-6)
    for key in ("loss", "loss_dice", "loss_ce", "loss_hard"):
        assert parts.state.log_history[0][key] == pytest.approx(whole.state.log_history[0][key], rel=1e-5)
    with pytest.raises(lf.LossError, match="compute_loss_func"):
        ExactTrainer(Head(), transformers.TrainingArguments(str(tmp_path), use_cpu=True))


class Dropping(Head):
    """A network that draws random numbers, and keeps its scores where the loss finds the labels."""

    def forward(self, images: Tensor, target: Tensor | None = None, labels: Tensor | None = None) -> Any:
        scores = self.layer(nn.functional.dropout(images, 0.5, self.training and target is None))
        return {"logits": scores, "target": target}


class Modes(torch.optim.SGD):
    """An optimiser that is told when the training goes on, as those without a schedule are."""

    trains = False

    def train(self) -> None:
        self.trains = True


def test_a_training_that_is_resumed_in_an_epoch_draws_the_same_numbers(tmp_path: Path) -> None:
    """Trainer brings the random numbers of the checkpoint back after it has fetched the micro-batches."""

    def train(**options: Any) -> Any:
        loss = hf_loss(lf.LossSet(dice=lf.DiceLoss()))
        given = {"max_steps": 3, "learning_rate": 0.1, "samples": data(False, 6), "trainer": ExactTrainer, "head": Dropping()}
        return trained(loss, tmp_path, 1, 2, **(given | options))

    whole = train(save_strategy="steps", save_steps=1)
    again = train(resume=str(tmp_path / "checkpoint-1"))
    torch.testing.assert_close(moved(again), moved(whole), rtol=1e-6, atol=1e-7)
    assert again.state.log_history[-2]["loss"] == pytest.approx(whole.state.log_history[-2]["loss"], rel=1e-6)


def test_the_first_pass_sees_the_weights_that_are_trained(tmp_path: Path) -> None:
    head = Head()
    optimizer = Modes(head.parameters(), lr=0.1)
    seen = []
    head.register_forward_pre_hook(lambda module, inputs: seen.append(optimizer.trains))
    trained(
        hf_loss(lf.DiceLoss()), tmp_path, 1, 2, samples=data(False), trainer=ExactTrainer, head=head, optimizers=(optimizer, None)
    )
    assert seen == [True] * 4


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_of_fewer_micro_batches_is_their_mean(count: int, tmp_path: Path) -> None:
    """Labels that Trainer can't count: five alike, of which an epoch's second step has one, or seven, and three."""
    (sample,) = data(False, 1)
    sample["target"] = sample.pop("labels")
    loss = hf_loss(lf.LossSet(ce=lf.CrossEntropyLoss()), inputs={"logits": "logits", "labels": "target"})
    options: dict[str, Any] = {
        "max_steps": 4,
        "learning_rate": 0.0,
        "label_names": ["target"],
        "save_strategy": "steps",
        "save_steps": 1,
    }
    samples = [sample] * (4 + count)
    steps = trained(loss, tmp_path, 1, 4, samples=samples, head=Dropping(), **options).state.log_history[:4]
    resumed = trained(
        loss, tmp_path, 1, 4, samples=samples, head=Dropping(), resume=str(tmp_path / "checkpoint-1"), **options
    ).state.log_history
    for row in [*steps, *(row for row in resumed if "loss" in row)]:
        assert (row["loss"], row["loss_ce"]) == pytest.approx((steps[0]["loss"],) * 2, rel=1e-6), row


def test_the_last_step_of_an_epoch_may_have_one_micro_batch_of_all_processes(tmp_path: Path) -> None:
    """A synced set, whose accumulation is exact."""
    options: dict[str, Any] = {"max_steps": 2, "trainer": ExactTrainer}
    rows = []
    for sync in (False, True):
        loss = hf_loss(lf.LossSet(dice=lf.DiceLoss(), sync=sync))
        rows.append(trained(loss, tmp_path, 1, 4, samples=data(False, 5), **options).state.log_history[1])
    assert rows[0]["step"] == 2 and rows[1]["loss"] == pytest.approx(rows[0]["loss"], rel=1e-6)


def test_logged_terms_are_those_of_a_process() -> None:
    """Of two processes with equally many items each has half, and Trainer multiplies the loss by two."""
    scores, labels = torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 8, 8))
    loss = hf_loss(lf.LossSet(ce=lf.CrossEntropyLoss()))
    loss.processes = 2
    half = loss({"logits": scores}, labels, torch.tensor(2 * labels.numel()))
    torch.testing.assert_close(loss.sums["ce"], 2 * half)
    torch.testing.assert_close(loss.sums["ce"], lf.CrossEntropyLoss()(scores, labels))


def test_a_short_last_batch_counts_by_its_items(tmp_path: Path) -> None:
    """Five images in batches of two: the last piece has one."""
    whole = trained(hf_loss(lf.CrossEntropyLoss(ignore_index=-100)), tmp_path, 5, 1, samples=data(True, 5))
    parts = trained(hf_loss(lf.CrossEntropyLoss(ignore_index=-100)), tmp_path, 2, 3, samples=data(True, 5))
    torch.testing.assert_close(moved(parts), moved(whole), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:hf_loss. dice. with accumulated gradients")
def test_terms_are_logged_and_schedules_move(tmp_path: Path) -> None:
    term = lf.Term(lf.DiceLoss(), schedule=lf.LinearSchedule(start=0.0, end=1.0, steps=10))
    loss = hf_loss(lf.LossSet(ce=lf.CrossEntropyLoss(), dice=term))
    trainer = trained(
        loss, tmp_path, 2, 2, samples=data(False, 8), max_steps=4, logging_steps=2, save_strategy="steps", save_steps=3
    )
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert term.step == 4 and len(rows) == 2
    for row, steps in zip(rows, ((0, 1), (2, 3)), strict=True):
        weight = sum(steps) / 20  # the mean of the weights, and the Dice losses of two steps differ little
        assert row["loss"] == pytest.approx(row["loss_ce"] + weight * row["loss_dice"], rel=2e-2)
    assert set(trainer.evaluate()) >= {"eval_loss"}
    assert not loss.sums  # an evaluation is no training
    term.go_to(0)
    again = trained(
        loss, tmp_path, 2, 2, samples=data(False, 8), max_steps=5, save_strategy="no", resume=str(tmp_path / "checkpoint-3")
    )
    assert again.state.global_step == term.step == 5


@pytest.mark.parametrize("kind", ["dict", "named", "tuple"])
def test_where_the_logits_are(kind: str) -> None:
    """A dict's or tuple's logits, or what `inputs` of the function or of the losses says."""
    images, labels = data(False)[0]["images"][None], data(False)[0]["labels"][None]
    outputs = Head(kind)(images)
    expected = lf.CrossEntropyLoss()(Head()(images)["logits"], labels)
    criteria = [hf_loss(lf.CrossEntropyLoss())]
    if kind == "named":
        where = {"logits": "heads.0", "labels": "labels"}
        criteria = [hf_loss(lf.CrossEntropyLoss(), inputs=where), hf_loss(lf.LossSet(ce=lf.CrossEntropyLoss(inputs=where)))]
    for criterion in criteria:
        torch.testing.assert_close(criterion(outputs, labels), expected, rtol=0, atol=0)
        torch.testing.assert_close(criterion(outputs, labels, torch.tensor(128)), expected / 2, rtol=0, atol=0)


def test_what_is_refused() -> None:
    logits, labels = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(lf.LossError, match=r"hf_loss: criterion must be a loss .* got dict"):
        hf_loss({"type": "DiceLoss"})  # type: ignore[arg-type]
    loss = hf_loss(lf.CrossEntropyLoss(), inputs={"logits": "logits", "labels": "labels.mask"})
    with pytest.raises(lf.LossError, match="logits must be at 'logits'"):
        hf_loss(lf.DiceLoss())({"scores": logits}, labels)
    with pytest.raises(lf.LossError, match="outputs must be a ModelOutput"):
        hf_loss(lf.DiceLoss())(3, labels)
    with pytest.raises(lf.LossError, match="DataParallel"):
        hf_loss(lf.DiceLoss())({"logits": logits}, labels, torch.tensor([[16]]))
    with pytest.raises(lf.LossError, match=r"num_items_in_batch must be given.*callback"):
        loss({"logits": logits}, {"mask": labels})
    loss.micro_batches = 4  # as the callback sets it
    exact = lf.CrossEntropyLoss()(logits, labels)
    torch.testing.assert_close(loss({"logits": logits}, {"mask": labels}), exact / 4)
    with torch.no_grad():
        torch.testing.assert_close(loss({"logits": logits}, {"mask": labels}), exact)


def test_a_piece_without_items_is_zero() -> None:
    """No division by nothing."""
    scores = torch.zeros(1, 2, 4, 4, requires_grad=True)
    result = hf_loss(lf.CrossEntropyLoss(ignore_index=-100))((scores,), torch.full((1, 4, 4), -100), torch.tensor(0))
    result.backward()
    assert float(result.detach()) == 0 and scores.grad is not None and not scores.grad.any()
