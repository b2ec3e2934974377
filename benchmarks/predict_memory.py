"""Memory and time of `lossfold predict` with photographs of 12 megapixels, and with one image of any side.

    python benchmarks/predict_memory.py                # a few minutes
    python benchmarks/predict_memory.py --side 30000   # 900 megapixels: some GB of disk and, on two cores, about half an hour

Peaks are those of the resident set of the whole process, of which `idle` (everything imported, the network loaded) is a part.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

TRAIN = [
    "train", "segmentation", "--data.train_images=24", "--data.val_images=4", "--trainer.max_epochs=1", "--score_before=false",
    "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--report_images=0",
]  # fmt: skip


def lossfold(*arguments: str) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "lossfold.cli", *arguments], check=True, stdout=subprocess.DEVNULL)


def measured(*arguments: str) -> tuple[float, float]:
    """Run a command; return its peak in MB and its seconds."""
    script = (
        "import resource, sys; from lossfold.cli.__main__ import main; status = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024); sys.exit(status)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1]), time.perf_counter() - started


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """Something smooth with noise on it, uint8 `[H,W,3]`."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.asarray(coarse) // 2 + generator.integers(0, 64, (height, width, 1), dtype=np.uint8)


def huge(path: Path, side: int) -> None:
    """Write a tiled TIFF of `side` x `side` pixels, tile by tile."""
    tile, count = photograph(512, 512, 0), -(-side // 512)
    tiles = (np.roll(tile, index, 1) for index in range(count * count))
    tifffile.imwrite(
        path, tiles, shape=(side, side, 3), dtype=np.uint8, tile=(512, 512), photometric="rgb", compression="zlib", bigtiff=True
    )


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=6000, help="side of the one large image")
    parser.add_argument("--photographs", type=int, default=2, help="how many of 12 megapixels")
    parser.add_argument("--folder", default=None, help="where to work; a temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        place = Path(folder)
        for name in ("none", "photographs", "large"):
            (place / name).mkdir()
        Image.fromarray(photograph(64, 64, 0)).save(place / "none/small.png")
        for index in range(arguments.photographs):
            Image.fromarray(photograph(3000, 4000, index)).save(place / f"photographs/{index}.jpg", quality=90)
        huge(place / "large/large.tif", arguments.side)
        lossfold(*TRAIN, "--run_dir", str(place / "default"))
        lossfold(*TRAIN, "--model.network.width=8", "--model.network.stem_stride=4", "--run_dir", str(place / "light"))
        for run, images in (
            ("default", "none"),
            ("default", "photographs"),
            ("light", "none"),
            ("light", "photographs"),
            ("light", "large"),
        ):
            peak, seconds = measured("predict", str(place / run), str(place / images), "-o", str(place / f"{run}-{images}"))
            what = {"none": "idle", "large": f"{arguments.side} x {arguments.side}"}.get(
                images, f"{arguments.photographs} x 4000 x 3000"
            )
            print(f"{run:8} network, {what:18}: peak {peak:6.0f} MB, {seconds:5.0f} s", flush=True)


if __name__ == "__main__":
    main()
