"""The command: what is written, what is refused and listed, and the exit status."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lossfold.cli.__main__ import main
from lossfold.score import score

from . import folders


def run(*words: Any) -> int:
    return main(["score", *map(str, words)])


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.segmentation(tmp_path, 4)
    out = tmp_path / "out"
    names = ["road", "sky </x>", "$car"]
    assert run(tmp_path / "pred", tmp_path / "truth", "--classes", *names, "--ignore", 255, "-o", out, "--worst", 2) == 0
    assert "IoU" in capsys.readouterr().out
    found = score(tmp_path / "pred", tmp_path / "truth", classes=names, ignore=255)
    written = json.loads((out / "scores.json").read_text())
    assert written["summary"] == [vars(line) for line in found.summary] and written["images"] == found.images
    with (out / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["value"]) for line in lines] == [line.value for line in found.summary]
    with (out / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["iou/$car"]) for row in rows] == [row["iou/$car"] for row in found.images]
    page = (out / "report.html").read_text()
    assert "sky &lt;/x&gt;" in page and "sky </x>" not in page and page.count("<figure>") == 2 * 3
    worst = min(found.images, key=lambda row: row["iou"])["name"]
    assert page.index(f"<h3>{worst}</h3>") == page.index("<h3>")
    assert run(tmp_path / "pred", tmp_path / "truth", "--classes", *names, "--ignore", 255, "-o", out, "--quiet") == 0
    assert not capsys.readouterr().out


def test_what_predict_was_told_to_write_to_stands_for_its_predictions(tmp_path: Path) -> None:
    folders.segmentation(tmp_path, 2)
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "pred").rename(out / "predictions")
    (out / "predict.json").write_text("{}")
    inside, outside = (score(one, tmp_path / "truth", classes=3, ignore=255) for one in (out / "predictions", out))
    assert inside.images == outside.images


@pytest.mark.parametrize("task", ["binary", "multilabel", "matting", "restoration", "depth"])
def test_every_task_has_a_page(tmp_path: Path, task: str) -> None:
    words: list[Any] = [tmp_path / "pred", tmp_path / "truth", "--task", task, "-o", tmp_path / "out", "--quiet", "--bootstrap", 9]
    if task in ("binary", "multilabel"):
        folders.multilabel(tmp_path)
        if task == "binary":
            words[:2] = [tmp_path / "pred" / "cat", tmp_path / "truth" / "cat"]
        else:
            words += ["--classes", "cat", "dog"]
    elif task == "matting":
        folders.mattes(tmp_path)
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "1.png").write_bytes(b"broken")
        folders.save(tmp_path / "images" / "2.png", np.zeros((700, 900, 3), np.uint8))
        words += ["--trimaps", tmp_path / "trimaps", "--images", tmp_path / "images", "--whole", 0]
    elif task == "depth":
        folders.depths(tmp_path)
        words += ["--scale-shift", "median", "--unit", "1/2", "--least", "0.1", "--most", "80"]
    else:
        folders.images(tmp_path)
    assert run(*words) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<figure>") == {"binary": 9, "multilabel": 12, "matting": 10, "restoration": 9, "depth": 9}[task]
    assert ("from 0.1 to 80; unit 0.5; predictions times the ratio of the medians" in page) == (task == "depth")
    assert ("conn is left out for 3 image(s)" in page) == (task == "matting")


def test_a_line_of_pixels_has_pictures(tmp_path: Path) -> None:
    folders.mattes(tmp_path, 1, (3, 1300))  # of which a picture takes every fourth row
    words = [tmp_path / "pred", tmp_path / "truth", "--task", "matting", "--trimaps", tmp_path / "trimaps"]
    assert run(*words, "-o", tmp_path / "out", "--quiet") == 0
    assert (tmp_path / "out" / "report.html").read_text().count("<figure>") == 3


def test_what_cannot_be_scored_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.segmentation(tmp_path, 9, ((40, 50),))
    pred, truth = tmp_path / "pred", tmp_path / "truth"
    good = (pred / "00.png").read_bytes()
    (pred / "01.png").write_bytes(good[: len(good) // 2])
    (pred / "02.png").write_bytes(b"")
    (pred / "03.png").unlink()
    (truth / "04.png").unlink()
    folders.save(pred / "05.png", np.zeros((40, 51), np.uint8))
    Image.fromarray(np.full((40, 50, 3), (1, 2, 3), np.uint8)).save(pred / "06.png")
    folders.save(truth / "07.png", np.full((40, 50), 9, np.uint8))
    folders.save(truth / "08.png", np.full((40, 50), 255, np.uint8))  # all ignored: no value, no problem
    assert run(pred, truth, "--classes", 3, "--ignore", 255, "-o", tmp_path / "out", "--quiet") == 1
    printed = capsys.readouterr().err
    problems = {one["name"]: one["reason"] for one in json.loads((tmp_path / "out" / "scores.json").read_text())["problems"]}
    assert len(problems) == 7 and all(name in printed for name in problems)
    for name, reason in (
        ("01", "can't be decoded"),
        ("02", "is empty"),
        (str(truth / "03.png"), "has no prediction"),
        (str(pred / "04.png"), "has no truth"),
        ("05", "05.png is 51 x 40 pixels"),
        ("06", "colours"),
        ("07", "holds the value(s) 9, and the classes are 0 to 2"),
    ):
        assert reason in problems[name]
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())["images"]
    assert [row["name"] for row in rows] == ["00", "08"] and rows[1]["iou"] is None
    (pred / "01.png").write_bytes(good)
    assert run(pred, truth, "--classes", 3, "--ignore", 255, "-o", tmp_path / "out", "--quiet") == 1
    assert len(json.loads((tmp_path / "out" / "scores.json").read_text())["images"]) == 3  # a mended file is scored


def test_files_of_another_kind_than_the_task_are_listed(tmp_path: Path) -> None:
    grey = np.arange(1200, dtype=np.uint8).reshape(30, 40)
    cases: list[tuple[str, Any, Any, str, dict[str, Any]]] = [
        ("binary", grey, grey > 9, "--threshold 0.5", {}),
        ("segmentation", np.arange(1200, dtype=np.uint16).reshape(30, 40), grey % 3, "more than 256 labels", {}),
        ("segmentation", np.stack([grey] * 2 + [grey * 0], -1), grey % 3, "--colors", {}),
        ("matting", (grey > 9).astype(np.uint8), grey, "holds only 0 and 1, but 255 is opaque", {}),
        ("matting", np.stack([grey] * 2 + [grey * 0], -1), grey, "one grey value per pixel", {}),
        ("matting", grey, grey, "a trimap holds 0 (background)", {"trimaps": tmp_path / "3" / "truth"}),
        ("restoration", grey, np.stack([grey] * 3, -1), "1 channel(s) of uint8", {}),
        ("restoration", np.full((30, 40), np.nan, np.float32), grey / np.float32(255), "not finite", {}),
        ("restoration", grey.astype(np.float32), grey.astype(np.float32), "--data-range 255", {}),
        ("restoration", np.full((30, 40), 9, np.uint16), grey.astype(np.uint16) * 99, "--data-range 65535", {"data_range": 4095}),
        ("restoration", grey[:9], grey[:9], "it takes 11", {}),
        ("depth", np.stack([grey] * 2 + [grey * 0], -1), grey, "one number per pixel", {}),
        ("depth", grey > 9, grey, "one bit a pixel", {}),
        ("depth", np.where(grey > 9, np.nan, 1).astype(np.float32), grey, "no finite depth above 0 at", {}),
        ("depth", np.where(grey > 9, 0, 1).astype(np.float32), grey, "no finite depth above 0 at", {"scale_shift": "median"}),
    ]
    for index, (task, pred, truth, said, options) in enumerate(cases):
        root = tmp_path / str(index)
        for folder, array in (("pred", pred), ("truth", truth)):
            folders.save(root / folder / f"a.{'npy' if array.dtype in (bool, np.uint16, np.float32) else 'png'}", array)
        found = score(root / "pred", root / "truth", task, **options)
        assert not found.rows and said in found.problems[0].reason, (task, found.problems)
        assert all(line.value is None for line in found.summary)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "matting", "--classes", "a"], "classes must be left out"),
        (["--metrics", "iuo"], "did you mean 'iou'"),
        (["--tolerance", "-1"], "tolerance"),
        (["--empty", "7"], "empty must be a number from 0 to 1"),
        (["--workers", "0"], "workers must be an integer of at least 1"),
        (["--task", "multilabel"], "names of the folders"),
        (["--colors", "nonsense"], "expected COLOR=LABEL"),
        (["--truth-pattern", "{nme}"], "{name}"),
        (["--trimaps", "x"], "left out but for matting"),
        (["--most", "80"], "left out but for depth"),
        (["--task", "depth", "--most", "0.0001"], "most must be a depth above least"),
        (["--task", "depth", "--unit", "0"], "what a value of 1 means"),
        (["--task", "depth", "--unit", "1/0"], "invalid fraction value"),
        (["--task", "depth", "--classes", "a"], "classes must be left out"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    folders.segmentation(tmp_path, 1, ((20, 20),))
    try:
        status = run(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out", *words)
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2 and said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_folders_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.segmentation(tmp_path, 2, ((20, 20),))
    (tmp_path / "empty").mkdir()
    folders.save(tmp_path / "other" / "x.png", np.zeros((2, 2), np.uint8))
    for there, said in (("empty", "holds no image"), ("nowhere", "is no folder"), ("other", "have no image in common")):
        assert run(tmp_path / "pred", tmp_path / there, "-o", tmp_path / "out") == 2
        assert said in capsys.readouterr().err
    for path in (tmp_path / "truth").iterdir():
        os.rename(path, path.with_name(path.stem + "_mask.png"))
    assert run(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out", "--quiet") == 0
    assert run(tmp_path / "pred", tmp_path / "pred", "-o", tmp_path / "out") == 2
    assert "both are the same" in capsys.readouterr().err


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """They are scored and written, in Python's way of writing such bytes."""
    name = os.fsdecode(b"bad\xff")
    try:
        for folder in ("pred", "truth"):
            folders.save(tmp_path / folder / f"{name}.png", np.eye(20, dtype=np.uint8))
    except OSError:
        pytest.skip("the file system takes none")
    out = tmp_path / "out"
    assert run(tmp_path / "pred", tmp_path / "truth", "-o", out) == 0
    assert json.loads((out / "scores.json").read_text("utf-8"))["images"][0]["name"] == name
    assert all("bad\\udcff" in (out / file).read_text("utf-8") for file in ("images.csv", "report.html"))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, -0.1])
def test_probabilities_are_from_0_to_1(tmp_path: Path, value: float) -> None:
    probability = np.full((20, 20), 0.7, np.float32)
    probability[3, 3] = value
    for name, array in (("bad", probability), ("good", np.full_like(probability, 0.7))):
        folders.save(tmp_path / "pred" / f"{name}.npy", array)
        folders.save(tmp_path / "truth" / f"{name}.png", np.ones((20, 20), np.uint8))
    found = score(tmp_path / "pred", tmp_path / "truth", "binary", threshold=0.5, metrics=["iou"])
    assert [problem.name for problem in found.problems] == ["bad"] and "lies in 0..1" in found.problems[0].reason
    assert [row.name for row in found.rows] == ["good"]
