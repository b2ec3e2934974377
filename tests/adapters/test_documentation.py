"""The examples in the adapters' documentation run."""

from __future__ import annotations

import doctest
import importlib
from typing import Any

import pytest

import lossfold as lf

FRAMEWORKS = {"hugging_face": "transformers", "lightning": "lightning", "mmengine": "mmengine"}


@pytest.mark.filterwarnings("ignore")  # what the frameworks say about themselves
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(FRAMEWORKS[name])
    names: dict[str, Any] = {one: getattr(lf, one) for one in dir(lf)}
    if name == "mmengine":
        from mmengine.registry import MODELS

        monkeypatch.setattr(MODELS, "_module_dict", dict(MODELS.module_dict))
        names["MODELS"] = MODELS
    module = importlib.import_module(f"lossfold.adapters.{name}")
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted and not result.failed
