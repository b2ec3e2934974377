"""Train the three recipes of vessels, and compare overlap with shapes: `python benchmarks/vessels.py [FOLDER]`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RECIPES = {"vessels_dice": "Dice", "vessels": "Dice + 0.5 clDice", "vessels_boundary": "Dice + boundary, from 0 to 0.02"}
COLUMNS = {"iou": "IoU", "cldice": "clDice", "boundary_f1": "boundary F1", "betti0_error": "parts off (Betti-0)"}


def main(folder: Path) -> None:
    """Train what is not there yet, and print a table."""
    for recipe in RECIPES:
        if not (folder / recipe / "scores.json").exists():
            command = [sys.executable, "-m", "lossfold.cli", "train", "segmentation", "--recipe", recipe]
            subprocess.run([*command, "--run_dir", str(folder / recipe)], check=True)
    print("| loss |", " | ".join(COLUMNS.values()), "|")
    print("|---|" + "---|" * len(COLUMNS))
    for recipe, title in RECIPES.items():
        scores = json.loads((folder / recipe / "scores.json").read_text())["after"]
        values = [scores["iou"][0] if name == "iou" else scores[name] for name in COLUMNS]
        texts = [
            f"{value:.2f}" if name == "betti0_error" else f"{100 * value:.1f} %"
            for name, value in zip(COLUMNS, values, strict=True)
        ]
        print(f"| {title} |", " | ".join(texts), "|")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
