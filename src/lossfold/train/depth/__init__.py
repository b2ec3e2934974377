"""`lossfold train depth`: a network that says how far away each pixel of a photograph is."""

from lossfold.train.depth.command import DepthCLI
from lossfold.train.running import run_task


def run(argv: list[str]) -> int:
    """Carry out the task and return the exit status.

    Args:
        argv: the options, as on the command line.
    """
    return run_task(DepthCLI, argv)
