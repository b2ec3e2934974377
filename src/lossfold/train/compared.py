"""What modules have in common whose network is held against a baseline: the trimap, the enlarged image, one depth everywhere."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from lossfold.metrics.accumulators import Means
from lossfold.train.module import TrainingModule


class ComparedModule(TrainingModule):
    """Base of these modules: the baseline is scored once, beside the network, and checkpoints keep its scores.

    Attributes:
        metrics_type: what scores are made of.
        divisor: evaluated images are padded to multiples of it.
        baseline: the baseline's scores, once there are any.
        shown_before: by the numbers of held-out images, what pictures show of the time before the training; plain values.
    """

    metrics_type: ClassVar[Callable[[], Means]]

    def __init__(self, *given: Any, divisor: int) -> None:
        super().__init__(*given)
        self.divisor = divisor
        self.baseline: Any = None
        self.shown_before: dict[int, Any] = {}

    def on_validation_epoch_start(self) -> None:
        """Begin to add up."""
        names = ["network"] if self.baseline is not None else ["network", "baseline"]
        self.sums = {name: type(self).metrics_type().to(self.device) for name in names}

    def compare(self, result: Tensor, baseline: Callable[[], Tensor], *target: Tensor) -> None:
        """Add up a held-out batch."""
        self.sums["network"].update(result, *target)
        if "baseline" in self.sums:
            self.sums["baseline"].update(baseline(), *target)

    def on_validation_epoch_end(self) -> None:
        """Score the held-out images."""
        found = {name: self.scores_type.of(sums.sync()) for name, sums in self.sums.items()}
        self.scores, self.baseline = found["network"], found.get("baseline", self.baseline)
        self.scored_at = self.trainer.global_step
        self.log_scores()

    def log_scores(self) -> None:
        """Log the network's scores."""
        raise NotImplementedError

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the baseline's scores and what pictures show of before the training, too."""
        super().on_save_checkpoint(checkpoint)
        if self.baseline is not None:
            checkpoint["baseline"] = dataclasses.asdict(self.baseline)
        checkpoint["shown_before"] = self.shown_before

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` kept."""
        super().on_load_checkpoint(checkpoint)
        if "baseline" in checkpoint:
            self.baseline = self.scores_type(**checkpoint["baseline"])
        self.shown_before = checkpoint.get("shown_before", {})
