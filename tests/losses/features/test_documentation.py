"""The examples in the feature losses' documentation run, and every registered one has its function and its samples."""

from __future__ import annotations

import doctest
import re
from typing import Any

import pytest
import torch

import lossfold as lf
from lossfold.losses.features import clip, identity, lpips, perceptual, texture
from tests.internals import FEATURES as FEATURE_LOSSES


@pytest.mark.parametrize("module", [clip, identity, lpips, perceptual, texture])
def test_examples(module: Any) -> None:
    result = doctest.testmod(module, extraglobs={name: getattr(lf, name) for name in dir(lf)} | {"torch": torch})
    assert result.attempted and not result.failed


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_samples_are_configurations(name: str) -> None:
    """Every sample builds from a dict, and again from what it prints."""
    for options in lf.LOSSES[name].samples:
        loss = lf.build({"type": name, **options, "loss_weight": 0.25})
        assert repr(eval(repr(loss), vars(lf))) == repr(loss) and re.search(rf"{name}\(.*loss_weight=0.25\)$", repr(loss))
    assert set(lf.functional.__all__) >= {"perceptual_loss", "face_id_loss", "light_cnn_feature_loss", "clip_loss", "lpips_loss"}
