"""`lossfold predict` and `lossfold.load`: what comes out for every task, by the module's own decisions."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("tifffile")

import tifffile

import lossfold as lf
from lossfold.predict import command, predictor, run, writing
from lossfold.predict.load import fitting
from lossfold.predict.tasks import DepthTask
from lossfold.train.errors import TrainError
from lossfold.train.tiles import spans
from tests.predict.made import made

SIZES = {"one": (70, 90), "deep/two": (40, 130), "deep/three": (200, 170)}
TILES = ["--tile=96", "--overlap=8"]


@pytest.fixture(autouse=True)
def _allow_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures, and trimaps beside them."""
    generator = np.random.default_rng(0)
    for key, (height, width) in SIZES.items():
        rows, columns = np.mgrid[:height, :width]
        picture = np.stack([rows % 256, columns % 256, generator.integers(0, 255, (height, width))], 2).astype(np.uint8)
        trimap = np.select([columns < width // 3, columns > 2 * width // 3], [0, 255], 128).astype(np.uint8)
        for folder, array in (("images", picture), ("trimaps", trimap)):
            path = tmp_path / folder / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "images"


def predicted(task: str, tmp_path: Path, images: Path, *options: str, status: int = 0) -> tuple[Path, Path]:
    """Carry the command out; return the run's folder and the results'."""
    folder, output = tmp_path / task, tmp_path / f"{task}-results"
    if not folder.exists():
        made(folder, task)
    trimaps = [f"--trimaps={tmp_path / 'trimaps'}"] if task == "matting" else []
    assert command.main([str(folder), str(images), "-o", str(output), *trimaps, *TILES, *options]) == status
    return folder, output


def read(path: Path) -> Any:
    return np.asarray(Image.open(path))


def test_multiclass_is_a_palette_of_class_ids_and_its_module_agrees(tmp_path: Path, images: Path) -> None:
    folder, output = predicted("multiclass", tmp_path, images, "--probabilities")
    whole, tiled = lf.load(folder), lf.load(folder, tile=96, overlap=8)
    for key, size in SIZES.items():
        file = Image.open(output / "predictions" / f"{key}.png")
        assert file.mode == "P" and file.getpalette()[:3] == [185, 190, 199]  # type: ignore[index]
        labels, values = np.asarray(file), np.load(output / "probabilities" / f"{key}.npy")
        assert labels.shape == size and values.shape == (3, *size)
        assert (labels == tiled(images / f"{key}.png")).all() and (values == tiled.probabilities(images / f"{key}.png")).all()
        assert (labels == values.argmax(0)).all() and np.abs(values.sum(0) - 1).max() < 1e-5
    image = read(images / "deep/two.png")
    padded = np.pad(image, ((0, 24), (0, 30), (0, 0)))
    padded[40:], padded[:, 130:] = (124, 116, 104), (124, 116, 104)  # as evaluation pads
    logits = whole.task.module(torch.from_numpy(padded).permute(2, 0, 1)[None])[0, :, :40, :130]
    torch.testing.assert_close(torch.from_numpy(whole.probabilities(image)), logits.softmax(0), atol=1e-5, rtol=1e-4)
    assert len(np.unique(whole(image))) > 1  # not the same everywhere
    assert not np.array_equal(whole.probabilities(image), whole.probabilities(image[:, ::-1]))


def test_channels_are_masks_of_their_own(tmp_path: Path, images: Path) -> None:
    folder, output = predicted("multilabel", tmp_path, images)
    load = lf.load(folder, tile=96, overlap=8)
    found = load(images / "one.png")
    assert found.shape == (2, 70, 90) and found.dtype == np.uint8 and set(np.unique(found)) == {0, 1}
    for channel, name in zip(found, ("cat", "dog"), strict=True):
        assert (read(output / "predictions" / name / "one.png") == 255 * channel).all()
    assert (found == (load.probabilities(images / "one.png") > 0.5)).all()
    folder, output = predicted("binary", tmp_path, images)
    assert (read(output / "predictions/deep/two.png") == 255 * lf.load(folder)(images / "deep/two.png")).mean() > 0.99


def test_alphas_keep_what_the_trimap_knows(tmp_path: Path, images: Path) -> None:
    folder, output = predicted("matting", tmp_path, images)
    alpha = lf.load(folder, tile=96, overlap=8)(images / "one.png", tmp_path / "trimaps/one.png")
    trimap = read(tmp_path / "trimaps/one.png")
    assert alpha.shape == (70, 90) and (alpha[trimap == 0] == 0).all() and (alpha[trimap == 255] == 1).all()
    assert np.ptp(alpha[trimap == 128]) > 0.01
    assert (read(output / "predictions/one.png") == np.round(255 * alpha)).all()
    with pytest.raises(TrainError, match="needs a trimap"):
        lf.load(folder)(images / "one.png")
    with pytest.raises(TrainError, match="130 x 40 pixels, its image 90 x 70"):
        lf.load(folder)(images / "one.png", tmp_path / "trimaps/deep/two.png")
    assert command.main([str(folder), str(images), "-o", str(output)]) == 1  # no trimaps


def test_restored_images_have_the_range_and_scale_of_their_own(tmp_path: Path, images: Path) -> None:
    folder, output = predicted("restoration", tmp_path, images)
    load = lf.load(folder, tile=96, overlap=8)
    image = read(images / "one.png")
    result = load(image)
    assert result.shape == (140, 180, 3) and result.dtype == np.uint8 and (read(output / "predictions/one.png") == result).all()
    deep, floats = load(image.astype(np.uint16) * 257), load(image.astype(np.float32) / 255)
    assert deep.dtype == np.uint16 and floats.dtype == np.float32
    assert np.abs(deep / 65535 - floats).max() < 1e-4 and np.abs(result / 255 - floats).max() < 0.51 / 255
    tifffile.imwrite(images / "one.tif", image.astype(np.uint16) * 257, photometric="rgb")
    (images / "one.png").unlink()
    predicted("restoration", tmp_path, images, "--overwrite")
    assert (tifffile.imread(output / "predictions/one.tif") == deep).all() and not (output / "predictions/one.png").exists()


def test_a_generator_makes_the_same_samples_whatever_is_made_beside_them(tmp_path: Path) -> None:
    folder = made(tmp_path / "gan", "gan")
    assert command.main([str(folder), "--count=3", "--seed=5", "-o", str(tmp_path / "out")]) == 0
    several = lf.load(folder)(3, seed=5)
    assert several.shape == (3, 8, 8, 3) and not (several[0] == several[1]).all()
    for index, image in enumerate(several):
        assert np.abs(read(tmp_path / f"out/predictions/{index:06}.png").astype(int) - image).max() <= 1
    assert command.main([str(folder), str(tmp_path)]) == 1  # images make no sense


def test_large_images_are_seen_and_written_in_windows(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, small = predicted("multiclass", tmp_path, images, "--probabilities")
    asked: list[int] = []
    original: Callable[..., Any] = predictor.Picture.window
    monkeypatch.setattr(run, "LARGE", 5000)
    monkeypatch.setattr(writing, "LARGE", 5000)
    monkeypatch.setattr(
        predictor.Picture, "window", lambda self, *part: asked.append(original(self, *part).numel()) or original(self, *part)
    )
    output = tmp_path / "large"
    assert command.main([str(folder), str(images), "-o", str(output), *TILES, "--probabilities"]) == 0
    assert max(asked) <= 3 * 96 * 96
    with tifffile.TiffFile(output / "predictions/deep/three.tif") as file:
        assert int(file.pages[0].photometric) == 3 and file.pages[0].colormap[:, 0].tolist() == [185 * 257, 190 * 257, 199 * 257]
        assert (file.pages[0].asarray() == read(small / "predictions/deep/three.png")).all()
    for key in SIZES:
        assert (np.load(output / f"probabilities/{key}.npy") == np.load(small / f"probabilities/{key}.npy")).all()
    assert not list(output.rglob("*.part"))
    assert (read(output / "sheet/deep/three.jpg") == read(small / "sheet/deep/three.jpg")).all()


def test_what_was_reduced_in_training_is_reduced(tmp_path: Path, images: Path) -> None:
    folder = made(tmp_path / "run", "multiclass", reading={"max_side": 64, "data_range": None})
    image = read(images / "deep/three.png")
    values, at_its_size = lf.load(folder).probabilities(image), lf.load(folder, max_side=0).probabilities(image)
    assert values.shape == at_its_size.shape == (3, 200, 170) and np.abs(values - at_its_size).max() > 0.01
    small = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    small = torch.nn.functional.interpolate(small, size=(64, 54), mode="bilinear", antialias=True)
    seen = lf.load(folder).probabilities(small[0].permute(1, 2, 0).numpy())
    again = torch.nn.functional.interpolate(torch.from_numpy(seen)[None], size=(200, 170), mode="bilinear")[0]
    torch.testing.assert_close(torch.from_numpy(values), again, atol=1e-5, rtol=1e-4)


def test_alphas_of_reduced_images_keep_what_the_trimap_knows(tmp_path: Path, images: Path) -> None:
    folder = made(tmp_path / "run", "matting")
    trimap = np.full((200, 170), 128, np.uint8)
    trimap[:, 3::17], trimap[:, 9::17] = 0, 255  # lines that a smaller trimap does not hold
    alpha = lf.load(folder, max_side=64)(images / "deep/three.png", trimap)
    assert (alpha[trimap == 0] == 0).all() and (alpha[trimap == 255] == 1).all() and np.ptp(alpha[trimap == 128]) > 0.01


def test_depths_that_a_file_can_not_hold_are_told(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = predicted("depth", tmp_path, images)
    assert "16 bits" not in capsys.readouterr().err
    found = lf.load(folder, tile=96, overlap=8)(images / "one.png")
    assert (read(output / "predictions/one.png") == np.round(found * 256)).all()
    for factor, kept in ((1e4, 65535), (1e-4, 0)):
        monkeypatch.setattr(DepthTask, "forward", lambda self, x, factor=factor: factor * self.module(x))
        predicted("depth", tmp_path, images, "--overwrite")
        assert (read(output / "predictions/one.png") == kept).mean() > 0.5
        assert "one: 100.0 % of the depths are beyond what 16 bits hold" in (said := capsys.readouterr().err)
        assert "--probabilities" in said and said.count("16 bits") == 3


@pytest.mark.parametrize("place", ["put", "keep"])
def test_what_was_stopped_goes_on_without_loss(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    whole = {path: path.read_bytes() for path in predicted("multilabel", tmp_path, images)[1].rglob("*.png")}
    folder, output, calls = tmp_path / "multilabel", tmp_path / "again", 0
    original: Callable[..., None] = getattr(writing.Results, place)

    def stopped(self: writing.Results, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        original(self, *arguments)

    arguments = [str(folder), str(images), "-o", str(output), *TILES]
    with monkeypatch.context() as patch:
        patch.setattr(writing.Results, place, stopped)
        assert command.main(arguments) == 130
    assert len(list(output.rglob("predictions/**/*.png"))) == 2 * (place == "keep")
    (output / "log.jsonl").open("a").write('{"key": "deep/th')  # a line that a kill left unfinished
    (output / "predictions/cat/.0123-1.part").write_bytes(b"torn")
    assert command.main(arguments) == 0
    assert {path.relative_to(output): path.read_bytes() for path in output.rglob("*.png")} == {
        path.relative_to(tmp_path / "multilabel-results"): content for path, content in whole.items()
    }
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.png")}
    assert command.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.png")} == before and not list(output.rglob("*.part"))
    assert len((output / "log.jsonl").read_text().splitlines()) == 4  # three, and what was torn


def test_results_of_another_checkpoint_are_not_mixed_in(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = predicted("binary", tmp_path, images)
    before = read(output / "predictions/one.png")
    predicted("binary", tmp_path, images, "--tile=128", status=1)
    assert "holds results of" in capsys.readouterr().err
    made(folder, "binary", seed=1)
    predicted("binary", tmp_path, images, status=1)
    assert "--overwrite" in capsys.readouterr().err
    predicted("binary", tmp_path, images, "--overwrite")
    assert not (read(output / "predictions/one.png") == before).all()


def test_what_can_not_be_read_is_named_and_the_rest_is_done(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "a<b>.png").write_bytes((images / "one.png").read_bytes()[:900])
    _, output = predicted("binary", tmp_path, images, status=1)
    assert "a<b>: " in capsys.readouterr().err
    assert {path.name for path in output.rglob("predictions/**/*.png")} == {"one.png", "two.png", "three.png"}
    page = (output / "index.html").read_text()
    assert "a&lt;b&gt;" in page and page.count("<figure>") == 3 and "90 x 70, cat" in page and "http" not in page
    assert "lossfold.load(" in page and "lossfold score" in page
    assert json.loads((output / "log.jsonl").read_text().splitlines()[0])["shares"]["cat"] > 0


@pytest.mark.parametrize(
    "task", ["multiclass", *(pytest.param(task, marks=pytest.mark.slow) for task in ("matting", "restoration", "gan"))]
)
def test_an_exported_program_says_what_the_predictor_says(tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = made(tmp_path / "run", task), tmp_path / "model.pt2"
    assert command.main([str(folder), "--export", str(file), *TILES]) == 0
    program, load = torch.export.load(file).module(), lf.load(folder, tile=1024)
    if task == "gan":
        assert (program(load.latents(1)).permute(0, 2, 3, 1).numpy() == load(1)).all()
        return
    fixed = "only (--tile)" in capsys.readouterr().out
    assert fixed == (task == "matting")
    for size in [(96, 96)] if fixed else [(64, 96), (224, 160)]:
        image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        trimap = np.full(size, 128, np.uint8)
        trimap[:20] = 255
        inputs = [torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(trimap)[None, None]][: 1 + (task == "matting")]
        decided, values = program(*inputs)
        torch.testing.assert_close(values, torch.from_numpy(load.probabilities(image, trimap)), atol=1e-5, rtol=1e-4)
        assert (decided == load.task.decide(values)).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs", "git lfs pull"),
        (b"PK\3\4 torn", "try --checkpoint another"),
        (None, "there is no"),
    ],
)
def test_a_checkpoint_that_is_none_is_one_line(
    tmp_path: Path, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "torn.ckpt"
    tmp_path.joinpath("empty").mkdir()
    if content is not None:
        path.write_bytes(content)
    assert command.main([str(path if content is not None else tmp_path / "empty"), str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said and said.count("\n") == 1


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "run", "binary") / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    del content["state_dict"]["network.head.bias"]
    torch.save(content, path)
    with pytest.raises(TrainError, match=r"1 parameters differ, network\.head\.bias"):
        lf.load(path)
    del content["hyper_parameters"]["_instantiator"]
    torch.save(content, path)
    with pytest.raises(TrainError, match=r"network=\.\.\."):
        lf.load(path)


def test_arrays_that_are_no_images_are_refused(tmp_path: Path) -> None:
    load = lf.load(made(tmp_path / "run", "binary"))
    for array in (np.zeros((3, 4, 5), np.uint8), np.zeros((4, 5), np.int64), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(TrainError, match="an image is an array"):
            load(array)
    grey = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    assert (load(grey) == load(np.repeat(grey[..., None], 3, 2))).all() and (load(grey) == load(torch.from_numpy(grey))).all()
    assert (load(grey) == load(Image.fromarray(grey))).all()


def test_deep_images_of_pillow_keep_their_depth(tmp_path: Path) -> None:
    load = lf.load(made(tmp_path / "run", "binary"))
    deep = np.random.default_rng(0).integers(0, 65535, (40, 50), dtype=np.uint16)
    right = load.probabilities(deep)
    assert np.ptp(right) > 0.01
    for image in (Image.fromarray(deep), Image.fromarray(deep.astype(">u2")), Image.fromarray(deep.astype(np.int32))):
        assert image.mode.startswith("I") and (load.probabilities(image) == right).all()
    floats = (deep / 65535).astype(np.float32)
    assert (load.probabilities(Image.fromarray(floats)) == load.probabilities(floats)).all()
    with pytest.raises(TrainError, match="int32"):
        load(Image.fromarray(deep.astype(np.int32) * 2))


@pytest.mark.parametrize(
    ("array", "data_range", "said"),
    [
        (np.linspace(0, 255, 3200, dtype=np.float32), None, "values from 0 to 255, expected 0 to 1 "),
        (np.linspace(-0.5, 1, 3200, dtype=np.float32), None, "values from -0.5 to 1, expected 0 to 1 "),
        (np.arange(0, 6400, 2, dtype=np.uint16), 4095, "values from 0 to 6398, expected 0 to 4095 "),
        (np.full(3200, 200, np.uint8), 100, "values from 200 to 200, expected 0 to 100 "),
    ],
)
def test_images_that_training_refuses_are_refused(tmp_path: Path, array: Any, data_range: float | None, said: str) -> None:
    load = lf.load(made(tmp_path / "run", "binary", reading={"max_side": None, "data_range": data_range}))
    with pytest.raises(TrainError, match=f"holds {said}.*data.data_range"):
        load(array.reshape(40, 80))
    load((array * 0).reshape(40, 80))


@pytest.mark.parametrize("divisor", [1, 14, 32, 48, 512])
def test_windows_fit_the_network_where_nobody_says_how_large(divisor: int) -> None:
    tile = fitting(divisor, 128)
    assert 1024 <= tile < 1024 + 3 * divisor and spans(3000, tile, 128, divisor)
