"""lossfold: losses for dense prediction, as small formulas over one pass through the pixels."""

from lossfold import engines as engines
from lossfold import functional as functional
from lossfold import metrics as metrics
from lossfold import presets as presets
from lossfold.compose.build import build as build
from lossfold.compose.loss_set import LossOutput as LossOutput
from lossfold.compose.loss_set import LossSet as LossSet
from lossfold.compose.presets import CEDiceLoss as CEDiceLoss
from lossfold.errors import LossError as LossError
from lossfold.losses.binary import BinaryCrossEntropyLoss as BinaryCrossEntropyLoss
from lossfold.losses.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from lossfold.losses.cross_entropy import FocalLoss as FocalLoss
from lossfold.losses.generalized_dice import GeneralizedDiceLoss as GeneralizedDiceLoss
from lossfold.losses.lovasz import LovaszLoss as LovaszLoss
from lossfold.losses.ohem import OhemCrossEntropyLoss as OhemCrossEntropyLoss
from lossfold.losses.overlap import DiceLoss as DiceLoss
from lossfold.losses.overlap import JaccardLoss as JaccardLoss
from lossfold.losses.overlap import TverskyLoss as TverskyLoss
from lossfold.registry import LOSSES as LOSSES
from lossfold.version import VERSION

__version__ = VERSION
