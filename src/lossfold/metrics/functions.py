"""Metrics of one batch, as functions; they run on any device, compile, and never wait for it."""
# ruff: noqa: N803 - C is the number of classes

from __future__ import annotations

from torch import Tensor

from lossfold.errors import python_scalar
from lossfold.metrics import counts
from lossfold.metrics.ratios import EACH, Correct, Overlap, Ratio


def confusion(preds: Tensor, labels: Tensor, C: int, ignore: int | None = None, per_image: bool = False) -> Tensor:
    """Count pixels by true class (rows) and predicted class (columns).

    Args:
        preds: integer class map ``[B, *S]``; whatever stands at ignored pixels takes no part.
        labels: integer class map of the same shape, values in [0, C) or ``ignore``.
        C: number of classes.
        ignore: label of the pixels that do not count.
        per_image: a matrix for each image.

    Returns:
        int64 ``[C, C]``, or ``[B, C, C]`` with ``per_image``.

    Raises:
        LossError: for wrong dtypes, shapes or devices, and for values out of range (off the CPU an assert on the device).

    Example:
        >>> confusion(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]), C=2).tolist()
        [[1, 1], [0, 1]]
    """
    C, ignore, per_image = map(python_scalar, (C, ignore, per_image))  # noqa: N806
    counts.check_classes("confusion", C, ignore)
    table = counts.count("confusion", preds, labels, C, ignore, per_image)
    return table if per_image else table[0]


def iou(
    preds: Tensor,
    labels: Tensor,
    C: int,
    empty: float | str = 1.0,
    ignore: int | None = None,
    per_image: bool | str = False,
    fraction: bool = False,
) -> Tensor:
    """Return the intersection over union of each class, in percent.

    Args:
        preds, labels, C, ignore: as for :func:`confusion`.
        empty: value, as a fraction, of a class neither there nor predicted; ``"skip"`` leaves such (image, class) pairs out.
        per_image: the mean over images of each image's own value (``[B, P]`` are B images of P pixels, too);
            ``"each"`` returns these values, ``[B, C]`` (``[B]`` where the metric is a scalar).
        fraction: return 0 to 1 in place of percent.

    Returns:
        float64 ``[C]``; NaN for the ignored class if it is one of the C, and where ``"skip"`` leaves nothing.

    Raises:
        LossError: as for :func:`confusion`.

    Example:
        >>> iou(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 1]]), C=2, fraction=True)[0].item()
        0.5

    Reference:
        Berman et al., The Lovász-Softmax loss, CVPR 2018.
    """
    return measure(
        Overlap(name="iou", classes=C, empty=empty, ignore=ignore, per_image=per_image, fraction=fraction), preds, labels
    )


def iou_binary(
    preds: Tensor,
    labels: Tensor,
    empty: float | str = 1.0,
    ignore: int | None = None,
    per_image: bool | str = True,
    fraction: bool = False,
) -> Tensor:
    """Return the intersection over union of the foreground (1 or True), in percent.

    Args:
        preds, labels: boolean or integer ``[B, *S]`` with values 0 and 1; labels also ``ignore``. One image is image[None]:
            ``[H, W]`` would be H images of W pixels.
        empty, ignore, per_image, fraction: as for :func:`iou`; here each image counts for itself unless told otherwise.

    Returns:
        Scalar, float64.

    Raises:
        LossError: as for :func:`confusion`.

    Example:
        >>> iou_binary(torch.tensor([[[True, True]]]), torch.tensor([[[1, 0]]])).item()
        50.0

    Reference:
        Berman et al., The Lovász-Softmax loss, CVPR 2018.
    """
    spec = Overlap(name="iou_binary", binary=True, empty=empty, ignore=ignore, per_image=per_image, fraction=fraction)
    return measure(spec, preds, labels)


def dice(
    preds: Tensor,
    labels: Tensor,
    C: int,
    empty: float | str = 1.0,
    ignore: int | None = None,
    per_image: bool | str = False,
    fraction: bool = False,
) -> Tensor:
    """Return the Dice coefficient 2 I / (P + T) of each class, in percent.

    Args:
        preds, labels, C, empty, ignore, per_image, fraction: as for :func:`iou`.

    Returns:
        float64 ``[C]``, NaN as for :func:`iou`.

    Raises:
        LossError: as for :func:`confusion`.

    Example:
        >>> dice(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 2]]), C=4, fraction=True).tolist()[1:]
        [0.0, 0.0, 1.0]

    Reference:
        Dice, Measures of the amount of ecologic association between species, Ecology 1945.
    """
    spec = Overlap(name="dice", dice=True, classes=C, empty=empty, ignore=ignore, per_image=per_image, fraction=fraction)
    return measure(spec, preds, labels)


def dice_binary(
    preds: Tensor,
    labels: Tensor,
    empty: float | str = 1.0,
    ignore: int | None = None,
    per_image: bool | str = True,
    fraction: bool = False,
) -> Tensor:
    """Return the Dice coefficient of the foreground (1 or True), in percent.

    Args:
        preds, labels, empty, ignore, per_image, fraction: as for :func:`iou_binary`.

    Returns:
        Scalar, float64.

    Raises:
        LossError: as for :func:`confusion`.

    Example:
        >>> dice_binary(torch.tensor([[[1, 1, 1]]]), torch.tensor([[[1, 0, 0]]])).item()
        50.0

    Reference:
        Dice, Measures of the amount of ecologic association between species, Ecology 1945.
    """
    spec = Overlap(name="dice_binary", dice=True, binary=True, empty=empty, ignore=ignore, per_image=per_image, fraction=fraction)
    return measure(spec, preds, labels)


def accuracy(
    preds: Tensor,
    labels: Tensor,
    C: int,
    ignore: int | None = None,
    per_image: bool | str = False,
    average: str = "pixels",
    fraction: bool = False,
) -> Tensor:
    """Return the share of the counted pixels that are predicted correctly, in percent.

    Args:
        preds, labels, C, ignore, fraction: as for :func:`iou`.
        per_image: the mean, over the images in which something counts, of each image's own value; ``"each"``: ``[B]`` of them.
        average: ``"pixels"``, or ``"classes"``: the mean over the classes that have pixels of each class's share.

    Returns:
        Scalar, float64; NaN where nothing counts.

    Raises:
        LossError: as for :func:`confusion`.

    Example:
        >>> accuracy(torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 0, 1, 1]]), C=2).item()
        75.0
    """
    spec = Correct(name="accuracy", classes=C, ignore=ignore, per_image=per_image, average=average, fraction=fraction)
    return measure(spec, preds, labels)


def measure(spec: Ratio, preds: Tensor, labels: Tensor) -> Tensor:
    """Return a metric of one batch."""
    return spec.each(preds, labels) if spec.per_image == EACH else spec.result(*spec.gather(preds, labels))
