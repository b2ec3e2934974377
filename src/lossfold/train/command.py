"""The command line of a segmentation run: Lightning's own, with this task's defaults, folder and checkpoints."""

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from lossfold.train.criterion import build_criterion, default_loss
from lossfold.train.data import SegmentationData
from lossfold.train.data.base import Task
from lossfold.train.errors import TrainError
from lossfold.train.module import SegmentationModule
from lossfold.train.run_folder import RunFolder, RunLogger, checkpoint_step

DESCRIPTION = """Train a network that labels every pixel, score it on held-out images before and after, and write a report.
Without data of your own the task is composed of photographs and textures that installed packages ship.
Labels may be one of several classes, or with --model.task binary or multilabel a yes or no for each channel.
A packaged recipe is named with --recipe NAME (demo, binary, multilabel), a file with --config FILE; later options win."""

TRAINER_DEFAULTS = {"max_epochs": 20, "log_every_n_steps": 1, "num_sanity_val_steps": 0}


def resolve_recipes(argv: list[str]) -> list[str]:
    """Turn `--recipe NAME` into `--config FILE` of the packaged recipe.

    Raises:
        TrainError: there is no recipe of that name.
    """
    folder = files("lossfold.train") / "recipes"
    names = sorted(
        Path(entry.name).stem.removeprefix("segmentation_") for entry in folder.iterdir() if entry.name.startswith("segmentation_")
    )
    resolved: list[str] = []
    options = iter(argv)
    for option in options:
        if option != "--recipe" and not option.startswith("--recipe="):
            resolved.append(option)
            continue
        name = option.partition("=")[2] or next(options, "")
        if name not in names:
            raise TrainError(f"--recipe: there is no recipe {name!r}; choose from: {', '.join(names)}")
        resolved += ["--config", str(folder / f"segmentation_{name}.yaml")]
    return resolved


class SegmentationCLI(LightningCLI):
    """Parse the options, and build the data, the module and the trainer.

    Args:
        argv: the options.
    """

    def __init__(self, argv: list[str]) -> None:
        self.folder = RunFolder("")
        self.timer = Timer(verbose=False)
        self.resume: Path | None = None
        super().__init__(
            SegmentationModule,
            SegmentationData,
            subclass_mode_data=True,
            run=False,
            args=argv,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_kwargs={"prog": "lossfold train segmentation", "description": DESCRIPTION},
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what was handed over, whatever `sys.argv` holds."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's own options, this task's defaults, and what the module learns from the data."""
        parser.add_argument("--run_dir", type=str, default="runs/segmentation", help="Folder of the run.")
        parser.add_argument("--overwrite", type=bool, default=False, help="Replace a run that the folder holds.")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="Continue from: last, best, or a checkpoint file.")
        parser.add_argument("--threads", type=int | None, default=None, help="Threads of CPU arithmetic.")
        parser.add_argument(
            "--save_every_steps",
            type=int | None,
            default=None,
            help="Write the last checkpoint after every so many steps, too, not only after each evaluation.",
        )
        parser.add_argument("--score_before", type=bool, default=True, help="Score the held-out images before the training, too.")
        parser.add_argument("--report_images", type=int, default=8, help="Held-out images that the report shows.")
        parser.set_defaults(
            {
                "data": {"class_path": "lossfold.train.data.CollageData"},
                "model.network": {"class_path": "lossfold.train.nets.SmallUNet"},
            }
        )
        parser.link_arguments("model.task", "data.init_args.task")
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")
        parser.link_arguments("data.ignore_index", "model.ignore_index", apply_on="instantiate")
        for argument in ("classes", "num_classes"):
            parser.link_arguments("data.num_classes", f"model.network.init_args.{argument}", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Find out early what would fail late: the loss, the data's labels, the run's folder, the checkpoint."""
        ignore_index, task = self.config.data.init_args.get("ignore_index", 255), self.config.model.task
        self.config.model.loss = self.config.model.loss or default_loss(task, ignore_index)
        build_criterion(self.config.model.loss, ignore_index, task)
        self._check_data(task)
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.folder = RunFolder(self.config.run_dir)
        if self.config.ckpt_path:
            self.resume = self.folder.checkpoint(self.config.ckpt_path)
        elif getattr(rank_zero_only, "rank", 0) == 0 and not self.config.trainer.fast_dev_run:
            self.folder.claim(self.config.overwrite)

    def _check_data(self, task: Task) -> None:
        data = self.config.data.class_path
        module, _, name = data.rpartition(".")
        tasks = getattr(getattr(import_module(module), name, None), "tasks", (task,))
        if task not in tasks:
            raise TrainError(
                f"data: {name} has labels for the task {' or '.join(tasks)}, but model.task is {task}; choose "
                f"--data {'CollageData' if task == 'multiclass' else 'ObjectsData'} or --data FolderData, or set model.task"
            )

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with the run's log and checkpoints beside the loggers and callbacks of the user."""
        given = self.config_init.trainer.logger
        theirs = given if isinstance(given, list) else [given] if isinstance(given, Logger) else []
        ours = RunLogger(self.folder, checkpoint_step(self.resume) if self.resume else None)
        callbacks: list[Callback] = [self.timer]
        if self.config.trainer.enable_checkpointing is not False:
            callbacks += checkpoints(self.folder, self.config.save_every_steps)
        config = {**self.config_init.trainer.as_dict(), **kwargs, "logger": [ours, *theirs]}
        trainer: pl.Trainer = self._instantiate_trainer(config, callbacks)
        return trainer


def checkpoints(folder: RunFolder, every_steps: int | None) -> list[Callback]:
    """Keep the best state by mIoU and the last one, written after every evaluation and every so many steps."""
    common: dict[str, Any] = {
        "dirpath": folder.checkpoints,
        "auto_insert_metric_name": False,
        "enable_version_counter": False,
    }
    kept: list[Callback] = [
        ModelCheckpoint(filename="best", monitor="val/miou", mode="max", **common),
        ModelCheckpoint(filename="last", every_n_epochs=1, save_on_train_epoch_end=False, **common),
    ]
    if every_steps:
        kept.append(ModelCheckpoint(filename="last", every_n_train_steps=every_steps, **common))
    return kept
