"""A run's folder: configuration, log, checkpoints, scores and report."""

import csv
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from filelock import FileLock, Timeout
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from lossfold.train.errors import TrainError

Row = dict[str, float]

LOST = 20
"""Rows with a loss that is no number, after which a training is stopped; mixed precision has single ones."""


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
        self.held_out = self.path / "held_out.txt"

    def hold(self) -> FileLock:
        """Keep other runs out of the folder as long as this process lives, or until the lock is released.

        Raises:
            TrainError: another process trains into it, or nothing can be written there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0, is_singleton=True)  # this process may come again
            lock.acquire()
        except Timeout:
            raise TrainError(f"run_dir: another process trains into {self.path}; wait for it, or name another folder") from None
        except OSError as error:
            raise TrainError(f"run_dir: {self.path} can't be written to ({error.strerror}); name another folder") from error
        return lock

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
        for file in (self.log, self.scores, self.report, self.held_out):
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
        """Read the log: one row per logged step, without the empty fields, and without a row that a kill has torn."""
        if not self.log.is_file():
            return []
        text = self.log.read_bytes().replace(b"\0", b"").decode("utf-8", "replace")
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        table = list(csv.reader(whole))
        rows: list[Row] = []
        for fields in table[1:]:
            try:
                if len(fields) == len(table[0]):
                    rows.append({key: float(value) for key, value in zip(table[0], fields, strict=True) if value})
            except ValueError:
                continue
        return rows


class RunWriter(ExperimentWriter):
    """Lightning's writer, which leaves a whole log behind whenever it is killed, at worst with a torn last row.

    Args:
        folder: the run's folder.
        old: rows of the run that is continued.
    """

    def __init__(self, folder: RunFolder, old: list[Row]) -> None:
        super().__init__(str(folder.path))
        self.metrics = [{key: int(value) if key in ("step", "epoch") else value for key, value in row.items()} for row in old]
        if old:
            self._record_new_keys()
            self._replace(self.metrics)
        else:
            folder.log.unlink(missing_ok=True)
        self.metrics = []

    def _check_log_dir_exists(self) -> None:
        """Keep the log that is there: it is replaced at once."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with Path(self.metrics_file_path).open(newline="") as file:
            self._replace(list(csv.DictReader(file)))

    def _replace(self, rows: Sequence[Mapping[str, Any]]) -> None:
        path = Path(self.metrics_file_path)
        beside = path.with_name(f".{path.name}.new")
        with beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)
        beside.replace(path)


class RunLogger(CSVLogger):
    """Lightning's CSV log, kept in the run's folder and continued when the run is; it stops what learns nothing any more.

    Args:
        folder: the run's folder.
        resumed: the checkpoint that the run goes on from; rows of the old log that are later are dropped. None starts a new log.
    """

    def __init__(self, folder: RunFolder, resumed: Mapping[str, Any] | None) -> None:
        super().__init__(str(folder.path), name="", version="", flush_logs_every_n_steps=1)  # a killed run has its rows
        self.folder = folder
        self._old: list[Row] = []
        if resumed is not None:
            row: Row | None = resumed.get("row")  # of the checkpoint's step, which the log may lack
            self._old = [old for old in folder.rows() if old.get("step", math.inf) < resumed["global_step"]]
            if row is not None and not any(old["step"] == row["step"] and old.keys() == row.keys() for old in self._old):
                self._old.append(row)
        self._lost = 0

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer, which on its first use takes up the rows of the run that is continued."""
        writer = self._experiment
        if not isinstance(writer, RunWriter):
            self._experiment = writer = RunWriter(self.folder, self._old)
            self._old = []
        return writer

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Write a row.

        Raises:
            TrainError: the total loss has been no number for `LOST` rows.
        """
        super().log_metrics(metrics, step)
        totals = {key: float(value) for key, value in metrics.items() if key.startswith("train/") and key.endswith("/total")}
        if not totals:
            return
        self._lost = 0 if all(map(math.isfinite, totals.values())) else self._lost + 1
        if self._lost == LOST:
            name, value = next((key, value) for key, value in totals.items() if not math.isfinite(value))
            raise TrainError(
                f"model: {name} has been {value} in the last {LOST} logged steps, up to step {step}: nothing is learned any more. "
                "Lower the learning rate (model.optimizer.lr), clip gradients (trainer.gradient_clip_val), or look at the "
                f"data with lossfold check-data; {self.folder.path / 'checkpoints'} holds what was learned before"
            )


class HeldOutFiles(Callback):
    """Write which files are held out, so that others can be scored on the same ones.

    Args:
        path: the text file, with a line for each held-out sample: its files, divided by tabs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write them, once the data are known."""
        samples = getattr(getattr(trainer, "datamodule", None), "val_set", None)
        if not trainer.is_global_zero or not hasattr(samples, "files_of") or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ["\t".join(map(str, samples.files_of(key))) for key in range(len(samples))]  # type: ignore[union-attr, arg-type]
        write_whole(self.path, "\n".join(lines) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that there is the old or the new one, never a part."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, "utf-8")
    beside.replace(path)
