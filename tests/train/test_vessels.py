"""The recipes of vessels: what their data are, their configurations, and scores of shapes in a run's folder and report."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

import lossfold as lf
from lossfold.train import main
from lossfold.train.data import VesselsData
from lossfold.train.errors import TrainError
from lossfold.train.segmentation.criterion import build_criterion
from tests.train.tiny import UNET, Train

VESSELS = ["--data=VesselsData", "--data.image_size=32", "--data.train_images=8", "--data.batch_size=4"]


def test_crops_of_a_retina() -> None:
    """Thin vessels in few pixels, nothing beyond the field of view; the sides share no column, and every crop is its number's."""
    data = VesselsData(image_size=48, train_images=6)
    data.setup("fit")
    train, held_out = data.train_set, data.val_set
    assert train.image.shape[-1] + held_out.image.shape[-1] < 640 and len(held_out) >= 20  # type: ignore[attr-defined]
    for side in (train, held_out):
        labels = side.labels  # type: ignore[attr-defined]
        assert 0.02 < (labels == 1).sum() / (labels != 255).sum() < 0.15 and (labels == 255).any()
        wide = lf.functional.distance_transform((labels == 1)[None, None])
        assert 2 < wide.max() < 8, "half the width of the widest"
    for key in range(6):
        image, labels = train[key]
        assert image.shape == (3, 48, 48) and image.dtype == labels.dtype == torch.uint8
        assert set(labels.unique().tolist()) <= {0, 1, 255} and (labels == 1).sum() >= 48
        assert torch.equal(image, train[key][0]) and torch.equal(labels, train[key][1])
    with pytest.raises(TrainError, match="image_size"):
        VesselsData(image_size=50)
    for label in (-100, 1, 256):
        with pytest.raises(TrainError, match="expected 2 to 255"):
            VesselsData(ignore_index=label)


@pytest.mark.parametrize(("recipe", "terms"), [("vessels", "cldice"), ("vessels_dice", ""), ("vessels_boundary", "boundary")])
def test_the_recipes_are_configs(recipe: str, terms: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segmentation", "--recipe", recipe, "--print_config"]) == 0
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    criterion = build_criterion(model["loss"], 255, "binary")
    assert set(criterion.names) == {"dice", *terms.split()} and model["shape_scores"]


def test_a_run_scores_shapes(train: Train) -> None:
    folder = train("--model.task=binary", "--model.shape_scores=true", data=VESSELS, network=UNET)
    scores = json.loads((folder / "scores.json").read_text())
    for part in ("before", "after"):
        assert 0 <= scores[part]["cldice"] <= 1 and 0 <= scores[part]["boundary_f1"] <= 1 and scores[part]["betti0_error"] >= 0
    report = (folder / "report.html").read_text()
    assert "centreline Dice" in report and "Betti-0" in report and "not a physician" in report
    train("--model.shape_scores=true", name="other", status=1)
