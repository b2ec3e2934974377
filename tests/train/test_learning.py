"""Defaults that learn: class weights from the data, patience, a network by the images' size, and images that vary as one wants."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

import lossfold as lf
from lossfold.train.data.augment import Augment, Variation
from lossfold.train.errors import TrainError
from lossfold.train.nets import SmallUNet
from lossfold.train.segmentation.balance import class_counts, weigh, weights_of
from tests.train.tiny import Train


def test_weights_balance_the_classes() -> None:
    counts = [600, 300, 100, 0]
    weights = weights_of(counts, "balanced")
    assert weights == pytest.approx([1000 / 3 / 600, 1000 / 3 / 300, 1000 / 3 / 100, 1000 / 3 / 100], abs=1e-4)
    softer = weights_of(counts, "sqrt")
    assert sum(weight * count for weight, count in zip(softer, counts, strict=True)) == pytest.approx(1000, rel=1e-3)
    assert softer[2] / softer[0] == pytest.approx(6**0.5, rel=1e-3)
    assert max(weights_of([10**9, 1], "balanced")) == 50
    with pytest.raises(TrainError, match="no pixel of the training samples counts"):
        weights_of([0, 0], "balanced")
    labels = torch.tensor([[0, 1, 255], [1, 1, 2]], dtype=torch.uint8)
    assert class_counts([(None, labels), (None, labels)], 3, 255).tolist() == [2, 6, 2]


def test_only_means_over_pixels_are_weighed() -> None:
    criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss(), focal=lf.FocalLoss(class_weight=(1.0, 2.0)))
    weigh(criterion, (0.5, 3.0))
    assert [loss.class_weight for loss in criterion.modules() if hasattr(loss, "class_weight")] == [(0.5, 3.0), None, (1.0, 2.0)]
    with pytest.raises(TrainError, match="no term of the loss is a mean over pixels"):
        weigh(lf.LossSet(dice=lf.DiceLoss()), (0.5, 3.0))


def test_a_run_with_class_weights_goes_on_with_them_and_stops_when_it_is_no_better(train: Train, folders: Path) -> None:
    data = ["--data=FolderData", f"--data.root={folders}", "--data.classes=3", "--data.crop_size=32", "--data.num_workers=0",
            "--data.batch_size=4", "--data.variation.vertical_flip=true", "--data.variation.colour=0.5"]  # fmt: skip
    options = [
        "--model.class_weights=balanced",
        "--trainer.max_epochs=9",
        "--patience=2",
        "--model.optimizer.lr=0.0",
        "--model.optimizer=SGD",
    ]
    run = train(*options, "--score_before=false", data=data)
    assert (
        json.loads((run / "scores.json").read_text())["steps"] == 3 * 2
    )  # nothing is learned: one evaluation, and two without a better score
    page = (run / "report.html").read_text()
    weights = [float(weight) for weight in re.findall(r"class \d ([\d.]+)", page.split("Class weights")[1].split("</dd>")[0])]
    assert len(weights) == 3 and weights[0] < 1 < weights[2]
    assert "vertical_flip: true" in (run / "config.yaml").read_text()
    train("--patience=0", data=data, name="other", status=1)


def test_a_network_for_photographs_looks_from_further_away() -> None:
    assert [SmallUNet(width=4, image_side=side).stem.stride[0] for side in (None, 96, 400, 401, 1600, 4000)] == [1, 1, 1, 2, 2, 4]
    assert SmallUNet(width=4, image_side=4000, stem_stride=1).stem.stride == (1, 1)


def test_images_vary_as_one_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    image, labels = torch.randint(0, 255, (3, 40, 40), dtype=torch.uint8), torch.randint(0, 3, (40, 40), dtype=torch.uint8)
    still = Augment(40, 255, 0, True, Variation(flip=False, scales=(1, 1), colour=0))
    assert all(torch.equal(a, b) for a, b in zip(still(image, labels, 3), (image, labels), strict=True))
    over = Augment(40, 255, 0, True, Variation(flip=False, vertical_flip=True, scales=(1, 1), colour=0))
    seen = {bool(torch.equal(over(image, labels, key)[1], labels)) for key in range(12)}
    assert seen == {True, False} and all(
        torch.equal(found[1], labels.flip(0)) and torch.equal(found[0], image.flip(1))
        for found in (over(image, labels, key) for key in range(12)) if not torch.equal(found[1], labels)
    )  # fmt: skip
    turned = Augment(40, 255, 0, True, Variation(flip=False, scales=(1, 1), colour=0, transform=v2.RandomRotation((90, 90))))
    picture, mask = turned(image, labels, 0)
    assert torch.equal(picture, image.rot90(1, (1, 2))) and torch.equal(mask, labels.rot90(1))
    slanted = Augment(40, 255, 0, True, Variation(flip=False, scales=(1, 1), colour=0, transform=v2.RandomRotation((30, 60))))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU's numbers are the network's"))
    one, again, other = slanted(image, labels, 5), slanted(image, labels, 5), slanted(image, labels, 6)
    assert torch.equal(one[1], again[1]) and torch.equal(one[0], again[0]) and not torch.equal(one[1], other[1])
    assert one[1].dtype == torch.uint8 and (one[1][0, 0], one[1][-1, -1]) == (255, 255) and set(np.unique(one[1])) == {0, 1, 2, 255}
    with pytest.raises(TrainError, match="leave their sizes"):
        Augment(40, 255, 0, True, Variation(transform=v2.Resize((20, 20))))(image, labels, 0)
    with pytest.raises(TrainError, match=r"makes an image of torch\.float32 of one of torch\.uint8"):
        Augment(40, 255, 0, True, Variation(transform=v2.ToDtype(torch.float32, scale=True)))(image, labels, 0)
    with pytest.raises(TrainError, match="scales"):
        Variation(scales=(2, 1))


def test_a_transform_has_random_numbers_of_its_own() -> None:
    """Of torch, NumPy and Python, each a function of seed and key, none of them the crop's; outside of it they go on."""
    pytest.importorskip("torchvision")
    image, labels = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)
    drawn: list[list[float]] = []

    def draw(*pair: Any) -> Any:
        drawn.append([*torch.rand(8).tolist(), random.random(), float(np.random.rand())])
        return pair

    crop = Augment(8, 255, 0, True, Variation(transform=draw))
    random.seed(1)
    np.random.seed(1)
    following = random.random(), float(np.random.rand())
    random.seed(1)
    np.random.seed(1)
    for key in (5, 5, 6):
        crop(image, labels, key)
    assert drawn[0] == drawn[1] and not set(drawn[0]) & set(drawn[2])
    assert not set(drawn[0]) & set(torch.rand(8, generator=torch.Generator().manual_seed(5)).tolist())
    assert (random.random(), float(np.random.rand())) == following
