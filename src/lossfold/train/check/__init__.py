"""`lossfold check-data`: what a training would see of one's own folders, before it is started."""

import sys

from lossfold.train import missing

USAGE = """usage: lossfold check-data <task> --data.root FOLDER [--data.<option> ...] [--picture FILE] [--json FILE]

Reads every file as `lossfold train <task>` would with the same --data options, and tells sizes, depths and values, how much of
what the masks or alphas hold, files that can't be used, and what is in both the training and the held-out part.

tasks:           segmentation, matting, restoration, depth, gan
All options:     lossfold check-data <task> --help
"""


def main(argv: list[str]) -> int:
    """Run the command and return the exit status.

    Args:
        argv: the task's name, then options, as on the command line.

    Returns:
        0 when everything can be used, 1 when something can't, 2 when the command makes no sense.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    if lacking := missing("check-data"):
        print(lacking, file=sys.stderr)
        return 1
    from lossfold.train.check.command import run

    return run(argv[0], argv[1:])
