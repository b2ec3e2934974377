"""The command end to end, on inputs so small that nothing but the plumbing counts."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from lossfold.bench import main, results, worker
from lossfold.bench.options import Plan, parse_plan
from lossfold.bench.session import measure, run_worker

SMALL = ["--quick", "--size", "1,4,16,32", "--repeats", "2", "--threads", "1", "--case", "ce,dice"]
PROVIDERS = ["--provider", "lossfold-eager,eager"]


@pytest.fixture(autouse=True)
def no_compiler_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")


def in_this_process(task: dict[str, Any], variables: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """What a worker does, where nothing hangs on its being a fresh process; what does, goes to one."""
    if variables:
        yield from run_worker(task, variables)
        return
    told = json.loads(json.dumps(task))
    threads = torch.get_num_threads()
    torch.set_num_threads(told["threads"])
    for row in worker.TASKS[told["do"]](told):
        yield json.loads(json.dumps(row))
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _few_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossfold.bench.session.run_worker", in_this_process)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run with every kind of output; the allocator's switch is read by a process that starts."""
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["--allocator", "both", "--logits", "both", "--scaling", "--out", str(folder / "rows.jsonl")]
    outputs = ["--markdown", str(folder / "table.md")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lossfold.bench.session.run_worker", in_this_process)
        code = main([*SMALL, *PROVIDERS, *arguments, *outputs])
    return {"folder": folder, "code": code, "text": (folder / "rows.jsonl").read_text()}


def test_every_variant_is_timed(run: dict[str, Any]) -> None:
    assert run["code"] == 0
    rows = [json.loads(line) for line in run["text"].splitlines()]
    timed = results.of_kind(rows, "time", status="ok")
    assert len(timed) == 2 * 2 * 2 * 2  # cases, providers, logits, allocators
    for row in timed:
        assert row["both_ms"]["median"] > 0
        assert row["both_share_of_copy"] > 0
        assert row["gradient_error"] < 1e-4
    assert len(results.of_kind(rows, "ratio", provider="lossfold-eager")) == 8
    assert {row["allocator"] for row in results.of_kind(rows, "calibration")} == {"plain", "thp"}
    assert len(results.of_kind(rows, "scaling")) == 2 * 2 * 4
    assert len(results.of_kind(rows, "growth")) == 2 * 2


def test_the_file_names_the_machine_and_no_path_of_it(run: dict[str, Any]) -> None:
    rows = [json.loads(line) for line in run["text"].splitlines()]
    (machine,) = results.of_kind(rows, "machine")
    for field in ("cpu", "cores", "threads", "torch", "torch_simd", "lossfold"):
        assert machine[field], field
    assert machine["threads"] == 1
    for path in (Path.home(), Path.cwd(), run["folder"], sys.prefix):
        assert str(path) not in run["text"] or len(str(path)) < 3


def test_the_markdown_file_has_a_table_for_each_kind_of_logits(run: dict[str, Any]) -> None:
    table = (run["folder"] / "table.md").read_text()
    assert table.count("| Forward + backward |") == 2
    assert table.count("| CE |") == table.count("| Dice |") == 2


def test_a_result_file_can_be_shown_again(run: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--read", str(run["folder"] / "rows.jsonl"), "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert "Dice · [1,4,16,32] float32, int64 labels, trained logits" in shown
    assert "| Forward + backward |" in shown


def test_a_plot_is_drawn(run: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["--read", str(run["folder"] / "rows.jsonl"), "--plot", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("floor", "code"), [(1e-9, 0), (1e9, 1)])
def test_check_fails_on_an_impossible_floor(
    run: dict[str, Any], floor: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_floors(tmp_path, floor)
    assert main(["--read", str(run["folder"] / "rows.jsonl"), "--check", "--floors", str(path)]) == code
    assert ("below its floor 1e+09" in capsys.readouterr().out) == bool(code)


@pytest.mark.parametrize(("second", "code"), [(0.5, 1), (5.0, 0)])
def test_check_measures_a_fallen_case_once_more(
    second: float, code: int, run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first measurement falls (eager as slow as lossfold's own engine), the second decides."""
    measured = []

    def measure(plan: Plan, report: object) -> list[dict[str, Any]]:
        measured.append(plan.cases)
        rows = [row for row in results.read(run["folder"] / "rows.jsonl") if row["kind"] not in ("ratio", "growth")]
        for row in results.of_kind(rows, "time"):
            ratio = 1.0 if len(measured) == 1 else second
            row["both_ms"]["median"] = ratio if row["provider"] == "eager" else 1.0
        return rows

    monkeypatch.setattr("lossfold.bench.command.measure", measure)
    assert main([*SMALL, *PROVIDERS, "--check", "--floors", str(write_floors(tmp_path, 2.0))]) == code
    assert measured == [("ce", "dice"), ("ce",)]


def write_floors(folder: Path, floor: float) -> Path:
    """A file with one floor, of the eager engine's ratio on cross entropy."""
    path = folder / "floors.json"
    path.write_text(json.dumps({"provider": "lossfold-eager", "quick": {"ce": {"vs_eager": floor}}}))
    return path


def test_terms_of_a_set_are_timed_beside_it() -> None:
    arguments = ["--quick", "--size", "1,4,16,32", "--repeats", "2", "--threads", "1", "--case", "four", *PROVIDERS]
    rows = results.finish(measure(parse_plan(arguments), lambda line: None))
    (whole,) = results.of_kind(rows, "time", provider="lossfold-eager", status="ok")
    parts = results.of_kind(rows, "part", case="four", provider="lossfold-eager", allocator="plain", logits="random")
    alone = {row["part"]: row["both_ms"]["median"] for row in parts}
    assert list(alone) == ["ce", "dice", "lovasz", "focal"]
    (ratio,) = results.of_kind(rows, "ratio")
    assert ratio["dearest"] == max(alone, key=lambda part: alone[part])
    assert ratio["vs_dearest"] == pytest.approx(max(alone.values()) / whole["both_ms"]["median"])


def test_each_case_has_its_size_where_none_is_given() -> None:
    """Alphas of one channel beside logits of several classes, in one run with all outputs."""
    plan = parse_plan(["--quick", "--case", "ce,matting,matting-large"])
    assert [plan.setting_of(case).size for case in plan.cases] == [(2, 19, 128, 256), (2, 1, 256, 256), (1, 1, 512, 512)]
    assert parse_plan(["--case", "matting-large"]).setting_of("matting-large").size == (1, 1, 4096, 4096)
    given = parse_plan(["--case", "matting,laplacian", "--size", "2,1,8,8"])
    assert {given.setting_of(case, "trained").size for case in given.cases} == {(2, 1, 8, 8)}
    assert given.setting_of("matting", "trained").logits == "trained"


def test_alphas_go_through_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--size", "1,1,16,32", "--repeats", "2", "--threads", "1", "--case", "matting,laplacian"]
    outputs = ["--scaling", "--markdown", str(tmp_path / "table.md"), "--out", str(tmp_path / "rows.jsonl")]
    assert main([*arguments, "--provider", "eager", *outputs]) == 0
    shown = capsys.readouterr()
    assert "Matting: 4 terms · [1,1,16,32] float32, random alphas" in shown.out
    assert "timed Laplacian pyramid, random alphas" in shown.err
    assert "| Laplacian pyramid | – |" in (tmp_path / "table.md").read_text()
    rows = results.read(tmp_path / "rows.jsonl")
    assert [row["case"] for row in results.of_kind(rows, "time", status="ok", leaf="alphas")] == ["matting", "laplacian"]
    assert len(results.of_kind(rows, "scaling")) == 2 * 4
    pytest.importorskip("matplotlib")
    assert main(["--read", str(tmp_path / "rows.jsonl"), "--plot", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--case", "ce,lovas"], "lovas unknown"),
        (["--provider", "nobody"], "nobody unknown"),
        (["--size", "2,1,8,8"], "expected B,C,H,W"),
        (["--size", "many"], "expected B,C,H,W"),
        (["--size", "2,0,8,8", "--case", "matting"], "C from 1 to 255"),
        (["--size", "2,1,8,8", "--case", "matting,ce"], "C from 2 to 255"),
        (["--repeats", "0"], "expected 1 or more"),
        (["--check", "--size", "1,4,16,16"], "leave out --size"),
    ],
)
def test_bad_arguments_end_with_a_message(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_plan(arguments)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_quick_leaves_out_what_is_slow() -> None:
    plan = parse_plan(["--quick"])
    assert "compile" not in plan.providers
    assert (plan.allocators, plan.logits, plan.memory) == (("plain",), ("random",), ())
    full = parse_plan([])
    assert "compile" in full.providers
    assert full.memory == full.providers
    assert (full.allocators, full.logits) == (("plain", "thp"), ("random", "trained"))
