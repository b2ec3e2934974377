"""Seconds and peak memory of `lossfold score` on one pair of large files: python benchmarks/score_large.py [TASK] [SIDE]."""

from __future__ import annotations

import resource
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


def main() -> None:
    """Write the pair as tiled TIFFs, score it in a process of its own, print what it took."""
    task, side = (sys.argv[1:] + ["segmentation", "30000"][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as folder:
        for name, array in zip(("pred", "truth"), pair(task, int(side)), strict=True):
            (Path(folder) / name).mkdir()
            tifffile.imwrite(Path(folder) / name / "a.tif", array, tile=(512, 512), compression="zlib")
            del array
        start = time.monotonic()
        command = [sys.executable, "-m", "lossfold.cli", "score", f"{folder}/pred", f"{folder}/truth", "-o", f"{folder}/out"]
        subprocess.run([*command, "--task", task], check=True)
        seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{task}, {side} x {side}: {seconds:.0f} s, {peak:.2f} GiB at most")


if __name__ == "__main__":
    main()
