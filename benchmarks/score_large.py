"""Seconds and peak memory of `lossfold score` on one pair of large files: python benchmarks/score_large.py [TASK] [SIDE]."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy import ndimage

BLOCK = 1500


def pair(task: str, side: int) -> tuple[Any, Any]:
    """Return blobs of about 50 pixels, repeated: three classes, an alpha or a grey image, and what differs from it a little."""
    rng = np.random.default_rng(0)
    fields = ndimage.gaussian_filter(rng.random((3, BLOCK, BLOCK)), (0, 25, 25), mode="wrap")
    other = fields + 0.1 * ndimage.gaussian_filter(rng.random(fields.shape), (0, 9, 9), mode="wrap")
    times = -(-side // BLOCK)
    if task == "segmentation":
        blocks = [x.argmax(0).astype(np.uint8) for x in (other, fields)]
    else:
        blocks = [np.round(255 * np.clip((x[0] - x[0].mean()) * 40 + 0.5, 0, 1)).astype(np.uint8) for x in (other, fields)]
    one, two = (np.tile(block, (times, times))[:side, :side] for block in blocks)
    return one, two


def write(folder: Path, task: str, side: int) -> None:
    """Write the pair as tiled TIFFs."""
    for name, array in zip(("pred", "truth"), pair(task, side), strict=True):
        (folder / name).mkdir()
        tifffile.imwrite(folder / name / "a.tif", array, tile=(512, 512), compression="zlib")


def main() -> None:
    """Write the pair as tiled TIFFs, score it in a process of its own, print what it took."""
    task, side = (sys.argv[1:] + ["segmentation", "30000"][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what a process is started from counts as its memory, too.
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(Path(folder), task, int(side)))
        writer.start()
        writer.join()
        start = time.monotonic()
        command = [sys.executable, "-m", "lossfold.cli", "score", f"{folder}/pred", f"{folder}/truth", "-o", f"{folder}/out"]
        _, status, usage = os.wait4(subprocess.Popen([*command, "--task", task]).pid, 0)
        assert status == 0
        seconds = time.monotonic() - start
    peak = usage.ru_maxrss / 2**20
    print(f"{task}, {side} x {side}: {seconds:.0f} s, {peak:.2f} GiB at most")


if __name__ == "__main__":
    main()
