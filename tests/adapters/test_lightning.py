"""Schedules and intervals in Lightning: once an optimiser step, kept by checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lossfold as lf

pl = pytest.importorskip("lightning.pytorch")

from lossfold.adapters.lightning import AdvanceLosses, ExplainLosses, outer_sets  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")


class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
    """A network with a set, one term of which rises."""

    def __init__(self, manual: bool = False) -> None:
        super().__init__()
        self.network = nn.Conv2d(3, 2, 1)
        rising = lf.Term(lf.DiceLoss(), schedule=lf.LinearSchedule(start=0.0, end=1.0, steps=8))
        self.criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), inner=lf.LossSet(dice=rising))
        self.also = self.criterion  # under two names, and advanced once
        self.automatic_optimization = not manual
        self.seen: list[int] = []

    @property
    def step(self) -> int:
        return int(next(module.step for module in self.modules() if isinstance(module, lf.Term)))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.seen.append(self.step)
        out = self.criterion(self.network(batch[0]), batch[1])
        self.log_dict(out.log("train/"))
        if not self.automatic_optimization:
            self.manual_backward(out.total)
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()
        return out.total

    def configure_optimizers(self) -> Any:
        weight, bias = self.network.parameters()
        one = torch.optim.SGD([weight], lr=0.1)
        return one if self.automatic_optimization else (one, torch.optim.SGD([bias], lr=0.1))


def fit(module: Module, folder: Path, callback: Any, resume: str | None = None, **options: Any) -> Any:
    images = torch.rand(12, 3, 4, 4)
    data = DataLoader([(image, (image[0] > 0.5).long()) for image in images], batch_size=2)
    settings = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    saving = {"enable_checkpointing": False} if "enable_checkpointing" not in options else {}
    trainer = pl.Trainer(callbacks=[callback], default_root_dir=folder, **settings | saving | options)
    trainer.fit(module, data, ckpt_path=resume)
    return trainer


def test_it_is_found_without_an_import() -> None:
    assert lf.adapters.lightning.AdvanceLosses is AdvanceLosses  # type: ignore[attr-defined]


@pytest.mark.parametrize(("pieces", "seen"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 0, 1, 1, 2, 2]), (4, [0, 0, 0, 0, 1, 1])])
def test_it_advances_with_the_optimiser(pieces: int, seen: list[int], tmp_path: Path) -> None:
    module = Module()
    trainer = fit(module, tmp_path, AdvanceLosses(), max_epochs=1, accumulate_grad_batches=pieces)
    assert module.seen == seen and module.step == trainer.global_step == seen[-1] + 1
    assert set(trainer.callback_metrics) == {"train/total", "train/ce", "train/inner.dice"}


def test_two_optimisers_in_a_batch_are_one_step(tmp_path: Path) -> None:
    module = Module(manual=True)
    trainer = fit(module, tmp_path, AdvanceLosses(), max_epochs=1)
    assert module.seen == [0, 1, 2, 3, 4, 5] and trainer.global_step == 12


def test_checkpoints_keep_the_step(tmp_path: Path) -> None:
    """A run that is resumed goes on where it stopped."""
    fit(Module(), tmp_path, AdvanceLosses(), max_epochs=1).save_checkpoint(tmp_path / "one.ckpt")
    again = Module()
    fit(again, tmp_path, AdvanceLosses(), resume=str(tmp_path / "one.ckpt"), max_epochs=2)
    assert again.seen == [6, 7, 8, 9, 10, 11] and again.step == 12


def test_a_criterion_elsewhere(tmp_path: Path) -> None:
    elsewhere = lf.LossSet(dice=lf.Term(lf.DiceLoss(), every=2))
    module = Module()
    fit(module, tmp_path, AdvanceLosses(elsewhere), max_epochs=1)
    assert elsewhere.members[0].step == 6 and module.step == 0
    with pytest.raises(lf.LossError, match="AdvanceLosses: criterion must be a loss"):
        AdvanceLosses("dice")  # type: ignore[arg-type]


class Holder(nn.Module):
    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss


def test_sets_within_others_are_not_outer_ones_wherever_they_stand() -> None:
    module = nn.Module()
    module.inner = lf.LossSet(dice=lf.DiceLoss(), ce=lf.CrossEntropyLoss())
    module.outer = lf.LossSet(inner=module.inner, focal=lf.FocalLoss())
    assert [name for name, _ in outer_sets(module)] == ["outer"]


def test_lightning_clis_own_parser_builds_sets() -> None:
    """`class_path` and `init_args` in jsonargparse itself, without `lossfold.build`."""
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Holder, "model")
    rising = {"class_path": "lossfold.LinearSchedule", "init_args": {"start": 0.0, "end": 1.0, "steps": 10}}
    term = {"class_path": "lossfold.Term", "init_args": {"loss": {"class_path": "lossfold.DiceLoss"}, "schedule": rising}}
    ce = {"class_path": "lossfold.CrossEntropyLoss", "init_args": {"ignore_index": 255}}
    config = {"class_path": "lossfold.LossSet", "init_args": {"terms": {"ce": ce, "dice": term}}}
    built = parser.instantiate(parser.parse_object(copy.deepcopy({"model": {"loss": config}}))).model.loss
    assert repr(built) == repr(lf.build(config))


def test_explanations_change_nothing_but_the_log(tmp_path: Path) -> None:
    """The shares of both terms, in every second step; weights and random numbers as without."""
    from lightning.pytorch.loggers import CSVLogger

    class Rows(CSVLogger):  # type: ignore[misc]
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            self.rows.append({"step": step, **metrics})

    logger = Rows(tmp_path)
    logger.rows = []
    weights = []
    for callback in (pl.Callback(), ExplainLosses(2, pictures=tmp_path / "pictures")):
        torch.manual_seed(3)
        module = Module()
        fit(module, tmp_path, callback, max_epochs=1, logger=logger, log_every_n_steps=1)
        weights.append([parameter.detach().clone() for parameter in module.network.parameters()] + [torch.rand(2)])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    rows = [row for row in logger.rows if "share/ce" in row]
    assert [row["step"] for row in rows] == [0, 2, 4] and all(
        row["share/ce"] + row["share/inner.dice"] == pytest.approx(1) for row in rows
    )
    assert callback.found["criterion"].names == ("ce", "inner.dice") and not module.criterion._forward_hooks
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [f"criterion_{step:06}.png" for step in (0, 2, 4)]
    with pytest.raises(lf.LossError, match="every"):
        ExplainLosses(0)
