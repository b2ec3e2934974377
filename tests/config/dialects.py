"""One set, written as people write it in each framework."""

from __future__ import annotations

from typing import Any

TERMS: dict[str, tuple[str, dict[str, Any]]] = {
    "ce": ("CrossEntropyLoss", {"ignore_index": 255, "class_weight": [1.0, 2.0, 0.5, 1.0, 1.0]}),
    "dice": ("DiceLoss", {"ignore_index": 255, "loss_weight": 0.5, "average": "micro"}),
    "focal": ("FocalLoss", {"ignore_index": 255, "gamma": 1.5, "per_image": True}),
}


def by_type(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"type": name, **options}


def by_target(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": f"lossfold.{name}", **options, "_recursive_": True, "_convert_": "all", "_partial_": False}


def by_monai(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": name, "_desc_": "a loss", "_disabled_": False, **options}


def by_class_path(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"class_path": f"lossfold.{name}", "init_args": options}


def by_dict_kwargs(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"class_path": f"lossfold.{name}", "init_args": {}, "dict_kwargs": options}


WRITERS = (by_type, by_target, by_monai, by_class_path, by_dict_kwargs)
DIALECTS: dict[str, Any] = {
    write.__name__: write("LossSet", {name: write(*term) for name, term in TERMS.items()}) for write in WRITERS
}
DIALECTS |= {
    "mixed": {
        "type": "LossSet",
        "ce": by_target(*TERMS["ce"]),
        "terms": {"dice": by_class_path(*TERMS["dice"])},
        "focal": by_monai(*TERMS["focal"]),
    },
    "full paths": {
        "_target_": "lossfold.compose.loss_set.LossSet",
        "ce": {"_target_": "lossfold.losses.classes.cross_entropy.CrossEntropyLoss", **TERMS["ce"][1]},
        "dice": {"_target_": "lossfold.losses.classes.overlap.DiceLoss", **TERMS["dice"][1]},
        "focal": {"_target_": "lossfold.losses.classes.cross_entropy.FocalLoss", **TERMS["focal"][1]},
    },
    "BasicSR's dict of losses": {name: by_type(*term) for name, term in TERMS.items()},
    "MMSegmentation's list of losses": [{**by_type(*term), "loss_name": name} for name, term in TERMS.items()],
    "a set of a list": {"type": "LossSet", "terms": [{**by_target(*term), "loss_name": name} for name, term in TERMS.items()]},
    "LightningCLI's list": [by_class_path(kind, {**options, "loss_name": name}) for name, (kind, options) in TERMS.items()],
}
