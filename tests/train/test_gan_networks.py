"""GANs of networks that are not plain, and options that make no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

pytest.importorskip("lightning")

from lossfold.train.data import GANFolderData
from lossfold.train.errors import TrainError
from tests.train.gans import DISCRIMINATOR_LOSS, fit, gan, loader, networks

HINGE = {name: DISCRIMINATOR_LOSS[name] for name in ("real", "fake")}


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Sequential(nn.Linear(64, 8), nn.LeakyReLU(0.2)), nn.Linear(8, 1)
        self.reentrant = reentrant

    def forward(self, images: Tensor) -> Any:
        return self.last(checkpoint(self.first, images.flatten(1) * 1, use_reentrant=self.reentrant))


def generator() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 64), nn.Unflatten(1, (1, 8, 8)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_discriminators(reentrant: bool) -> None:
    """What is run again in the backward finds the weights as they were in the forward."""
    torch.manual_seed(0)
    model = gan(generator=generator(), discriminator=Checkpointed(reentrant), latent_size=6, discriminator_loss=HINGE)
    before = {name: weight.detach().clone() for name, weight in model.generator.named_parameters()}
    fit(model, loader(4, 2), 2)
    assert all(not torch.equal(weight, before[name]) for name, weight in model.generator.named_parameters())
    assert all(weight.requires_grad for weight in model.discriminator.parameters())


def test_what_a_module_keeps() -> None:
    """No second copy of the networks; classic spectral norm, whose weight a call replaces; weights that are all frozen."""
    norm = nn.utils.spectral_norm
    normed = nn.Sequential(norm(nn.Linear(6, 64)), nn.Unflatten(1, (1, 8, 8)))
    model = gan(generator=normed, discriminator=nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), latent_size=6)
    assert not any(isinstance(value, nn.Module) for value in vars(model)["_hparams_initial"].values())
    assert all(weight.grad is None for weight in model.parameters())
    gan(generator=networks()["generator"].requires_grad_(False))


@pytest.mark.parametrize(
    "options", [{"gradient_clip": float("nan")}, {"disc_steps": 1.5}, {"warmup": 2.0}, {"seed": 2**62}, {"accumulate": 0}], ids=str
)
def test_options_that_make_no_training(options: dict[str, Any]) -> None:
    with pytest.raises(TrainError, match=f"model.{next(iter(options))} must"):
        gan(**options)


def test_photographs_are_upright(tmp_path: Path) -> None:
    """The orientation that a camera has noted is applied; what Pillow can't open, or is a folder, is no image."""
    picture, exif = np.zeros((16, 8, 3), np.uint8), Image.Exif()
    picture[:8] = 255
    exif[0x112] = 6
    for index in range(4):
        Image.fromarray(picture).save(tmp_path / f"{index}.png", exif=exif)
    (tmp_path / "notes.pdf").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    data = GANFolderData(str(tmp_path), image_size=4, val_fraction=0.5, num_workers=0)
    data.setup("fit")
    image = data.train_set[0].float().mean(0)
    assert (image[:, 2:] > image[:, :2] + 100).all()


@pytest.mark.parametrize("options", [{"channels": 2}, {"image_size": 8.5}, {"batch_size": 0}], ids=str)
def test_folders_with_options_that_make_no_images(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=f"data.{next(iter(options))} must"):
        GANFolderData(str(tmp_path), **{"image_size": 8, **options})
