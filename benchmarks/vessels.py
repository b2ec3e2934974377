"""Train the three recipes of vessels, and compare overlap with shapes: `python benchmarks/vessels.py [FOLDER] [SEEDS]`.

Prints the mean over the seeds, from the lowest to the highest; runs that the folder has are taken from there.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

RECIPES = {
    "vessels_dice": "Dice",
    "vessels": "Dice + clDice, from 0 to 0.15 (`vessels`)",
    "vessels_boundary": "Dice + boundary, from 0 to 0.02",
}
COLUMNS = {"iou": "IoU", "cldice": "clDice", "boundary_f1": "boundary F1", "betti0_error": "parts off (Betti-0)"}


def train(recipe: str, seed: int, folder: Path) -> dict[str, float]:
    """Return the scores of a run after training, in percent but for the parts."""
    if not (folder / "scores.json").exists():
        command = [sys.executable, "-m", "lossfold.cli", "train", "segmentation", "--recipe", recipe, "--run_dir", str(folder)]
        subprocess.run([*command, "--seed_everything", str(seed), "--data.seed", str(seed)], check=True)
    after = json.loads((folder / "scores.json").read_text())["after"]
    values = {name: after["iou"][0] if name == "iou" else after[name] for name in COLUMNS}
    return {name: value if name == "betti0_error" else 100 * value for name, value in values.items()}


def main(folder: Path, seeds: int) -> None:
    """Train what is not there yet, and print a table."""
    rows = {recipe: [train(recipe, seed, folder / f"{recipe}_{seed}") for seed in range(seeds)] for recipe in RECIPES}
    print("| loss |", " | ".join(COLUMNS.values()), "|")
    print("|---|" + "---|" * len(COLUMNS))
    for recipe, title in RECIPES.items():
        texts = []
        for name in COLUMNS:
            values = [scores[name] for scores in rows[recipe]]
            digits = 2 if name == "betti0_error" else 1
            low, mean, high = (f"{value:.{digits}f}" for value in (min(values), statistics.mean(values), max(values)))
            texts.append(f"{mean} ({low} to {high})")
        print(f"| {title} |", " | ".join(texts), "|")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
