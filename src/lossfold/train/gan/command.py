"""The command line of `lossfold train gan`."""

from functools import cached_property
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser
from rich.table import Table

from lossfold.train.command import TrainCLI
from lossfold.train.data import GANData
from lossfold.train.gan.evaluation import GANScores, numbers, score_table
from lossfold.train.gan.module import GANWithCustomizedLoss
from lossfold.train.gan.objectives import DEFAULT_DISCRIMINATOR_LOSS, DEFAULT_GENERATOR_LOSS, build_objective
from lossfold.train.gan.pictures import SampleGrids
from lossfold.train.gan.report import training_scores, write_report


class GANCLI(TrainCLI):
    """Train a generator against a discriminator."""

    task = "gan"
    asked = "--count 64"
    patience = None  # the distance goes up and down
    description = """Train a generator and a discriminator, each with losses from the configuration; measure how far the generated
images are from held-out ones before and after (sliced Wasserstein distance), save grids of samples on the way, and write a report.
Without data of your own, handwritten digits that scikit-learn ships; with --data GANFolderData --data.root DIR your own images.
A packaged recipe is named with --recipe NAME (demo, r3gan, faces), a file with --config FILE; later options win."""
    module = GANWithCustomizedLoss
    data = GANData
    defaults = {  # noqa: RUF012
        "data": "lossfold.train.data.DigitsData",
        "model.generator": "lossfold.train.nets.StyleGenerator",
        "model.discriminator": "lossfold.train.nets.ResidualDiscriminator",
    }
    monitor = ("val/score/swd", "min")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Show more images than other tasks do: they are small."""
        super().add_arguments_to_parser(parser)
        parser.set_defaults({"report_images": 64})

    def link_networks(self, parser: LightningArgumentParser) -> None:
        """Tell both networks the images' size and channels."""
        for network in ("generator", "discriminator"):
            for argument in ("image_size", "channels"):
                parser.link_arguments(f"data.{argument}", f"model.{network}.init_args.{argument}", apply_on="instantiate")

    def callbacks(self) -> list[Callback]:
        """Save grids of samples."""
        return [SampleGrids(self.folder.samples, self.config.report_images)]

    def check_config(self) -> None:
        """Fill in the default losses; refuse unknown ones."""
        model = self.config.model
        model.generator_loss = model.generator_loss or DEFAULT_GENERATOR_LOSS
        model.discriminator_loss = model.discriminator_loss or DEFAULT_DISCRIMINATOR_LOSS
        for loss in (model.generator_loss, model.discriminator_loss):
            build_objective(loss, {})

    @cached_property
    def training_scores(self) -> GANScores:
        """The distance of training images from the held-out ones."""
        return training_scores(self.datamodule)

    def summary(self) -> dict[str, Any]:
        """The distances before and after, and those of training images."""
        found = {"before": self.model.before, "after": self.model.scores, "training_images": self.training_scores}
        return {name: numbers(scores) for name, scores in found.items()}

    def table(self) -> Table:
        """The same for people."""
        return score_table(self.model.before, self.model.scores, self.training_scores)

    def write_report(self, seconds: float, images: int) -> None:
        """Write the report."""
        write_report(self.folder, self.trainer, self.model, self.datamodule, self.training_scores, seconds, images)
