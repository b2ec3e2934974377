"""Sets of losses as well-known papers and heads use them, ready to call."""

from lossfold.presets.heads import deep_supervision as deep_supervision
from lossfold.presets.heads import mask_losses as mask_losses
from lossfold.presets.heads import multimask_losses as multimask_losses
from lossfold.presets.heads import pixel_losses as pixel_losses
from lossfold.presets.heads import stylegan2_discriminator as stylegan2_discriminator
from lossfold.presets.heads import stylegan2_generator as stylegan2_generator
from lossfold.presets.pictures import depth_anything_v2 as depth_anything_v2
from lossfold.presets.pictures import gaussian_splatting as gaussian_splatting
from lossfold.presets.pictures import modnet as modnet
from lossfold.presets.pictures import rvm as rvm
from lossfold.presets.saliency import birefnet as birefnet
