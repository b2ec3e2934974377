"""Checkpoints that a full disk, a kill or a flipped byte can't turn into something else."""

import os
import zipfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint

from lossfold.files import FileError
from lossfold.files.errors import check_bytes
from lossfold.nets.weights import damaged_part
from lossfold.train.errors import TrainError

PARTS = ("state_dict", "global_step", "loops")
"""What a checkpoint of Lightning holds, and a file of weights alone does not."""


class SafeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside the old one and put it in its place when it is whole; read none that is damaged."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; the one that is there stays until the new one is on the disk.

        Raises:
            TrainError: it can't be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.new")
        try:
            with beside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except (OSError, RuntimeError) as error:  # torch's writer of archives says RuntimeError for a full disk
            beside.unlink(missing_ok=True)
            kept = "; the one before it is kept" if path.exists() else ""
            raise TrainError(f"run_dir: the checkpoint {path} can't be written ({error}){kept}") from error

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, plain values and tensors alone; see `read_checkpoint`."""
        return read_checkpoint(Path(path))


def check_checkpoint(path: Path) -> None:
    """Refuse a file that is no whole checkpoint, by the checksums of its parts.

    Raises:
        TrainError: it is missing, empty, a pointer, truncated, damaged or foreign.
    """
    other = {"last.ckpt": "best", "best.ckpt": "last"}.get(path.name, "another")
    try:
        check_bytes(path)
    except FileError as error:
        raise TrainError(f"ckpt_path: {error}; or try --ckpt_path {other}") from error
    try:
        damaged = damaged_part(path)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise TrainError(f"ckpt_path: {path} is truncated, or no checkpoint ({error}); try --ckpt_path {other}") from error
    if damaged is not None:
        raise TrainError(f"ckpt_path: {path} is damaged: the checksum of {damaged} is wrong; try --ckpt_path {other}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a run's checkpoint onto the CPU.

    Raises:
        TrainError: the file is no whole checkpoint of a run.
    """
    check_checkpoint(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what foreign bytes make a reader raise
        said = " ".join(str(error).split())[:200]
        raise TrainError(f"ckpt_path: {path} is no checkpoint of a run ({said})") from error
    if not isinstance(content, dict) or any(part not in content for part in PARTS):
        held = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise TrainError(f"ckpt_path: {path} is no checkpoint of a run: it holds {held}, expected {', '.join(PARTS)}")
    return content


def is_finite(module: torch.nn.Module) -> bool:
    """Whether all parameters are numbers: others are no state to continue from, and NaN may get the best score by luck."""
    return bool(torch.stack([parameter.isfinite().all() for parameter in module.parameters()]).all())


class FiniteCheckpoint(ModelCheckpoint):
    """Lightning's, of weights that are numbers: those before them stay."""

    def check_monitor_top_k(self, trainer: pl.Trainer, current: torch.Tensor | None = None) -> bool:
        """Whether the state is among the best, and one."""
        return super().check_monitor_top_k(trainer, current) and is_finite(trainer.lightning_module)

    def _save_none_monitor_checkpoint(self, trainer: pl.Trainer, monitor_candidates: dict[str, torch.Tensor]) -> None:
        if is_finite(trainer.lightning_module):
            super()._save_none_monitor_checkpoint(trainer, monitor_candidates)


class StepCheckpoint(Checkpoint):
    """Write the last checkpoint after every so many steps and after the last one, where nothing of the step is left to do.

    Where an evaluation follows the step, the checkpoint after that serves; where the epoch ends with the step, it is written when
    the epoch is over. From one that was written earlier Lightning would leave out the evaluation, or repeat the epoch.

    Args:
        path: the file.
        every_steps: steps of the optimiser from one to the next; None: only where the training ends without an evaluation.
        evaluated: what writes the same file after evaluations.
    """

    def __init__(self, path: Path, every_steps: int | None, evaluated: ModelCheckpoint) -> None:
        self.path = path
        self.every_steps = every_steps
        self.evaluated = evaluated
        self._saved = -1
        self._seen = -1
        self._due = False
        self._row: dict[str, float] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count where the training stands."""
        self._seen = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Save, or remember to; nothing within gradients that are still added up."""
        step, loop, fetcher = trainer.global_step, trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        # Where the training stops within an epoch: afterwards Lightning counts that as over, and its rest would be left out.
        stops = trainer.should_stop or 0 <= trainer.max_steps <= step
        wanted = stops or (self.every_steps and step % self.every_steps == 0)
        if step == self._seen or not wanted or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._seen = step
        assert fetcher is not None
        if loop._should_check_val_fx(fetcher):
            return
        self._due = loop.batch_progress.is_last_batch
        if not self._due and is_finite(pl_module):
            self._row = self._unwritten_row(trainer)
            self._save(trainer)
            self._row = None

    def _unwritten_row(self, trainer: pl.Trainer) -> dict[str, float] | None:
        """What Lightning logs of the step as soon as the callbacks are done."""
        connector = trainer._logger_connector
        if not connector.should_update_logs or not connector.metrics["log"]:
            return None
        place = {"epoch": trainer.current_epoch, "step": trainer.fit_loop.epoch_loop._batches_that_stepped}
        return {name: float(value) for name, value in connector.metrics["log"].items()} | place

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the row of the log that is not written yet."""
        if self._row is not None:
            checkpoint["row"] = self._row

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what the last step left to do."""
        if self._due and is_finite(pl_module):
            self._save(trainer)
        self._due = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the weights that the run ends with, which its scores are of, where no evaluation of it has come last."""
        saved = max(self._saved, self.evaluated._last_global_step_saved)  # on every rank the same: files are on the first alone
        if saved != trainer.global_step and not trainer.fast_dev_run and is_finite(pl_module):  # type: ignore[attr-defined]
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = trainer.global_step


def checkpoints(folder: Path, every_steps: int | None, monitor: str, mode: str) -> list[Callback]:
    """Keep the best state by a score and the last one, written after every evaluation, every so many steps and at the end.

    Args:
        folder: where they are kept.
        every_steps: steps from one checkpoint to the next, besides those after evaluations and the end's; None: no more.
        monitor: the logged score.
        mode: whether the best is the `max` or the `min`.
    """
    common: dict[str, Any] = {"dirpath": folder, "auto_insert_metric_name": False, "enable_version_counter": False}
    best = FiniteCheckpoint(filename="best", monitor=monitor, mode=mode, **common)
    last = FiniteCheckpoint(filename="last", every_n_epochs=1, save_on_train_epoch_end=False, **common)
    return [best, last, StepCheckpoint(folder / "last.ckpt", every_steps, last)]
