"""Every loss of a pair in float64 NumPy and SciPy, written from its formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from tests.contract.case import Data

Array = np.ndarray[Any, np.dtype[Any]]
Options = Mapping[str, Any]
Part = tuple[float, Array, Array | None]  # a factor, values, and their weights

SOBEL = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
BINOMIAL = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def mean_of(values: Array, weights: Array) -> float:
    total = weights.sum()
    return float((values * weights).sum() / total) if total else 0.0


def reduced(parts: list[Part], options: Options, by_pixel: bool) -> Array:
    """The sum of the parts' weighted means (sums, maps, means by sample)."""
    total: Any = 0.0
    for factor, values, given in parts:
        weights = np.ones(values.shape) if given is None else np.broadcast_to(given, values.shape)
        reduction = options.get("reduction", "mean")
        if options.get("sample_wise"):
            found: Any = np.mean([mean_of(v, w) for v, w in zip(values, weights, strict=True)])
        elif reduction == "mean":
            found = mean_of(values, weights)
        elif reduction == "sum":
            found = (values * weights).sum()
        elif by_pixel:
            found = values * weights
        else:
            found = np.array([[mean_of(v, w) for v, w in zip(*one, strict=True)] for one in zip(values, weights, strict=True)])
        total = total + factor * found
    return np.asarray(total)


def smooth(d: Array, beta: float) -> Array:
    size = np.abs(d)
    return np.where(size < beta, size**2 / (2 * beta if beta else 1), size - beta / 2)


def huber(d: Array, delta: float) -> Array:
    size = np.abs(d)
    return np.where(size < delta, size**2 / 2, delta * (size - delta / 2))


RHO: dict[str, Callable[[Array, Options], Array]] = {
    "L1": lambda d, o: np.abs(d),
    "MSE": lambda d, o: d**2,
    "SmoothL1": lambda d, o: smooth(d, o.get("beta", 1.0)),
    "Huber": lambda d, o: huber(d, o.get("delta", 1.0)),
    "Charbonnier": lambda d, o: np.sqrt(d**2 + o.get("eps", 1e-12)),
}


def scale(options: Options, p: Array) -> float:
    area = options.get("reference_area")
    return area / float(np.prod(p.shape[2:])) if area else 1.0


def pixel(kind: str) -> Callable[..., list[Part]]:
    return lambda p, t, w, options: [(1.0, RHO[kind](p - t, options), w)]


def known(region: Array) -> Array:
    return (region == 0).astype(np.float64)


def unknown_l1(p: Array, t: Array, region: Array, options: Options) -> list[Part]:
    return [(scale(options, p), np.abs(p - t), region)]


def known_l1(p: Array, t: Array, region: Array, options: Options) -> list[Part]:
    return [(scale(options, p), np.abs(p - t), known(region))]


def known_smooth_l1(p: Array, t: Array, region: Array, options: Options) -> list[Part]:
    return [(scale(options, p), smooth(p - t, options.get("beta", 1.0)), known(region))]


def steepness(image: Array, padding: str) -> Array:
    """|Sx| + |Sy|."""
    mode = {"replicate": "nearest", "zeros": "constant"}[padding]
    found = np.empty_like(image)
    for index in np.ndindex(image.shape[:2]):
        found[index] = sum(np.abs(ndimage.correlate(image[index], kernel, mode=mode, cval=0.0)) for kernel in (SOBEL, SOBEL.T))
    return found


def matting_gradient(p: Array, t: Array, region: Array, options: Options) -> list[Part]:
    padding = options.get("padding", "replicate")
    values = steepness(p - t, padding) + options.get("smoothness", 0.01) * steepness(p, padding)
    return [(scale(options, p), values, region)]


def gradient(p: Array, t: Array, w: Array | None, options: Options) -> list[Part]:
    return [(1.0, steepness(p - t, options.get("padding", "zeros")), w)]


def total_variation(p: Array, t: None, w: Array | None, options: Options) -> list[Part]:
    power = {"l1": 1, "l2": 2}[options.get("order", "l1")]
    right, below = np.abs(np.diff(p, axis=3)) ** power, np.abs(np.diff(p, axis=2)) ** power
    return [(1.0, right, None if w is None else w[:, :, :, :-1]), (1.0, below, None if w is None else w[:, :, :-1, :])]


def psnr(p: Array, t: Array, w: Array | None, options: Options) -> Array:
    weights = np.ones(p.shape) if w is None else np.broadcast_to(w, p.shape)
    counted = [v.any() for v in weights]
    each = np.array([10 * np.log10(mean_of(d**2, v) + 1e-8) if v.any() else 0.0 for d, v in zip(p - t, weights, strict=True)])
    match options.get("reduction", "mean"):
        case "none":
            return each
        case "sum":
            return np.asarray(each.sum())
    return np.asarray(each.mean() if options.get("sample_wise") else each.sum() / max(1, sum(counted)))


def blur(image: Array) -> Array:
    for axis in (-2, -1):
        image = ndimage.correlate1d(image, BINOMIAL, axis=axis, mode="mirror")
    return image


def cut(image: Array) -> Array:
    return image[..., : image.shape[-2] // 2 * 2, : image.shape[-1] // 2 * 2]


def laplacian(p: Array, t: Array, region: Array | None, options: Options) -> list[Part]:
    """Both pyramids are built, and their levels are subtracted."""
    levels, parts = options.get("levels", 5), []
    images, w = [p, t], region
    for level in range(levels):
        if min(images[0].shape[-2:]) < 4:
            break
        images = [cut(image) for image in images]
        small = [blur(image)[..., ::2, ::2] for image in images]
        coefficients = []
        for image, low in zip(images, small, strict=True):
            stuffed = np.zeros(image.shape)
            stuffed[..., ::2, ::2] = low
            coefficients.append(image - blur(4 * stuffed))
        w = None if w is None else cut(w)
        parts.append((2**level / levels, np.abs(coefficients[0] - coefficients[1]), w))
        images = small
        w = None if w is None else (w[..., ::2, ::2] + w[..., 1::2, ::2] + w[..., ::2, 1::2] + w[..., 1::2, 1::2]) / 4
    if options.get("residual"):
        parts.append((2**levels / levels, np.abs(images[0] - images[1]), w))
    return parts or [(0.0, np.zeros((*p.shape[:2], 1, 1)), None)]


def cross_entropy(p: Array, t: Array, region: None, options: Options) -> list[Part]:
    return [(1.0, -t * np.log(p) - (1 - t) * np.log(1 - p), None)]


def focal(p: Array, t: Array, region: None, options: Options) -> list[Part]:
    """(1 - p_t)^2 of cross entropy, with p_t = p t + (1 - p)(1 - t)."""
    wrong = 1 - p * t - (1 - p) * (1 - t)
    return [(1.0, wrong**2 * (-t * np.log(p) - (1 - t) * np.log(1 - p)), None)]


ORACLES: dict[str, Callable[..., list[Part]]] = {
    **{f"{kind}Loss": pixel(kind) for kind in RHO},
    "L1CompositionLoss": pixel("L1"),
    "MSECompositionLoss": pixel("MSE"),
    "CharbonnierCompLoss": pixel("Charbonnier"),
    "UnknownL1Loss": unknown_l1,
    "KnownL1Loss": known_l1,
    "KnownSmoothL1Loss": known_smooth_l1,
    "MattingGradientLoss": matting_gradient,
    "LaplacianPyramidLoss": laplacian,
    "GradientLoss": gradient,
    "TVLoss": total_variation,
    "MaskedTVLoss": total_variation,
}
WHOLE: dict[str, Callable[..., Array]] = {"PSNRLoss": psnr}  # what is no sum of means
WITHOUT_MAPS = ("LaplacianPyramidLoss", "TVLoss", "MaskedTVLoss")  # what has a value for each sample and channel instead
TERMS: dict[str, tuple[Callable[..., list[Part]], bool]] = {  # and whether the region is theirs
    "unknown_l1_loss": (unknown_l1, True),
    "known_l1_loss": (known_l1, True),
    "loss_pha_laplacian": (laplacian, False),
    "loss_gradient_penalty": (matting_gradient, True),
    "smooth_l1_loss": (pixel("SmoothL1"), False),
    "known_smooth_l1_loss": (known_smooth_l1, True),
    "cross_entropy_loss": (cross_entropy, False),
    "focal_loss": (focal, False),
}
DEFAULTS = ["unknown_l1_loss", "known_l1_loss", "loss_pha_laplacian", "loss_gradient_penalty"]


def term(name: str, p: Array, t: Array, region: Array, options: Options) -> float:
    function, regional = TERMS[name]
    return float(reduced(function(p, t, region if regional else None, options), {}, False))


def matting(p: Array, t: Array, region: Array, options: Options) -> dict[str, float]:
    return {name: term(name, p, t, region, options) for name in options.get("losses", DEFAULTS)}


def mixed(p: Array, t: Array, region: Array, options: Options) -> dict[str, float]:
    """One sample after the other; `is_binary` among the options stands for the test of the targets."""
    lists = options.get("matting", DEFAULTS), options.get("segmentation", ["known_smooth_l1_loss"])
    found = dict.fromkeys([*lists[1], *lists[0]], 0.0)
    tolerance = options.get("tolerance", 0.0)
    for i in range(len(p)):
        tested = bool(np.all((t[i] <= tolerance) | (t[i] >= 1 - tolerance)))
        binary = tested if options.get("is_binary") is None else bool(options["is_binary"][i])
        for name in lists[binary]:
            found[name] += term(name, p[i : i + 1], t[i : i + 1], region[i : i + 1], options) / len(p)
    return found


SETS = {"MattingLoss": matting, "MixedMattingLoss": mixed}


def arrays(data: Data, options: Options) -> tuple[Array, Array | None, Array | None]:
    """Prediction, target and region as the formulas have them."""
    held = () if data.target is None else (data.target,)
    pred, *others = (one.detach().double().numpy() for one in (data.pred, *data.images, *held))
    region = None if data.weight is None else data.weight.double().numpy()
    if region is not None and region.ndim < pred.ndim:
        region = region[:, None]
    if options.get("link", options.get("alpha_link")) == "sigmoid":
        pred = sigmoid(pred)
    if len(others) == 3:
        pred = pred * others[0] + (1 - pred) * others[1]
    return pred, others[-1] if others else None, region


def evaluate(name: str, data: Data, options: Options) -> Array:
    """The value of a registered loss (of a set, its total), options as its constructor takes them."""
    if name in SETS:
        return np.asarray(sum(terms(name, data, options).values()))
    if name in WHOLE:
        return WHOLE[name](*arrays(data, options), options)
    return reduced(ORACLES[name](*arrays(data, options), options), options, name not in WITHOUT_MAPS)


def terms(name: str, data: Data, options: Options) -> dict[str, float]:
    """The terms of a set."""
    return SETS[name](*arrays(data, options), options)  # type: ignore[arg-type]  # a set's target and region are there
