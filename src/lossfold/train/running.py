"""What every task does: score, train, score again, report."""

import json
import logging
import sys
import time
import warnings

from lightning.fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console

import lossfold as lf
from lossfold.files import FileError
from lossfold.train.command import TrainCLI, resolve_recipes
from lossfold.train.errors import TrainError
from lossfold.train.modes import placed

QUIET = (
    "Experiment logs directory .* exists and is not empty",
    "Checkpoint directory .* exists and is not empty",
    "The .* does not have many workers",
    ".*LeafSpec.* is deprecated",
)
"""Warnings of Lightning about what these commands do on purpose."""


def run_task(command: type[TrainCLI], argv: list[str]) -> int:
    """Carry out a task and return the exit status.

    Args:
        command: the task's command line.
        argv: the options, as on the command line.
    """
    for pattern in QUIET:
        warnings.filterwarnings("ignore", pattern)
    for name in ("lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(lambda record: "Tip:" not in record.getMessage())
    started = time.perf_counter()
    cli: TrainCLI | None = None
    try:
        cli = command(resolve_recipes(command.task, argv))
        return _train(cli, started)
    except (ValueError, MisconfigurationException) as error:
        known = _known(error)
        if known is None:
            raise
        print(f"lossfold train {command.task}: {_message(known)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was trained goes on with the same options and --ckpt_path last", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk, a folder that is taken away
        if error.errno is None:
            raise
        print(f"lossfold train {command.task}: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        if cli is not None and cli.lock is not None:
            cli.lock.release()


def _known(error: BaseException | None) -> Exception | None:
    """The error that the user can mend, also where the parser has wrapped what a class raised when it was built."""
    while error is not None:
        if isinstance(error, (lf.LossError, TrainError, FileError, MisconfigurationException)):
            return error
        error = error.__cause__
    return None


def _message(error: Exception) -> str:
    """The error's own words, also where a loader process has wrapped them in its traceback."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if "Original Traceback" in text else text


def _train(cli: TrainCLI, started: float) -> int:
    trainer, model, data, folder = cli.trainer, cli.model, cli.datamodule, cli.folder
    trial = bool(cli.config.trainer.fast_dev_run)
    if cli.config.score_before and cli.resume is None and not trial:
        trainer.validate(model, datamodule=data, verbose=False)
        model.before = model.scores
        if trainer.is_global_zero:  # which writes the checkpoints and the report
            with placed(model, trainer.strategy.root_device):
                cli.keep_before()
    try:
        trainer.fit(model, datamodule=data, ckpt_path=cli.resume)
    except SystemExit:  # how Lightning ends after Ctrl-C
        if not trainer.interrupted:
            raise
    if trainer.interrupted:
        print(f"stopped; continue with the same options and --run_dir {folder.path} --ckpt_path last", file=sys.stderr)
        return 130
    if model.scored_at != trainer.global_step:
        trainer.validate(model, datamodule=data, verbose=False)
    kept = cli.config.trainer.enable_checkpointing is not False and not trial
    if kept and trainer.global_step == 0:  # a training that ends before it begins keeps nothing by itself
        trainer.save_checkpoint(folder.last)
    if not trainer.is_global_zero or trial or model.scores is None:
        return 0
    seconds = cli.timer.time_elapsed("train")  # kept in the checkpoints: the sum over all sessions of a run
    summary = cli.summary() | {"steps": trainer.global_step, "seconds": round(seconds, 1)}
    folder.scores.write_text(json.dumps(summary, indent=2) + "\n")
    with placed(model, trainer.strategy.root_device):
        cli.write_report(seconds, cli.config.report_images)
    console = Console()
    console.print(cli.table())
    whole = time.perf_counter() - started
    console.print(f"{trainer.global_step} steps in {seconds:.0f} s, {whole:.0f} s with scores and report.", soft_wrap=True)
    for line in cli.remarks():
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"Report: {folder.report}", soft_wrap=True, markup=False)
    console.print(f"Next:   lossfold predict {folder.path.as_posix()} {cli.asked}", soft_wrap=True, markup=False)
    return 0
