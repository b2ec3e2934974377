"""A run that was killed after any step goes on as if it had not been: log, weights, scores, with any number of loader processes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Timer

from lossfold.train import main
from lossfold.train.checkpoints import SafeCheckpointIO
from tests.train.gans import DATA, NETS
from tests.train.tiny import TRAINER

SMALL = ["--data.image_size=16", "--data.train_images=8", "--data.val_images=2", "--data.batch_size=2"]
NETWORK = ["--model.network.width=2", "--model.network.levels=2"]
TASKS = {
    "segmentation": [*SMALL, *NETWORK],
    "matting": [*SMALL, *NETWORK],
    "restoration": ["--data.photo_height=40", "--data.crop_size=16", "--data.train_images=8", "--data.batch_size=2", *NETWORK[:1]],
    "gan": [*DATA, *NETS, "--trainer.limit_train_batches=4"],
}
STEPS = 8
"""Of a run: two epochs of four."""


def whole_run(task: str, root: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[str]:
    """Train without a break, and keep the run's folder as it is after each checkpoint, in `root/after/<step>`."""
    everything = [task, *TRAINER, *TASKS[task], *options]
    write = SafeCheckpointIO.save_checkpoint

    def and_keep(self: SafeCheckpointIO, checkpoint: dict[str, Any], path: Any, **rest: Any) -> None:
        write(self, checkpoint, path, **rest)
        if Path(path).name == "last.ckpt":
            shutil.copytree(root / "whole", root / "after" / str(checkpoint["global_step"]), dirs_exist_ok=True)

    with monkeypatch.context() as patch:
        patch.setattr(SafeCheckpointIO, "save_checkpoint", and_keep)
        assert main([*everything, f"--run_dir={root / 'whole'}", "--save_every_steps=1"]) == 0
    return everything


def log(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """What was logged, by name: steps and values."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {key: [(row["step"], row[key]) for row in rows if row[key]] for key in rows[0] if key != "step"}


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Nested values, with tensors, are equal to the bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert one == other, where


def check(task: str, root: Path, monkeypatch: pytest.MonkeyPatch, steps: list[int], *options: str) -> None:
    everything = whole_run(task, root, monkeypatch, *options)
    assert sorted(int(path.name) for path in (root / "after").iterdir()) == list(range(1, STEPS + 1))
    right, last = log(root / "whole"), root / "whole" / "checkpoints" / "last.ckpt"
    assert max(map(len, right.values())) >= STEPS
    for step in steps:
        folder = root / "after" / str(step)
        assert main([*everything, f"--run_dir={folder}", "--save_every_steps=1", "--ckpt_path=last"]) == 0
        assert log(folder) == right, step
        found, expected = (torch.load(path, weights_only=True) for path in (folder / "checkpoints" / "last.ckpt", last))
        for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "random_state"):
            assert_same(expected[part], found[part], f"step {step}: {part}")
        scores, known = (json.loads((one / "scores.json").read_text()) for one in (folder, root / "whole"))
        assert scores | {"seconds": 0} == known | {"seconds": 0}, step


@pytest.mark.parametrize(("task", "workers", "step"), [("segmentation", 1, 6), ("gan", 0, 3)])
def test_resumed_runs_are_the_whole_run(
    task: str, workers: int, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(task, tmp_path, monkeypatch, [step], f"--data.num_workers={workers}")


SCHEDULES = {
    "each epoch": [],
    "second epoch": ["--trainer.check_val_every_n_epoch=2"],
    "within epochs": ["--trainer.val_check_interval=2"],
    "across epochs": ["--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null"],
}


CASES = [(task, workers, "each epoch") for task in TASKS for workers in (0, 1, 2)]
CASES += [(task, 1, schedule) for task in ("segmentation", "gan") for schedule in SCHEDULES if schedule != "each epoch"]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "workers", "schedule"), CASES)
def test_from_every_step(task: str, workers: int, schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(task, tmp_path, monkeypatch, list(range(1, STEPS)), f"--data.num_workers={workers}", *SCHEDULES[schedule])


LONGER = {
    "within an epoch": (["--trainer.max_steps=6"], ["--trainer.max_steps=8"]),
    "after an epoch": (
        ["--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2"],
        ["--trainer.max_epochs=4", "--trainer.check_val_every_n_epoch=2"],
    ),
}


def test_a_run_that_is_stopped_within_an_epoch_goes_on_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `max_time`, where no evaluation follows: the rest of the epoch is not left out."""
    everything = ["segmentation", *TRAINER, *TASKS["segmentation"], "--model.schedule=constant", "--model.warmup=0"]
    everything += [
        "--score_before=false",
        "--explain_every_steps=null",
        "--trainer.max_epochs=3",
        "--trainer.check_val_every_n_epoch=3",
    ]
    assert main([*everything, f"--run_dir={tmp_path / 'whole'}"]) == 0
    whole = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)

    def stop(timer: Timer, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == whole["global_step"] // 3 + 1

    with monkeypatch.context() as patch:
        patch.setattr(Timer, "on_train_batch_end", stop)
        assert main([*everything, f"--run_dir={tmp_path / 'stopped'}"]) == 0
    assert main([*everything, f"--run_dir={tmp_path / 'stopped'}", "--ckpt_path=last"]) == 0
    last = torch.load(tmp_path / "stopped" / "checkpoints" / "last.ckpt", weights_only=True)
    for part in ("global_step", "state_dict", "optimizer_states", "random_state"):
        assert_same(whole[part], last[part], part)


@pytest.mark.parametrize("end", LONGER)
def test_runs_that_do_not_end_with_an_evaluation_go_on_from_their_end(end: str, tmp_path: Path) -> None:
    constant = ["--model.schedule=constant", "--model.warmup=0", "--score_before=false", "--explain_every_steps=null"]
    everything = ["segmentation", *TRAINER, *TASKS["segmentation"], *constant]
    limits, further = LONGER[end]
    for name, options in (("short", limits), ("whole", further), ("short", [*further, "--ckpt_path=last"])):
        assert main([*everything, *options, f"--run_dir={tmp_path / name}"]) == 0
        last = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["global_step"] == json.loads((tmp_path / name / "scores.json").read_text())["steps"]
    whole = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
    for part in ("global_step", "state_dict", "optimizer_states", "random_state"):
        assert_same(whole[part], last[part], part)
