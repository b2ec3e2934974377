"""`lossfold train gan`: a generator and a discriminator, each with losses of its own, from one configuration."""

from lossfold.train.gan.module import GANWithCustomizedLoss as GANWithCustomizedLoss
