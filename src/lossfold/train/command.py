"""The command line of a run: Lightning's own, with a task's defaults, folder and checkpoints."""

from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from filelock import BaseFileLock
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only
from rich.table import Table

from lossfold.adapters.lightning import ExplainLosses
from lossfold.train.checkpoints import SafeCheckpointIO, checkpoints, read_checkpoint
from lossfold.train.errors import TrainError
from lossfold.train.length import EPOCHS, EnoughSteps, says_nothing
from lossfold.train.run_folder import HeldOutFiles, RunFolder, RunLogger

TRAINER_DEFAULTS = {"log_every_n_steps": 1, "num_sanity_val_steps": 0}


def resolve_recipes(task: str, argv: list[str]) -> list[str]:
    """Turn `--recipe NAME` into `--config FILE` of the task's packaged recipe.

    Raises:
        TrainError: the task has no recipe of that name.
    """
    folder, prefix = files("lossfold.train") / "recipes", f"{task}_"
    names = sorted(Path(entry.name).stem.removeprefix(prefix) for entry in folder.iterdir() if entry.name.startswith(prefix))
    resolved: list[str] = []
    options = iter(argv)
    for option in options:
        if option != "--recipe" and not option.startswith("--recipe="):
            resolved.append(option)
            continue
        name = option.partition("=")[2] or next(options, "")
        if name not in names:
            raise TrainError(f"--recipe: there is no recipe {name!r}; choose from: {', '.join(names)}")
        resolved += ["--config", str(folder / f"{prefix}{name}.yaml")]
    return resolved


class TrainCLI(LightningCLI):
    """Parse the options, and build the data, the module and the trainer.

    A task subclasses it: what is trained, on what data, and what the run says at its end.

    Args:
        argv: the options.
    """

    task: ClassVar[str]
    """The task's name, as on the command line."""
    description: ClassVar[str]
    module: ClassVar[type[pl.LightningModule]]
    data: ClassVar[type[pl.LightningDataModule]]
    defaults: ClassVar[dict[str, Any]]
    """Class paths of the data and the network that are used when none are named."""
    monitor: ClassVar[tuple[str, str]]
    """The logged score that tells the best checkpoint, and whether it is the max or the min."""

    patience: ClassVar[int | None] = 10
    """Evaluations without a better score after which a run stops by itself, where nothing else is said."""
    asked: ClassVar[str] = "IMAGES"
    """What `lossfold predict` is given besides the run."""

    def __init__(self, argv: list[str]) -> None:
        self.folder = RunFolder("")
        self.timer = Timer()
        self.resume: Path | None = None
        self.lock: BaseFileLock | None = None
        super().__init__(
            self.module,
            self.data,
            subclass_mode_data=True,
            run=False,
            args=argv,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_kwargs={"prog": f"lossfold train {self.task}", "description": self.description},
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what was handed over, whatever `sys.argv` holds."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's own options and the task's defaults."""
        parser.add_argument("--run_dir", type=str, default=f"runs/{self.task}", help="Folder of the run.")
        parser.add_argument("--overwrite", type=bool, default=False, help="Replace a run that the folder holds.")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="Continue from: last, best, or a checkpoint file.")
        parser.add_argument("--threads", type=int | None, default=None, help="Threads of CPU arithmetic.")
        parser.add_argument(
            "--save_every_steps",
            type=int | None,
            default=None,
            help="Write the last checkpoint after every so many steps, too, not only after each evaluation.",
        )
        parser.add_argument(
            "--explain_every_steps",
            type=int | None,
            default=50,
            help="Log after so many steps which term of the loss pulls how much (share/TERM); null: never.",
        )
        parser.add_argument("--score_before", type=bool, default=True, help="Score the held-out images before the training, too.")
        parser.add_argument(
            "--eval_tile",
            type=int,
            default=1024,
            help="Larger held-out images are evaluated in windows of this side; 0: as wholes.",
        )
        parser.add_argument(
            "--patience",
            type=int | None,
            default=self.patience,
            help="Stop after so many evaluations without a better score; null: never.",
        )
        parser.add_argument(
            "--least_steps",
            type=int,
            default=100,
            help=f"Where no trainer.max_epochs, max_steps or max_time is given: {EPOCHS} epochs, or more for so many steps.",
        )
        parser.add_argument("--report_images", type=int, default=8, help="Held-out images that the report shows.")
        parser.set_defaults({name: {"class_path": path} for name, path in self.defaults.items()})
        self.link_networks(parser)

    def link_networks(self, parser: LightningArgumentParser) -> None:
        """Tell the networks what the data know."""
        for argument in ("classes", "num_classes"):
            parser.link_arguments("data.num_classes", f"model.network.init_args.{argument}", apply_on="instantiate")

    def callbacks(self) -> list[Callback]:
        """The task's own callbacks."""
        return []

    def before_instantiate_classes(self) -> None:
        """Find out early what would fail late: the loss, the data's labels, the run's folder, the checkpoint."""
        self.check_config()
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.folder = RunFolder(self.config.run_dir)
        first = getattr(rank_zero_only, "rank", 0) == 0 and not self.config.trainer.fast_dev_run
        self.lock = self.folder.hold() if first else None
        if self.config.ckpt_path:
            self.resume = self.folder.checkpoint(self.config.ckpt_path)
        elif first:
            self.folder.claim(self.config.overwrite)

    def check_config(self) -> None:
        """Fill in the default loss, and refuse what does not fit together.

        Raises:
            LossError: the loss has an unknown name or option.
            TrainError: the loss does not suit the data.
        """
        raise NotImplementedError

    def instantiate_classes(self) -> None:
        """Build everything, and tell the module what is no part of it."""
        super().instantiate_classes()
        self.model.tile = self.config.eval_tile

    def keep_before(self) -> None:
        """Keep what the report shows of the untrained network, besides its scores."""

    def summary(self) -> dict[str, Any]:
        """The scores before and after, for `scores.json`."""
        raise NotImplementedError

    def remarks(self) -> list[str]:
        """What the terminal says of how the run ended: stopped early, and a better evaluation than the last."""
        said = []
        stopped = next(
            (one for one in getattr(self.trainer, "callbacks", []) if isinstance(one, Patience) and one.stopped_epoch), None
        )
        if stopped is not None:
            said.append(f"Stopped early: no better {stopped.monitor} in {stopped.patience} evaluations (--patience).")
        name, mode = self.monitor
        seen = [(row[name], int(row["step"])) for row in self.folder.rows() if name in row]
        if seen and (self.folder.checkpoints / "best.ckpt").is_file():
            value, step = (max if mode == "max" else min)(seen)
            if step != seen[-1][1]:
                said.append(f"Best {name}: {value:.4g} at step {step}; lossfold predict takes that checkpoint, best.ckpt.")
        return said

    def table(self) -> Table:
        """The scores before and after, for the terminal."""
        raise NotImplementedError

    def write_report(self, seconds: float, images: int) -> None:
        """Write `report.html` with so many held-out images; the training took so many seconds."""
        raise NotImplementedError

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with the run's log and checkpoints beside the loggers and callbacks of the user."""
        given = self.config_init.trainer.logger
        theirs = given if isinstance(given, list) else [given] if isinstance(given, Logger) else []
        ours = RunLogger(self.folder, read_checkpoint(self.resume) if self.resume else None)
        # Lightning ignores max_time where there is a timer, and trains without end.
        self.timer = Timer(self.config_init.trainer.max_time)
        callbacks: list[Callback] = [self.timer, HeldOutFiles(self.folder.held_out), *self.callbacks()]
        unsaid = says_nothing(self.config_init.trainer)
        if unsaid:
            callbacks.append(EnoughSteps(self.config.least_steps))
        if self.config.explain_every_steps is not None:
            callbacks.append(ExplainLosses(self.config.explain_every_steps))
        if self.config.patience is not None:
            callbacks.append(stopping(self.config.patience, *self.monitor, self.config.least_steps if unsaid else 0))
        if self.config.trainer.enable_checkpointing is not False:
            callbacks += checkpoints(self.folder.checkpoints, self.config.save_every_steps, *self.monitor)
        plugins = self.config_init.trainer.plugins or []
        plugins = list(plugins) if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(SafeCheckpointIO())
        ours_too = {"logger": [ours, *theirs], "plugins": plugins, "max_time": None}
        config = {**self.config_init.trainer.as_dict(), **kwargs, **ours_too}
        trainer: pl.Trainer = self._instantiate_trainer(config, callbacks)
        return trainer


class Patience(EarlyStopping):
    """Early stopping that does not count evaluations before so many steps.

    Args:
        monitor, patience, mode: Lightning's.
        least: of steps of the optimiser.
    """

    def __init__(self, monitor: str, patience: int, mode: str, least: int) -> None:
        super().__init__(monitor, patience=patience, mode=mode, strict=False, check_finite=False, check_on_train_epoch_end=False)
        self.least = least

    def _should_skip_check(self, trainer: pl.Trainer) -> bool:
        return super()._should_skip_check(trainer) or trainer.global_step < self.least


def stopping(patience: int, monitor: str, mode: str, least: int = 0) -> EarlyStopping:
    """Stop when a score has not been better for so many evaluations, of those after so many steps.

    Raises:
        TrainError: the patience is below 1.
    """
    if patience < 1:
        raise TrainError(f"--patience must be at least 1, or null, got {patience}")
    return Patience(monitor, patience, mode, least)
