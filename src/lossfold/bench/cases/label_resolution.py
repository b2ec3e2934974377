"""Logits smaller than the labels: lossfold scores them as they are, everybody else brings them to the labels' size first."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..case import Case, Entry
from ..definitions import upsampled
from ..providers import PROVIDERS
from . import combined, cross_entropy
from .common import plain_entries


def at_label_resolution(case: Case, stride: int) -> Case:
    """The same work on logits of a `stride`-th of the labels' size along every axis.

    Args:
        case: with logits of the labels' size.
        stride: label pixels to a logit along each of them.
    """

    def entry(provider: str, given: Entry) -> Entry:
        return given if PROVIDERS[provider].ours else replace(given, build=lambda: upsampled(given.build()))

    truth = upsampled(case.truth)
    return replace(
        case,
        name=f"{case.name}-x{stride}",
        title=f"{case.title}, logits at 1/{stride}",
        truth=truth,
        sample=partial(case.sample, stride=stride),
        entries={provider: entry(provider, given) for provider, given in case.entries.items()} | plain_entries(truth),
    )


(CROSS_ENTROPY,) = cross_entropy.CASES
CROSS_ENTROPY_DICE = combined.CASES[0]

CASES = (
    at_label_resolution(CROSS_ENTROPY, 4),
    at_label_resolution(CROSS_ENTROPY, 8),
    at_label_resolution(CROSS_ENTROPY_DICE, 4),
)
