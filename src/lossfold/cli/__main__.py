"""``lossfold info | list | show NAME | train RECIPE ... | bench ...``."""

from __future__ import annotations

import argparse
import inspect
import platform
import sys

import torch

import lossfold
from lossfold.engines import cpp
from lossfold.errors import LossError


def info() -> int:
    """Print versions, engines and processor."""
    rows = {
        "lossfold": lossfold.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        "engines": ", ".join(lossfold.engines.available()),
        "cpp engine": f"{cpp.simd_level()} kernels" if cpp.LOADED else cpp.PROBLEM,
        "label fold": "cpp on CPU tensors, eager elsewhere" if cpp.LOADED else "eager",
    }
    width = max(map(len, rows))
    print("\n".join(f"{key:<{width}}  {value}" for key, value in rows.items()))
    return 0


def show_losses() -> int:
    """Print every registered loss with the first line of its documentation."""
    width = max(map(len, lossfold.LOSSES))
    for name, cls in lossfold.LOSSES.items():
        print(f"{name:<{width}}  {(inspect.getdoc(cls) or '').splitlines()[0]}")
    return 0


def show(name: str) -> int:
    """Print one loss's documentation, signature and call."""
    cls = lossfold.LOSSES[name]
    print(f"{name}{inspect.signature(cls)}\n\n{inspect.getdoc(cls)}\n\nCalled with {inspect.signature(cls.forward)}:")
    print(inspect.getdoc(cls.forward))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="lossfold", description="Losses for dense prediction: fast, lean, exact.")
    parser.add_argument("--version", action="version", version=lossfold.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("info", help="versions, engines and processor")
    commands.add_parser("list", help="every loss")
    commands.add_parser("show", help="one loss: formula, arguments, shapes").add_argument("name")
    commands.add_parser("train", help="reference training: lossfold train segmentation", add_help=False)
    commands.add_parser("bench", help="speed and memory beside other libraries", add_help=False)
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command in ("info", "list", "show") and rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if arguments.command == "train":
            from lossfold import train

            return train.main(rest)
        if arguments.command == "bench":
            from lossfold import bench

            return bench.main(rest)
        if arguments.command == "show":
            return show(arguments.name)
        return info() if arguments.command == "info" else show_losses()
    except LossError as error:
        print(f"lossfold: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
