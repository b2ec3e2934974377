"""lossfold: losses for dense prediction, as small formulas over one pass through the pixels."""

from lossfold import engines as engines
from lossfold import functional as functional
from lossfold import metrics as metrics
from lossfold import presets as presets
from lossfold.compose.loss_set import LossSet as LossSet
from lossfold.compose.matting import MattingLoss as MattingLoss
from lossfold.compose.matting import MixedMattingLoss as MixedMattingLoss
from lossfold.compose.output import LossOutput as LossOutput
from lossfold.compose.presets import CEDiceLoss as CEDiceLoss
from lossfold.compose.schedules import CosineSchedule as CosineSchedule
from lossfold.compose.schedules import LinearSchedule as LinearSchedule
from lossfold.compose.schedules import StepSchedule as StepSchedule
from lossfold.compose.term import Term as Term
from lossfold.config.build import build as build
from lossfold.errors import LossError as LossError
from lossfold.losses.binary import BinaryCrossEntropyLoss as BinaryCrossEntropyLoss
from lossfold.losses.clip import CLIPLoss as CLIPLoss
from lossfold.losses.composition import CharbonnierCompLoss as CharbonnierCompLoss
from lossfold.losses.composition import L1CompositionLoss as L1CompositionLoss
from lossfold.losses.composition import MSECompositionLoss as MSECompositionLoss
from lossfold.losses.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from lossfold.losses.cross_entropy import FocalLoss as FocalLoss
from lossfold.losses.edges import GradientLoss as GradientLoss
from lossfold.losses.edges import MaskedTVLoss as MaskedTVLoss
from lossfold.losses.edges import TVLoss as TVLoss
from lossfold.losses.generalized_dice import GeneralizedDiceLoss as GeneralizedDiceLoss
from lossfold.losses.identity import FaceIdLoss as FaceIdLoss
from lossfold.losses.identity import LightCNNFeatureLoss as LightCNNFeatureLoss
from lossfold.losses.lovasz import LovaszLoss as LovaszLoss
from lossfold.losses.lpips import LPIPSLoss as LPIPSLoss
from lossfold.losses.masked import masked_loss as masked_loss
from lossfold.losses.masked import weighted_loss as weighted_loss
from lossfold.losses.matting import KnownL1Loss as KnownL1Loss
from lossfold.losses.matting import KnownSmoothL1Loss as KnownSmoothL1Loss
from lossfold.losses.matting import MattingGradientLoss as MattingGradientLoss
from lossfold.losses.matting import UnknownL1Loss as UnknownL1Loss
from lossfold.losses.ohem import OhemCrossEntropyLoss as OhemCrossEntropyLoss
from lossfold.losses.overlap import DiceLoss as DiceLoss
from lossfold.losses.overlap import JaccardLoss as JaccardLoss
from lossfold.losses.overlap import TverskyLoss as TverskyLoss
from lossfold.losses.perceptual import PerceptualLoss as PerceptualLoss
from lossfold.losses.pixel import CharbonnierLoss as CharbonnierLoss
from lossfold.losses.pixel import HuberLoss as HuberLoss
from lossfold.losses.pixel import L1Loss as L1Loss
from lossfold.losses.pixel import MSELoss as MSELoss
from lossfold.losses.pixel import SmoothL1Loss as SmoothL1Loss
from lossfold.losses.psnr import PSNRLoss as PSNRLoss
from lossfold.losses.pyramid import LaplacianPyramidLoss as LaplacianPyramidLoss
from lossfold.losses.ssim import MSSSIMLoss as MSSSIMLoss
from lossfold.losses.ssim import SSIMLoss as SSIMLoss
from lossfold.losses.texture import TransferalPerceptualLoss as TransferalPerceptualLoss
from lossfold.registry import LOSSES as LOSSES
from lossfold.version import VERSION

__version__ = VERSION
