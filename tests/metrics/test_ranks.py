"""Metrics on two ranks: each has its part, and both have the metric of the whole."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch

from lossfold import metrics as m
from lossfold.errors import LossError
from tests.metrics.data import C, close, maps


def rank(number: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    torch.manual_seed(0)
    preds, labels = maps(255)
    mine = slice(0, 1) if number == 0 else slice(1, 3)
    every: tuple[dict[str, Any], ...] = ({}, {"per_image": True, "empty": "skip"})
    for options in every:
        metric = m.IoU(C, ignore=255, **options)
        metric.update(preds[mine], labels[mine])
        close(metric.sync().compute(), m.iou(preds, labels, C, ignore=255, **options))
        with pytest.raises(LossError, match="reset"):
            metric.sync()
    torch.distributed.destroy_process_group()


def test_two_ranks(tmp_path: Path) -> None:
    multiprocessing.set_forkserver_preload(["lossfold", "tests.metrics.data"])  # imported once
    torch.multiprocessing.start_processes(rank, (str(tmp_path),), nprocs=2, start_method="forkserver")
