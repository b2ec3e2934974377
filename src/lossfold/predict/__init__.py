"""Predictions of trained networks: `lossfold predict`, `lossfold.load`. Heavy modules are imported when something is loaded."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossfold.predict.predictor import Predictor as Predictor
    from lossfold.predict.sampler import Sampler as Sampler
