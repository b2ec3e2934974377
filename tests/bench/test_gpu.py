"""`--device cuda` without a GPU: all but the device itself, in whose place stands one that works as it is called."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor

from lossfold.bench import gpu, graphs, main, markdown, predicted, report, results, timing, worker
from lossfold.bench.calibration import Calibration
from lossfold.bench.case import Sample, Setting
from lossfold.bench.cases import CASES
from lossfold.bench.clocks import DeviceClock
from lossfold.bench.machine import slug
from lossfold.bench.providers import on

ROOT = Path(__file__).parents[2]


class Event:
    """An event of a device that is done with everything at once."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = perf_counter()

    def elapsed_time(self, other: Event) -> float:
        return 1000 * (other.at - self.at)


class Device:
    """What `torch.cuda` has, with graphs that keep the last work that ran within them."""

    Event = Event
    depth = 0

    def __init__(self) -> None:
        self.waits = self.replays = 0
        self.capturing = False

    def synchronize(self) -> None:
        assert not self.capturing, "operation not permitted when stream is capturing"
        self.waits += 1

    def Stream(self) -> Any:  # noqa: N802 - as torch.cuda calls it
        return self.current_stream()

    def current_stream(self) -> Any:
        return type("Stream", (), {"wait_stream": lambda mine, other: None})()

    def stream(self, side: object) -> Any:
        return contextlib.nullcontext()

    def CUDAGraph(self) -> Any:  # noqa: N802 - as torch.cuda calls it
        def replay(graph: object) -> None:
            self.replays += 1

        return type("Graph", (), {"replay": replay})()

    @contextlib.contextmanager
    def graph(self, captured: object) -> Any:
        self.capturing = True
        yield
        self.capturing = False


def sample() -> Sample:
    return Sample(torch.randn(2, 3, 4, requires_grad=True), (torch.zeros(2, 4, dtype=torch.int64),))


def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        main(["--device", "cuda"])
    told = capsys.readouterr()
    assert end.value.code == 2 and not told.out
    assert told.err.count("\n") == 1 and "--device cuda" in told.err and "GPU" in told.err


def test_events_take_the_time_after_the_cache_was_written_over() -> None:
    device, cache = Device(), torch.ones(8)
    clock, seen = DeviceClock(device, cache), []

    def loss(leaf: Tensor, labels: Tensor) -> Tensor:
        seen.append(cache.sum().item())
        cache.fill_(1)
        end = perf_counter() + 0.002
        while perf_counter() < end:
            pass
        return leaf.sum()

    spreads = timing.measure({"one": (loss, sample())}, repeats=3, warmup=1, clock=clock)["one"]
    assert seen == [0] * 4 and device.waits == 4
    assert 2 <= spreads["forward"].median <= spreads["both"].median
    assert clock.fastest(lambda: cache.fill_(1), tries=2) > 0


def test_a_graph_is_captured_after_runs_that_warm_up_and_forgotten() -> None:
    device, given = Device(), sample()
    calls: list[bool] = []

    def loss(leaf: Tensor, labels: Tensor) -> Tensor:
        calls.append(device.capturing)
        assert leaf.grad is None
        return leaf.sum()

    seconds = graphs.replay_times(DeviceClock(device, torch.ones(8)), loss, given, repeats=5, warmup=2)
    assert calls == [False] * graphs.WARM + [True]
    assert len(seconds) == 5 and device.replays == 7
    assert given.leaf.grad is None


def rows_of_a_run(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Rows as a run on a GPU would leave them, of the CPU's work."""
    device = Device()

    def waits(leaf: Tensor, labels: Tensor) -> Tensor:
        value = CASES["ce"].truth(leaf, labels)
        device.synchronize()
        return value

    case = CASES["ce"]
    entry = case.entries["eager"]
    monkeypatch.setitem(case.entries, "kornia", type(entry)(lambda: waits))  # type: ignore[arg-type, index]
    monkeypatch.setitem(case.entries, "lossfold-triton", case.entries["lossfold-eager"])  # type: ignore[arg-type, index]
    monkeypatch.setattr(worker, "clock_of", lambda name: DeviceClock(device, torch.ones(8)))
    monkeypatch.setattr(worker, "calibrate", lambda quick, device, clock: Calibration(1e9, 1e9))
    monkeypatch.setattr(gpu, "clocks", lambda: {"clocks.sm": 1980.0})
    task = {"device": "cuda", "providers": ["lossfold-triton", "eager", "kornia"], "repeats": 2, "warmup": 1, "quick": True}
    values = {"size": [1, 3, 8, 8], "dtype": "float32", "labels": "int64", "logits": "random", "seed": 0}
    task |= {"verdicts": {}, "work": [("ce", values)]}
    found = [{**row, "allocator": "plain"} for row in worker.time_task(json.loads(json.dumps(task)))]
    about = {"name": "NVIDIA H100", "driver": "570.1", "runtime": "CUDA 13.0", "clocks": {"clocks.sm": 1980.0}}
    machine = {
        "kind": "machine",
        "cpu": "Some CPU",
        "cores": 2,
        "threads": 2,
        "torch": "2.14",
        "torch_simd": "AVX2",
        "lossfold": {},
    }
    return results.finish([{"kind": "run", "quick": True}, {**machine, "gpu": about}, *found])


def test_rows_and_report_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of_a_run(monkeypatch)
    timed = {row["provider"]: row for row in results.of_kind(rows, "time", status="ok")}
    assert timed.keys() == {"lossfold-triton", "eager", "kornia"}
    assert timed["eager"]["graph_ms"]["median"] >= 0 and "capturing" in timed["kornia"]["graph_reason"]
    assert [row["clocks.sm"] for row in results.of_kind(rows, "clocks")] == [1980]
    (ratio,) = results.of_kind(rows, "ratio")
    assert ratio["graph_best"] == "eager" and ratio["graph_vs_eager"] == ratio["graph_vs_best"]
    told = report.render(rows)
    assert "NVIDIA H100 (driver 570.1, CUDA 13.0, SM 1980 MHz)" in told and "on the GPU" in told
    assert "kornia: not as a CUDA graph" in told and "as CUDA graphs" in told
    assert "| lossfold |" in markdown.render(rows) and "| `ce` |" in markdown.render(rows)
    assert slug(results.of_kind(rows, "machine")[0]) == "nvidia-h100"


def test_the_documented_table_is_the_program_s() -> None:
    documented = (ROOT / "docs" / "gpu.md").read_text()
    assert "\n".join(predicted.table()) in documented
    assert f"lossfold bench --device cuda --case {','.join(predicted.PREDICTED)}" in documented
    row = {
        "kind": "time",
        "case": "ce",
        "provider": "lossfold-triton",
        "status": "ok",
        "dtype": "float32",
        "shape": predicted.SHAPE,
    }
    row |= {"graph_ms": {"median": 0.0912}, "both_ms": {"median": 0.2}}
    assert "| 0.085 to 0.11 ms | 0.091 ms | 0.200 ms |" in predicted.table([row])[2]


@pytest.mark.parametrize("case", CASES)
def test_inputs_are_made_on_the_device(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made elsewhere: the meta device, which has no generator, stands for a GPU."""
    asked: list[str] = []

    class NoGenerator:
        def __init__(self, device: str) -> None:
            asked.append(device)

        def manual_seed(self, seed: int) -> None:
            return None

    monkeypatch.setattr(torch, "Generator", NoGenerator)
    made: Callable[..., Sample] = CASES[case].sample
    on_meta = made(Setting(size=CASES[case].sizes.quick, device="meta"))
    assert {one.device.type for one in (on_meta.leaf, *on_meta.rest)} == {"meta"}
    assert on_meta.leaf.requires_grad and asked == ["meta"]


def test_who_runs_where() -> None:
    assert "lossfold-cpp" in on("cpu") and "lossfold-triton" not in on("cpu")
    assert "lossfold-triton" in on("cuda") and "lossfold-compiled" in on("cuda") and "lossfold-cpp" not in on("cuda")
