"""A run's losses, explained on a batch of its training data."""

import warnings
from pathlib import Path
from pkgutil import resolve_name

from lossfold.adapters.lightning import ExplainLosses
from lossfold.explain.explanation import Explanation
from lossfold.predict.loading import checkpoint_of, module_type
from lossfold.train import TASKS
from lossfold.train.checkpoints import read_checkpoint
from lossfold.train.command import TrainCLI
from lossfold.train.errors import TrainError
from lossfold.train.run_folder import RunFolder

QUIETLY = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


def explained(run: Path, checkpoint: str | None, seed: int) -> tuple[dict[str, Explanation], str, list[str]]:
    """Return the explanations of a run's sets by their names, at which step the weights are, and the classes' names.

    Raises:
        TrainError: there is no such run or checkpoint, or its loss has a single term.
    """
    path, folder = checkpoint_of(run, checkpoint), RunFolder(str(run))
    if not folder.config.is_file():
        raise TrainError(f"there is no {folder.config}; give a run's folder, which says what its data and losses are")
    content = read_checkpoint(path)
    kind = module_type(content["hyper_parameters"])
    commands: list[type[TrainCLI]] = [resolve_name(name) for name in TASKS.values()]
    command = next(command for command in commands if issubclass(kind, command.module))
    listener = ExplainLosses(every=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cli = command(["--config", str(folder.config), *QUIETLY, "--ckpt_path=null", f"--seed_everything={seed}"])
        cli.model.load_state_dict(content["state_dict"])
        cli.trainer.callbacks.append(listener)  # type: ignore[attr-defined]
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    if not listener.found:
        raise TrainError("the loss of this run has a single term, which pulls alone")
    return listener.found, f"step {content['global_step']:,}", getattr(cli.model, "class_names", [])
