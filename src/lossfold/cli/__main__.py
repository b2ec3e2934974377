"""``lossfold info | list | show | schema | migrate | train | check-data | predict | score | explain | verify | bench``."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import platform
import sys
import warnings
from pathlib import Path

import torch

import lossfold
from lossfold.cli.catalogue import show, show_losses, show_peer
from lossfold.config.schema import schema
from lossfold.engines import native, triton
from lossfold.errors import LossError

PASSED_ON = {
    "train": ("lossfold.train", "reference training: lossfold train segmentation"),
    "check-data": ("lossfold.train.check", "what a training would see of your folders: sizes, classes, unusable files, duplicates"),
    "predict": ("lossfold.predict.command", "what a trained network says of images: lossfold predict RUN IMAGES"),
    "score": ("lossfold.score.command", "predictions and truth in two folders to a table: lossfold score PREDICTIONS TRUTH"),
    "explain": ("lossfold.explain.command", "which term of a run's loss pulls how much, and where: lossfold explain RUN"),
    "verify": ("lossfold.verify.command", "the contract, held against a loss of your own: lossfold verify package.module:MyLoss"),
    "bench": ("lossfold.bench", "speed and memory beside other libraries"),
}
"""Commands with parsers of their own: the module whose `main(argv)` carries each out, and what it is for."""


def info() -> int:
    """Print versions, engines and processor."""
    rows = {
        "lossfold": lossfold.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        "engines": ", ".join(lossfold.engines.available()),
        "cpp engine": native.PROBLEM or f"{native.simd_level()} kernels",
        "triton engine": triton.problem() or f"Triton {triton.version()}, {triton.where()}",
        "folds": lossfold.engines.serving(),
    }
    width = max(map(len, rows))
    print("\n".join(f"{key:<{width}}  {value}" for key, value in rows.items()))
    return 0


def write_schema(output: str) -> int:
    """Print the JSON schema of configurations, or write it to a file."""
    with warnings.catch_warnings(record=True) as skipped:
        warnings.simplefilter("always")
        made = schema(plugins=True)
    for warning in skipped:
        print(f"lossfold schema: {warning.message}", file=sys.stderr)
    text = json.dumps(made, indent=1, ensure_ascii=not output and not unicode_output())
    if not output:
        print(text)
        return 0
    try:
        Path(output).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise LossError("lossfold schema", "output", "a file that can be written", str(error)) from error
    print(f"{output}; the first line of a configuration: # yaml-language-server: $schema={output}")
    return 0


def moved(file: str, dialect: str) -> int:
    """Print another library's losses in our words."""
    from lossfold.migrate.command import main as migrate

    return migrate(file, dialect)


def unicode_output() -> bool:
    """Whether the standard output takes every character."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")


def printed(arguments: argparse.Namespace) -> int:
    """Run a command that prints what is known; whoever reads that may stop, or take ASCII only."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not unicode_output():
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if arguments.command == "show":
            status = show_peer(arguments.peer) if arguments.peer else show(arguments.name, arguments.plot)
        elif arguments.command == "migrate":
            status = moved(arguments.file, arguments.dialect)
        elif arguments.command == "schema":
            status = write_schema(arguments.output)
        elif arguments.command == "info":
            status = info()
        else:
            status = show_losses(arguments.words, arguments.json, arguments.markdown, unicode_output())
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # head has seen enough
        reason = ""
    except OSError as error:  # a full disk
        reason = f"lossfold: the output can't be written: {error.strerror}\n"
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes when it leaves
    sys.stderr.write(reason)
    return 1


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="lossfold", description="Losses for dense prediction: fast, lean, exact.")
    parser.add_argument("--version", action="version", version=lossfold.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("info", help="versions, engines and processor")
    listing = commands.add_parser("list", help="every loss, by family")
    listing.add_argument("words", nargs="*", metavar="WORD", help="only those that say all of these: dice distribution")
    forms = listing.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="for programs")
    forms.add_argument("--markdown", action="store_true", help="as tables: which has ignored labels, weights, 3-D, ...")
    showing = commands.add_parser("show", help="one loss, preset or schedule: formula, options, shapes, a plot")
    named = showing.add_mutually_exclusive_group(required=True)
    named.add_argument("name", nargs="?", help="DiceLoss, mask_losses, Term, linear; `lossfold list` shows the losses")
    named.add_argument("--from", dest="peer", metavar="PEER.CLASS", help="another library's loss, monai.DiceCELoss; or a library")
    showing.add_argument("--plot", metavar="FILE", default="", help="draw value and gradient into FILE (.png, .svg, .pdf)")
    text = "a JSON schema of configurations, for editors; with the losses of installed plug-ins, which it imports"
    describing = commands.add_parser("schema", help=text, description=text[0].upper() + text[1:] + ".")
    describing.add_argument("-o", "--output", metavar="FILE", default="", help="write it to FILE, in UTF-8")
    text = "the losses of another library's config in lossfold's words, and what has to be decided; nothing of it is run"
    moving = commands.add_parser("migrate", help=text, description=text[0].upper() + text[1:] + ".")
    moving.add_argument("file", help="a Python config of MMEngine, a YAML option file of BasicSR, JSON")
    moving.add_argument("--from", dest="dialect", metavar="DIALECT", default="", help="mmseg, mmdet, mmagic, mmgen or basicsr")
    for name, (_, text) in PASSED_ON.items():
        commands.add_parser(name, help=text, add_help=False)
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command not in PASSED_ON and rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if arguments.command in PASSED_ON:
            status: int = importlib.import_module(PASSED_ON[arguments.command][0]).main(rest)
            return status
        return printed(arguments)
    except LossError as error:
        print(f"lossfold: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
