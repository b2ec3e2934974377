"""The tasks whose channels are scored one by one: binary and multilabel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")

from lossfold.train import main
from lossfold.train.data import FolderData, ObjectsData
from lossfold.train.data.augment import Augment
from lossfold.train.data.base import PadCollate, Task
from lossfold.train.data.objects import COINS, HORSE, ObjectSources, cell_mask, coin_mask, open_image
from lossfold.train.errors import TrainError
from lossfold.train.segmentation.evaluation import Scores, channel_counts
from lossfold.train.segmentation.module import SegmentationModule
from tests.train.test_run import rows, state
from tests.train.tiny import COLLAGE, Train

OBJECTS = ["--data=ObjectsData", *COLLAGE]


@pytest.fixture(scope="module")
def sides() -> tuple[ObjectSources, ObjectSources]:
    return ObjectSources.load(False), ObjectSources.load(True)


@pytest.fixture
def black_and_white(tmp_path: Path) -> Path:
    """Eight pictures of a bright square; masks of 0 and 255, and the same again in a folder of each class."""
    for kind in ("images", "masks", "many/masks/left", "many/masks/right", "many/images"):
        (tmp_path / "own" / kind).mkdir(parents=True)
    for index in range(8):
        mask = np.zeros((40, 44), np.uint8)
        mask[8:30, 6 + index : 26 + index] = 255
        for kind in ("images", "masks", "many/images", "many/masks/left"):
            Image.fromarray(mask).save(tmp_path / "own" / kind / f"{index}.png")
        Image.fromarray(mask[:, ::-1].copy()).save(tmp_path / "own" / "many/masks/right" / f"{index}.png")
    return tmp_path / "own"


def test_scores_of_channels_are_counted_pixel_by_pixel() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (2, 3, 5, 7), generator=generator)
    targets[targets == 2] = 255
    predicted = torch.rand(2, 3, 5, 7, generator=generator) > 0.5
    scores = Scores.of_channels(channel_counts(predicted, targets, 255))
    for channel in range(3):
        kept = targets[:, channel] != 255
        true, said = targets[:, channel][kept] == 1, predicted[:, channel][kept]
        assert scores.iou[channel] == pytest.approx(float((true & said).sum() / (true | said).sum()))
        assert scores.pixels[channel] == int(true.sum()) and scores.counted[channel] == int(kept.sum())
    assert Scores.of_channels(channel_counts(predicted[:, :1], targets[:, 0], 255)).iou == scores.iou[:1]
    assert Scores.of_channels(torch.zeros(1, 4)).iou == [None]


def test_recipes_find_the_coins_and_the_cell(sides: tuple[ObjectSources, ObjectSources]) -> None:
    from skimage.measure import label

    mask = coin_mask(np.array(open_image(COINS).convert("L")))
    assert label(mask).max() == 24  # type: ignore[no-untyped-call]
    rows_, columns = np.mgrid[:80, :80]
    disc = np.hypot(rows_ - 40, columns - 40) < 20
    assert (cell_mask((disc * 150 + 50).astype(np.uint8)) == disc).all()
    for index, height in ((0, 303), (1, 244 / 1.6)):
        train, held_out = (side.marked[index] for side in sides)
        assert 0.1 < train[3].mean() < 0.6 and 0.1 < held_out[3].mean() < 0.6
        axis = 1 if index == 0 else 2
        assert train.shape[axis] + held_out.shape[axis] < height  # a strip between them is unused


def test_the_tasks_show_the_same_images_with_the_labels_of_each() -> None:
    data = {task: ObjectsData(image_size=48, train_images=12, val_images=4, task=task) for task in ("binary", "multilabel")}
    for one in data.values():
        one.setup("fit")
    overlaps = 0
    for key in range(12):
        (image, labels), (same, channels) = (one.train_set[key] for one in data.values())
        assert torch.equal(image, same) and labels.shape == (48, 48) and channels.shape == (4, 48, 48)
        assert set(channels.unique().tolist()) <= {0, 1, 255} and (channels[[0, 3]] != 255).all()
        counted = labels != 255
        assert torch.equal((labels == 1)[counted], (channels[:3] == 1).any(0)[counted])
        overlaps += int(((channels[0] == 1) & (channels[1:3] == 1).any(0)).sum() > 0)
        again = data["binary"].train_set[key]
        assert torch.equal(image, again[0]) and torch.equal(labels, again[1])
    assert overlaps > 0
    assert not torch.equal(data["binary"].train_set[0][0], data["binary"].val_set[0][0])
    assert open_image(HORSE).size == (400, 328)


@pytest.mark.slow  # tests/train/test_resume.py has a resumed run of each task in short runs
@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_killed_run_continues_exactly(train: Train, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    options = [f"--model.task={task}", "--save_every_steps=2"]
    whole = train(*options, data=OBJECTS, name="whole")

    def die(module: SegmentationModule, *_: Any) -> None:
        if module.global_step == 9:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, "on_train_batch_start", die)
        with pytest.raises(RuntimeError, match="killed"):
            train(*options, data=OBJECTS, name="broken")
    resumed = train(*options, "--ckpt_path=last", data=OBJECTS, name="broken")
    one, two = state(whole), state(resumed)
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name
    losses = [[row["train/total"] for row in rows(folder) if row["train/total"]] for folder in (whole, resumed)]
    assert len(losses[0]) == 12 and losses[0] == losses[1]
    first, second = (json.loads((folder / "scores.json").read_text()) for folder in (whole, resumed))
    assert first["before"] == second["before"] and first["after"] == second["after"]
    assert "BinaryCrossEntropyLoss(" in (whole / "report.html").read_text()
    model = SegmentationModule.load_from_checkpoint(whole / "checkpoints" / "best.ckpt")
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 1 if task == "binary" else 4, 32, 32)


@pytest.mark.parametrize(("task", "root", "classes"), [("binary", ".", ["object"]), ("multilabel", "many", ["left", "right"])])
def test_own_folders_of_black_and_white_masks(
    train: Train, black_and_white: Path, task: Task, root: str, classes: list[str]
) -> None:
    data = ["--data=FolderData", f"--data.root={black_and_white / root}", "--data.foreground=255", "--data.crop_size=32",
            "--data.num_workers=0", "--data.batch_size=4"]  # fmt: skip
    if task == "multilabel":
        data.append(f"--data.classes={classes}")
    run = train(f"--model.task={task}", data=data)
    assert json.loads((run / "scores.json").read_text())["classes"] == classes


def test_masks_of_every_class_are_stacked(black_and_white: Path) -> None:
    data = FolderData(str(black_and_white / "many"), ["left", "right"], task="multilabel", foreground=255, crop_size=32)
    data.prepare_data()
    data.setup("fit")
    image, labels = data.val_set[0]
    assert labels.shape == (2, 40, 44) and labels.unique().tolist() == [0, 1]
    assert torch.equal(labels[0], (image[0] > 0).to(torch.uint8)) and torch.equal(labels[1], labels[0].flip(1))
    images, padded = PadCollate(255, 32)([data.val_set[0]])
    assert images.shape == (1, 3, 64, 64) and padded.shape == (1, 2, 64, 64) and (padded[..., 44:] == 255).all()
    crop = Augment(32, 255, 0)
    for key in range(5):
        both, alone = crop(image, labels, key)[1], crop(image, labels[1], key)[1]
        assert torch.equal(both[1], alone)
    (black_and_white / "many" / "masks" / "right" / "3.png").unlink()
    with pytest.raises(TrainError, match=r"without a partner in .*right: 3\.png"):
        data.setup("fit")


def test_foreground_replaces_the_values_of_two_labels(black_and_white: Path) -> None:
    with pytest.raises(TrainError, match=r"data\.foreground: 255"):
        FolderData(str(black_and_white), task="binary").prepare_data()
    with pytest.raises(TrainError, match="give one of them"):
        FolderData("", task="binary", foreground=255, mask_values=[0, 255])
    with pytest.raises(TrainError, match="an object and a background"):
        FolderData("", 3, task="binary")
    with pytest.raises(TrainError, match="names of the folders"):
        FolderData("", 3, task="multilabel")
    assert FolderData("", ["ground", "lesion"], task="binary").class_names == ["lesion"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (['--model.loss={"type": "CrossEntropyLoss", "ignore_index": 255}', *OBJECTS], "choose BinaryCrossEntropyLoss"),
        (['--model.loss={"type": "DiceLoss", "ignore_index": 255}', *OBJECTS], "give it link: sigmoid"),
        (['--model.loss={"type": "DiceLoss", "link": "sigmoid"}', *OBJECTS], "give it ignore_index: 255"),
        (COLLAGE, "CollageData has labels for the task multiclass, but model.task is binary"),
        (["--model.network=torch.nn.Conv2d", "--model.network.in_channels=3", "--model.network.out_channels=2",
          "--model.network.kernel_size=1", *OBJECTS], "scores 2 classes, but the data has 1"),
        (["--model.task=multiclass", '--model.loss={"type": "BinaryCrossEntropyLoss", "ignore_index": 255}', *COLLAGE],
         "does not take the targets of task multiclass"),
    ],
)  # fmt: skip
def test_mistakes_give_one_message(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [f"--run_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu", "--model.task=binary"]
    assert main(["segmentation", *common, *options]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
