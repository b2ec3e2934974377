"""The command line of `lossfold train matting`."""

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser
from rich.table import Table

from lossfold.train.command import TrainCLI
from lossfold.train.data import MattingData
from lossfold.train.matting.evaluation import numbers, score_table
from lossfold.train.matting.module import DEFAULT_LOSS, MattingModule, build_criterion
from lossfold.train.matting.report import alphas, write_report


class MattingCLI(TrainCLI):
    """Train a network that finds alphas."""

    task = "matting"
    asked = "IMAGES --trimaps TRIMAPS"
    description = """Train a network that takes an image and its trimap and finds the alpha of every pixel, score it on held-out
images before and after (SAD, MSE, Grad, Conn), and write a report. Without data of your own, soft foregrounds (hair, blur, glass)
are laid over photographs that installed packages ship; with --data AlphaFolderData it reads folders.
A packaged recipe is named with --recipe NAME (demo), a file with --config FILE; later options win."""
    module = MattingModule
    data = MattingData
    defaults = {"data": "lossfold.train.data.CompositeData", "model.network": "lossfold.train.nets.MattingUNet"}  # noqa: RUF012
    monitor = ("val/sad", "min")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the network learns from the data."""
        super().add_arguments_to_parser(parser)
        parser.link_arguments("data.in_channels", "model.network.init_args.in_channels", apply_on="instantiate")

    def check_config(self) -> None:
        """Fill in the default loss; refuse one that does not take alphas."""
        self.config.model.loss = self.config.model.loss or DEFAULT_LOSS
        build_criterion(self.config.model.loss)

    def keep_before(self) -> None:
        """Keep the untrained network's alphas of the images that the report shows."""
        self.model.shown_before = alphas(self.model, self.datamodule, self.config.report_images)

    def summary(self) -> dict[str, Any]:
        """The four errors of the trimap taken as an alpha, of the untrained network and of the trained one."""
        found = {"trimap": self.model.baseline, "before": self.model.before, "after": self.model.scores}
        return {name: numbers(scores) for name, scores in found.items()}

    def table(self) -> Table:
        """The same for people."""
        return score_table(self.model.baseline, self.model.before, self.model.scores)

    def write_report(self, seconds: float, images: int) -> None:
        """Write the report."""
        write_report(self.folder, self.trainer, self.model, self.datamodule, seconds, images)
