"""GANWithCustomizedLoss on two ranks: the same weights on both, moved by the mean of their gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("lightning")

from tests.train.gan_ranks import BATCH, ONE_STEP
from tests.train.gans import gan, loader, weights

ROOT = Path(__file__).parents[2]


def slopes(total: Tensor, network: nn.Module) -> Tensor:
    parameters = list(network.parameters())
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, found, strict=True)])


@pytest.mark.slow
def test_two_ranks_take_the_mean_of_their_gradients(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "tests.train.gan_ranks", str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for training in ("one", "several"):
        assert first[training].keys() == second[training].keys()
        for name, value in first[training].items():
            assert torch.equal(value, second[training][name]), (training, name)
    assert float(first["several"]["path"]) > 0

    expected = gan(**ONE_STEP).double()
    images = next(iter(loader(2 * BATCH))).double()
    for name, part in (("discriminator", "disc"), ("generator", "gen")):
        gradients = []
        for rank in (0, 1):
            torch.manual_seed(rank)  # of step 0, and two draws of latents: the discriminator's, then the generator's
            latents = [torch.randn(BATCH, 6, dtype=torch.float64) for _ in range(2)][part == "gen"]
            real = images[rank::2]
            fake = expected.generator(latents)[0] if part == "gen" else expected.generator(latents)[0].detach()
            outputs = {"disc": expected.discriminator, "real_imgs": real, "disc_pred_real": expected.discriminator(real),
                       "disc_pred_fake": expected.discriminator(fake)}  # fmt: skip
            criterion = expected.generator_criterion if part == "gen" else expected.discriminator_criterion
            gradients.append(slopes(criterion(outputs).total, getattr(expected, name)))
        moved = weights(getattr(expected, name)) - sum(gradients) / 2
        assert (gradients[0] - gradients[1]).norm() > 1e-3
        assert torch.allclose(first["one"][name], moved, rtol=0, atol=1e-12)
        nn.utils.vector_to_parameters(moved, getattr(expected, name).parameters())
