"""Small GANs, and trainers that say nothing, for the tests of `lossfold train gan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lossfold.train.gan import GANWithCustomizedLoss
from lossfold.train.nets import ResidualDiscriminator, StyleGenerator

SIZE = 8
FAKE, REAL = {"input": "disc_pred_fake"}, {"input": "disc_pred_real"}
R1 = {"type": "R1GradientPenalty", "norm_mode": "HWC", "inputs": {"discriminator": "disc", "real": "real_imgs"}}
PATH = {"type": "GeneratorPathRegularizer", "inputs": {"generator": "gen", "latents": "latents"}}
SHIFT = {"type": "DiscShiftLoss", "inputs": {"pred": "disc_pred_real"}}
GENERATOR_LOSS: dict[str, Any] = {
    "adversarial": {"type": "GANLoss", "gan_type": "wgan-logistic-ns", "target_is_real": True, "inputs": FAKE},
    "path": PATH | {"every": 2, "loss_weight": 0.5},
}
DISCRIMINATOR_LOSS: dict[str, Any] = {
    "real": {"type": "GANLoss", "gan_type": "wgan-logistic-ns", "target_is_real": True, "is_disc": True, "inputs": REAL},
    "fake": {"type": "GANLoss", "gan_type": "wgan-logistic-ns", "target_is_real": False, "is_disc": True, "inputs": FAKE},
    "r1": R1 | {"every": 3, "loss_weight": 0.2},
    "shift": SHIFT,
}

DATA = ["--data=DigitsData", f"--data.image_size={SIZE}", "--data.batch_size=8"]
NETS = ["--model.generator.width=4", "--model.generator.latent_size=6", "--model.generator.style_size=5",
        "--model.discriminator.width=4"]  # fmt: skip
TRAINER = ["--trainer.accelerator=cpu", "--trainer.max_epochs=-1", "--trainer.max_steps=12", "--trainer.val_check_interval=6",
           "--trainer.check_val_every_n_epoch=null", "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false",
           "--trainer.enable_model_summary=false", "--report_images=16"]  # fmt: skip


def networks(group: int = 1) -> dict[str, nn.Module]:
    """Networks for images of `SIZE`; with group 1 no image depends on the others of its batch."""
    generator = StyleGenerator(image_size=SIZE, width=4, latent_size=6, style_size=5)
    return {"generator": generator, "discriminator": ResidualDiscriminator(image_size=SIZE, width=4, group=group)}


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Plain gradient descent: the change of the weights is the gradient."""
    return torch.optim.SGD(parameters, lr=1.0)


def gan(**options: Any) -> GANWithCustomizedLoss:
    """A small GAN, the same at every call."""
    torch.manual_seed(3)
    losses = {"generator_loss": GENERATOR_LOSS, "discriminator_loss": DISCRIMINATOR_LOSS}
    return GANWithCustomizedLoss(**(networks() | losses | options))


def loader(batch: int, batches: int = 1) -> DataLoader[Any]:
    """Batches of noise in -1..1."""
    images = torch.rand(batch * batches, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return DataLoader(images, batch_size=batch)  # type: ignore[arg-type]


class Rows(Logger):
    """Collects what a training logs, batch by batch."""

    name, version = "rows", 0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.rows.append({key: value for key, value in metrics.items() if key != "epoch"})


def fit(model: GANWithCustomizedLoss, data: DataLoader[Any], steps: int, **options: Any) -> GANWithCustomizedLoss:
    """Train for so many batches."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "log_every_n_steps": 1,
    }  # fmt: skip
    trainer = pl.Trainer(**(quiet | {"max_steps": steps, "max_epochs": -1} | options))
    trainer.fit(model, data)
    return model


def weights(model: nn.Module) -> Tensor:
    """All parameters of a network, one after the other."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def grids(folder: Path) -> list[str]:
    """The names of the saved grids."""
    return sorted(path.name for path in (folder / "samples").iterdir())
