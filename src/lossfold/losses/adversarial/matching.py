"""Losses of what a discriminator sees on its way to an output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.arithmetic import exactly, wide
from lossfold.folds.checks import SCORE_DTYPES
from lossfold.folds.fold import describe
from lossfold.losses.base import Loss
from lossfold.losses.features.frozen import CRITERIA
from lossfold.losses.reduce import Addends, mean_of
from lossfold.options import configured, option
from lossfold.registry import LOSSES

Features = Tensor | Sequence[Any]


@LOSSES.register
@configured
class FeatureMatchingLoss(Loss):
    """The difference of a discriminator's features for generated and for real images, the mean over layers of each layer's mean.

    A list of lists, as of several discriminators, is the mean over all their layers.

    Args:
        criterion: "l1" for absolute differences, "mse" for squares.
        skip_last: leave out the last of each list, where that is the discriminator's output.
        loss_weight: a factor on the result. pix2pixHD's 10 with 4 / (layers + 1) and 1 / discriminators, of lists with the output
            skipped, is 40 · layers / (layers + 1).
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, and features that are no floats, or do not fit together.

    Gradient:
        Exact for the generated images' features; none for the real ones'.

    Example:
        >>> real = [torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)]
        >>> FeatureMatchingLoss()([torch.ones(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)], real)
        tensor(0.5000)

    Reference:
        Wang et al., High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs (pix2pixHD), CVPR 2018;
        Salimans et al., Improved Techniques for Training GANs, NIPS 2016.
    """

    criterion: str = option("l1", words=CRITERIA)
    skip_last: bool = option(False)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"skip_last": True},)

    def addends(self, fake: Features, real: Features) -> Addends:
        """Return what adds up over parts of a batch."""
        ours, theirs = (list(self.layers(name, given)) for name, given in (("fake", fake), ("real", real)))
        if not ours:
            raise wrong("fake", "a list of features", "none", "skip_last=True leaves out the only ones" if self.skip_last else "")
        if [one.shape for one in ours] != [one.shape for one in theirs]:
            shapes = [[list(one.shape) for one in some] for some in (ours, theirs)]
            raise wrong("real", f"features of fake's shapes {shapes[0]}", str(shapes[1]))
        with exactly(ours[0]):
            return mean_of([CRITERIA[self.criterion](wide(x), wide(y.detach())) for x, y in zip(ours, theirs, strict=True)])

    def layers(self, argument: str, given: object) -> Iterator[Tensor]:
        """Yield the features in lists, and lists of these."""
        if isinstance(given, Tensor):
            if given.dtype not in SCORE_DTYPES:
                raise wrong(argument, "features of floats", describe(given))
            yield given
        elif isinstance(given, (list, tuple)):
            nested = any(isinstance(one, (list, tuple)) for one in given)
            for one in given[:-1] if self.skip_last and not nested else given:
                yield from self.layers(argument, one)
        else:
            raise wrong(argument, "a tensor of features, or a list of them", type(given).__name__)

    def forward(self, fake: Features, real: Features) -> Tensor:
        """Return the loss.

        Args:
            fake: features of generated images, of any shapes; a list of them, or of such lists.
            real: those of real images, alike in number and shape.

        Returns:
            A scalar, float32 (float64 for float64 features).
        """
        return self.weigh(self.evaluate(fake, real))
