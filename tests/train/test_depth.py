"""The task depth: what a run leaves behind, data with holes, own folders, predictions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")

import lossfold as lf
from lossfold.cli.__main__ import main as lossfold
from lossfold.train import main
from lossfold.train.data.depth_maps import (
    BASELINE,
    FOCAL_LENGTH,
    HELD_OUT,
    OFFSET,
    TRAINS,
    MotorcycleData,
    cut,
    motorcycle,
    part_of,
)
from lossfold.train.depth.module import DepthModule, build_criterion
from lossfold.train.depth.pictures import coloured, ends_of
from tests.train.test_run import rows
from tests.train.tiny import TRAINER

SMALL = ["--data=MotorcycleData", "--data.height=48", "--data.crop_size=16", "--data.train_images=8", "--data.batch_size=2"]
NET = ["--model.network.width=4", "--model.network.levels=2"]


def test_a_run_leaves_scores_pictures_and_a_model_that_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert main(["depth", *TRAINER, *SMALL, *NET, f"--run_dir={folder}"]) == 0
    told = capsys.readouterr().out
    assert "AbsRel" in told and "constant" in told and "δ1" in told
    scores = json.loads((folder / "scores.json").read_text())
    for when in ("constant", "before", "after"):
        assert set(scores[when]) == {"abs_rel", "rmse", "delta1"} and 0 < scores[when]["abs_rel"] < 1
    training = [row for row in rows(folder) if row["train/total"]]
    for row in training:
        terms = float(row["train/silog"]) + 0.1 * float(row["train/invariant"])
        assert float(row["train/total"]) == pytest.approx(terms, rel=1e-5)
    page = (folder / "report.html").read_text()
    assert "http" not in page and "SILogLoss" in page and "the same garage" in page
    assert page.count("data:image/") == 4 + 3 + 4  # terms, scores, and the image, before, after, what was measured
    predictor = lf.load(folder)
    image = np.random.default_rng(0).integers(0, 255, (40, 52, 3), np.uint8)
    depth = predictor(image)
    assert depth.shape == (40, 52) and depth.dtype == np.float32 and (depth > 0).all()
    Image.fromarray(image).save(tmp_path / "new.png")
    assert lossfold(["predict", str(folder), str(tmp_path / "new.png"), "--output", str(tmp_path / "found")]) == 0
    (file,) = (tmp_path / "found").rglob("new.png")
    np.testing.assert_allclose(np.array(Image.open(file)) / 256, depth, atol=1 / 256)


def test_the_measured_depths_are_those_of_the_pair() -> None:
    """Metres by the pair's geometry, holes where nothing was measured; parts lie apart; crops keep image and depth together."""
    whole = motorcycle(500)
    assert whole.image.shape == (3, 500, 741) and whole.target.shape == (1, 500, 741)
    measured = whole.target[whole.target > 0]
    assert 0.5 < len(measured) / whole.target.numel() < 1 and 1.5 < measured.min() < measured.max() < 7
    assert BASELINE * FOCAL_LENGTH / measured.max() > OFFSET
    parts = [part_of(whole, *ends) for ends in (*TRAINS, HELD_OUT)]
    assert sum(part.image.shape[2] for part in parts) < 720  # strips between them are used by none
    data = MotorcycleData(height=50, crop_size=24)
    data.setup("fit")
    one, again = data.train_set[5], data.train_set[5]
    assert torch.equal(one.image, again.image) and one.image.shape == (3, 50, 24) and one.target.shape == (1, 50, 24)
    assert len(data.val_set) == 1 and 2 < data.typical < 5
    steps = torch.arange(64.0).expand(1, 64, 64)
    for seed in range(4):
        crop = cut(
            whole._replace(image=(steps / 64).expand(3, -1, -1), target=steps), (16, 16), torch.Generator().manual_seed(seed), True
        )
        assert torch.equal(crop.image[0].diff(dim=1) > 0, crop.target[0].diff(dim=1) > 0)  # mirrored both, or neither


def test_pictures_of_depth() -> None:
    target = torch.linspace(1, 4, 100).reshape(1, 10, 10)
    target[:, 0] = 0
    picture = coloured(target, ends_of(target))
    assert (picture[0] == 150).all() and picture[1].sum() > picture[9].sum()  # near is bright
    assert coloured(torch.zeros(1, 4, 4), ends_of(torch.zeros(1, 4, 4))).min() == 150


@pytest.mark.slow
def test_own_folders(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for kind in ("image", "depth"):
        (tmp_path / "own" / kind).mkdir(parents=True)
    for index in range(5):
        Image.fromarray(generator.integers(0, 255, (33, 41, 3), np.uint8)).save(tmp_path / "own" / "image" / f"{index}.png")
        depth = generator.integers(500, 4000, (33, 41)).astype(np.uint16)
        depth[:5] = 0
        Image.fromarray(depth).save(tmp_path / "own" / "depth" / f"{index}.png")
    own = ["--data=DepthFolderData", f"--data.root={tmp_path / 'own'}", "--data.unit=0.001", "--data.crop_size=16",
           "--data.batch_size=2", "--data.num_workers=0"]  # fmt: skip
    folder = tmp_path / "run"
    assert main(["depth", *TRAINER, *own, *NET, "--score_before=false", f"--run_dir={folder}"]) == 0
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["before"] is None and 0 < scores["after"]["rmse"] < 4
    assert 0.5 < DepthModule.load_from_checkpoint(folder / "checkpoints" / "last.ckpt").typical < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "dmo"], "there is no recipe 'dmo'; choose from: demo"),
        (['--model.loss={"type": "SILogLoss", "link": "log"}'], "give it link: identity"),
        (['--model.loss={"type": "UnknownL1Loss"}'], "model.loss does not take (pred, target)"),
        (["--data=DepthFolderData", "--data.root=nowhere"], "there is no folder nowhere"),
        (["--data.crop_size=2"], "data.crop_size must be at least 8, got 2"),
    ],
)
def test_mistakes_give_one_message(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["depth", f"--run_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu", *options]) in (1, 2)
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_criterion_is_tried_before_the_training() -> None:
    depth = torch.rand(1, 1, 32, 32) + 1
    for config in (None, {"type": "L1Loss"}, {"type": "ScaleShiftInvariantLoss"}):
        assert float(build_criterion(config)(depth, depth).total) < 1e-5


@pytest.mark.parametrize(("task", "recipe", "word"), [("depth", "demo", "MotorcycleData"), ("gan", "r3gan", "rpgan")])
def test_the_recipes_are_configs(task: str, recipe: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([task, "--recipe", recipe, "--trainer.log_every_n_steps=7", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert word in printed and "log_every_n_steps: 7" in printed
