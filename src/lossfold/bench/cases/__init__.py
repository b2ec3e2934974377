"""The cases by name: one file a family; a new family adds its tuple to `FAMILIES`."""

from ..case import Case
from . import combined, cross_entropy, dense, dice, distance, focal, label_resolution, lovasz, matting, ohem, similarity, volumes

FAMILIES: tuple[tuple[Case, ...], ...] = (
    cross_entropy.CASES,
    dice.CASES,
    focal.CASES,
    lovasz.CASES,
    ohem.CASES,
    combined.CASES,
    label_resolution.CASES,
    volumes.CASES,
    dense.CASES,
    matting.CASES,
    similarity.CASES,
    distance.CASES,
)

CASES: dict[str, Case] = {case.name: case for family in FAMILIES for case in family}

__all__ = ["CASES", "FAMILIES"]
