"""The command line of `lossfold train segmentation`."""

from importlib import import_module
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser
from rich.table import Table

from lossfold.train.command import TrainCLI
from lossfold.train.data import SegmentationData
from lossfold.train.errors import TrainError
from lossfold.train.segmentation.criterion import build_criterion, default_loss
from lossfold.train.segmentation.evaluation import score_table
from lossfold.train.segmentation.module import SegmentationModule
from lossfold.train.segmentation.report import write_report


class SegmentationCLI(TrainCLI):
    """Train a network that labels every pixel."""

    task = "segmentation"
    description = """Train a network that labels every pixel, score it on held-out images before and after, and write a report.
Without data of your own the task is composed of photographs and textures that installed packages ship.
Labels may be one of several classes, or with --model.task binary or multilabel a yes or no for each channel.
A packaged recipe is named with --recipe NAME (demo, binary, multilabel, vessels), a file with --config FILE; later options win."""
    module = SegmentationModule
    data = SegmentationData
    defaults = {"data": "lossfold.train.data.CollageData", "model.network": "lossfold.train.nets.SmallUNet"}  # noqa: RUF012
    monitor = ("val/miou", "max")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the data learns from the module, and the module from the data."""
        super().add_arguments_to_parser(parser)
        parser.link_arguments("model.task", "data.init_args.task")
        parser.link_arguments("data.image_side", "model.network.init_args.image_side", apply_on="instantiate")
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")
        parser.link_arguments("data.ignore_index", "model.ignore_index", apply_on="instantiate")

    def check_config(self) -> None:
        """Fill in the default loss; refuse one, or data, that does not suit the task."""
        ignore_index, task = self.config.data.init_args.get("ignore_index", 255), self.config.model.task
        self.config.model.loss = self.config.model.loss or default_loss(task, ignore_index)
        build_criterion(self.config.model.loss, ignore_index, task)
        module, _, name = self.config.data.class_path.rpartition(".")
        tasks = getattr(getattr(import_module(module), name, None), "tasks", (task,))
        if task not in tasks:
            raise TrainError(
                f"data: {name} has labels for the task {' or '.join(tasks)}, but model.task is {task}; choose "
                f"--data {'CollageData' if task == 'multiclass' else 'ObjectsData'} or --data FolderData, or set model.task"
            )

    def summary(self) -> dict[str, Any]:
        """Class names, mIoU and the IoU of each class."""
        before, after = self.model.before, self.model.scores
        return {
            "classes": self.datamodule.class_names,
            "before": before and {"miou": before.mean, "iou": before.iou} | (before.shapes or {}),
            "after": {"miou": after.mean, "iou": after.iou} | (after.shapes or {}),
        }

    def table(self) -> Table:
        """IoU per class."""
        return score_table(self.datamodule.class_names, self.model.before, self.model.scores)

    def write_report(self, seconds: float, images: int) -> None:
        """Write the report."""
        write_report(self.folder, self.trainer, self.model, self.datamodule, seconds, images)
