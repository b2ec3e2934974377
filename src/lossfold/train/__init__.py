"""Reference training on PyTorch Lightning: `lossfold train <task> [options]`.

Nothing heavy is imported here: a task's module is loaded when the task is run.
"""

import importlib.util
import sys
from difflib import get_close_matches
from pkgutil import resolve_name

from lossfold.train.errors import TrainError as TrainError
from lossfold.train.options import complaint

TASKS = {
    "segmentation": "lossfold.train.segmentation.command:SegmentationCLI",
    "matting": "lossfold.train.matting.command:MattingCLI",
    "restoration": "lossfold.train.restoration.command:RestorationCLI",
    "depth": "lossfold.train.depth.command:DepthCLI",
    "gan": "lossfold.train.gan.command:GANCLI",
}
"""Each task and its command line, a `lossfold.train.command.TrainCLI`."""

REQUIRED = ("lightning", "jsonargparse", "docstring_parser", "matplotlib", "jinja2", "rich", "numpy", "PIL")
"""What a task imports; the extra `train` installs it."""

USAGE = """usage: lossfold train <task> [options]

tasks:
  segmentation   a network that labels every pixel: classes, or a yes or no for each channel
  matting        a network that finds alphas, given an image and its trimap
  restoration    a network that enlarges images (super-resolution) or takes their noise away
  depth          a network that says how far away each pixel of a photograph is
  gan            a generator and a discriminator, each with losses of its own: new images like those of the data

Start with:      lossfold train segmentation --recipe demo
                 lossfold train matting --recipe demo
                 lossfold train restoration --recipe demo
                 lossfold train depth --recipe demo
                 lossfold train gan --recipe demo
All options:     lossfold train <task> --help
"""


def main(argv: list[str]) -> int:
    """Run a training task and return the exit status.

    Args:
        argv: the task's name, then its options, as on the command line.

    Returns:
        0 when the task is done, 1 when it failed with a message, 2 when the command makes no sense.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    task, *options = argv
    if task not in TASKS:
        near = get_close_matches(task, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(TASKS)}"
        print(f"lossfold train: there is no task {task!r}; {hint}", file=sys.stderr)
        return 2
    if lacking := missing("train"):
        print(lacking, file=sys.stderr)
        return 1
    wrong = complaint(task, options)
    if wrong:
        print(f"lossfold train {task}: {wrong}\nAll options: lossfold train {task} --help", file=sys.stderr)
        return 2
    from lossfold.train.running import run_task

    return run_task(resolve_name(TASKS[task]), options)


def missing(command: str) -> str:
    """Say what a command needs and is not installed; nothing if all is there."""
    lacking = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    said = f"lossfold {command}: not installed: {', '.join(lacking)}. Install what training needs with\n"
    return said + '    pip install "lossfold[train]"' if lacking else ""
