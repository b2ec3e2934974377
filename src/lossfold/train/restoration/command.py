"""The command line of `lossfold train restoration`."""

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser
from rich.table import Table

from lossfold.train.command import TrainCLI
from lossfold.train.data import RestorationData
from lossfold.train.restoration.evaluation import numbers, score_table
from lossfold.train.restoration.module import DEFAULT_LOSS, RestorationModule, build_criterion
from lossfold.train.restoration.report import restored, write_report


class RestorationCLI(TrainCLI):
    """Train a network that restores images."""

    task = "restoration"
    description = """Train a network that enlarges images (super-resolution), takes noise away, or learns from inputs and targets of
your own; score it on held-out images before and after (PSNR, SSIM), and write a report. Without data of your own, photographs that
installed packages ship are reduced or made noisy; with --data RestorationFolderData it reads folders.
A packaged recipe is named with --recipe NAME (demo, denoise), a file with --config FILE; later options win."""
    module = RestorationModule
    data = RestorationData
    defaults = {"data": "lossfold.train.data.PhotographData", "model.network": "lossfold.train.nets.RestorationNet"}  # noqa: RUF012
    monitor = ("val/score/psnr", "max")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the module and the network learn from the data."""
        super().add_arguments_to_parser(parser)
        parser.link_arguments("data.scale", "model.scale", apply_on="instantiate")
        for argument in ("scale", "in_channels"):
            parser.link_arguments(f"data.{argument}", f"model.network.init_args.{argument}", apply_on="instantiate")

    def check_config(self) -> None:
        """Fill in the default loss; refuse one that does not take images."""
        self.config.model.loss = self.config.model.loss or DEFAULT_LOSS
        build_criterion(self.config.model.loss)

    def keep_before(self) -> None:
        """Keep what the untrained network makes of the images that the report shows."""
        self.model.shown_before = restored(self.model, self.datamodule, self.config.report_images)

    def summary(self) -> dict[str, Any]:
        """PSNR and SSIM of the degraded images, of the untrained network's and of the trained one's."""
        found = {"input": self.model.baseline, "before": self.model.before, "after": self.model.scores}
        return {name: numbers(scores) for name, scores in found.items()}

    def table(self) -> Table:
        """The same for people."""
        return score_table(self.model.scale, self.model.baseline, self.model.before, self.model.scores)

    def write_report(self, seconds: float, images: int) -> None:
        """Write the report."""
        write_report(self.folder, self.trainer, self.model, self.datamodule, seconds, images)
