"""Checkpoints as `lossfold train` writes them, without a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import instantiate_module

from lossfold.predict.loading import module_type

NETS = "lossfold.train.nets."


def unet(classes: int) -> dict[str, Any]:
    return {"class_path": f"{NETS}SmallUNet", "init_args": {"classes": classes, "width": 4, "levels": 2, "stem_stride": 2}}


FACES = {"image_size": 8, "channels": 3, "width": 4}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "multiclass": {"class_names": ["ground", "cat", "dog"], "task": "multiclass", "network": unet(3)},
    "binary": {"class_names": ["cat"], "task": "binary", "network": unet(1)},
    "multilabel": {"class_names": ["cat", "dog"], "task": "multilabel", "network": unet(2)},
    "matting": {"network": {"class_path": f"{NETS}MattingUNet", "init_args": {"width": 4, "levels": 2}}},
    "restoration": {
        "scale": 2,
        "network": {"class_path": f"{NETS}RestorationNet", "init_args": {"scale": 2, "width": 4, "blocks": 1}},
    },
    "depth": {"typical": 2.0, "network": {"class_path": f"{NETS}SmallUNet", "init_args": {"classes": 1, "width": 4, "levels": 2}}},
    "gan": {
        "disc_steps": 1,
        "generator": {"class_path": f"{NETS}StyleGenerator", "init_args": FACES},
        "discriminator": {"class_path": f"{NETS}ResidualDiscriminator", "init_args": FACES},
    },
}


def made(folder: Path, task: str, seed: int = 0, **content: Any) -> Path:
    """A run's folder with a checkpoint of a network with random weights; returns the folder."""
    torch.manual_seed(seed)
    arguments = ARGUMENTS[task]
    module: Any = instantiate_module(module_type(arguments), arguments)
    for name, value in module.state_dict().items():
        if name.endswith(("head.bias", "head.weight")):
            value.normal_(0, 1)  # zero or faint at first, so that a fresh network says the same of every image
    if "class_names" in arguments:
        with torch.no_grad():  # no class is everywhere
            module.network.head.bias -= module.eval()(torch.rand(1, 3, 64, 64)).mean((0, 2, 3))
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    built = {**arguments, "_instantiator": "lightning.pytorch.cli.instantiate_module"}
    parts: dict[str, Any] = {"global_step": 0, "loops": {}}
    torch.save({**parts, "hyper_parameters": built, "state_dict": module.state_dict(), **content}, path)
    return folder
