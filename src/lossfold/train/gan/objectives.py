"""What the two objectives of a GAN are made from and called with: one dict of outputs, whose entries are noted as they are read."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.train.errors import TrainError
from lossfold.train.modes import evaluating

KEYS = (
    "iteration",
    "gen",
    "disc",
    "disc_pred_fake",
    "disc_pred_real",
    "fake_imgs",
    "real_imgs",
    "latents",
    "batch_size",
)
"""What a step offers to both objectives."""

DEFAULT_GENERATOR_LOSS: dict[str, Any] = {
    "adversarial": {"type": "GANLoss", "gan_type": "hinge", "target_is_real": True, "inputs": {"input": "disc_pred_fake"}},
}

DEFAULT_DISCRIMINATOR_LOSS: dict[str, Any] = {
    name: {"type": "GANLoss", "gan_type": "hinge", "target_is_real": name == "real", "is_disc": True, "inputs": {"input": key}}
    for name, key in (("real", "disc_pred_real"), ("fake", "disc_pred_fake"))
} | {
    "r1": {
        "type": "R1GradientPenalty",
        "norm_mode": "HWC",
        "loss_weight": 0.1,
        "every": 4,
        "inputs": {"discriminator": "disc", "real": "real_imgs"},
    },
}

Objective = dict[str, Any] | list[Any] | lf.LossSet | None
"""What `lossfold.build` takes."""

TRIED = 2
"""Images that the objectives are tried with."""


class Outputs(Mapping[str, Any]):
    """The dict of a step, which notes what is read from it.

    Args:
        values: the entries.
    """

    def __init__(self, **values: Any) -> None:
        self.values_by_key = values
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        value = self.values_by_key[key]
        self.read.add(key)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self.values_by_key

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_key)

    def __len__(self) -> int:
        return len(self.values_by_key)


def build_objective(config: Objective, default: dict[str, Any]) -> lf.LossSet:
    """Build the losses of one network, as a set.

    Args:
        config: what `lossfold.build` takes; a single loss becomes a set with the one term `loss`.
        default: taken where the config is None.

    Raises:
        LossError: the config names an unknown loss or option.
    """
    loss = config if isinstance(config, nn.Module) else lf.build(default if config is None else config)
    return loss if isinstance(loss, lf.LossSet) else lf.LossSet({"loss": loss})


def images_of(made: Any) -> Tensor:
    """The images among what a generator returns: images, (images, styles), or a dict with the images as `fake_img`."""
    images = made["fake_img"] if isinstance(made, Mapping) else made[0] if isinstance(made, (tuple, list)) else made
    if not isinstance(images, Tensor):
        raise TrainError(
            f"model.generator returns {type(images).__name__}, expected images, (images, styles), or a dict with fake_img"
        )
    return images


def check_objectives(
    generator: nn.Module, discriminator: nn.Module, objectives: Mapping[str, lf.LossSet], latent_size: int
) -> bool:
    """See on two images that the networks fit together and that both objectives take the dict of a step.

    Nothing is left changed: no gradient, no statistics, no random state.

    Args:
        generator: the generator.
        discriminator: the discriminator.
        objectives: by the argument's name, `generator_loss` and `discriminator_loss`.
        latent_size: numbers of a latent.

    Returns:
        Whether the generator's objective reads what the discriminator says of real images.

    Raises:
        TrainError: something does not fit.
    """
    modules = [generator, discriminator, *objectives.values()]
    with evaluating(*modules), torch.random.fork_rng(devices=[]), torch.enable_grad():
        read = _try(generator, discriminator, objectives, torch.randn(TRIED, latent_size))
    return "disc_pred_real" in read


def _try(generator: nn.Module, discriminator: nn.Module, objectives: Mapping[str, lf.LossSet], latents: Tensor) -> set[str]:
    try:
        fake = images_of(generator(latents))
    except (RuntimeError, TypeError) as error:
        raise TrainError(
            f"model.generator: {type(generator).__name__} does not take latents {list(latents.shape)}, see model.latent_size: "
            f"{error}"
        ) from error
    real = torch.rand_like(fake, requires_grad=False) * 2 - 1
    try:
        discriminator(real)
    except (RuntimeError, TypeError) as error:
        raise TrainError(
            f"model.discriminator: {type(discriminator).__name__} does not take the generator's images {list(real.shape)}; "
            f"image_size and channels must be the same for both: {error}"
        ) from error
    read: set[str] = set()
    for name, criterion in objectives.items():
        shown = fake if name == "generator_loss" else fake.detach()
        outputs = Outputs(
            iteration=0,
            gen=generator,
            disc=discriminator,
            disc_pred_fake=discriminator(shown),
            disc_pred_real=discriminator(real),
            fake_imgs=shown,
            real_imgs=real,
            latents=latents,
            batch_size=len(real),
        )
        try:
            total = criterion(outputs).total
        except (lf.LossError, RuntimeError, TypeError, KeyError) as error:
            raise TrainError(f"model.{name} does not take the outputs of a step ({', '.join(KEYS)}): {error}") from error
        trained = generator if name == "generator_loss" else discriminator
        parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
        if parameters and not (
            total.requires_grad and reached(total, parameters, [*generator.parameters(), *discriminator.parameters()])
        ):
            raise TrainError(f"model.{name} does not depend on the network that it is to train; it reads {sorted(outputs.read)}")
        if name == "generator_loss":
            read = outputs.read
    return read


def reached(total: Tensor, parameters: list[nn.Parameter], everyone: list[nn.Parameter]) -> bool:
    """Whether a backward gives any of these parameters a gradient; what everyone's gradients are is put back."""
    kept = [parameter.grad for parameter in everyone]
    for parameter in parameters:
        parameter.grad = None
    total.backward()  # type: ignore[no-untyped-call]  # and no autograd.grad: what is checkpointed allows this only
    found = any(parameter.grad is not None for parameter in parameters)
    for parameter, gradient in zip(everyone, kept, strict=True):
        parameter.grad = gradient
    return found
