"""The metrics of torchmetrics that are scores of maps and of images. Scores there are fractions: ``fraction=True``.

A class that is neither in the labels nor predicted is left out there; ``empty=`` says what it is worth here.
"""

from lossfold.migrate.rows import FEATURES, HARD, IMAGES, differs, equal, peer, read

SPECTRAL = "of multispectral images"
WHOLE = "of whole data sets"

TORCHMETRICS = peer(
    "torchmetrics",
    ("torchmetrics.segmentation", "torchmetrics.image", "torchmetrics.classification", "torchmetrics"),
    "torchmetrics 1.9.0, compared",
    {
        "MeanIoU": (
            equal(
                "MeanIoU(C, input_format='index')(predicted, labels)",
                "iou(predicted, labels, C, per_image=True, fraction=True).mean()",
                HARD,
            ),
            equal(
                "MeanIoU(C, input_format='index', per_class=True)(predicted, labels)",
                "iou(predicted, labels, C, per_image='each', fraction=True).mean(0)",
                HARD,
            ),
        ),
        "DiceScore": equal(
            "DiceScore(C, average='macro', input_format='index')(predicted, labels)",
            "dice(predicted, labels, C, per_image=True, fraction=True).mean()",
            HARD,
        ),
        "GeneralizedDiceScore": differs(
            "GeneralizedDiceScore(C, input_format='index')(predicted, labels)",
            "1 - GeneralizedDiceLoss(link='identity', per_image=True)(one_hot_predicted, labels)",
            "an absent class takes the largest weight of the others there; it is left out here",
            HARD,
            by=0.22,
        ),
        "HausdorffDistance": "not yet",
        "MulticlassJaccardIndex": equal(
            "MulticlassJaccardIndex(C, average='none')(predicted, labels)", "iou(predicted, labels, C, fraction=True)", HARD
        ),
        "PeakSignalNoiseRatio": (
            equal("PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3))", "psnr(pred, target).mean()", IMAGES),
            equal(
                "PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3))(pred[..., 4:-4, 4:-4], target[..., 4:-4, 4:-4])",
                "psnr(pred, target, crop_border=4).mean()",
                IMAGES,
            ),
            differs(
                "PeakSignalNoiseRatio(data_range=1.0)",
                "psnr(pred, target).mean()",
                "of the error of all images together, unless dim= is given; the mean of each image's own here",
                IMAGES,
                by=0.13,
            ),
        ),
        "StructuralSimilarityIndexMeasure": differs(
            "StructuralSimilarityIndexMeasure(data_range=1.0)",
            "ssim(pred, target).mean()",
            "its window is cut out of padded images; here windows lie inside",
            IMAGES,
            by=0.0013,
        ),
        "MultiScaleStructuralSimilarityIndexMeasure": differs(
            "MultiScaleStructuralSimilarityIndexMeasure(data_range=1.0)",
            "1 - MSSSIMLoss()(pred, target)",
            "as for SSIM",
            IMAGES,
            by=0.00025,
        ),
        "TotalVariation": differs("TotalVariation()(pred)", "TVLoss()(pred)", "sums there, means here", IMAGES, by=3.3e03),
        "LearnedPerceptualImagePatchSimilarity": read(
            "LearnedPerceptualImagePatchSimilarity('alex')",
            "LPIPSLoss(net='alexnet', pretrained='torchvision')",
            "nothing",
            FEATURES,
        ),
        "DeepImageStructureAndTextureSimilarity": read(
            "DeepImageStructureAndTextureSimilarity()",
            "DISTSLoss(pretrained='torchvision')",
            "equal in value; its gradient is that of the image's own part alone, unless the network is asked with require_grad",
            FEATURES,
        ),
        "PeakSignalNoiseRatioWithBlockedEffect": "of compressed images",
        "ErrorRelativeGlobalDimensionlessSynthesis": SPECTRAL,
        "MemorizationInformedFrechetInceptionDistance": WHOLE,
        "PerceptualPathLength": "of generators",
        "QualityWithNoReference": SPECTRAL,
        "RelativeAverageSpectralError": SPECTRAL,
        "RootMeanSquaredErrorUsingSlidingWindow": SPECTRAL,
        "SpatialCorrelationCoefficient": SPECTRAL,
        "SpatialDistortionIndex": SPECTRAL,
        "SpectralAngleMapper": SPECTRAL,
        "SpectralDistortionIndex": SPECTRAL,
        "UniversalImageQualityIndex": "SSIM without its constants",
        "VisualInformationFidelity": "of wavelets",
    },
)
