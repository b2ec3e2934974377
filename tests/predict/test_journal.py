"""What a results' folder holds: of one checkpoint, of the images as they are, written by one call."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning")
pytest.importorskip("tifffile")

import tifffile

import lossfold as lf
from lossfold.predict import command, journal, run
from tests.predict.made import made


@pytest.fixture(autouse=True)
def _allow_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures of noise, and trimaps beside them."""
    generator = np.random.default_rng(0)
    for key in ("one", "two", "three"):
        picture = generator.integers(0, 255, (40, 60, 3), dtype=np.uint8)
        for folder, array in (("images", picture), ("trimaps", np.full((40, 60), 128, np.uint8))):
            path = tmp_path / folder / f"{key}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "images"


def predict(folder: Path, *arguments: object, output: Path) -> int:
    """Carry the command out."""
    return command.main([str(folder), *map(str, arguments), "-o", str(output)])


def pngs(output: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in output.rglob("predictions/**/*.png")}


def test_a_folder_of_two_checkpoints_says_so_until_all_are_made_again(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other, output = made(tmp_path / "a", "binary"), made(tmp_path / "b", "binary", seed=1), tmp_path / "out"
    assert predict(folder, images, "--probabilities", output=output) == 0
    assert predict(other, images / "one.png", "--overwrite", output=output) == 0
    assert "2 image(s) still have results of another" in capsys.readouterr().err
    assert not (output / "probabilities/one.npy").exists()  # it was of the other checkpoint
    assert predict(other, images, output=output) == 0
    assert "2 predicted, 1 were there" in (said := capsys.readouterr()).out and "still" not in said.err
    load = lf.load(other)
    for path in output.rglob("predictions/*.png"):
        assert (np.asarray(Image.open(path)) == 255 * load(images / path.name)).all()


def test_overwriting_that_was_stopped_leaves_nothing_of_the_other_checkpoint(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other, output = made(tmp_path / "a", "binary"), made(tmp_path / "b", "binary", seed=1), tmp_path / "out"
    assert predict(folder, images, output=output) == 0
    whole = pngs(output)

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # a result is in its place, its line is not written
        patch.setattr(journal.Journal, "add", stopped)
        assert predict(other, images, "--overwrite", output=output) == 130
    assert pngs(output) != whole
    with monkeypatch.context() as patch:
        patch.setattr(run, "_predict", stopped)
        assert predict(folder, images, "--overwrite", output=output) == 130
    assert predict(folder, images, output=output) == 0 and pngs(output) == whole


def test_images_of_the_same_names_from_another_folder_do_not_replace_results(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output, others = made(tmp_path / "run", "binary"), tmp_path / "out", tmp_path / "others"
    assert predict(folder, images, output=output) == 0
    before = pngs(output)
    others.mkdir()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(others / "one.png")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(others / "four.png")
    assert predict(folder, others, output=output) == 1 and pngs(output) == before
    said = capsys.readouterr().err
    assert f"1 other image(s) of the same names: one is of {images / 'one.png'}" in said and "--output" in said
    monkeypatch.chdir(images)  # the same files under other names, or another file where a link leads
    assert predict(folder, "one.png", output=output) == 0
    (images / "one.png").rename(tmp_path / "one.png")
    (images / "one.png").symlink_to(others / "one.png")
    assert predict(folder, images, output=output) == 0 and pngs(output) != before
    (output / "predictions/two.png").unlink()
    (output / "sheet/two.jpg").unlink()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(others / "two.png")
    assert predict(folder, others / "two.png", output=output) == 0  # nothing is lost
    assert predict(folder, others, "--overwrite", output=output) == 0


def test_images_beside_the_results_are_images(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path / "run", "binary")
    assert predict(folder, images, output=images) == 0
    assert "3 predicted" in (said := capsys.readouterr()).out and "passed over" not in said.err
    assert predict(folder, images, output=images) == 0
    assert "3 were there" in (said := capsys.readouterr()).out and "6 result(s)" in said.err and len(pngs(images)) == 3
    assert predict(folder, images / "sheet", output=images) == 1
    assert "no image to predict but 3 result(s)" in capsys.readouterr().err


def test_an_image_or_trimap_that_has_changed_is_predicted_again(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = made(tmp_path / "run", "matting"), tmp_path / "out"
    assert predict(folder, images, "--trimaps", tmp_path / "trimaps", output=output) == 0
    Image.fromarray(np.full((40, 60), 255, np.uint8)).save(tmp_path / "trimaps/one.png")
    os.utime(images / "two.png", (1, 1))
    assert predict(folder, images, "--trimaps", tmp_path / "trimaps", output=output) == 0
    assert "2 predicted, 1 were there" in capsys.readouterr().out
    assert (np.asarray(Image.open(output / "predictions/one.png")) == 255).all()
    (tmp_path / "trimaps").rename(tmp_path / "others")
    assert predict(folder, images, "--trimaps", tmp_path / "others", output=output) == 1
    assert "holds results of" in capsys.readouterr().err


def test_a_folder_is_written_by_one_call_and_must_be_of_predict(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fcntl")
    folder, output = made(tmp_path / "run", "binary"), tmp_path / "out"
    with journal.Journal(output, journal.Settings("binary", "", "", {}), overwrite=False):
        assert predict(folder, images, output=output) == 1
        assert "is being written by another run" in (said := capsys.readouterr().err) and said.count("\n") == 1
    for content in (b'{"dig', b"[]", b"\xff", b"{}"):
        (output / "predict.json").write_bytes(content)
        assert predict(folder, images, output=output) == 1
        assert "torn, or not of lossfold predict" in (said := capsys.readouterr().err) and said.count("\n") == 1
    (output / "log.jsonl").write_text('[]\n7\n{"key": "one", "files": ["predictions/../../run/checkpoints/last.ckpt"]}\n')
    assert predict(folder, images, "--overwrite", output=output) == 0
    assert (folder / "checkpoints/last.ckpt").exists() and len(pngs(output)) == 3


def test_names_that_are_long_or_no_text_and_files_named_twice(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output, content = made(tmp_path / "run", "binary"), tmp_path / "out", (images / "one.png").read_bytes()
    (images / ("x" * 251 + ".png")).write_bytes(content)
    try:
        Path(os.fsdecode(os.fsencode(images) + b"/bad\xff.png")).write_bytes(content)
        Path(os.fsdecode(os.fsencode(images) + b"/torn\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("the file system takes no such names")
    assert predict(folder, images, images / "two.png", output=output) == 1 and "torn\\udcff: " in capsys.readouterr().err
    assert predict(folder, images, images / "two.png", output=output) == 1
    assert "0 predicted, 5 were there, 1 could not be" in capsys.readouterr().out
    assert b"bad\xff.png" in os.listdir(os.fsencode(output / "predictions"))
    assert "sheet/bad%FF.jpg" in (output / "index.html").read_text("utf-8")


def test_images_with_values_that_are_not_finite_are_refused(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        array = np.full((20, 30, 3), 0.5, np.float32)
        array[3, 4, 1] = value
        tifffile.imwrite(images / f"{name}.tif", array, photometric="rgb")
    assert predict(made(tmp_path / "run", "binary"), images, output=output) == 1
    assert "3 predicted, 2 could not be" in (said := capsys.readouterr()).out and said.err.count("NaN or inf") == 2
    assert not list(output.rglob("nan*")) and not list(output.rglob("inf*"))
