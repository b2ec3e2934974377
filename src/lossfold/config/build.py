"""Losses from plain configurations, in the dialects that people have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, cast

from torch import nn

from lossfold.config.builder import Builder
from lossfold.config.files import SUFFIXES, load
from lossfold.config.names import Allow, Names
from lossfold.config.place import Place, Source, short
from lossfold.config.tree import WHO, Reader
from lossfold.errors import LossError, nearest
from lossfold.losses.base import Summable

Config = Mapping[str, Any] | Sequence[Any] | nn.Module | str | PathLike[str]


def build(cfg: Config, *, allow: Allow | None = None, key: str = "", dialect: str | None = None) -> nn.Module:
    """Build a loss from a dict, a list or a YAML file: ``{"type": "DiceLoss", "ignore_index": 255}``.

    Four dialects, which may be mixed: MMEngine's ``type`` and Hydra's ``_target_`` with the options beside it, LightningCLI's
    ``class_path`` with ``init_args``, and BasicSR's files, ``build("option.yml", key="train.pixel_opt")``. A set takes its terms
    as further options or under ``terms``; a dict of configurations is a set with these names, and so is a list, where
    ``loss_name`` or the type names the term. Names are looked up among the registered losses, presets and ``allow``:
    nothing is imported or run because a configuration says so.

    Args:
        cfg: the configuration, which is not changed (a dict, a list, OmegaConf's, MMEngine's ``Config``), or the path of a file
            (``.yaml``, ``.yml``, ``.json``). A loss that is built already is returned as it is.
        allow: further classes that may be named, in a list or by name: ``[MyLoss, torch.nn.L1Loss]``.
        key: where the loss stands in ``cfg``, with dots: ``"model.loss"``.
        dialect: whose words these are, and whose meaning: ``"mmseg"`` (and ``"mmdet"``; what is built is called as their heads
            call), ``"mmagic"``, ``"mmgen"`` or ``"basicsr"``. Its classes come with its own defaults, its options with its
            own effect; what has no counterpart is refused. None reads the names and options of lossfold.

    Raises:
        LossError: for unknown names and options, with the path to them and the nearest valid ones.

    Example:
        >>> build({"type": "LossSet", "ce": {"type": "CrossEntropyLoss"}, "dice": {"type": "DiceLoss", "loss_weight": 0.5}})
        LossSet(ce=CrossEntropyLoss(), dice=DiceLoss(loss_weight=0.5))
        >>> build([{"_target_": "lossfold.L1Loss"}, {"class_path": "lossfold.SSIMLoss", "init_args": {"loss_weight": 0.1}}])
        LossSet(l1_loss=L1Loss(), ssim_loss=SSIMLoss(loss_weight=0.1))
    """
    source = Source()
    if isinstance(cfg, PathLike) or (isinstance(cfg, str) and cfg.lower().endswith((*SUFFIXES, ".py"))):
        cfg, source = load(cfg)
    elif not isinstance(cfg, (Mapping, nn.Module)) and callable(getattr(cfg, "to_dict", None)):
        cfg = cast(Any, cfg).to_dict()  # MMEngine's Config, which is no Mapping
    tree = Reader().read(*enter(cfg, key, Place(source)))
    names = Names(allow)
    if dialect is None:
        return Builder(names).loss(tree)
    from lossfold.config.dialects import DialectBuilder, dialect_named  # imported where they are spoken

    return DialectBuilder(names, dialect_named(dialect)).loss(tree)


build_loss = build
"""MMagic's word for :func:`build`."""


def enter(cfg: Any, key: str, place: Place) -> tuple[Any, Place]:
    """Return what stands under a dotted key."""
    if not isinstance(key, str):
        raise LossError(WHO, "key", "keys with dots between them", short(key))
    for step in key.split(".") if key else []:
        if isinstance(cfg, Mapping) and step in cfg:
            cfg, place = cfg[step], place.at(step)
        elif isinstance(cfg, (list, tuple)) and step.isdecimal() and len(step) < 9 and int(step) < len(cfg):
            cfg, place = cfg[int(step)], place.at(int(step))
        else:
            there = [str(name) for name in cfg] if isinstance(cfg, Mapping) else []
            came = short(there or type(cfg).__name__)
            raise place.error(WHO, f"a dict with {step!r}, of key {key!r}", came, nearest(step, there) if there else "")
    return cfg, place


Summable.from_config = staticmethod(build)
