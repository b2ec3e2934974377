"""Own folders of every kind: what the data yield is what was written, as NumPy says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

pytest.importorskip("lightning")

from lossfold.cli.__main__ import main
from lossfold.train.data import AlphaFolderData, FolderData, GANFolderData, RestorationFolderData
from lossfold.train.data.depth import unit
from lossfold.train.errors import TrainError
from lossfold.train.nets import SmallUNet
from lossfold.train.restoration.module import RestorationModule
from lossfold.train.segmentation.module import SegmentationModule
from tests.files.writing import as_stored, deep_png, pixels

COLOURS = {"#000000": (0, 0, 0), "#804080": (128, 64, 128), "red": (255, 0, 0), "#fff": (255, 255, 255)}


def save(path: Path, array: Any, orientation: int = 1) -> None:
    """Write an array as the suffix and the dtype want."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.ascontiguousarray(as_stored(array, orientation))
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        kind = "rgb" if array.ndim == 3 else "minisblack"
        tifffile.imwrite(path, stored, photometric=kind, extratags=[(274, "H", 1, orientation, True)])
    elif array.dtype == np.uint16:
        deep_png(path, stored, orientation)
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(stored).save(path, exif=exif)


def test_segmentation_reads_every_kind_of_image_and_mask(tmp_path: Path) -> None:
    """EXIF 1 to 8, 8 and 16 bits, floats, colour masks with sub-folders, patterns and names of one's own."""
    right: list[tuple[Any, Any]] = []
    kinds = ["png", "tif", "png", "tif", "npy"]
    for index in range(10):
        kind, deep = kinds[index % 5], index % 5 in (2, 3)
        shape = (20, 24) if index % 3 == 0 else (20, 24, 3)
        image = pixels(shape, "float32" if kind == "npy" else "uint16" if deep else "uint8", seed=index)
        labels = pixels((20, 24), seed=index) % 4
        save(tmp_path / "photos" / f"part{index % 2}" / f"{index}.{kind}", image, min(index + 1, 8) if kind != "npy" else 1)
        save(tmp_path / "painted" / f"part{index % 2}" / f"{index}_mask.png", np.array(list(COLOURS.values()), np.uint8)[labels])
        white = {"uint8": 255, "uint16": 65535, "float32": 1}[image.dtype.name]
        colours = (image / white).reshape(20, 24, -1) * np.ones(3)
        right.append((colours.transpose(2, 0, 1), np.where(labels == 3, 255, labels)))
    options: dict[str, Any] = {"images": "photos", "masks": str(tmp_path / "painted"), "recursive": True, "num_workers": 0}
    data = FolderData(str(tmp_path), 3, mask_colors=list(COLOURS), crop_size=24, augment=False, **options)
    data.prepare_data()
    data.setup("fit")
    order = sorted(range(10), key=lambda index: (index % 2, index))
    seen = 0
    for side in (data.train_set, data.val_set):
        for key in range(len(side)):
            image, labels = data.samples.read(side.pairs[key])  # type: ignore[attr-defined]
            index = int(side.files_of(key)[0].stem)  # type: ignore[attr-defined]
            assert image.dtype == (torch.uint8 if index % 5 < 2 else torch.float32)
            np.testing.assert_allclose(unit(image).numpy(), right[index][0], atol=1e-7)
            np.testing.assert_array_equal(labels.numpy(), right[index][1])
            seen += 1
    assert seen == len(order)
    batch = data.collate([data.train_set[key] for key in range(8)])  # of 8 and of more bits, cropped and padded
    assert batch[0].dtype == torch.float32 and batch[0].max() <= 1
    model = SegmentationModule(data.class_names, SmallUNet(3, width=4, levels=2))
    assert model.criterion(*model.scored(batch)).total.isfinite()


def test_masks_beside_images_and_white_of_twelve_bits(tmp_path: Path) -> None:
    """One folder with both; a range of one's own; values beyond it are an error that names the file."""
    for index in range(4):
        save(tmp_path / f"{index}.png", pixels((6, 8), "uint16", index) >> 4)
        save(tmp_path / f"{index}_seg.png", pixels((6, 8), seed=index) // 128 * 255)
    options: dict[str, Any] = {"images": ".", "masks": ".", "num_workers": 0, "foreground": 255, "val_fraction": 0.5}
    data = FolderData(str(tmp_path), 2, data_range=4095, **options)
    data.prepare_data()
    data.setup("fit")
    for key in range(2):
        image, labels = data.val_set[key]
        index = int(data.val_set.files_of(key)[0].stem)  # type: ignore[attr-defined]
        np.testing.assert_allclose(image[1].numpy(), (pixels((6, 8), "uint16", index) >> 4) / np.float32(4095), rtol=1e-6)
        np.testing.assert_array_equal(labels.numpy(), pixels((6, 8), seed=index) // 128)
    with pytest.raises(TrainError, match=r"2\.png holds values from \d+ to \d+, expected 0 to 100; set data.data_range"):
        FolderData(str(tmp_path), 2, data_range=100, **options).prepare_data()
    with pytest.raises(TrainError, match="4 of 4 can't be used"):
        FolderData(str(tmp_path), 2, data_range=100, **options).prepare_data()
    with pytest.raises(TrainError, match=r"1 image\(s\) without a partner .*: 1.png.*data.pattern"):
        (tmp_path / "1_seg.png").unlink()
        FolderData(str(tmp_path), 2, pattern="{name}_seg", **options).prepare_data()


@pytest.mark.parametrize("colours", ["too few", "twice", "no colour"])
def test_wrong_colours_of_masks(colours: str) -> None:
    listed = {"too few": ["red"], "twice": ["red", "#ff0000"], "no colour": ["red", "#ggg"]}[colours]
    with pytest.raises(TrainError, match=r"data\.mask_colors"):
        FolderData("", 2, mask_colors=listed)


def test_no_class_has_the_label_of_ignored_pixels() -> None:
    """Unless its own value says so."""
    for options in ({"mask_values": [1, 2, 3]}, {"mask_colors": ["red", "lime", "blue"]}):
        with pytest.raises(TrainError, match=r"ignore_index: 0 is a class's label, by .*: write data\.ignore_index: 255"):
            FolderData("", 3, ignore_index=0, **options)
    with pytest.raises(TrainError, match="ignore_index: 0 is a class's label"):
        FolderData("", 2, ignore_index=0, foreground=255)
    reader = FolderData("", 3, ignore_index=0, mask_values=[0, 128, 255]).samples.reader
    assert reader.labels(np.array([[0, 128, 255]], np.uint8), Path("a")).tolist() == [[0, 1, 2]]


def test_mattes_and_restoration_keep_sixteen_bits(tmp_path: Path) -> None:
    """Images, alphas and targets of 16 bits, upright, and the scores of what is exactly right."""
    images, alphas = (
        [pixels((20, 24, 3), "uint16", seed) for seed in range(4)],
        [pixels((20, 24), "uint16", 9 + seed) for seed in range(4)],
    )
    for index, (image, alpha) in enumerate(zip(images, alphas, strict=True)):
        save(tmp_path / "matting" / "photos" / f"{index}.tif", image, 3)
        save(tmp_path / "matting" / "photos" / f"{index}_alpha.png", alpha, 6)
        save(tmp_path / "pairs" / "clean" / f"{index}.tif", image, 2)
        save(tmp_path / "pairs" / "noisy" / f"x{index}_noisy.png", image // 2, 8)
    common: dict[str, Any] = {"num_workers": 0, "val_fraction": 0.5, "crop_size": 16}
    mattes = AlphaFolderData(str(tmp_path / "matting"), images="photos", alphas="photos", pattern="{name}_alpha", **common)
    mattes.prepare_data()
    mattes.setup("fit")
    pairs = RestorationFolderData(
        str(tmp_path / "pairs"), "pairs", targets="clean", inputs="noisy", pattern="x{name}_noisy", **common
    )
    pairs.prepare_data()
    pairs.setup("fit")
    for key in range(2):
        sample, pair = mattes.val_set[key], pairs.val_set[key]
        index, other = (int(data.val_set.files_of(key)[-1].stem.strip("x_noisyalph")) for data in (mattes, pairs))  # type: ignore[attr-defined]
        np.testing.assert_allclose(sample.image.numpy(), images[index].transpose(2, 0, 1) / np.float32(65535), rtol=1e-6)
        np.testing.assert_allclose(sample.alpha[0].numpy(), alphas[index] / np.float32(65535), rtol=1e-6)
        np.testing.assert_allclose(pair.target.numpy(), images[other].transpose(2, 0, 1) / np.float32(65535), rtol=1e-6)
        np.testing.assert_allclose(pair.image.numpy(), images[other].transpose(2, 0, 1) // 2 / np.float32(65535), rtol=1e-6)
    batch = pairs.collate([pairs.train_set[key] for key in range(2)])
    model = RestorationModule(1, torch.nn.Identity(), divisor=1)
    assert torch.equal(model.scored((batch.target, batch.target))[0], model.scored((batch.target, batch.target))[1])
    noisy = RestorationFolderData(str(tmp_path / "pairs" / "clean"), "denoise", sigma=25.5, **common)
    noisy.setup("fit")
    sample = noisy.val_set[0]
    inside = (sample.target > 0.3) & (sample.target < 0.7)
    assert float((sample.image - sample.target)[inside].std()) == pytest.approx(0.1, rel=0.1)


def test_generation_keeps_the_range_of_sixteen_bits(tmp_path: Path) -> None:
    for index in range(4):
        save(tmp_path / "sub" / f"{index}.png", pixels((8, 8, 3), "uint16", index))
    data = GANFolderData(str(tmp_path), image_size=8, recursive=True, val_fraction=0.5, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    index = int(data.val_set.files_of(0)[0].stem)  # type: ignore[attr-defined]
    expected = (pixels((8, 8, 3), "uint16", index) / 257).round().transpose(2, 0, 1)
    np.testing.assert_array_equal(data.val_set[0].numpy(), expected)


def test_check_data_tells_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes, depths, classes' shares, what can't be used, and what is on both sides; the status says whether all is well."""
    for part, count in (("train", 3), ("val", 2)):
        for index in range(count):
            labels = np.zeros((10, 10), np.uint8)
            labels[: 2 + index] = 1
            save(tmp_path / part / "images" / f"{index}.png", pixels((10, 10, 3), "uint16" if index == 2 else "uint8", seed=index))
            save(tmp_path / part / "masks" / f"{index}.png", labels)
    nearly = np.clip(pixels((10, 10, 3), seed=1).astype(int) + 1, 0, 255).astype(np.uint8)
    save(tmp_path / "val" / "images" / "1.png", nearly)
    options = [f"--data.root={tmp_path}", f"--json={tmp_path / 'found.json'}", f"--picture={tmp_path / 'some.png'}"]
    assert main(["check-data", "segmentation", *options, "--data.classes=[ground, crack, dent]"]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert [found["training"][index]["pixels"]["crack"] for index in range(3)] == [20, 30, 40] and "30.00%" in said
    assert found["training"][0]["size"] == [10, 10] and "of 8 bits" in said
    assert [[Path(path).parts[-3:] for path in pair] for pair in found["same"]] == [
        [("train", "images", "0.png"), ("val", "images", "0.png")]
    ]
    assert [Path(pair[0]).name for pair in found["alike"]] == ["1.png"] and "pixel by pixel" in said
    assert Image.open(tmp_path / "some.png").size == (5 * 230 + 6, 2 * 230 + 6)
    (tmp_path / "train" / "images" / "1.png").write_bytes(b"")
    save(tmp_path / "train" / "masks" / "2.png", np.full((10, 10), 7, np.uint8))
    assert main(["check-data", "segmentation", *options, "--data.classes=2"]) == 1
    said = capsys.readouterr().out
    assert "2 of 5 can't be used" in said and "1.png is empty" in said and "2.png has 7" in said
    assert main(["check-data", "segmentation", *options]) == 1  # any class: what occurs is listed
    assert "class 7" in capsys.readouterr().out
    assert main(["check-data", "gan", f"--data.root={tmp_path / 'val' / 'images'}", "--data.val_fraction=0.5"]) == 0
    assert main(["check-data", "matting", f"--data.root={tmp_path}"]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main(["check-data", "nothing"]) == 2


def test_windows_of_a_segmentation_are_multiples_of_the_datas_divisor() -> None:
    model = SegmentationModule(["a", "b"], torch.nn.Conv2d(3, 2, 1)).eval()
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(divisor=40))  # type: ignore[assignment]
    model.tile, sides = 200, []
    model.network.register_forward_pre_hook(lambda _, inputs: sides.extend(inputs[0].shape[2:]))
    with torch.no_grad():
        model.evaluated(torch.zeros(1, 3, 80, 480))
    assert len(sides) > 2 and not any(side % 40 for side in sides)


def test_evaluation_in_windows_is_that_of_the_whole(tmp_path: Path) -> None:
    """A network that sees 13 pixels says the same in windows, at every scale; batches and small images go through as they are."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, 200, 633)
    convolutions = [torch.nn.Conv2d(3, 3, 5, padding=2), torch.nn.Conv2d(3, 3, 5, padding=2), torch.nn.Conv2d(3, 3, 5, padding=2)]
    for scale in (1, 2):
        network = torch.nn.Sequential(*convolutions, torch.nn.Upsample(scale_factor=scale)).eval()
        model = RestorationModule(scale, network, divisor=1)
        model.eval()
        with torch.no_grad():
            whole = model(images)
            model.tile = 256  # of which the outer 8 pixels only inform
            seen = model.evaluated(images)
            assert torch.equal(model.evaluated(images[..., :128]), model(images[..., :128]))
        torch.testing.assert_close(seen, whole, atol=1e-5, rtol=0)
