"""The task gan: what a run leaves behind, what continuing it gives, and what its pictures and scores say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("lightning")

import lossfold as lf
from lossfold.train import main
from lossfold.train.data import DigitsData
from lossfold.train.errors import TrainError
from lossfold.train.gan import GANWithCustomizedLoss
from lossfold.train.gan.evaluation import GANScores, image_distance, laplacian, patch_distance, patches, shown
from lossfold.train.gan.pictures import between, grid, saved_grids
from lossfold.train.gan.report import nearest
from lossfold.train.nets import ResidualDiscriminator, StyleGenerator
from lossfold.train.nets.style import StyledConvolution, spread
from tests.train.gans import DATA, DISCRIMINATOR_LOSS, GENERATOR_LOSS, NETS, TRAINER, grids
from tests.train.test_run import rows, state
from tests.train.tiny import Train

LOSSES = [f"--model.generator_loss={json.dumps(GENERATOR_LOSS)}", f"--model.discriminator_loss={json.dumps(DISCRIMINATOR_LOSS)}"]
OPTIONS = [*TRAINER, *DATA, *NETS, *LOSSES]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(*options: str, data: list[str] = DATA, network: list[str] = NETS, name: str = "run", status: int = 0) -> Path:
        folder = tmp_path / name
        assert main(["gan", *TRAINER, *data, *network, *LOSSES, f"--run_dir={folder}", *options]) == status
        return folder

    return run


def test_a_run_leaves_log_grids_checkpoints_scores_and_report(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train()
    told = capsys.readouterr().out
    assert "sliced Wasserstein distance" in told and "before" in told and "training images" in told
    training = [row for row in rows(folder) if row["train/disc/total"]]
    assert [int(row["step"]) for row in training] == list(range(12))
    assert [bool(row["train/disc/r1"]) for row in training] == [step % 3 == 0 for step in range(12)]
    assert [bool(row["train/gen/path"]) for row in training] == [step % 2 == 0 for step in range(12)]
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["before"] != scores["after"] and scores["steps"] == 12
    assert 0 < scores["training_images"]["swd"] < scores["after"]["swd"]
    last = [row for row in rows(folder) if row["val/score/swd"]][-1]
    assert float(last["val/score/swd"]) == pytest.approx(scores["after"]["swd"], rel=1e-6)
    assert grids(folder) == ["step_000000.png", "step_000006.png", "step_000012.png"]
    first, final = (np.asarray(Image.open(folder / "samples" / name)) for name in (grids(folder)[0], grids(folder)[-1]))
    assert first.shape == final.shape and first.shape[0] == first.shape[1] >= 256 and (first != final).any()
    page = (folder / "report.html").read_text()
    assert "http" not in page and "StyleGenerator" in page and "ResidualDiscriminator" in page and "R1GradientPenalty" in page
    terms = sum(key.startswith("train/") for key in rows(folder)[0])
    assert (
        page.count("data:image/") == terms + 1 + 2 + 3 + 3
    )  # curves of losses, their shares and scores; moments; real images, nearest ones, lines
    assert all(f"step {step}" in page for step in (0, 6, 12))
    model = GANWithCustomizedLoss.load_from_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert model(torch.zeros(2, 6)).shape == (2, 1, 8, 8) and list(model.generator_criterion.names) == ["adversarial", "path"]


@pytest.mark.slow
def test_a_killed_run_continues_exactly(train: Train, tmp_path: Path) -> None:
    """Killed by the system, without a chance to clean up, between two evaluations and in the middle of every interval."""
    whole_run = train("--model.ema_decay=0.5", "--model.disc_steps=2")
    program = tmp_path / "dies.py"
    program.write_text(
        "import os, signal, sys\n"
        "from lossfold.train import main\n"
        "from lossfold.train.gan import GANWithCustomizedLoss as Module\n"
        "def die(module, *_):\n"
        "    if module.global_step == 10:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Module.on_train_batch_start = die\n"
        "main(sys.argv[1:])\n"
    )
    broken = ["--model.ema_decay=0.5", "--model.disc_steps=2", "--save_every_steps=3"]
    command = [sys.executable, str(program), "gan", *OPTIONS, f"--run_dir={tmp_path / 'broken'}", *broken]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert state(tmp_path / "broken")["global_step"] == 9
    resumed = train(*broken, "--ckpt_path=last", name="broken")
    one, two = state(whole_run), state(resumed)
    assert one["global_step"] == two["global_step"] == 12 and one["state_dict"].keys() == two["state_dict"].keys()
    for name, value in one["state_dict"].items():
        same = torch.equal(value, two["state_dict"][name]) if isinstance(value, torch.Tensor) else value == two["state_dict"][name]
        assert same, name
    assert float(one["state_dict"]["generator_criterion.members.path.loss.mean_path_length"]) > 0
    assert str(one["optimizer_states"]) == str(two["optimizer_states"]) and one["lr_schedulers"] == two["lr_schedulers"]
    names = [key for key in rows(whole_run)[0] if key.startswith(("train/", "val/"))]
    assert len(names) == 10
    for key in names:
        logged = [[(float(row["step"]), row[key]) for row in rows(folder) if row[key]] for folder in (whole_run, resumed)]
        assert logged[0] == logged[1] and logged[0], key
    first, second = (json.loads((folder / "scores.json").read_text()) for folder in (whole_run, resumed))
    assert all(first[when] == second[when] for when in ("before", "after", "training_images"))
    assert grids(whole_run) == grids(resumed)
    for name in grids(whole_run):
        assert (whole_run / "samples" / name).read_bytes() == (resumed / "samples" / name).read_bytes()


@pytest.mark.slow
def test_training_comes_closer_to_the_data(train: Train) -> None:
    folder = train("--trainer.max_steps=100", "--trainer.val_check_interval=100", "--data.batch_size=16", "--model.ema_decay=0.9",
                   "--model.generator_optimizer=Adam", "--model.generator_optimizer.lr=0.004",
                   "--model.discriminator_optimizer=Adam", "--model.discriminator_optimizer.lr=0.004")  # fmt: skip
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["after"]["swd"] < 0.85 * scores["before"]["swd"]


def test_own_images_with_mixed_precision_and_networks_of_torch(train: Train, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "own").mkdir()
    for index in range(20):
        Image.fromarray(generator.integers(0, 255, (12, 9 + index, 3), np.uint8)).save(tmp_path / "own" / f"{index}.png")
    data = ["--data=GANFolderData", f"--data.root={tmp_path / 'own'}", "--data.image_size=8", "--data.batch_size=4",
            "--data.num_workers=0"]  # fmt: skip
    network = ["--model.generator.width=4", "--model.discriminator=torch.nn.Conv2d", "--model.discriminator.in_channels=3",
               "--model.discriminator.out_channels=1", "--model.discriminator.kernel_size=8"]  # fmt: skip
    run = train("--trainer.precision=bf16-mixed", "--score_before=false", "--model.accumulate=2", data=data, network=network)
    scores = json.loads((run / "scores.json").read_text())
    assert scores["before"] is None and scores["after"]["swd"] > 0 and str(tmp_path / "own") in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "dmo"], "there is no recipe 'dmo'; choose from: demo, faces"),
        (['--model.generator_loss={"type": "GANLos"}'], "GANLoss"),
        (['--model.discriminator_loss={"type": "GANLoss", "gan_type": "hinge"}'], "model.discriminator_loss does not take"),
        (["--data.image_size=17"], "image_size must be 2 to 8 times a power of 2"),
        (["--model.accumulate=5"], "a batch of 32 can't be divided into 5 micro-batches; change data.batch_size"),
        (["--data=GANFolderData", "--data.root=nowhere"], "there is no folder nowhere"),
        (["--model.generator.latent_size=9", "--model.latent_size=8"], "does not take latents [2, 8], see model.latent_size"),
        (["--data=FolderData", "--data.root=x"], "FolderData"),
    ],
)
def test_mistakes_give_one_message(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gan", f"--run_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu", "--score_before=false", *options]) in (1, 2)
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


@pytest.mark.parametrize(("recipe", "data"), [("demo", "DigitsData"), ("faces", "FacesData")])
def test_the_recipes_are_configs(recipe: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gan", "--recipe", recipe, "--model.generator_optimizer.lr=0.5", "--print_config"]) == 0
    printed = capsys.readouterr().out
    words = ("lr: 0.5", "GANLoss", "R1GradientPenalty", "DiscShiftLoss", "GeneratorPathRegularizer", "every: ", data)
    assert all(word in printed for word in words)


@pytest.mark.parametrize(("size", "channels"), [(3, 1), (8, 3), (16, 1), (24, 1), (28, 3)])
def test_the_networks_fit_together(size: int, channels: int) -> None:
    generator = StyleGenerator(image_size=size, channels=channels, width=4, latent_size=5, style_size=7)
    discriminator = ResidualDiscriminator(image_size=size, channels=channels, width=4, group=2)
    images, styles = generator(torch.randn(6, 5))
    assert images.shape == (6, channels, size, size) and styles.shape == (6, 7)
    logits = discriminator(images)
    assert logits.shape == (6,)
    logits.sum().backward()
    for network in (generator, discriminator):
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    with pytest.raises(TrainError, match="got 25"):
        StyleGenerator(image_size=25)


def test_features_are_scaled_in_place_of_weights() -> None:
    layer = StyledConvolution(3, 4, 3, style_size=5).double()
    features, styles = torch.randn(2, 3, 6, 6).double(), torch.randn(2, 5).double()
    found = layer(features, styles)
    for index in range(2):
        weight = layer.weight * (1 + layer.scales(styles))[index, None, :, None, None]
        weight = 2**0.5 * weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        expected = nn.functional.conv2d(features[index : index + 1], weight, layer.bias, padding=1)
        assert torch.allclose(found[index], expected[0], atol=1e-7)


def test_the_spread_sees_equal_images() -> None:
    features = torch.randn(4, 3, 2, 2)
    features[2:] = features[:2]
    assert spread(features, 2).abs().max() < 1e-3  # images 0 and 2, and 1 and 3, are groups
    expected = features[:, :, :, :].std(0, correction=0).mean()
    assert torch.allclose(spread(features, 4), expected.expand(4, 1, 2, 2), atol=1e-4)
    assert spread(features[:3], 2).shape == (3, 1, 2, 2)


def test_distances_of_known_sets() -> None:
    images = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    order = torch.randperm(40)
    assert image_distance(images, images[order]) == pytest.approx(0, abs=1e-6)
    assert patch_distance(images, images) == 0.0
    assert image_distance(images, images + 0.25) == pytest.approx(0.25 * (2 / np.pi) ** 0.5, rel=0.1)
    assert patch_distance(images, 3 * images + 0.25) == pytest.approx(0, abs=1e-5)  # patches are normalised
    smooth = nn.functional.avg_pool2d(images, 3, 1, 1)
    assert patch_distance(images, smooth) > 0.05
    assert image_distance(images, 2 * images) > image_distance(images, 1.1 * images) > 0
    colours = images.expand(-1, 3, -1, -1)
    assert image_distance(nn.functional.interpolate(colours, size=64), colours) < 0.2
    same = GANScores.of(*[(images * 255 + 127.5).to(torch.uint8)] * 2)
    assert same.swd == 0.0 and [shown(same, "swd"), shown(None, "swd")] == ["0.0000", "–"]


def test_a_pyramid_adds_up_and_patches_are_cut_where_asked() -> None:
    images = torch.rand(2, 1, 64, 64)
    levels = laplacian(images)
    assert [level.shape[-1] for level in levels] == [64, 32, 16] and len(laplacian(images[..., :31, :31])) == 1
    back = levels[2]
    for level in (levels[1], levels[0]):
        back = level + nn.functional.interpolate(back, size=level.shape[-2:], mode="bilinear")
    assert torch.allclose(back, images, atol=1e-5)
    places = torch.tensor([[[3, 5]], [[0, 57]]])
    found = patches(images, places, 7)
    cut = torch.stack([images[0, :, 3:10, 5:12], images[1, :, 0:7, 57:64]]).permute(0, 2, 3, 1).flatten(1)
    assert torch.allclose(found, (cut - cut.mean()) / cut.std(), atol=1e-5)


def test_pictures(tmp_path: Path) -> None:
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(-1, -1, 2, 2)
    assert grid(images, 2)[:, :, 0].tolist() == [[0, 0, 255, 1, 1]] * 2 + [[255] * 5] + [[2, 2, 255, 255, 255]] * 2
    for step in range(0, 1000, 100):
        (tmp_path / f"step_{step:06}.png").touch()
    assert [step for step, _ in saved_grids(tmp_path, 4)] == [0, 300, 600, 900]
    assert len(saved_grids(tmp_path, 20)) == 10
    one, other = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    middle = between(one, other, 3)
    assert torch.allclose(middle, torch.tensor([[3.0, 0.0], [2**0.5, 2**0.5], [0.0, 1.0]]), atol=1e-5)
    data = DigitsData()
    data.setup("fit")
    known = torch.stack([data.train_set[7], data.train_set[2]])
    assert torch.equal(nearest(known ^ 1, data), known)


def test_samples_are_the_same_in_every_run() -> None:
    torch.manual_seed(0)
    model = GANWithCustomizedLoss(StyleGenerator(width=4), ResidualDiscriminator(width=4), seed=2)
    latents = model.latents_for(5, 0)
    torch.manual_seed(1)
    assert torch.equal(latents, model.latents_for(5, 0)) and not torch.equal(latents, model.latents_for(5, 1))
    assert torch.equal(model.samples(latents), model.samples(latents)) and model.generator_mean.training  # type: ignore[union-attr]
    assert isinstance(model.generator_criterion, lf.LossSet) and list(model.discriminator_criterion.names) == ["real", "fake", "r1"]
