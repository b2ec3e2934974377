"""`lossfold train restoration`: a network that enlarges images, or takes noise and other faults away."""

from lossfold.train.restoration.command import RestorationCLI
from lossfold.train.running import run_task


def run(argv: list[str]) -> int:
    """Carry out the task and return the exit status.

    Args:
        argv: the options, as on the command line.
    """
    return run_task(RestorationCLI, argv)
