"""How long a run is where nobody says it: twenty epochs, and with few images as many as make a least number of steps."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("lightning")

from lossfold.train.length import EnoughSteps, says_nothing
from tests.train.tiny import Train


@pytest.mark.parametrize(
    ("images", "batch", "ranks", "limit", "pieces", "epochs"),
    [
        (20, 8, 1, 1.0, 1, 60),
        (480, 8, 1, 1.0, 1, 20),
        (480, 8, 2, 1.0, 1, 20),
        (480, 8, 1, 3, 1, 40),
        (480, 8, 1, 1.0, 20, 40),
        (8, 8, 1, 1.0, 4, 120),
    ],
)
def test_epochs(images: int, batch: int, ranks: int, limit: Any, pieces: int, epochs: int) -> None:
    data = SimpleNamespace(train_set=range(images), batch_size=batch)
    loop = SimpleNamespace(max_epochs=None)
    trainer: Any = SimpleNamespace(
        datamodule=data, world_size=ranks, limit_train_batches=limit, accumulate_grad_batches=pieces, fit_loop=loop
    )
    EnoughSteps(120).setup(trainer, None, "fit")  # type: ignore[arg-type]
    assert loop.max_epochs == epochs


def test_whoever_says_it_is_heard() -> None:
    assert says_nothing({"max_epochs": None, "max_steps": -1, "max_time": None})
    for said in ({"max_epochs": 3}, {"max_epochs": -1}, {"max_steps": 5}, {"max_time": "00:00:10:00"}):
        assert not says_nothing({"max_epochs": None, "max_steps": -1, "max_time": None} | said)


def test_a_run(train: Train) -> None:
    """Of one step an epoch."""
    short = ["--patience=null", "--trainer.limit_train_batches=1", "--score_before=false", "--explain_every_steps=null"]
    folder = train("--least_steps=22", *short, "--trainer.max_epochs=null", "--trainer.check_val_every_n_epoch=22")
    assert json.loads((folder / "scores.json").read_text())["steps"] == 22


def test_max_time_ends_a_run(train: Train) -> None:
    """With an evaluation; the steps are there for a run that does not end by itself."""
    limits = ["--trainer.max_time=00:00:00:01", "--trainer.max_epochs=-1", "--trainer.max_steps=2000", "--model.schedule=constant"]
    folder = train(*limits, "--trainer.check_val_every_n_epoch=1000", "--score_before=false", "--explain_every_steps=null")
    scores = json.loads((folder / "scores.json").read_text())
    assert 0 < scores["steps"] < 2000 and scores["seconds"] < 60
