"""Small data and small runs for the tests of `lossfold train`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning")

from lossfold.train import main
from tests.train.tiny import COLLAGE, TRAINER, UNET, Train


@pytest.fixture(autouse=True)
def _allow_warnings() -> Iterator[None]:
    """Lightning and torch warn about each other; these tests are not about that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Run `lossfold train segmentation` with tiny sizes in a fresh folder, and return the run's folder."""

    def run(*options: str, data: list[str] = COLLAGE, network: list[str] = UNET, name: str = "run", status: int = 0) -> Path:
        folder = tmp_path / name
        assert main(["segmentation", *TRAINER, *data, *network, f"--run_dir={folder}", *options]) == status
        return folder

    return run


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Ten pictures with two discs each; masks hold classes 0..2 and ignored pixels; palette and grey ones."""
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for index in range(10):
        height, width = 40 + index, 50
        rows, columns = np.mgrid[:height, :width]
        mask = np.zeros((height, width), np.uint8)
        for label, centre in ((1, 12), (2, 36)):
            distance = np.hypot(rows - 20, columns - centre)
            mask[distance < 9] = label
            mask[(distance >= 9) & (distance < 10)] = 255
        image = np.stack([mask % 255 * 90, rows, columns], 2) + generator.integers(0, 20, (height, width, 3))
        picture = Image.fromarray(mask)
        if index % 2:
            picture = picture.convert("P")
            picture.putdata(mask.flatten().tolist())
        picture.save(tmp_path / "data" / "masks" / f"{index:02}.png")
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "data" / "images" / f"{index:02}.jpg")
    return tmp_path / "data"
