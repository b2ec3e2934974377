"""The inputs are what the cases assume: every class in every image, the ignored stripe where asked, the wanted dtypes."""

import pytest
import torch
from torch.nn import functional

from lossfold.bench.case import LABEL_DTYPES, Setting
from lossfold.bench.definitions import IGNORED
from lossfold.bench.inputs import label_sample


@pytest.mark.parametrize("logits", ["random", "trained"])
@pytest.mark.parametrize("labels", LABEL_DTYPES)
def test_every_image_has_every_class_and_a_stripe_of_ignored_pixels(logits: str, labels: str) -> None:
    sample = label_sample(Setting(size=(2, 6, 16, 32), labels=labels, logits=logits))
    (found,) = sample.rest
    assert found.dtype == LABEL_DTYPES[labels]
    assert sample.leaf.requires_grad
    for image in found:
        assert set(image.unique().tolist()) == {*range(6), IGNORED}
    assert (found == IGNORED).double().mean().item() == pytest.approx(1 / 8)


def test_without_ignored_pixels_everything_else_is_the_same() -> None:
    setting = Setting(size=(1, 4, 8, 16))
    whole, partial = label_sample(setting, ignored=False), label_sample(setting)
    assert torch.equal(whole.leaf, partial.leaf)
    counted = partial.rest[0] != IGNORED
    assert torch.equal(whole.rest[0][counted], partial.rest[0][counted])
    assert not (whole.rest[0] == IGNORED).any()


def test_trained_logits_are_mostly_right() -> None:
    sample = label_sample(Setting(size=(1, 5, 64, 64), logits="trained"), ignored=False)
    right = sample.leaf.argmax(1) == sample.rest[0]
    assert right.double().mean().item() > 0.95


def test_trained_logits_have_no_ties() -> None:
    """A sorted loss has one gradient only where no two errors of a class are equal."""
    sample = label_sample(Setting(size=(2, 4, 64, 64), logits="trained"))
    for score in sample.leaf.detach().double().softmax(1).movedim(1, 0):
        assert score.unique().numel() == score.numel()


@pytest.mark.parametrize("stride", [4, 8])
def test_logits_below_the_labels_resolution(stride: int) -> None:
    for kind in ("random", "trained"):
        setting = Setting(size=(2, 5, 66, 128), logits=kind)
        sample = label_sample(setting, stride=stride)
        assert sample.leaf.shape == (2, 5, -(-66 // stride), 128 // stride)
        assert sample.rest[0].shape == (2, 66, 128)
        assert setting.pixels == sample.rest[0].numel()
        for image in sample.rest[0]:
            assert set(image.unique().tolist()) == {*range(5), IGNORED}


def test_trained_logits_are_right_where_they_are_upsampled_to() -> None:
    sample = label_sample(Setting(size=(1, 5, 64, 64), logits="trained"), ignored=False, stride=4)
    scores = functional.interpolate(sample.leaf, (64, 64), mode="bilinear")
    assert (scores.argmax(1) == sample.rest[0]).double().mean().item() > 0.95


def test_label_resolution_is_for_images() -> None:
    with pytest.raises(ValueError, match="needs a size B,C,H,W"):
        label_sample(Setting(size=(2, 3, 40)), stride=4)


@pytest.mark.parametrize("size", [(2, 3, 40), (1, 3, 4, 8, 8)])
def test_one_and_three_spatial_axes(size: tuple[int, ...]) -> None:
    for kind in ("random", "trained"):
        assert label_sample(Setting(size=size, logits=kind)).leaf.shape == size
