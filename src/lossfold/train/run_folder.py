"""A run's folder: configuration, log, checkpoints, scores and report."""

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from lossfold.train.errors import TrainError

Row = dict[str, float]


class RunFolder:
    """Where a run keeps everything.

    Args:
        path: the folder.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.log = self.path / "metrics.csv"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.last = self.checkpoints / "last.ckpt"
        self.scores = self.path / "scores.json"
        self.report = self.path / "report.html"

    def claim(self, overwrite: bool) -> None:
        """See that a fresh run mixes with no other.

        Raises:
            TrainError: the folder holds a run, and it isn't to be replaced.
        """
        if not (self.log.exists() or self.checkpoints.exists()):
            return
        if not overwrite:
            raise TrainError(
                f"run_dir: {self.path} already holds a run. Continue it with --ckpt_path last, replace it with "
                "--overwrite true, or name another folder with --run_dir"
            )
        for part in (self.checkpoints, self.samples):
            shutil.rmtree(part, ignore_errors=True)
        for file in (self.log, self.scores, self.report):
            file.unlink(missing_ok=True)

    def checkpoint(self, name: str) -> Path:
        """Find the checkpoint that `--ckpt_path` names: last, best, or a file.

        Raises:
            TrainError: there is no such file.
        """
        path = self.checkpoints / f"{name}.ckpt" if name in ("last", "best") else Path(name)
        if not path.is_file():
            raise TrainError(f"ckpt_path: there is no checkpoint {path}; give last, best or a file, and the run's --run_dir")
        return path

    def rows(self) -> list[Row]:
        """Read the log: one row per logged step, without the empty fields."""
        if not self.log.is_file():
            return []
        with self.log.open(newline="") as file:
            return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def checkpoint_step(path: Path) -> int:
    """Read how many optimiser steps a checkpoint has behind it."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return int(content["global_step"])


class RunLogger(CSVLogger):
    """Lightning's CSV log, kept in the run's folder and continued when the run is.

    Args:
        folder: the run's folder.
        resume_step: optimiser steps that the checkpoint has behind it; later rows of the old log are dropped.
            None starts a new log.
    """

    def __init__(self, folder: RunFolder, resume_step: int | None) -> None:
        super().__init__(str(folder.path), name="", version="", flush_logs_every_n_steps=1)  # a killed run has its rows
        old = folder.rows() if resume_step is not None else []
        self._old = [row for row in old if row.get("step", math.inf) < (resume_step or 0)]

    @property
    def experiment(self) -> ExperimentWriter:
        """The writer, which on its first use takes up the rows of the run that is continued."""
        fresh = self._experiment is None
        writer: ExperimentWriter = super().experiment
        if fresh and isinstance(writer, ExperimentWriter) and self._old:
            writer.metrics, self._old = self._old, []
            writer.save()
        return writer
