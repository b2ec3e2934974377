"""The Lightning module of generation: two networks, two objectives that are configurations, manual optimisation."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from lossfold.adapters.lightning import AdvanceLosses
from lossfold.compose.passes import Leaf
from lossfold.errors import naming
from lossfold.losses.base import Loss
from lossfold.train.errors import TrainError
from lossfold.train.gan.ema import decay_at, follow, moving_mean
from lossfold.train.gan.evaluation import GANScores
from lossfold.train.gan.objectives import (
    DEFAULT_DISCRIMINATOR_LOSS,
    DEFAULT_GENERATOR_LOSS,
    Objective,
    build_objective,
    check_objectives,
    images_of,
)
from lossfold.train.gan.options import check_numbers, latent_size_of
from lossfold.train.gan.steps import as_bytes, frozen, gathered, real_images
from lossfold.train.modes import evaluating
from lossfold.train.module import TaskModule
from lossfold.train.ranks import average_gradients, only_whole, unreduced
from lossfold.train.schedules import Schedule

MADE_AT_ONCE = 64
"""Images that are made at once for scores and pictures."""


def adam(parameters: Any) -> Optimizer:
    """The optimiser of both networks where none is named."""
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.0, 0.99))


class GANWithCustomizedLoss(TaskModule):
    """Train a generator and a discriminator, each with losses from a configuration.

    Every batch of real images is a step of the discriminator, and every `disc_steps`-th one of the generator after it. A step
    offers one dict to the losses, which take from it what their `inputs` name:

    - `disc_pred_fake`, `disc_pred_real`: what the discriminator says of `fake_imgs` and `real_imgs`, `[B,C,S,S]` in -1..1. In the
      discriminator's step the fake images have no graph; in the generator's step the discriminator's weights take no gradient,
      and `disc_pred_real` is computed only if a loss reads it.
    - `gen`, `disc`: the networks, for penalties and regularisers; `latents`: what the fake images are made from, `[B,latent_size]`.
    - `iteration`: steps that the network's own optimiser has taken; `batch_size`: images of the micro-batch.

    Each objective advances once for each step of its optimiser, so that a term with `every: 16` is computed in every sixteenth
    of them. Each term is logged as `train/gen/NAME` or `train/disc/NAME` in the steps that compute it.

    The random numbers of a step are a function of the seed, the step and the rank: a run that is resumed has those of an
    uninterrupted one on any device. With `--trainer.strategy ddp` (any of its variants) the gradients are averaged over the ranks
    here, once a step; DDP's own machinery is left aside, since it wants every parameter to be used in every backward.

    Args:
        generator: any module from latents `[B,latent_size]` to images `[B,C,S,S]` in about -1..1, or to (images, styles), or to a
            dict with both as `fake_img` and `latent`. Arguments `image_size` and `channels` are filled in from the data.
        discriminator: any module from images to logits, above 0 for what looks real, or a list of them.
        generator_loss: what `lossfold.build` takes. None: the generator's hinge loss.
        discriminator_loss: likewise. None: hinge, and R1 in every fourth step.
        latent_size: numbers of a latent. None: what the generator has as its attribute `latent_size`.
        generator_optimizer: any optimiser by class path; Adam with betas 0 and 0.99 by default.
        discriminator_optimizer: likewise.
        schedule: course of both learning rates over the training: cosine, poly, linear or constant.
        warmup: share of the training during which the learning rates rise.
        lr_scheduler: any torch scheduler by class path, stepped after every step of its optimiser, in place of `schedule`.
        disc_steps: steps of the discriminator for one of the generator.
        accumulate: micro-batches that a batch is divided into, one after the other; their gradients add up to those of the batch.
        ema_decay: of the moving mean of the generator's weights, which makes the samples; less in the first steps. None: no mean.
        gradient_clip: largest norm of a network's gradient. None: any.
        seed: decides latents and everything else that is random in a step.
        channels_last: whether the networks run in the channels-last memory format.
        sync: whether the losses of several ranks are those of all their batches together, to rounding those of one process;
            false: the gradients of each rank's own losses are averaged.

    Raises:
        LossError: a loss has an unknown name or option.
        TrainError: the networks do not fit together, or a loss does not take the dict.
    """

    scores_type = GANScores
    networks = {"generator": "Generator", "discriminator": "Discriminator"}  # noqa: RUF012
    objectives = {"generator_criterion": "generator", "discriminator_criterion": "discriminator"}  # noqa: RUF012
    objects = ("generator_optimizer", "discriminator_optimizer", "lr_scheduler")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_loss: Objective = None,
        discriminator_loss: Objective = None,
        latent_size: int | None = None,
        generator_optimizer: OptimizerCallable = adam,
        discriminator_optimizer: OptimizerCallable = adam,
        schedule: Schedule = "constant",
        warmup: float = 0.0,
        lr_scheduler: LRSchedulerCallable | None = None,
        disc_steps: int = 1,
        accumulate: int = 1,
        ema_decay: float | None = 0.999,
        gradient_clip: float | None = None,
        seed: int = 0,
        channels_last: bool = False,
        sync: bool = True,
    ) -> None:
        super().__init__(schedule, warmup, lr_scheduler, sync)
        check_numbers(disc_steps, accumulate, ema_decay, gradient_clip, seed)
        self.automatic_optimization = False
        memory = torch.channels_last if channels_last else torch.preserve_format
        self.generator = generator.to(memory_format=memory)
        self.discriminator = discriminator.to(memory_format=memory)
        self.keep_hyperparameters()
        self.latent_size = latent_size_of(generator, latent_size)
        self.generator_criterion = build_objective(generator_loss, DEFAULT_GENERATOR_LOSS)
        self.discriminator_criterion = build_objective(discriminator_loss, DEFAULT_DISCRIMINATOR_LOSS)
        objectives = {"generator_loss": self.generator_criterion, "discriminator_loss": self.discriminator_criterion}
        self.generator_mean = moving_mean(generator) if ema_decay is not None else None  # before a call leaves results in it
        self.judges_real = check_objectives(generator, discriminator, objectives, self.latent_size)
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.disc_steps = disc_steps
        self.accumulate = accumulate
        self.ema_decay = ema_decay
        self.gradient_clip = gradient_clip
        self.seed = seed

    @property
    def sampler(self) -> nn.Module:
        """The network that makes samples: the moving mean, or the generator where there is none."""
        return self.generator if self.generator_mean is None else self.generator_mean

    def forward(self, latents: Tensor) -> Tensor:
        """Return images `[B,C,S,S]` float32 in -1..1 for latents `[B,latent_size]`."""
        return images_of(self.sampler(latents)).float().clamp(-1, 1)

    @torch.no_grad()
    def samples(self, latents: Tensor) -> Tensor:
        """Return images uint8 `[N,C,S,S]` on the CPU, made in evaluation mode."""
        with evaluating(self.sampler):
            parts = [self(part.to(self.device)) for part in torch.split(latents, MADE_AT_ONCE)]
        return as_bytes(torch.cat(parts))

    def latents_for(self, count: int, purpose: int) -> Tensor:
        """Latents `[count,latent_size]` that are the same in every run with the same seed: 0 for pictures, 1 for scores."""
        generator = torch.Generator().manual_seed(2 * self.seed + purpose)
        return torch.randn(count, self.latent_size, generator=generator)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The discriminator's optimiser and the generator's, each with its schedule over its own steps."""
        return [
            self.scheduled(self.discriminator_optimizer(self.discriminator.parameters())),
            self.scheduled(self.generator_optimizer(self.generator.parameters()), self.disc_steps),
        ]

    def on_fit_start(self) -> None:
        """Refuse what would train something else than was asked for.

        Raises:
            TrainError: the strategy keeps parameters in a way of its own, or a callback advances the losses, too.
        """
        only_whole(self.trainer.strategy, "two networks with losses of their own")
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(callback, AdvanceLosses) for callback in callbacks):
            raise TrainError("trainer.callbacks: leave AdvanceLosses out; this module advances its losses itself")

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One step of the discriminator, and of the generator where it is its turn."""
        step = self.trainer.global_step
        real = real_images(batch)
        if len(real) % self.accumulate:
            raise TrainError(
                f"model.accumulate: a batch of {len(real)} can't be divided into {self.accumulate} micro-batches; "
                "change data.batch_size"
            )
        # Also what penalties and regularisers draw: no state of any device's generator has to be kept.
        torch.manual_seed((self.seed * 1_000_003 + step) * self.trainer.world_size + self.trainer.global_rank)
        values = self._descend("disc", step, real)
        if (step + 1) % self.disc_steps == 0:
            own = step // self.disc_steps
            values |= self._descend("gen", own, real)
            if self.generator_mean is not None and self.ema_decay is not None:
                follow(self.generator_mean, self.generator, decay_at(self.ema_decay, own))
        self._log_losses(values, step)

    def _descend(self, part: str, iteration: int, real: Tensor) -> dict[str, Tensor]:
        """Take a step of one network's optimiser and advance its losses; return those that were computed."""
        generates = part == "gen"
        network, criterion, index = (
            (self.generator, self.generator_criterion, 1) if generates else (self.discriminator, self.discriminator_criterion, 0)
        )
        outputs_of = self._generator_outputs if generates else self._discriminator_outputs
        optimizer = self.optimizers()[index]  # type: ignore[index]
        optimizer.zero_grad()
        latents = torch.randn(len(real), self.latent_size, device=real.device)
        sums: dict[str, Tensor] = {}
        for reals, zs in zip(real.chunk(self.accumulate), latents.chunk(self.accumulate), strict=True):
            # The backward, too: what is checkpointed runs again in it.
            with outputs_of(reals, zs) as outputs, unreduced(self.trainer.strategy):
                out = criterion(outputs | {"iteration": iteration})
                self.manual_backward(out.total / self.accumulate)
            for name, value in out.log().items():
                sums[name] = sums.get(name, 0) + value / self.accumulate
        average_gradients(network, self.trainer.world_size)
        if generates:  # counted would be both: the trainer's steps are the discriminator's, one for each batch
            self.trainer.strategy.optimizer_step(optimizer.optimizer, _nothing, self)
        else:
            optimizer.step()
        self.lr_schedulers()[index].step()  # type: ignore[index]
        left_out = {leaf.name for leaf in criterion.leaves() if not computed(leaf, iteration)}
        criterion.advance()
        return {f"train/{part}/{name}": value for name, value in sums.items() if name not in left_out}

    @contextmanager
    def _discriminator_outputs(self, real: Tensor, latents: Tensor) -> Iterator[dict[str, Any]]:
        with torch.no_grad():
            fake = images_of(self.generator(latents))
        yield self._outputs(real, fake, latents) | {"disc_pred_real": self.discriminator(real)}

    @contextmanager
    def _generator_outputs(self, real: Tensor, latents: Tensor) -> Iterator[dict[str, Any]]:
        with frozen(self.discriminator):
            outputs = self._outputs(real, images_of(self.generator(latents)), latents)
            yield outputs | ({"disc_pred_real": self.discriminator(real)} if self.judges_real else {})

    def _outputs(self, real: Tensor, fake: Tensor, latents: Tensor) -> dict[str, Any]:
        if fake.shape != real.shape:
            raise TrainError(
                f"model.generator makes images {list(fake.shape)}, the data are {list(real.shape)}; set image_size and channels "
                "in model.generator.init_args"
            )
        return {
            "gen": self.generator,
            "disc": self.discriminator,
            "disc_pred_fake": self.discriminator(fake),
            "fake_imgs": fake,
            "real_imgs": real,
            "latents": latents,
            "batch_size": len(real),
        }

    def _log_losses(self, values: dict[str, Tensor], step: int) -> None:
        """Log what this step has computed, and nothing else: `log` goes on with a value until the epoch ends."""
        for key, value in values.items():
            self.log(key, value, logger=False, prog_bar=key.endswith("/total"))
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (step + 1) % every == 0 and self.trainer.is_global_zero:
            row = {key: float(value) for key, value in values.items()} | {"epoch": self.current_epoch}
            for logger in self.loggers:
                logger.log_metrics(row, step)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients of the network whose step it is; mixed precision has unscaled them by now."""
        if self.gradient_clip is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.gradient_clip)

    def on_validation_epoch_start(self) -> None:
        """Begin to collect."""
        self.held_out: list[Tensor] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Collect held-out images."""
        self.held_out.append(as_bytes(real_images(batch)))

    def on_validation_epoch_end(self) -> None:
        """Compare as many generated images as there are held-out ones with them; the same on every rank."""
        held_out = torch.cat(gathered(self.held_out))
        self.held_out = []
        self.scores = GANScores.of(self.samples(self.latents_for(len(held_out), 1)), held_out)
        self.scored_at = self.trainer.global_step
        self.log("val/score/swd", self.scores.swd, prog_bar=True)
        self.log("val/score/swd_patches", self.scores.swd_patches)


def computed(leaf: Leaf, iteration: int) -> bool:
    """Whether a term is computed in this step, rather than 0 because of its interval."""
    loss = leaf.loss
    with naming(leaf.who):
        return leaf.active and (not isinstance(loss, Loss) or loss.due({"iteration": iteration}))


def _nothing() -> None:
    """What an optimiser's step has to do first in manual optimisation."""
