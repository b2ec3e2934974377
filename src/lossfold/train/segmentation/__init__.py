"""`lossfold train segmentation`: a network that labels every pixel, with class losses or losses of single channels."""

from lossfold.train.running import run_task
from lossfold.train.segmentation.command import SegmentationCLI


def run(argv: list[str]) -> int:
    """Carry out the task and return the exit status.

    Args:
        argv: the options, as on the command line.
    """
    return run_task(SegmentationCLI, argv)
