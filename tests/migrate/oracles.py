"""OpenMMLab's losses without their models: parts of their packages, imported as they stand in the wheels.

The packages are installed without their dependencies. Of MMCV's compiled operators nothing is called.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from typing import Any

import pytest


class Missing(types.ModuleType):
    """MMCV's compiled operators, none of which is there; MMEngine's Runner asks for their compiler."""

    def __init__(self) -> None:
        super().__init__("mmcv._ext")
        self.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.startswith("get_compil"):
            return lambda: "none"
        return lambda *given, **named: pytest.fail(f"mmcv._ext.{name} was called")


def hollow(name: str) -> None:
    """Enter a package without running its ``__init__``, which imports every model."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations is not None
    module = types.ModuleType(name)
    module.__path__ = list(spec.submodule_search_locations)
    module.__spec__ = spec
    sys.modules[name] = module


def parts(package: str, folders: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Any]:
    """Return what some modules of a package define."""
    for needed in (package, "mmcv", "mmengine"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.modules.setdefault("mmcv._ext", Missing())
        for folder in folders:
            if folder not in sys.modules:
                hollow(folder)
        found: dict[str, Any] = {}
        for name in names:
            found |= vars(importlib.import_module(f"{folders[-1]}.{name}"))
    return found


@functools.cache
def mmseg() -> dict[str, Any]:
    """MMSegmentation's losses by name."""
    return parts("mmseg", ("mmseg.models",), ("losses",))


@functools.cache
def mmdet() -> dict[str, Any]:
    """MMDetection's losses by name."""
    return parts("mmdet", ("mmdet.models", "mmdet.models.losses"), ("cross_entropy_loss", "dice_loss", "focal_loss"))


@functools.cache
def mmagic() -> dict[str, Any]:
    """MMagic's losses by name, but for those of frozen networks."""
    names = ("pixelwise_loss", "composition_loss", "gradient_loss", "gan_loss")
    return parts("mmagic", ("mmagic", "mmagic.models", "mmagic.models.losses"), names)
