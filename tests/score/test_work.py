"""Parts, workers, order, deaths, interruptions: nothing of it changes a digit, and nothing is counted twice or lost."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from lossfold.errors import LossError
from lossfold.score import Problem, Scores, cluster, score
from lossfold.score import processes as over
from lossfold.score import run as running
from lossfold.score.exact import Total, exact_sum
from lossfold.score.items import Folders, find_items
from lossfold.score.rows import Row
from lossfold.score.settings import Settings

from . import deadly, folders

SCORES = """
import sys
from lossfold.score import score
score(sys.argv[1] + "/pred", sys.argv[1] + "/truth", ignore=255, out=sys.argv[2], replicates=20, workers=int(sys.argv[3]))
"""


@pytest.mark.parametrize("task", ["segmentation", "multilabel", "matting", "restoration", "depth"])
def test_parts_are_equal_to_the_whole(tmp_path: Path, task: str) -> None:
    options: dict[str, Any] = {"segmentation": {"ignore": 255, "tolerance": 4.5}, "multilabel": {"classes": ["cat", "dog"]}}.get(
        task, {}
    )
    if task == "segmentation":
        folders.segmentation(tmp_path, 2, ((150, 203),))
    elif task == "multilabel":
        folders.multilabel(tmp_path, count=2)
    elif task == "matting":
        folders.mattes(tmp_path, 2, (130, 150))
        options["trimaps"] = tmp_path / "trimaps"
    elif task == "depth":
        folders.depths(tmp_path, 2, (130, 150))
        options["scale_shift"] = "least_squares"
    else:
        folders.images(tmp_path, 2, (140, 131))
        rng = np.random.default_rng(0)
        for folder in ("pred", "truth"):  # floats, whose sums round
            folders.save(tmp_path / folder / "floats.npy", rng.random((133, 150, 3), np.float32))
    found = [score(tmp_path / "pred", tmp_path / "truth", task, tile=tile, replicates=0, **options) for tile in (64, 77, 4096)]
    assert not found[0].problems and len(found[0].rows) > 1
    assert found[0].rows == found[1].rows == found[2].rows


def test_large_files_are_read_in_bands_or_from_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folders.segmentation(tmp_path, 2)
    whole = score(tmp_path / "pred", tmp_path / "truth", ignore=255)
    for name, pair in made.items():
        for array, folder in zip(pair, ("pred", "truth"), strict=True):
            folders.save(tmp_path / f"{folder}_bands" / f"{name}.npy", array)
    monkeypatch.setattr("lossfold.score.pixels.LARGE", 100)
    for end in ("", "_bands"):
        parts = score(tmp_path / f"pred{end}", tmp_path / f"truth{end}", ignore=255, tile=64)
        assert [row.sums for row in parts.rows] == [row.sums for row in whole.rows]


def test_sums_are_rounded_once() -> None:
    values = np.random.default_rng(0).standard_normal(30001) * 10.0 ** np.random.default_rng(1).integers(-9, 9, 30001)
    whole, parts = Total(), Total()
    whole.add(values)
    for start in range(0, len(values), 1234):
        parts.add(values[::-1][start : start + 1234])
    assert whole.value == parts.value == exact_sum(values)[0] == math.fsum(values.tolist())


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # forks, cheap, where the slow test starts processes anew
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_and_order_change_no_digit_and_dead_ones_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.setattr(over, "START", start)
    folders.segmentation(tmp_path, 7)
    alone = score(tmp_path / "pred", tmp_path / "truth", ignore=255)
    three = score(tmp_path / "pred", tmp_path / "truth", ignore=255, workers=3)
    assert three.rows == alone.rows and three.summary == alone.summary
    settings = Settings(ignore=255)
    items, _ = find_items(Folders(tmp_path / "pred", tmp_path / "truth"), settings)
    monkeypatch.setattr(over, "measure", deadly.measure)
    results = list(over.over_processes(items[::-1], settings, 2))
    problems = [result for result in results if isinstance(result, Problem)]
    assert [problem.name for problem in problems] == ["03"] and "killed its process 3 times" in problems[0].reason
    rows = sorted((result for result in results if not isinstance(result, Problem)), key=lambda row: row.name)
    assert rows == [row for row in alone.rows if row.name != "03"]  # each once, the one that died among them


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("deaths", [2, 3])
def test_a_death_at_the_start_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int) -> None:
    def prepare() -> None:
        marker = tmp_path / f"died{len(list(tmp_path.glob('died*')))}"
        if marker.name != f"died{deaths}":
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(over, "START", "fork")
    monkeypatch.setattr(over, "_prepare", prepare)
    folders.segmentation(tmp_path, 1)
    items, _ = find_items(Folders(tmp_path / "pred", tmp_path / "truth"), Settings())
    if deaths == over.TRIES:
        with pytest.raises(RuntimeError, match="can't be started"):
            list(over.over_processes(items, Settings(), 1))
    else:
        assert [result.name for result in over.over_processes(items, Settings(), 1)] == ["00"]


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.segmentation(tmp_path, 12, ((40, 50),) * 8 + ((400, 500),) * 4)
    whole = score(tmp_path / "pred", tmp_path / "truth", ignore=255, replicates=20)
    out = tmp_path / "out"
    journal = out / "rows.jsonl"
    run = subprocess.Popen([sys.executable, "-c", SCORES, str(tmp_path), str(out), "2"])
    while run.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
        time.sleep(0.005)
    workers = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL and len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=30)[1]  # they end with it
    done = journal.read_bytes().count(b"\n") - 1
    assert 3 <= done < 12
    with journal.open("ab") as file:
        file.write(b'{"name": "05", "stamps": [[1')  # torn
    measured = counting(monkeypatch)
    options: dict[str, Any] = {"ignore": 255, "replicates": 20, "out": out}
    assert score(tmp_path / "pred", tmp_path / "truth", **options).rows == whole.rows
    assert len(measured) == 12 - done
    assert json.loads((out / "scores.json").read_text())["summary"] == [dataclasses.asdict(line) for line in whole.summary]
    measured.clear()
    folders.save(tmp_path / "pred" / "07.png", np.zeros((40, 50), np.uint8))
    assert score(tmp_path / "pred", tmp_path / "truth", **options).rows != whole.rows
    assert measured == ["07"]  # the file that has changed, and with other settings everything
    with pytest.raises(FileExistsError, match="scores of other options"):
        score(tmp_path / "pred", tmp_path / "truth", **options | {"ignore": 254})
    score(tmp_path / "pred", tmp_path / "truth", **options | {"ignore": 254}, overwrite=True)
    assert len(measured) == 13


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    measured, honest = [], running.measure

    def measure(item: Any, settings: Any) -> Any:
        measured.append(item.name)
        return honest(item, settings)

    monkeypatch.setattr(running, "measure", measure)
    return measured


def test_two_runs_do_not_write_one_journal(tmp_path: Path) -> None:
    path, of = tmp_path / "rows.jsonl", {"settings": Settings().fingerprint, "predictions": "a", "truth": "b"}
    journal = running.Journal(path, of)
    with pytest.raises(FileExistsError, match="another run"):
        running.Journal(path, of)
    journal.add(Row("x", [], {}))
    journal.close()
    for changed, said in (({"truth": "c"}, "other files, truth b"), ({"settings": "{}"}, "other options")):
        with pytest.raises(FileExistsError, match=f"holds scores of {said}; name another folder with -o"):
            running.Journal(path, of | changed)
        with pytest.raises(FileExistsError, match=said):  # anew, but not of the same
            running.Journal(path, of | changed, resume=False)
    again = running.Journal(path, of)
    assert list(again.rows) == ["x"]
    again.close()
    replaced = running.Journal(path, of | {"truth": "c"}, overwrite=True)
    assert not replaced.rows
    replaced.close()
    running.Journal(path, of).close()  # there were no rows yet


def test_what_others_have_written_is_kept(tmp_path: Path) -> None:
    """As the scores and the report of a training, whose folder is named by mistake."""
    folders.segmentation(tmp_path, 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.html").write_text("of a training")
    with pytest.raises(FileExistsError, match=r"holds report\.html, which is not of lossfold score"):
        score(tmp_path / "pred", tmp_path / "truth", out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.html"]
    score(tmp_path / "pred", tmp_path / "truth", out=tmp_path / "run", overwrite=True)
    assert "of a training" not in (tmp_path / "run" / "report.html").read_text()


def test_scores_add_and_count_nothing_twice(tmp_path: Path) -> None:
    folders.segmentation(tmp_path, 4)
    whole = score(tmp_path / "pred", tmp_path / "truth", ignore=255)
    halves = [Scores(whole.settings, rows) for rows in (whole.rows[2:], whole.rows[:2])]
    assert (halves[0] + halves[1]).summary == whole.summary
    with pytest.raises(LossError, match="2 that are in both: 02, 03"):
        halves[0] + whole
    with pytest.raises(LossError, match="same settings"):
        halves[0] + Scores(Settings(ignore=0), whole.rows[:2])


def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    side = 12000
    for folder, value in (("pred", 1), ("truth", 2)):
        (tmp_path / folder).mkdir()
        array = np.lib.format.open_memmap(tmp_path / folder / "a.npy", "w+", np.uint8, (side, side))
        array[::2] = value
        array.flush()
        del array
    code = """
import resource, sys
from lossfold.score import score, run
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
import lossfold.score.pixels
before = peak()
found = score(sys.argv[1] + "/pred", sys.argv[1] + "/truth", metrics=["iou"])
print(peak() - before, found.rows[0].sums["confusion"])
"""
    printed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    megabytes, _, pairs = printed.partition(" ")
    assert json.loads(pairs) == [[0, 0, side * side // 2], [2, 1, side * side // 2]]
    assert float(megabytes) < 220  # both files are 288 MB


@pytest.mark.slow
def test_a_cluster_of_two_workers_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    folders.segmentation(tmp_path, 5)
    folders.save(tmp_path / "pred" / "02.png", np.zeros((3, 3), np.uint8))
    alone = score(tmp_path / "pred", tmp_path / "truth", ignore=255)
    address = ray.init(num_cpus=2, log_to_driver=False).address_info["address"]
    try:
        spread = score(tmp_path / "pred", tmp_path / "truth", ignore=255, ray=address)
        assert spread.rows == alone.rows and spread.summary == alone.summary and spread.problems == alone.problems
        monkeypatch.setattr(cluster, "measure", deadly.measure)
        mourned = score(tmp_path / "pred", tmp_path / "truth", ignore=255, ray=address)
        assert [problem.name for problem in mourned.problems] == ["02", "03"] and "lost 3 times" in mourned.problems[1].reason
        assert mourned.rows == tuple(row for row in alone.rows if row.name != "03")
    finally:
        ray.shutdown()
