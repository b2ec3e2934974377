"""``lossfold explain RUN``: which term of a trained run's losses pulls how much, for a batch of its training data."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lossfold.errors import LossError


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    options = argparse.ArgumentParser(
        prog="lossfold explain",
        description="For one batch of a run's training data: which term of the loss pulls how much at the scores, where, and "
        "against which other. Nothing is trained and nothing of the run is changed.",
    )
    options.add_argument("run", help="a run's folder, as runs/segmentation")
    options.add_argument("--checkpoint", choices=("best", "last"), help="which of the run; best where there is one")
    options.add_argument("--seed", type=int, default=0, help="decides the batch (0)")
    options.add_argument("-o", "--output", metavar="FILE.html", default="", help="explain.html in the run's folder by default")
    return options


def main(argv: Sequence[str]) -> int:
    """Explain a run; return the exit status."""
    given = parser().parse_args(argv)
    try:
        from lossfold.explain.run import explained
        from lossfold.train.errors import TrainError
    except ImportError as error:
        raise LossError(
            "lossfold explain", "run", "read with the extra train", str(error), "pip install 'lossfold[train]'"
        ) from error
    try:
        found, title, class_names = explained(Path(given.run), given.checkpoint, given.seed)
    except TrainError as error:
        print(f"lossfold explain: {error}", file=sys.stderr)
        return 1
    output = Path(given.output or Path(given.run) / "explain.html")
    for name, one in found.items():
        print(f"{name}, {title}\n{one}\n")
        file = output if len(found) == 1 else output.with_name(f"{output.stem}_{name}{output.suffix}")
        one.page(file, f"{Path(given.run).name}: {name}, {title}", class_names)
        print(f"Page: {file}")
    return 0
