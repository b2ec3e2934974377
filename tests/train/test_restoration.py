"""The task restoration: what a run leaves behind, what continuing it gives, and what its pictures and scores say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

pytest.importorskip("lightning")

import lossfold as lf
from lossfold.train import main
from lossfold.train.errors import TrainError
from lossfold.train.nets import RestorationNet, enlarged
from lossfold.train.pictures import rgb
from lossfold.train.restoration.evaluation import RestorationScores, numbers, score_table, shown
from lossfold.train.restoration.module import RestorationModule, as_target, build_criterion
from lossfold.train.restoration.pictures import DETAIL, FRAME, LARGEST, busiest, framed, whole
from lossfold.train.restoration.report import restored
from tests.train.test_run import rows, state
from tests.train.tiny import TRAINER, Train

PHOTOGRAPHS = ["--data=PhotographData", "--data.photo_height=40", "--data.crop_size=24", "--data.train_images=24",
               "--data.batch_size=4"]  # fmt: skip
NET = ["--model.network.width=4", "--model.network.blocks=1"]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(*options: str, data: list[str] = PHOTOGRAPHS, network: list[str] = NET, name: str = "run", status: int = 0) -> Path:
        folder = tmp_path / name
        assert main(["restoration", *TRAINER, *data, *network, f"--run_dir={folder}", *options]) == status
        return folder

    return run


def test_a_run_leaves_log_checkpoints_scores_and_report(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train()
    told = capsys.readouterr().out
    assert "PSNR" in told and "SSIM" in told and "bicubic" in told and "before" in told
    training = [row for row in rows(folder) if row["train/total"]]
    assert len(training) == 12
    for row in training:
        terms = float(row["train/charbonnier"]) + 0.1 * float(row["train/ssim"])
        assert float(row["train/total"]) == pytest.approx(terms, rel=1e-5)
    scores = json.loads((folder / "scores.json").read_text())
    assert all(set(scores[when]) == {"psnr", "ssim"} for when in ("input", "before", "after"))
    assert scores["before"] != scores["after"] and scores["steps"] == 12
    last = [row for row in rows(folder) if row["val/score/psnr"]][-1]
    assert [float(last[f"val/score/{name}"]) for name in ("psnr", "ssim")] == pytest.approx(
        list(scores["after"].values()), rel=1e-6
    )
    assert float(last["val/ssim"]) == pytest.approx(1 - scores["after"]["ssim"], abs=0.01)  # the term of the same name
    page = (folder / "report.html").read_text()
    assert "http" not in page and "SSIMLoss" in page and "RestorationNet" in page and "reduced 2 times" in page
    assert (
        page.count("data:image/") == 3 + 1 + 2 + 2 * 8
    )  # curves of terms and scores; four versions of two images, whole and in detail
    model = RestorationModule.load_from_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert model(torch.zeros(1, 3, 33, 50, dtype=torch.uint8)).shape == (1, 3, 66, 100)
    assert sorted(model.shown_before) == [0, 2]


@pytest.mark.slow  # tests/train/test_resume.py has a resumed run of each task in short runs
def test_a_killed_run_continues_exactly(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = [*PHOTOGRAPHS, "--data.degradation=denoise"]
    whole_run = train(name="whole", data=noise)

    def die(module: RestorationModule, *_: Any) -> None:
        assert module.training and all(part.training for part in module.network.modules())
        if module.global_step == 9:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(RestorationModule, "on_train_batch_start", die)
        with pytest.raises(RuntimeError, match="killed"):
            train("--save_every_steps=2", name="broken", data=noise)
    resumed = train("--save_every_steps=2", "--ckpt_path=last", name="broken", data=noise)
    one, two = state(whole_run), state(resumed)
    assert one["global_step"] == two["global_step"] == 12
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name
    assert str(one["optimizer_states"]) == str(two["optimizer_states"])
    key = "train/total"
    assert [row[key] for row in rows(whole_run) if row[key]] == [row[key] for row in rows(resumed) if row[key]]
    first, second = (json.loads((folder / "scores.json").read_text()) for folder in (whole_run, resumed))
    assert all(first[when] == second[when] for when in ("input", "before", "after"))
    assert (resumed / "report.html").read_text().count("data:image/") == 3 + 1 + 2 + 2 * 8


def test_a_frozen_network_of_the_loss_stays_out_of_checkpoints(train: Train) -> None:
    loss = ('{"type": "LossSet", "l1": {"type": "L1Loss"}, "perceptual": {"type": "PerceptualLoss", "vgg_type": "vgg16", '
            '"layer_weights": {"relu1_2": 1.0}, "style_weight": 0.0, "norm_img": false, "pretrained": "random"}}')  # fmt: skip
    folder = train(f"--model.loss={loss}", "--score_before=false", "--trainer.max_epochs=1")
    kept = state(folder)["state_dict"]
    assert kept and not any(name.startswith("criterion.members") and "weight" in name for name in kept)
    assert all(float(row["train/perceptual"]) > 0 for row in rows(folder) if row["train/total"])
    assert len(RestorationModule.load_from_checkpoint(folder / "checkpoints" / "last.ckpt").criterion.members) == 2


def test_training_beats_the_noisy_input(train: Train) -> None:
    folder = train("--trainer.max_epochs=5", "--data.degradation=denoise", "--data.sigma=50", "--data.train_images=80",
                   "--model.optimizer=AdamW", "--model.optimizer.lr=0.005", network=["--model.network.width=16"])  # fmt: skip
    scores = json.loads((folder / "scores.json").read_text())
    assert 14 < scores["input"]["psnr"] < 16 and scores["after"]["psnr"] > scores["input"]["psnr"] + 3
    assert scores["after"]["ssim"] > scores["input"]["ssim"]


def test_own_pairs_with_mixed_precision_and_a_network_of_torch(train: Train, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for kind, size in (("input", (41, 33)), ("target", (41, 33))):
        (tmp_path / "own" / kind).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(generator.integers(0, 255, (*size, 3), np.uint8)).save(tmp_path / "own" / kind / f"{index}.png")
    data = ["--data=RestorationFolderData", f"--data.root={tmp_path / 'own'}", "--data.degradation=pairs", "--data.crop_size=24",
            "--data.batch_size=4", "--data.num_workers=0"]  # fmt: skip
    network = ["--model.network=torch.nn.Conv2d", "--model.network.in_channels=3", "--model.network.out_channels=3",
               "--model.network.kernel_size=1"]  # fmt: skip
    run = train("--trainer.precision=bf16-mixed", "--score_before=false", "--model.loss={type: L1Loss}", data=data, network=network)
    scores = json.loads((run / "scores.json").read_text())
    assert scores["before"] is None and 5 < scores["after"]["psnr"] < 20
    assert "with inputs of their own" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "dmo"], "there is no recipe 'dmo'; choose from: demo"),
        (['--model.loss={"type": "CharbonierLoss"}'], "CharbonnierLoss"),
        (['--model.loss={"type": "L1Loss", "link": "sigmoid"}'], "give it link: identity"),
        (['--model.loss={"type": "DiceLoss"}'], "or choose a loss that has it"),
        (['--model.loss={"type": "L1CompositionLoss"}'], "model.loss does not take (pred, target)"),
        (["--data=RestorationFolderData", "--data.root=nowhere"], "there is no folder nowhere"),
        (["--data.degradation=denoise", "--data.scale=2"], "data.scale must be 1 for the degradation denoise, got 2"),
        (["--data.scale=5"], "data.scale must be 2 or 3 or 4 for the degradation sr, got 5"),
        (["--data.scale=3", "--data.crop_size=64"], "data.crop_size must be a multiple of the scale 3, got 64; try 66"),
        (["--data.degradation=denoise", "--data.sigma=0"], "data.sigma must be above 0"),
        (["--model.network=torch.nn.Conv2d", "--model.network.in_channels=3", "--model.network.out_channels=3",
          "--model.network.kernel_size=1", *PHOTOGRAPHS], "three channels at 2 times the size"),
        (["--data=FolderData", "--data.root=x"], "FolderData"),
    ],
)  # fmt: skip
def test_mistakes_give_one_message(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restoration", f"--run_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu", *options]) in (1, 2)
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


@pytest.mark.parametrize(("recipe", "kind"), [("demo", "sr"), ("denoise", "denoise")])
def test_the_recipes_are_configs(recipe: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restoration", "--recipe", recipe, "--model.optimizer.lr=0.5", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert "lr: 0.5" in printed and "CharbonnierLoss" in printed and f"degradation: {kind}" in printed


def test_a_criterion_is_tried_before_the_training() -> None:
    for config in (None, {"type": "SSIMLoss"}, {"type": "MSSSIMLoss"}, {"type": "HuberLoss", "delta": 0.1}):
        criterion = build_criterion(config)
        image = torch.rand(1, 3, 192, 192)
        assert isinstance(criterion, lf.LossSet) and float(criterion(image, image).total) == pytest.approx(0, abs=2e-3)
    assert list(build_criterion(None)(image, image).terms) == ["charbonnier", "ssim"]
    with pytest.raises(TrainError, match="does not take"):
        build_criterion({"type": "UnknownL1Loss"})


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (32, 6)])
@pytest.mark.parametrize(("scale", "block"), [(1, None), (1, 1), (1, 4), (2, None), (3, None), (4, 2)])
def test_the_network_takes_any_size(size: tuple[int, int], scale: int, block: int | None) -> None:
    network = RestorationNet(scale=scale, width=4, blocks=1, block=block)
    images = torch.rand(1, 3, *size, requires_grad=True)
    result = network(images)
    assert result.shape == (1, 3, scale * size[0], scale * size[1])
    result.square().sum().backward()
    assert images.grad is not None and (images.grad.abs().sum(1) > 0).all()  # no pixel is dropped
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    assert torch.equal(network(images), enlarged(images, scale))


def test_bicubic_is_pillows() -> None:
    image = torch.randint(80, 176, (3, 14, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((33, 42), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    assert (as_target(image[None], 3)[0] - expected).abs().max() < 1.5 / 255
    assert torch.equal(as_target(image[None], 1)[0], image / 255)


def test_evaluated_images_are_padded_and_cut() -> None:
    class Strict(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
            assert values.shape[-1] % 16 == values.shape[-2] % 16 == 0
            return {"out": functional.interpolate(values, scale_factor=2) * 3 - 1}

    model = RestorationModule(2, Strict(), divisor=16).eval()
    images = torch.rand(1, 3, 17, 30)
    result = model(images)
    assert torch.equal(result, functional.interpolate(images, scale_factor=2) * 3 - 1) and result.max() > 1
    assert model.restore(images).aminmax() == (0, 1)
    with pytest.raises(AssertionError):
        model.train()(images)


def test_the_busiest_square_is_framed() -> None:
    image = torch.zeros(3, 200, 300, dtype=torch.uint8)
    image[:, 100:140:2, 203:240] = 255
    place = busiest(image)
    rows_, columns = place
    assert rows_.stop - rows_.start == columns.stop - columns.start == DETAIL
    assert rows_.start <= 100 and rows_.stop >= 139 and columns.start <= 203 and columns.stop >= 240
    marked = framed(image, place)
    assert torch.equal(marked[:, place[0], place[1]], image[:, place[0], place[1]])
    assert marked[:, rows_.start - 1, columns.start].tolist() == list(rgb(FRAME))
    assert (marked != image).any(0).sum() == (DETAIL + 2) ** 2 - DETAIL**2
    small = torch.zeros(3, 20, 9, dtype=torch.uint8)
    assert busiest(small) == (slice(0, 20), slice(0, 9)) and framed(small, busiest(small)).shape == small.shape
    assert whole(torch.zeros(3, 2000, 1000, dtype=torch.uint8)).shape == (3, LARGEST, LARGEST // 2)


def test_an_exact_image_leaves_the_mean_a_number() -> None:
    """Else no later evaluation is better: the best checkpoint stays, and patience ends the run."""
    metrics, target = RestorationModule.metrics_type(), torch.full((2, 3, 16, 16), 0.5)
    metrics.update(target + torch.tensor([0.0, 0.1]).view(2, 1, 1, 1), target)
    scores = RestorationScores.of(metrics)
    assert scores.psnr == pytest.approx((100 + 20) / 2, abs=1e-4)
    assert scores.ssim == pytest.approx(float(lf.metrics.ssim(target + 0.1, target)[0] + 1) / 2)


def test_scores_are_printed_as_papers_do() -> None:
    scores = RestorationScores(psnr=31.456, ssim=0.91234)
    assert [shown(scores, name) for name in ("psnr", "ssim")] == ["31.46", "0.9123"]
    assert shown(None, "psnr") == "–" and numbers(None) is None
    assert numbers(RestorationScores(math.inf, math.nan)) == {"psnr": None, "ssim": None}
    assert numbers(scores) == {"psnr": 31.456, "ssim": 0.91234}
    columns = [[column.header for column in score_table(scale, None, scores, scores).columns] for scale in (1, 2)]
    assert columns == [["more is better", name, "before", "after"] for name in ("input", "bicubic")]


def test_pictures_leave_the_network_in_its_mode() -> None:
    from lossfold.train.data import PhotographData

    data = PhotographData(photo_height=40, crop_size=24)
    data.setup("fit")
    model = RestorationModule(2, RestorationNet(width=4, blocks=1))
    model.network.stem.eval()
    modes = [module.training for module in model.modules()]
    found = restored(model, data, 2)
    assert sorted(found) == [0, 2] and [module.training for module in model.modules()] == modes
    image, target = data.val_set[2]
    with torch.inference_mode():
        result = model.eval().restore(image[None])
    assert found[2]["psnr"] == pytest.approx(float(lf.metrics.psnr(result, target[None] / 255)))
    assert found[2]["picture"].shape == target.shape
    assert found[2]["detail"].shape == (3, 40, min(DETAIL, target.shape[2]))
