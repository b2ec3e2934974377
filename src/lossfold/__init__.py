"""lossfold: losses for dense prediction, as small formulas over one pass through the pixels."""

import importlib

from lossfold import engines as engines
from lossfold import explain as explain
from lossfold import functional as functional
from lossfold import metrics as metrics
from lossfold import presets as presets
from lossfold.compose.loss_set import LossSet as LossSet
from lossfold.compose.matting import MattingLoss as MattingLoss
from lossfold.compose.matting import MixedMattingLoss as MixedMattingLoss
from lossfold.compose.output import LossOutput as LossOutput
from lossfold.compose.presets import CEDiceLoss as CEDiceLoss
from lossfold.compose.presets import ExpLogLoss as ExpLogLoss
from lossfold.compose.presets import UnifiedFocalLoss as UnifiedFocalLoss
from lossfold.compose.schedules import CosineSchedule as CosineSchedule
from lossfold.compose.schedules import LinearSchedule as LinearSchedule
from lossfold.compose.schedules import StepSchedule as StepSchedule
from lossfold.compose.term import Term as Term
from lossfold.compose.uncertainty import UncertaintyWeights as UncertaintyWeights
from lossfold.config.build import build as build
from lossfold.config.build import build_loss as build_loss
from lossfold.config.export import to_config as to_config
from lossfold.config.export import to_yaml as to_yaml
from lossfold.errors import LossError as LossError
from lossfold.foreign import loss_meant
from lossfold.loading import load as load
from lossfold.losses.adversarial.components import CLIPLossComps as CLIPLossComps
from lossfold.losses.adversarial.components import DiscShiftLossComps as DiscShiftLossComps
from lossfold.losses.adversarial.components import FaceIdLossComps as FaceIdLossComps
from lossfold.losses.adversarial.components import GANLossComps as GANLossComps
from lossfold.losses.adversarial.components import GeneratorPathRegularizerComps as GeneratorPathRegularizerComps
from lossfold.losses.adversarial.components import GradientPenaltyLossComps as GradientPenaltyLossComps
from lossfold.losses.adversarial.components import R1GradientPenaltyComps as R1GradientPenaltyComps
from lossfold.losses.adversarial.drift import DiscShiftLoss as DiscShiftLoss
from lossfold.losses.adversarial.drift import LeCamRegularizer as LeCamRegularizer
from lossfold.losses.adversarial.gan import GANLoss as GANLoss
from lossfold.losses.adversarial.matching import FeatureMatchingLoss as FeatureMatchingLoss
from lossfold.losses.adversarial.path_length import GeneratorPathRegularizer as GeneratorPathRegularizer
from lossfold.losses.adversarial.penalties import GradientPenaltyLoss as GradientPenaltyLoss
from lossfold.losses.adversarial.penalties import R1GradientPenalty as R1GradientPenalty
from lossfold.losses.adversarial.penalties import R2GradientPenalty as R2GradientPenalty
from lossfold.losses.classes.asymmetric import AsymmetricFocalLoss as AsymmetricFocalLoss
from lossfold.losses.classes.asymmetric import AsymmetricFocalTverskyLoss as AsymmetricFocalTverskyLoss
from lossfold.losses.classes.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from lossfold.losses.classes.focal import FocalLoss as FocalLoss
from lossfold.losses.classes.generalized_dice import GeneralizedDiceLoss as GeneralizedDiceLoss
from lossfold.losses.classes.lovasz import LovaszLoss as LovaszLoss
from lossfold.losses.classes.mcc import MCCLoss as MCCLoss
from lossfold.losses.classes.ohem import OhemCrossEntropyLoss as OhemCrossEntropyLoss
from lossfold.losses.classes.overlap import DiceLoss as DiceLoss
from lossfold.losses.classes.overlap import JaccardLoss as JaccardLoss
from lossfold.losses.classes.overlap import TverskyLoss as TverskyLoss
from lossfold.losses.classes.poly import PolyLoss as PolyLoss
from lossfold.losses.classes.wasserstein import GeneralizedWassersteinDiceLoss as GeneralizedWassersteinDiceLoss
from lossfold.losses.depth.flow import EPELoss as EPELoss
from lossfold.losses.depth.invariant import ScaleShiftInvariantLoss as ScaleShiftInvariantLoss
from lossfold.losses.depth.silog import SILogLoss as SILogLoss
from lossfold.losses.depth.smoothness import EdgeAwareSmoothnessLoss as EdgeAwareSmoothnessLoss
from lossfold.losses.features.clip import CLIPLoss as CLIPLoss
from lossfold.losses.features.dists import DISTSLoss as DISTSLoss
from lossfold.losses.features.identity import FaceIdLoss as FaceIdLoss
from lossfold.losses.features.identity import LightCNNFeatureLoss as LightCNNFeatureLoss
from lossfold.losses.features.lpips import LPIPSLoss as LPIPSLoss
from lossfold.losses.features.perceptual import PerceptualLoss as PerceptualLoss
from lossfold.losses.features.texture import TransferalPerceptualLoss as TransferalPerceptualLoss
from lossfold.losses.images.edges import GradientLoss as GradientLoss
from lossfold.losses.images.edges import MaskedTVLoss as MaskedTVLoss
from lossfold.losses.images.edges import TVLoss as TVLoss
from lossfold.losses.images.frequency import FFTLoss as FFTLoss
from lossfold.losses.images.frequency import FocalFrequencyLoss as FocalFrequencyLoss
from lossfold.losses.images.l1_ssim import L1SSIMLoss as L1SSIMLoss
from lossfold.losses.images.masked import masked_loss as masked_loss
from lossfold.losses.images.masked import weighted_loss as weighted_loss
from lossfold.losses.images.ms_ssim_l1 import MSSSIML1Loss as MSSSIML1Loss
from lossfold.losses.images.pixel import CharbonnierLoss as CharbonnierLoss
from lossfold.losses.images.pixel import HuberLoss as HuberLoss
from lossfold.losses.images.pixel import L1Loss as L1Loss
from lossfold.losses.images.pixel import MSELoss as MSELoss
from lossfold.losses.images.pixel import SmoothL1Loss as SmoothL1Loss
from lossfold.losses.images.psnr import PSNRLoss as PSNRLoss
from lossfold.losses.images.robust import RobustLoss as RobustLoss
from lossfold.losses.images.ssim import MSSSIMLoss as MSSSIMLoss
from lossfold.losses.images.ssim import SSIMLoss as SSIMLoss
from lossfold.losses.masks.binary import BinaryCrossEntropyLoss as BinaryCrossEntropyLoss
from lossfold.losses.matting.composition import CharbonnierCompLoss as CharbonnierCompLoss
from lossfold.losses.matting.composition import L1CompositionLoss as L1CompositionLoss
from lossfold.losses.matting.composition import MSECompositionLoss as MSECompositionLoss
from lossfold.losses.matting.pyramid import LaplacianPyramidLoss as LaplacianPyramidLoss
from lossfold.losses.matting.regions import KnownL1Loss as KnownL1Loss
from lossfold.losses.matting.regions import KnownSmoothL1Loss as KnownSmoothL1Loss
from lossfold.losses.matting.regions import MattingGradientLoss as MattingGradientLoss
from lossfold.losses.matting.regions import UnknownL1Loss as UnknownL1Loss
from lossfold.losses.shapes.boundary import BoundaryLoss as BoundaryLoss
from lossfold.losses.shapes.cldice import CLDiceLoss as CLDiceLoss
from lossfold.losses.shapes.hausdorff import HausdorffDTLoss as HausdorffDTLoss
from lossfold.losses.shapes.skeleton import SkeletonRecallLoss as SkeletonRecallLoss
from lossfold.losses.shapes.structure import StructureLoss as StructureLoss
from lossfold.registry import LOSSES as LOSSES
from lossfold.version import VERSION

__version__ = VERSION


def __getattr__(name: str) -> object:
    if name in ("adapters", "migrate"):  # which bring in what they are about, when they are asked for
        return importlib.import_module(f"lossfold.{name}")
    raise AttributeError("; ".join(filter(None, [f"module 'lossfold' has no attribute {name!r}", loss_meant(name)])))
