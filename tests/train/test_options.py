"""What is certainly wrong on the command line is said before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("lightning")

from lossfold.train import TASKS
from lossfold.train.options import complaint

HEAVY = [
    "lightning",
    "pytorch_lightning",
    "jsonargparse",
    "torchmetrics",
    "matplotlib",
    "rich",
    "skimage",
    "sklearn",
    "PIL",
    "jinja2",
]
HEAVY += ["torchvision", "scipy", "tifffile", "imagecodecs", "torch._dynamo", "sympy", "transformers"]
SCRIPT = f"""
import sys, torch
before = set(sys.modules)
from lossfold.cli.__main__ import main
for line in (
    ["train", "segmentation", "--model.los=1"], ["train", "gan", "--trainer.max_epoch=1"],
    ["train", "matting", "--data.batch_size", "many"],
    ["predict", "--no-such-option"], ["predict", "no/such/run", "image.png"], ["predict", ".", "--tile", "wide"],
):
    assert main(line) == 2, line
print("HEAVY", *(name for name in {HEAVY!r} if name in sys.modules and name not in before))
"""


def test_a_wrong_option_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["HEAVY"]
    assert (
        "--model.loss?" in done.stderr and "--trainer.max_epochs?" in done.stderr and "must be a number, got 'many'" in done.stderr
    )


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("segmentation", ["--rundir", "x"], "--rundir; did you mean --run_dir?"),
        ("segmentation", ["--data", "FolderData", "--data.rot=x"], "--data.rot; did you mean --data.root?"),
        ("segmentation", ["--data.init_args.image_siz=3"], "--data.image_siz; did you mean --data.image_size?"),
        ("segmentation", ["--model.network", "lossfold.train.nets.SmallUNet", "--model.network.widht=3"], "--model.network.width?"),
        ("segmentation", ["--data", "FoldersData"], "--data: there is no FoldersData; did you mean FolderData?"),
        ("matting", ["--data=Xyz"], "choose from AlphaFolderData, "),
        ("segmentation", ["--overwrite", "maybe"], "--overwrite must be true or false, got 'maybe'"),
        ("restoration", ["--trainer.max_steps=many"], "--trainer.max_steps must be a number"),
        ("matting", ["--model.warmup", "slow"], "--model.warmup must be a number"),
        ("gan", ["--loss", "x"], "there is no option --loss"),
    ],
)
def test_what_is_said(task: str, options: list[str], message: str) -> None:
    assert message in complaint(task, options)


OPTIONS = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.RichProgressBar", "--trainer.callbacks.leave=true", "--print_config",
    "--trainer.max_steps", "-1", "--trainer.limit_train_batches=0.5", "--ckpt_path", "null", "--threads=2", "--data.batch_size=4",
    "--model.help", "--seed_everything=3", "--trainer.devices=auto", "--model.warmup=1e-1", "--data.help", "OwnData", "--config=x",
]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_what_makes_sense_passes(task: str) -> None:
    assert complaint(task, OPTIONS) == ""
    assert complaint(task, ["--data", "my.own.Data", "--data.anything=1", "--data.class_path=x"]) == ""
    assert (
        complaint("segmentation", ["--recipe", "binary", "--data.anything=1", "--model.network=a.B", "--model.network.depth=9"])
        == ""
    )
    assert (
        complaint("segmentation", ["--data=FolderData", "--data.max_side", "null", "--data.classes", "[a, b]", "--data.root=x"])
        == ""
    )
