"""The command line of `lossfold train depth`."""

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser
from rich.table import Table

from lossfold.train.command import TrainCLI
from lossfold.train.data import DepthData
from lossfold.train.depth.evaluation import numbers, score_table
from lossfold.train.depth.module import DEFAULT_LOSS, DepthModule, build_criterion
from lossfold.train.depth.report import estimated, write_report


class DepthCLI(TrainCLI):
    """Train a network that estimates depth."""

    task = "depth"
    description = """Train a network that estimates depth from single photographs; score it on held-out images before and after
(AbsRel, RMSE, delta 1), beside what the typical depth everywhere would score, and write a report. Without data of your own, one
photograph with the depth that was measured for it, which scikit-image ships: its sides train, its middle is held out.
With --data DepthFolderData --data.root DIR your own images and depth maps. A packaged recipe is named with --recipe NAME (demo), a
file with --config FILE; later options win."""
    module = DepthModule
    data = DepthData
    defaults = {"data": "lossfold.train.data.MotorcycleData", "model.network": "lossfold.train.nets.SmallUNet"}  # noqa: RUF012
    monitor = ("val/score/abs_rel", "min")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the module and the network learn from the data."""
        super().add_arguments_to_parser(parser)
        parser.link_arguments("data.typical", "model.typical", apply_on="instantiate")
        parser.link_arguments("data.in_channels", "model.network.init_args.in_channels", apply_on="instantiate")

    def check_config(self) -> None:
        """Fill in the default loss; refuse one that does not take depths."""
        self.config.model.loss = self.config.model.loss or DEFAULT_LOSS
        build_criterion(self.config.model.loss)

    def keep_before(self) -> None:
        """Keep what the untrained network makes of the images that the report shows."""
        self.model.shown_before = estimated(self.model, self.datamodule, self.config.report_images)

    def summary(self) -> dict[str, Any]:
        """The scores of the typical depth everywhere, of the untrained network and of the trained one."""
        found = {"constant": self.model.baseline, "before": self.model.before, "after": self.model.scores}
        return {name: numbers(scores) for name, scores in found.items()}

    def table(self) -> Table:
        """The same for people."""
        return score_table(self.model.baseline, self.model.before, self.model.scores)

    def write_report(self, seconds: float, images: int) -> None:
        """Write the report."""
        write_report(self.folder, self.trainer, self.model, self.datamodule, seconds, images)
