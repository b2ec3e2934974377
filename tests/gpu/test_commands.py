"""The commands on a GPU, by `make test-gpu`: a training that goes on on the CPU, and the benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import lossfold as lf
from lossfold import bench, engines
from lossfold.bench import results
from lossfold.cli.__main__ import main

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def test_info_names_the_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    told = capsys.readouterr().out
    assert torch.cuda.get_device_properties().name in told and "triton on CUDA, ROCm and XPU devices" in told
    scores = torch.zeros(1, 3, 8, device="cuda", requires_grad=True)
    labels = torch.zeros(1, 8, dtype=torch.int64, device="cuda")
    assert ", triton)" in lf.LossSet(ce=lf.CrossEntropyLoss()).plan(scores, labels) and "triton" in engines.available()


@pytest.mark.filterwarnings("ignore")
def test_a_training_in_halves_goes_on_on_the_cpu(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from tests.train.tiny import COLLAGE, TRAINER, UNET

    options = [*TRAINER[1:], *COLLAGE, *UNET, f"--run_dir={tmp_path}", "--data.num_workers=2"]
    first = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.precision=bf16-mixed"]
    assert main(["train", "segmentation", *options, *first]) == 0
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    assert kept["global_step"] == 12
    more = ["--trainer.accelerator=cpu", "--trainer.max_epochs=3", "--ckpt_path=last"]
    assert main(["train", "segmentation", *options, *more]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["steps"] == 18


def test_the_benchmark(tmp_path: Path) -> None:
    options = ["--device", "cuda", "--quick", "--memory", "--size", "1,4,64,64", "--repeats", "3", "--warmup", "1"]
    chosen = ["--case", "ce,ce-dice-focal,lovasz", "--provider", "lossfold-triton,lossfold-eager,eager"]
    assert bench.main([*options, *chosen, "--out", str(tmp_path / "rows.jsonl")]) == 0
    rows = results.read(tmp_path / "rows.jsonl")
    assert results.of_kind(rows, "machine")[0]["gpu"]["name"] == torch.cuda.get_device_properties().name
    timed = results.of_kind(rows, "time", provider="lossfold-triton", status="ok")
    assert len(timed) == 3 and all(row["graph_ms"]["median"] > 0 for row in timed)
    assert all(row["bytes"] >= row["units"] > 0 for row in results.of_kind(rows, "memory", status="ok"))
