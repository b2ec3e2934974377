"""The default networks: small ones that train on a CPU."""

from lossfold.train.nets.dense import MattingUNet as MattingUNet
from lossfold.train.nets.dense import RestorationNet as RestorationNet
from lossfold.train.nets.dense import SmallUNet as SmallUNet
from lossfold.train.nets.dense import enlarged as enlarged
from lossfold.train.nets.style import ResidualDiscriminator as ResidualDiscriminator
from lossfold.train.nets.style import StyleGenerator as StyleGenerator
