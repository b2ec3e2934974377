"""A trained module from a run's folder or a checkpoint, without its losses."""

from pathlib import Path
from typing import Any

from lightning.pytorch.cli import instantiate_module
from torch import nn

from lossfold.train.depth.module import DepthModule
from lossfold.train.errors import TrainError
from lossfold.train.gan.module import GANWithCustomizedLoss
from lossfold.train.matting.module import MattingModule
from lossfold.train.module import TaskModule
from lossfold.train.restoration.module import RestorationModule
from lossfold.train.segmentation.module import SegmentationModule

LOSSES = ("loss", "generator_loss", "discriminator_loss")
"""Arguments of modules that only training needs."""

CRITERIA = ("criterion.", "generator_criterion.", "discriminator_criterion.")


def checkpoint_of(run: str | Path, name: str | None = None) -> Path:
    """Find a checkpoint: the file itself, or in a run's folder the one of the best score, or the last where there is no best.

    Args:
        run: a run's folder, or a checkpoint file.
        name: best or last; None: best where there is one.

    Raises:
        TrainError: there is no such run, or no checkpoint in it.
    """
    path = Path(run)
    if path.is_file():
        return path
    for kind in [name] if name else ["best", "last"]:
        found = path / "checkpoints" / f"{kind}.ckpt"
        if found.is_file():
            return found
    what = f"{name or 'best or last'}.ckpt in {path / 'checkpoints'}"
    raise TrainError(f"there is no {what}; give the folder of a run (as runs/segmentation) or a checkpoint file")


def module_type(arguments: dict[str, Any]) -> type[TaskModule]:
    """The module that has been built from such arguments."""
    if "generator_optimizer" in arguments or "disc_steps" in arguments:
        return GANWithCustomizedLoss
    if "class_names" in arguments:
        return SegmentationModule
    if "typical" in arguments:
        return DepthModule
    return RestorationModule if "scale" in arguments else MattingModule


def load_module(path: Path, content: dict[str, Any], network: nn.Module | None = None) -> TaskModule:
    """Build the module of a checkpoint, with its weights, in evaluation mode; the losses are the defaults.

    Args:
        path: the file, for messages.
        content: what it holds.
        network: the network (a GAN's generator), where the module was built by hand and the checkpoint does not say how.

    Raises:
        TrainError: the network can't be built, or the weights do not fit it.
    """
    arguments = {name: value for name, value in content["hyper_parameters"].items() if name not in LOSSES}
    kind = module_type(arguments)
    by_hand = arguments.pop("_instantiator", None) is None
    if by_hand and network is None:
        raise TrainError(
            f"{path} was written by a module that was built by hand, and does not say how its network is made; hand it over: "
            "lossfold.load(path, network=...)"
        )
    try:
        if by_hand or network is not None:
            known = {
                name: arguments[name]
                for name in ("class_names", "task", "ignore_index", "scale", "typical", "divisor", "channels_last")
                if name in arguments
            }
            make: Any = kind
            module: TaskModule = make(network=network, **known)
        else:
            module = instantiate_module(kind, arguments)
    except ImportError as error:
        raise TrainError(
            f"{path} names a network that can't be imported ({error}); install its package, or put it on the path"
        ) from error
    weights = {name: value for name, value in content["state_dict"].items() if not name.startswith(CRITERIA)}
    wanted = {name for name in module.state_dict() if not name.startswith(CRITERIA)}
    wrong = sorted(wanted ^ weights.keys())
    if wrong:
        raise TrainError(f"{path} does not fit the network that it names: {len(wrong)} parameters differ, {', '.join(wrong[:3])}")
    try:
        module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise TrainError(f"{path} does not fit the network that it names: {' '.join(str(error).split())[:300]}") from error
    return module.eval().requires_grad_(False)
