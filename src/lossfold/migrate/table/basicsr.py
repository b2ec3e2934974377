"""BasicSR's losses; ``dialect="basicsr"`` builds the entries of its option files."""

from lossfold.migrate.rows import CRITIC, FEATURES, IMAGES, peer, read

SAME = "nothing, weights and reductions included"

BASICSR = peer(
    "basicsr",
    ("basicsr.losses", "basicsr.losses.basic_loss", "basicsr.losses.gan_loss"),
    "BasicSR 1.4.2, read, for it does not import beside newer torchvision; its pixel losses are MMagic's, which are compared",
    {
        "L1Loss": read("L1Loss(loss_weight=1.0, reduction='mean')", "L1Loss()", SAME, IMAGES),
        "MSELoss": read("MSELoss()", "MSELoss()", SAME, IMAGES),
        "CharbonnierLoss": read("CharbonnierLoss(reduction='sum')", "CharbonnierLoss(reduction='sum')", SAME, IMAGES),
        "WeightedTVLoss": read(
            "WeightedTVLoss()(pred, weight)",
            "MaskedTVLoss()(pred, mask)",
            "nothing for a mean; there is no reduction='sum' here",
            IMAGES,
        ),
        "PerceptualLoss": read(
            "PerceptualLoss({'conv5_4': 1}, range_norm=False, style_weight=0, criterion='l1')",
            "PerceptualLoss(layer_weights={'conv5_4': 1}, norm_img=False, style_weight=0, pretrained='torchvision')",
            "range_norm is norm_img (True by default here), criterion 'l2' is 'mse', style_weight is 0 by default there and 1 here;"
            " 'fro' is not here",
            FEATURES,
        ),
        "LPIPSLoss": read(
            "LPIPSLoss()", "LPIPSLoss()", "not in 1.4.2 itself, but in projects on it; AlexNet there, net='alexnet' here", FEATURES
        ),
        "GANLoss": read(
            "GANLoss('wgan_softplus', loss_weight=0.1)",
            "GANLoss('wgan-logistic-ns', loss_weight=0.1)",
            "the name of that type alone; loss_weight acts on the generator only in both",
            CRITIC,
        ),
        "MultiScaleGANLoss": read(
            "MultiScaleGANLoss('lsgan')",
            "GANLoss('lsgan')",
            "lists of outputs are averaged by both; of a list of lists the last output counts there: hand over that",
            CRITIC,
        ),
        "calculate_psnr": read(
            "calculate_psnr(image, true, crop_border=4, test_y_channel=True)",
            "psnr(pred, target, data_range=255, crop_border=4, to_y=True)",
            "one NumPy image in BGR order from 0 to 255 there, a batch in RGB order here",
            IMAGES,
        ),
        "calculate_ssim": read(
            "calculate_ssim(image, true, crop_border=4, test_y_channel=True)",
            "ssim(pred, target, data_range=255, crop_border=4, to_y=True)",
            "one NumPy image in BGR order from 0 to 255 there, a batch in RGB order here",
            IMAGES,
        ),
        "GANFeatLoss": read(
            "GANFeatLoss('l1', loss_weight=10)",
            "10 * layers * FeatureMatchingLoss(skip_last=True)",
            "the layers are added up there, and averaged here",
            CRITIC,
        ),
        "r1_penalty": read(
            "r1_penalty(real_pred, real)",
            "R1GradientPenalty(norm_mode='HWC')",
            "the discriminator is given, not its output",
            CRITIC,
        ),
        "g_path_regularize": read(
            "g_path_regularize(fake, latents, mean)", "GeneratorPathRegularizer()", "the moving mean is kept in the loss", CRITIC
        ),
        "gradient_penalty_loss": read(
            "gradient_penalty_loss(D, real, fake)", "GradientPenaltyLoss()", "nothing but the draw", CRITIC
        ),
    },
)
