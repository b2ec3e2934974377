"""The inputs are what cases assume: every class in every image, the ignored stripe where asked, soft edges, the wanted dtypes."""

import pytest
import torch
from torch.nn import functional

from lossfold.bench.case import LABEL_DTYPES, Setting
from lossfold.bench.definitions import IGNORED
from lossfold.bench.inputs import GRAIN, UNKNOWN, alpha_sample, image_sample, label_sample


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


@pytest.mark.parametrize("logits", ["random", "trained"])
@pytest.mark.parametrize("size", [(3, 1, 64, 96), (2, 4, 16, 32)])
def test_alphas_are_soft_where_the_region_says_unknown(size: tuple[int, ...], logits: str) -> None:
    sample = alpha_sample(Setting(size=size, logits=logits))
    target, region = sample.rest
    assert sample.leaf.requires_grad
    assert sample.leaf.shape == target.shape == size
    assert region.shape == (size[0], 1, *size[2:])
    assert sample.leaf.dtype == target.dtype == region.dtype == torch.float32
    pixels = size[2] * size[3]
    for image in region:
        assert set(image.unique().tolist()) == {0, 1}
        assert image.sum() == round(UNKNOWN * pixels)
    known = target[(region == 0).expand(size)]
    assert set(known.unique().tolist()) == {0, 1}
    soft = (target > 0) & (target < 1)
    assert 0.5 * UNKNOWN < soft.double().mean().item() < UNKNOWN
    assert sample.leaf.min() >= 0
    assert sample.leaf.max() <= 1


def test_trained_alphas_are_near_the_truth_and_random_ones_are_not() -> None:
    for logits, (low, high) in {"trained": (0.1 * GRAIN, GRAIN), "random": (0.4, 0.6)}.items():
        sample = alpha_sample(Setting(size=(2, 1, 64, 64), logits=logits))
        assert low < (sample.leaf - sample.rest[0]).abs().mean().item() < high


def test_alphas_without_a_region_are_the_same() -> None:
    setting = Setting(size=(2, 1, 32, 32), dtype="float64")
    whole, bare = alpha_sample(setting), alpha_sample(setting, region=False)
    assert torch.equal(whole.leaf, bare.leaf)
    assert len(bare.rest) == 1
    assert torch.equal(whole.rest[0], bare.rest[0])
    assert {tensor.dtype for tensor in (whole.leaf, *whole.rest)} == {torch.float64}


def test_alphas_are_images() -> None:
    with pytest.raises(ValueError, match="alphas need a size B,C,H,W"):
        alpha_sample(Setting(size=(2, 1, 40)))


@pytest.mark.parametrize("kind", ["float32", "float64", "float16"])
def test_images_are_in_range_and_as_near_as_is_asked(kind: str) -> None:
    for logits, (low, high) in {"trained": (0.1 * GRAIN, GRAIN), "random": (0.05, 0.2)}.items():
        sample = image_sample(Setting(size=(2, 3, 64, 48), logits=logits, dtype=kind))
        (truth,) = sample.rest
        assert sample.leaf.requires_grad and sample.leaf.shape == truth.shape == (2, 3, 64, 48)
        assert truth.dtype == (torch.float64 if kind == "float64" else torch.float32)
        for image in (sample.leaf, truth):
            assert image.min() >= 0 and image.max() <= 1 and image.std() > 0.1
        assert low < (sample.leaf - truth).abs().mean().item() < high


def test_images_are_not_sequences() -> None:
    with pytest.raises(ValueError, match="images need a size B,C,H,W"):
        image_sample(Setting(size=(2, 1, 40)))
