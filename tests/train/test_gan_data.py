"""Data of generation: packaged digits and faces, and folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")

from lossfold.train.data import DigitsData, FacesData, GANFolderData
from lossfold.train.errors import TrainError


def test_digits_are_divided() -> None:
    data = DigitsData(image_size=16)
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set), data.channels) == (1500, 297, 1)
    sides = [{bytes(part[key].numpy().tobytes()) for key in range(len(part))} for part in (data.train_set, data.val_set)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) > 1790
    image = data.train_set[3]
    assert image.shape == (1, 16, 16) and image.dtype == torch.uint8 and image.max() > 200 and image.min() == 0
    assert torch.equal(image, data.train_set[1503])  # the next epoch's
    small = DigitsData(image_size=8)
    small.setup("fit")
    from sklearn.datasets import load_digits

    known = {tuple(digit.ravel().astype(int)) for digit in load_digits().images}
    assert tuple((small.train_set[3].flatten().double() * 16 / 255).round().int().tolist()) in known
    assert "1500 train, 297 others" in data.describe()


@pytest.mark.parametrize("size", [24, 32])
def test_faces_are_divided_with_their_mirror_images(size: int) -> None:
    data = FacesData(image_size=size)
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set)) == (160, 40)
    assert torch.equal(data.val_set[0].flip(2), data.val_set[20])
    held_out = torch.stack([data.val_set[key] for key in range(40)]).flatten(1).double()
    assert all(data.train_set[key].shape == (1, size, size) for key in (0, 159, 160))
    assert torch.equal(data.train_set[5], data.train_set[5])
    cuts = {data.train_set[5 + 160 * epoch].numpy().tobytes() for epoch in range(12)}
    assert 1 < len(cuts) <= 4  # one of two places in each direction
    train = torch.stack([data.train_set[key] for key in range(160)]).flatten(1).double()
    assert torch.cdist(train, held_out).min() > 100


def write(folder: Path, name: str, size: tuple[int, int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def test_the_middle_of_own_images_is_resized(tmp_path: Path) -> None:
    for index in range(10):
        write(tmp_path, f"{index}.png", (20, 20 + index))
    data = GANFolderData(str(tmp_path), image_size=20, val_fraction=0.2, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set), data.channels) == (8, 2, 3)
    path = data.val_set.files[0]  # type: ignore[attr-defined]
    pixels = np.asarray(Image.open(path))
    left = (pixels.shape[1] - 20) // 2
    assert torch.equal(data.val_set[0], torch.from_numpy(pixels[:, left : left + 20].copy()).permute(2, 0, 1))
    grey = GANFolderData(str(tmp_path), image_size=10, channels=1, mirror=True, val_fraction=0.2, num_workers=0)
    grey.setup("fit")
    assert grey.train_set[0].shape == (1, 10, 10)
    expected = np.asarray(Image.open(grey.val_set.files[0]).convert("L").crop((left, 0, left + 20, 20)).resize((10, 10), 3))  # type: ignore[attr-defined]
    assert (grey.val_set[0][0].int() - torch.from_numpy(expected.copy()).int()).abs().max() <= 2
    versions = {grey.train_set[8 * epoch].numpy().tobytes() for epoch in range(12)}
    assert len(versions) == 2


def test_folders_may_say_what_is_held_out(tmp_path: Path) -> None:
    for name, part in (("a", "train"), ("bb", "train"), ("c", "val")):
        write(tmp_path / part, f"{name}.png", (9, 9))
    data = GANFolderData(str(tmp_path), image_size=8, num_workers=0)
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set)) == (2, 1) and str(tmp_path) in data.describe()


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.png", (9, 9))
    write(tmp_path, "b.png", (9, 9))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(TrainError, match=r"broken\.png"):
        GANFolderData(str(tmp_path), image_size=8, val_fraction=0.4).prepare_data()
    with pytest.raises(TrainError, match="there is no folder"):
        GANFolderData(str(tmp_path / "none")).prepare_data()
    with pytest.raises(TrainError, match="image_size must be an integer, at least 2, got 1"):
        GANFolderData(str(tmp_path), image_size=1)
