"""Two processes that train one GAN, for `test_gan_ranks`: `python -m tests.train.gan_ranks FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossfold.train.gan import GANWithCustomizedLoss
from tests.train.gans import DISCRIMINATOR_LOSS, GENERATOR_LOSS, fit, gan, loader, sgd, weights

ONE_STEP: dict[str, Any] = {
    "generator_loss": GENERATOR_LOSS["adversarial"],
    "discriminator_loss": DISCRIMINATOR_LOSS,
    "generator_optimizer": sgd,
    "discriminator_optimizer": sgd,
}
"""A step whose changes are the gradients."""

BATCH = 4


def kept(model: GANWithCustomizedLoss) -> dict[str, Tensor]:
    """What the test compares."""
    return {name: weights(getattr(model, name)) for name in ("generator", "discriminator", "generator_mean")}


def main(folder: Path) -> None:
    """Train on two ranks, and write what each of them has in the end."""
    ranks: dict[str, Any] = {"strategy": "ddp", "devices": 2}
    one = fit(gan(**ONE_STEP), loader(BATCH, 2), 1, precision="64-true", **ranks)
    rank = one.global_rank
    found = {"one": kept(one)}
    several = fit(gan(accumulate=2, gradient_clip=1.0), loader(BATCH, 8), 4, **ranks)
    found["several"] = kept(several) | {"path": several.generator_criterion.state_dict()["members.path.loss.mean_path_length"]}
    torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
