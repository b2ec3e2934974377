"""The task matting: what a run leaves behind, what continuing it gives, and what its pictures and scores say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")

import lossfold as lf
from lossfold.train import main
from lossfold.train.data.composites import composite
from lossfold.train.errors import TrainError
from lossfold.train.matting.evaluation import MattingScores, numbers, score_table, shown
from lossfold.train.matting.module import MattingModule, build_criterion, fill_known
from lossfold.train.matting.pictures import BLUE, RED, estimated_foreground, grey, on_backdrop, signed_error
from lossfold.train.matting.report import alphas
from lossfold.train.nets import MattingUNet
from lossfold.train.pictures import rgb
from tests.train.test_run import rows, state
from tests.train.tiny import TRAINER, Train

COMPOSITES = ["--data=CompositeData", "--data.image_size=32", "--data.train_images=24", "--data.val_images=4",
              "--data.batch_size=4"]  # fmt: skip
UNET = ["--model.network.width=4", "--model.network.levels=2"]
TERMS = ("unknown_l1_loss", "known_l1_loss", "loss_pha_laplacian", "loss_gradient_penalty")


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(*options: str, data: list[str] = COMPOSITES, network: list[str] = UNET, name: str = "run", status: int = 0) -> Path:
        folder = tmp_path / name
        assert main(["matting", *TRAINER, *data, *network, f"--run_dir={folder}", *options]) == status
        return folder

    return run


def test_a_run_leaves_log_checkpoints_scores_and_report(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train()
    told = capsys.readouterr().out
    assert "SAD" in told and "trimap as alpha" in told and "before" in told
    training = [row for row in rows(folder) if row["train/total"]]
    assert len(training) == 12
    for row in training:
        assert float(row["train/total"]) == pytest.approx(sum(float(row[f"train/{name}"]) for name in TERMS), rel=1e-5)
    scores = json.loads((folder / "scores.json").read_text())
    assert all(set(scores[when]) == {"sad", "mse", "grad", "conn"} for when in ("trimap", "before", "after"))
    assert scores["before"] != scores["after"] and scores["steps"] == 12
    page = (folder / "report.html").read_text()
    assert "http" not in page and "MattingLoss" in page and "MattingUNet" in page and "true colours" in page
    assert (
        page.count("data:image/") == 5 + 1 + 4 + 2 * 8
    )  # curves of terms, their shares and errors, and all eight pictures of two images
    model = MattingModule.load_from_checkpoint(folder / "checkpoints" / "best.ckpt")
    images, trimaps = torch.zeros(1, 3, 33, 50, dtype=torch.uint8), torch.full((1, 1, 33, 50), 0.5)
    assert model(images, trimaps).shape == (1, 1, 33, 50)
    assert sorted(model.shown_before) == [0, 2]


@pytest.mark.slow  # tests/train/test_resume.py has a resumed run of each task in short runs
def test_a_killed_run_continues_exactly(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(name="whole")

    def die(module: MattingModule, *_: Any) -> None:
        assert module.training and all(part.training for part in module.network.modules())
        if module.global_step == 9:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(MattingModule, "on_train_batch_start", die)
        with pytest.raises(RuntimeError, match="killed"):
            train("--save_every_steps=2", name="broken")
    resumed = train("--save_every_steps=2", "--ckpt_path=last", name="broken")
    one, two = state(whole), state(resumed)
    assert one["global_step"] == two["global_step"] == 12
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name
    key = "train/total"
    assert [row[key] for row in rows(whole) if row[key]] == [row[key] for row in rows(resumed) if row[key]]
    first, second = (json.loads((folder / "scores.json").read_text()) for folder in (whole, resumed))
    assert all(first[when] == second[when] for when in ("trimap", "before", "after"))
    assert (resumed / "report.html").read_text().count("data:image/") == 5 + 1 + 4 + 2 * 8


@pytest.mark.slow  # tests/train/test_restoration.py trains in short runs
def test_training_lowers_the_errors(train: Train) -> None:
    folder = train("--trainer.max_epochs=8", "--data.train_images=40", "--score_before=true", network=["--model.network.width=8"])
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["after"]["sad"] < 0.9 * min(scores["before"]["sad"], scores["trimap"]["sad"])


def test_own_folders_with_mixed_precision(train: Train, tmp_path: Path) -> None:
    square = np.zeros((40, 44), np.uint8)
    square[10:30, 10:30], square[14:26, 14:26] = 128, 255
    for kind in ("image", "alpha", "trimap"):
        (tmp_path / "own" / kind).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(np.roll(square, index, 1)).save(tmp_path / "own" / kind / f"{index}.png")
    data = ["--data=AlphaFolderData", f"--data.root={tmp_path / 'own'}", "--data.crop_size=32", "--data.batch_size=4",
            "--data.num_workers=0"]  # fmt: skip
    run = train("--trainer.precision=bf16-mixed", "--score_before=false", data=data)
    scores = json.loads((run / "scores.json").read_text())
    assert scores["before"] is None and scores["after"]["sad"] >= 0
    page = (run / "report.html").read_text()
    assert "estimated from image and alpha" in page and re.search(r'class="name">\d\.png<', page)
    assert f"lossfold predict {run} IMAGES --trimaps TRIMAPS" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "dmo"], "there is no recipe 'dmo'; choose from: demo"),
        (['--model.loss={"type": "MatingLoss"}'], "MattingLoss"),
        (['--model.loss={"type": "MattingLoss", "alpha_link": "identity"}'], "give it alpha_link: sigmoid"),
        (['--model.loss={"type": "UnknownL1Loss"}'], "give it link: sigmoid"),
        (['--model.loss={"type": "CrossEntropyLoss"}'], "or choose a loss that has it"),
        (['--model.loss={"type": "FocalLoss", "link": "sigmoid", "class_weight": [1, 2]}'], "does not take (logits, alpha"),
        (["--data=AlphaFolderData", "--data.root=nowhere"], "there is no folder nowhere"),
        (["--model.network=torch.nn.Conv2d", "--model.network.in_channels=4", "--model.network.out_channels=2",
          "--model.network.kernel_size=1", *COMPOSITES], "expected one channel of the image's size"),
        (["--data=FolderData", "--data.root=x"], "FolderData"),
    ],
)  # fmt: skip
def test_mistakes_give_one_message(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matting", f"--run_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu", *options]) in (1, 2)
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_the_recipe_is_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matting", "--recipe", "demo", "--model.optimizer.lr=0.5", "--print_config"]) == 0
    shown_ = capsys.readouterr().out
    assert "lr: 0.5" in shown_ and "MattingLoss" in shown_ and "runs/matting" in shown_


def test_known_pixels_are_the_trimaps() -> None:
    trimaps = torch.tensor([0.0, 0.5, 1.0, 0.5]).view(1, 1, 2, 2)
    alpha = fill_known(torch.tensor([9.0, 0.0, -9.0, 9.0]).view(1, 1, 2, 2), trimaps)
    assert alpha.flatten().tolist() == pytest.approx([0, 0.5, 1, torch.sigmoid(torch.tensor(9.0)).item()])
    assert fill_known(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16), trimaps).dtype == torch.float32


def test_a_criterion_is_tried_before_the_training() -> None:
    for config in (None, {"type": "UnknownL1Loss", "link": "sigmoid"}):
        criterion = build_criterion(config)
        out = criterion(torch.full((1, 1, 16, 16), 20.0), torch.ones(1, 1, 16, 16), torch.ones(1, 1, 16, 16))
        assert isinstance(criterion, lf.LossSet) and float(out.total) == pytest.approx(0, abs=0.01)
    with pytest.raises(TrainError, match="does not take"):
        build_criterion({"type": "FocalLoss", "link": "sigmoid", "class_weight": [1, 2]})


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (32, 64)])
@pytest.mark.parametrize("block", [1, 2, 4])
def test_the_detail_unet_takes_any_size(size: tuple[int, int], block: int) -> None:
    network = MattingUNet(classes=2, width=4, levels=2, block=block, in_channels=3).eval()
    images = torch.rand(1, 3, *size, requires_grad=True)
    logits = network(images)
    assert logits.shape == (1, 2, *size)
    logits.square().sum().backward()
    assert images.grad is not None and (images.grad.abs().sum(1) > 0).all()  # no pixel is dropped


def test_pictures_say_what_is_too_opaque() -> None:
    truth, predicted = torch.full((1, 1, 3), 0.5), torch.tensor([[[0.5, 1.0, 0.0]]])
    assert signed_error(predicted, truth)[0].tolist() == [[255] * 3, list(rgb(RED)), list(rgb(BLUE))]
    assert grey(predicted)[0, :, 0].tolist() == [128, 255, 0]


def test_a_foreground_is_guessed_where_it_is_seen_through() -> None:
    columns = ((torch.arange(40.0) - 15) / 10).clamp(0, 1).expand(1, 40, 40)
    red, blue = (torch.tensor(colour)[:, None, None].expand(3, 40, 40) for colour in ((0.9, 0.2, 0.1), (0.1, 0.2, 0.8)))
    image = composite(red, blue, columns)
    guess = estimated_foreground(image / 255, columns)
    seen = columns[0] > 0.2
    assert (guess - red).abs()[:, seen].mean() < 0.4 * (image / 255 - red).abs()[:, seen].mean()
    green = torch.zeros(3, 40, 40, dtype=torch.uint8)
    green[1] = 255
    true = on_backdrop(image, (red * 255).round().to(torch.uint8), columns, green)
    assert true[0, -1].tolist() == pytest.approx([230, 51, 26], abs=1) and true[0, 0].tolist() == [0, 255, 0]
    guessed, kept = (np.abs(on_backdrop(image, colours, columns, green).astype(int) - true).mean() for colours in (None, image))
    assert guessed < 0.5 * kept


def test_scores_are_printed_in_the_fields_units() -> None:
    scores = MattingScores(sad=12.345, mse=0.0123, grad=float("nan"), conn=250.4)
    assert [shown(scores, name) for name in ("sad", "mse", "grad", "conn")] == ["12.3", "12.3", "–", "250"]
    assert shown(None, "sad") == "–" and numbers(None) is None
    assert numbers(scores) == {"sad": 12.345, "mse": 0.0123, "grad": None, "conn": 250.4}
    assert score_table(None, scores, scores).row_count == 4


def test_alphas_leave_the_network_in_its_mode() -> None:
    from lossfold.train.data import CompositeData

    data = CompositeData(image_size=32, val_images=3)
    data.setup("fit")
    model = MattingModule(MattingUNet(width=4, levels=2))
    model.network.unet.stem.eval()
    modes = [module.training for module in model.modules()]
    found = alphas(model, data, 2)
    assert sorted(found) == [0, 1] and [module.training for module in model.modules()] == modes
    image, trimap, _ = data.val_set[1]
    assert torch.equal(found[1][trimap != 0.5], (trimap[trimap != 0.5] * 255).to(torch.uint8)) and image.shape[1] == 32
