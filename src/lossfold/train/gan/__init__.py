"""`lossfold train gan`: a generator and a discriminator, each with losses of its own, from one configuration."""

from lossfold.train.gan.command import GANCLI
from lossfold.train.gan.module import GANWithCustomizedLoss as GANWithCustomizedLoss
from lossfold.train.running import run_task


def run(argv: list[str]) -> int:
    """Carry out the task and return the exit status.

    Args:
        argv: the options, as on the command line.
    """
    return run_task(GANCLI, argv)
