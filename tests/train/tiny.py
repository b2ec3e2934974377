"""Options of runs that take a second."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

TRAINER = [
    "--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1", "--report_images=2",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
]  # fmt: skip
COLLAGE = ["--data.image_size=32", "--data.train_images=24", "--data.val_images=4", "--data.batch_size=4"]
UNET = ["--model.network.width=4", "--model.network.levels=2", "--model.network.stem_stride=2"]


class Train(Protocol):
    """Run the command in the folder `name`, and return that folder."""

    def __call__(
        self, *options: str, data: list[str] = ..., network: list[str] = ..., name: str = ..., status: int = ...
    ) -> Path: ...
