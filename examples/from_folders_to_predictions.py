"""The whole road, timed: two folders, check-data, train, predict, score, report.

    python examples/from_folders_to_predictions.py                     # draws 24 images of its own
    python examples/from_folders_to_predictions.py --root DIR --classes '[ground,cat,dog]'

`DIR` holds `train/images`, `train/masks`, `val/images` and `val/masks`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = "[ground,disc,square]"


def draw(root: Path, width: int = 640, height: int = 480) -> None:
    """Draw 20 images to train on and 4 to predict: discs and squares of any colour on coarse patterns, with noise."""
    generator = np.random.default_rng(0)
    for index in range(24):
        part = root / ("val" if index % 6 == 5 else "train")
        coarse = Image.fromarray(generator.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        image, mask = coarse.resize((width, height), Image.Resampling.BICUBIC), Image.new("L", (width, height))
        for _ in range(int(generator.integers(2, 5))):
            label, radius = int(generator.integers(1, 3)), int(generator.integers(width // 16, width // 6))
            x, y = int(generator.integers(width)), int(generator.integers(height))
            box, colour = (x - radius, y - radius, x + radius, y + radius), tuple(generator.integers(0, 255, 3).tolist())
            for canvas, fill in ((ImageDraw.Draw(image), colour), (ImageDraw.Draw(mask), label)):
                (canvas.ellipse if label == 1 else canvas.rectangle)(box, fill=fill)
        noisy = np.asarray(image) + generator.normal(0, 8, (height, width, 3))
        for folder, picture, suffix in (
            ("images", Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), "jpg"),
            ("masks", mask, "png"),
        ):
            (part / folder).mkdir(parents=True, exist_ok=True)
            picture.save(part / folder / f"{index:02}.{suffix}")


def main() -> None:
    """Walk the road and print what each step took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="your folder; a drawn one by default")
    parser.add_argument("--classes", default=CLASSES, help="the names of the classes, as for --data.classes")
    parser.add_argument("--out", type=Path, default=Path("runs/road"), help="where everything goes (runs/road)")
    parser.add_argument("train", nargs="*", help="options of `lossfold train segmentation`, after --")
    given = parser.parse_args()
    root: Path = given.root or given.out / "data"
    if given.root is None:
        draw(root)
    run, results = given.out / "run", given.out / "run/predictions"
    data = ["--data.root", str(root), "--data.classes", given.classes]
    steps = {
        "check-data": ["check-data", "segmentation", *data],
        "train": [
            "train",
            "segmentation",
            "--data",
            "FolderData",
            *data,
            "--run_dir",
            str(run),
            "--overwrite",
            "true",
            *given.train,
        ],
        "predict": ["predict", str(run), str(root / "val/images"), "-o", str(results), "--overwrite"],
        "score": ["score", str(results / "predictions"), str(root / "val/masks"), "-o", str(given.out / "scores")],
    }
    took: dict[str, float] = {}
    for name, arguments in steps.items():
        print(f"$ lossfold {' '.join(arguments)}", flush=True)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "lossfold.cli", *arguments], check=True)
        took[name] = round(time.perf_counter() - started, 1)
    print(json.dumps({"seconds": took, "report": str(run / "report.html"), "predictions": str(results / "index.html")}, indent=1))


if __name__ == "__main__":
    main()
