"""`lossfold train matting`: a network that takes an image and its trimap, and says how opaque every pixel is."""

from lossfold.train.matting.command import MattingCLI
from lossfold.train.running import run_task


def run(argv: list[str]) -> int:
    """Carry out the task and return the exit status.

    Args:
        argv: the options, as on the command line.
    """
    return run_task(MattingCLI, argv)
