"""Restoration data: what degrades images and how, crops that belong together, and wrong files that are named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

pytest.importorskip("lightning")

from lossfold.train.data import PhotographData, RestorationFolderData
from lossfold.train.data.depth import read_picture
from lossfold.train.data.photographs import Photographs, recoloured
from lossfold.train.data.restoration import Degradation, crop
from lossfold.train.data.restoration_folders import RestorationFolders
from lossfold.train.data.sources import RESTORATION_HELD_OUT_PHOTOS, RESTORATION_TRAIN_PHOTOS
from lossfold.train.errors import TrainError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(height: int, width: int, index: int = 0) -> np.ndarray[Any, Any]:
    """A picture without detail that bicubic could lose, other for every index."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([40 + 2 * rows + index, 60 + 2 * columns, 90 + rows + columns + 3 * index], 2).clip(0, 255).astype(np.uint8)


def tensor(picture: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_images_are_reduced_as_pillow_does(scale: int) -> None:
    clean = torch.randint(80, 176, (3, 38, 31), dtype=torch.uint8, generator=generator())
    image, target = Degradation("sr", scale)(clean, generator())
    height, width = 38 // scale, 31 // scale
    assert image.shape == (3, height, width) and torch.equal(target, clean[:, : scale * height, : scale * width])
    picture = Image.fromarray(target.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.BICUBIC)
    assert image.dtype == torch.uint8 and (image.int() - tensor(np.array(picture)).int()).abs().max() <= 1


def test_noise_is_white_and_gaussian() -> None:
    grey = torch.full((3, 200, 200), 128, dtype=torch.uint8)
    image, target = Degradation("denoise", 1, 20.0)(grey, generator())
    noise = image.double() - 128
    assert torch.equal(target, grey) and noise.std().item() == pytest.approx(20, rel=0.02) and abs(noise.mean()) < 0.3
    assert ((noise.abs() < 20).double().mean() - 0.6827).abs() < 0.015
    assert abs(torch.corrcoef(torch.stack([noise[:, :, 1:].flatten(), noise[:, :, :-1].flatten()]))[0, 1]) < 0.02
    white, _ = Degradation("denoise", 1, 20.0)(torch.full((3, 50, 50), 255, dtype=torch.uint8), generator())
    assert white.max() == 255 and white.min() > 100  # nothing wraps around


@pytest.mark.parametrize("degradation", ["sr", "denoise"])
def test_samples_are_a_function_of_seed_and_key(degradation: Any) -> None:
    one, two = (PhotographData(degradation, photo_height=60, crop_size=24, train_images=8) for _ in range(2))
    one.setup("fit")
    two.setup("fit")
    for part in range(2):
        assert torch.equal(one.train_set[3][part], two.train_set[3][part])
        assert not torch.equal(one.train_set[3][part], one.train_set[11][part])
        assert torch.equal(one.val_set[2][part], two.val_set[2][part])
    other = PhotographData(degradation, photo_height=60, crop_size=24, train_images=8, seed=1)
    other.setup("fit")
    assert not torch.equal(one.train_set[3].target, other.train_set[3].target)
    image, target = one.train_set[0]
    assert target.shape == (3, 24, 24) and image.shape == (3, 24 // one.scale, 24 // one.scale)


def test_training_crops_come_in_all_colours() -> None:
    grey = torch.full((3, 4, 4), 200, dtype=torch.uint8)
    colours = torch.stack([recoloured(grey, generator(seed))[:, 0, 0] for seed in range(60)]).float()
    assert colours.min() >= 79 and colours.max() <= 200 and (colours.amax(0) - colours.amin(0) > 100).all()
    assert (colours.amax(1) - colours.amin(1)).mean() > 40
    stripes = torch.tensor([200, 100, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 4)
    assert {int(recoloured(stripes, generator(seed))[:, 0, 0].argmin()) for seed in range(20)} == {0, 1, 2}


def test_training_and_held_out_images_share_no_photograph() -> None:
    assert not set(RESTORATION_TRAIN_PHOTOS) & set(RESTORATION_HELD_OUT_PHOTOS)
    assert not any("motorcycle" in name for name in RESTORATION_TRAIN_PHOTOS)  # a stereo pair shows one thing twice
    data = PhotographData(photo_height=61, crop_size=24)
    data.setup("fit")
    assert len(data.val_set) == len(RESTORATION_HELD_OUT_PHOTOS) and data.val_batch_size == 1
    trains, held_out = cast(Photographs, data.train_set), cast(Photographs, data.val_set)
    assert len(trains.photos) == len(RESTORATION_TRAIN_PHOTOS) and data.val_set[1].target.shape[1] == 60
    assert torch.equal(data.val_set[1].target, held_out.photos[1][:, :60, : held_out.photos[1].shape[2] // 2 * 2])


def test_crops_belong_together_in_all_eight_positions() -> None:
    large = torch.arange(3 * 24 * 36).view(3, 24, 36)
    small = large[:, ::2, ::2]
    seen = set()
    for seed in range(80):
        one, two = crop([small, large], 5, generator(seed), vary=True)
        assert one.shape == (3, 5, 5) and two.shape == (3, 10, 10)
        steps = int(one[0, 0, 1] - one[0, 0, 0]), int(one[0, 1, 0] - one[0, 0, 0])
        seen.add(steps)
        least = -functional.max_pool2d(-two.float(), 2)  # of each block, the pixel that the small image has
        assert torch.equal(least.long(), one)
        plain, _ = crop([small, large], 5, generator(seed), vary=False)
        assert sorted(plain.flatten().tolist()) == sorted(one.flatten().tolist())
        assert int(plain[0, 0, 1] - plain[0, 0, 0]) == 2 and int(plain[0, 1, 0] - plain[0, 0, 0]) == 72
    assert seen == {(a, b) for a, b in ((2, 72), (72, 2))} | {(-2, 72), (2, -72), (-2, -72), (-72, 2), (72, -2), (-72, -2)}


def test_small_images_are_continued_together() -> None:
    small = torch.arange(6).view(1, 2, 3).expand(3, -1, -1).to(torch.uint8)
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    one, two = crop([small, large], 4, generator(), vary=False)
    assert one[0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert torch.equal(two, one.repeat_interleave(2, 1).repeat_interleave(2, 2))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Eight pictures of uneven sizes, and their halves as inputs; grey ones and JPEGs among them."""
    root = tmp_path / "own"
    for kind in ("input", "target"):
        (root / kind).mkdir(parents=True)
    for index in range(8):
        target = Image.fromarray(smooth(41 + index, 53, index))
        image = target.crop((0, 0, 52, (41 + index) // 2 * 2)).resize((26, (41 + index) // 2), Image.Resampling.BICUBIC)
        target.convert("L" if index == 3 else "RGB").save(root / "target" / f"{index}.png")
        image.convert("L" if index == 3 else "RGB").save(root / "input" / (f"{index}.jpg" if index == 5 else f"{index}.png"))
    return root


def folder_data(root: Path, **options: Any) -> RestorationFolderData:
    data = RestorationFolderData(str(root), num_workers=0, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def test_pairs_and_clean_images_give_the_same(own: Path) -> None:
    pairs = folder_data(own, degradation="pairs", scale=2, crop_size=16)
    for folder in ("clean", "named/target"):
        shutil.copytree(own / "target", own.parent / folder)
    clean, named = (folder_data(own.parent / folder, crop_size=16) for folder in ("clean", "named"))
    assert pairs.scale == clean.scale == named.scale == 2 and (len(pairs.train_set), len(pairs.val_set)) == (6, 2)
    for key in range(2):
        one, two, three = pairs.val_set[key], clean.val_set[key], named.val_set[key]
        assert torch.equal(one.target, two.target) and torch.equal(two.target, three.target)
        assert one.target.shape[1:] == (2 * one.image.shape[1], 2 * one.image.shape[2])
        assert torch.equal(two.image, three.image) and (one.image.int() - two.image.int()).abs().float().mean() < 1.5
    for key in range(12):
        image, target = pairs.train_set[key]
        assert image.shape == (3, 8, 8) and target.shape == (3, 16, 16)
        means = target.float().view(3, 8, 2, 8, 2).mean((2, 4))
        assert (means - image.float()).abs().mean() < 3  # the crops show the same place in the same position
        again = pairs.train_set[key]
        assert torch.equal(image, again.image) and torch.equal(target, again.target)


def test_held_out_noise_stays_and_training_noise_changes(own: Path) -> None:
    shutil.rmtree(own / "input")
    data = folder_data(own, degradation="denoise", sigma=10.0, crop_size=64, augment=False)
    assert data.scale == 1 and torch.equal(data.val_set[1].image, data.val_set[1].image)
    first, later = data.train_set[0], data.train_set[len(data.train_set)]
    assert first.image.shape == (3, 64, 64) and torch.equal(first.target[:, :41, :53], later.target[:, :41, :53])
    assert not torch.equal(first.image, later.image)
    small = folder_data(own, crop_size=16, scale=4, max_side=26)
    assert small.val_set[0].target.shape[2] == 24 and small.val_set[0].image.shape[2] == 6


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
@pytest.mark.parametrize("kinds", [("input", "target"), ("target",), ("",)])
def test_train_and_val_folders_are_the_split(own: Path, layout: str, kinds: tuple[str, ...]) -> None:
    root = own.parent / "divided"
    for kind in kinds:
        for file in sorted((own / (kind or "target")).iterdir()):
            folder = root / layout.format(kind=kind, split="val" if file.stem < "3" else "train").strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file.name)
    training, held_out = RestorationFolders(root, len(kinds) == 2).split(0.5, 0)
    assert [files.target.stem for files in held_out] == ["0", "1", "2"] and len(training) == 5
    assert all(
        (files.input.stem if files.input else None) == (files.target.stem if len(kinds) == 2 else None) for files in training
    )


def test_wrong_files_are_named(own: Path) -> None:
    with pytest.raises(TrainError, match=r"holds input/ beside its clean images; give --data\.degradation pairs"):
        folder_data(own)
    with pytest.raises(TrainError, match=r"0\.png is 53 x 41 pixels, its input 0\.png 26 x 20; expected 1 times .* data\.scale"):
        folder_data(own, degradation="pairs")
    with pytest.raises(TrainError, match=r"expected 4 times the input's size"):
        folder_data(own, degradation="pairs", scale=4)
    (own / "input" / "3.png").unlink()
    with pytest.raises(TrainError, match=r"1 target\(s\) without a partner in .*input: 3\.png"):
        folder_data(own, degradation="pairs", scale=2)
    shutil.rmtree(own / "input")
    with pytest.raises(TrainError, match=r"there is no folder .*input\. Expected clean images under data\.root"):
        folder_data(own, degradation="pairs")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(own / "target" / "3.png")
    assert {sample.target.dtype for sample in map(folder_data(own).train_set.__getitem__, range(6))} <= {torch.uint8, torch.float32}
    Image.fromarray(np.zeros((3, 40), np.uint8)).save(own / "target" / "3.png")
    assert len(folder_data(own, scale=3, crop_size=24).train_set) == 6
    with pytest.raises(TrainError, match=r"3\.png is 40 x 3 pixels, too small for the scale 4"):
        folder_data(own, scale=4)
    (own / "target" / "3.png").write_bytes(b"no image")
    with pytest.raises(TrainError, match=r"3\.png is no image that can be read"):
        folder_data(own)
    for options, message in (({"scale": 0, "degradation": "pairs"}, "data.scale must be at least 1"),
                             ({"max_side": 9, "degradation": "pairs"}, "data.max_side is for clean images"),
                             ({"crop_size": 9}, "multiple of the scale 2, got 9; try 10"), ({"scale": 1}, "2 or 3 or 4"),
                             ({"crop_size": 0, "degradation": "denoise"}, "try 1")):  # fmt: skip
        with pytest.raises(TrainError, match=message):
            RestorationFolderData(str(own), **options)  # type: ignore[arg-type]


def test_colours_of_all_kinds_are_read(tmp_path: Path) -> None:
    picture = Image.fromarray(smooth(9, 7))
    for mode, suffix in (("RGBA", "png"), ("P", "png"), ("L", "png"), ("1", "png"), ("CMYK", "jpg")):
        picture.convert(mode).save(tmp_path / f"{mode}.{suffix}")
        assert read_picture(tmp_path / f"{mode}.{suffix}").shape == (3, 9, 7), mode
    assert torch.equal(read_picture(tmp_path / "RGBA.png"), tensor(smooth(9, 7)))
