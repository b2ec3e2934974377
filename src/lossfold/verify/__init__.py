"""``lossfold verify package.module:MyLoss``: the contract of every loss here, held against a loss of one's own.

From the bottom up: `inputs` (small data, the smallest first), `subject` (the loss, and what it is called with), `asked`,
`machine`, `properties` (what must hold), `report` (what broke, in plain words, and the smallest input that shows it), `command`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from lossfold.errors import LossError, nearest
from lossfold.verify.properties import PROPERTIES as PROPERTIES
from lossfold.verify.properties import Broken, NotAsked, Noted
from lossfold.verify.report import Finding as Finding
from lossfold.verify.report import Report as Report
from lossfold.verify.subject import Subject


def check(
    loss: Callable[..., Any],
    options: Mapping[str, Any] | None = None,
    *,
    kind: str | None = None,
    classes: int = 3,
    only: Iterable[str] | None = None,
    skip: Iterable[str] = (),
) -> Report:
    """Hold a loss against the contract: ignored pixels, weights, permutations, empty batches, absent classes, dtypes, ...

    Nothing is trained and nothing of the loss is changed; everything runs on small random inputs, the smallest first, so that
    the first that breaks a property is a small one. It takes a second or a few, most of them for ``torch.compile``.

    Args:
        loss: an ``nn.Module``, its class, or a function. A class is built with ``options``; only of a class can the properties of
            class weights be asked, which take several of it.
        options: what the class is built with, or what a function is called with besides.
        kind: what it is called with: "classes" (logits ``[B, C, H, W]``, class indices ``[B, H, W]``), "masks" (logits and
            targets of the same shape in [0, 1]) or "images" (two tensors ``[B, C, H, W]`` in [0, 1]); None finds out by trying.
        classes: the number of classes or channels.
        only: names of the properties that are asked; None for all (:data:`lossfold.verify.PROPERTIES`).
        skip: names of properties that are not.

    Returns:
        The findings: ``report.ok``, ``report.broken``, ``print(report)``, and ``report.raise_if_broken()`` for tests.

    Raises:
        LossError: it can't be built, or takes none of the three kinds of arguments.

    Example:
        >>> from lossfold.verify import check
        >>> check(DiceLoss, {"ignore_index": 255}, skip=["compile"]).ok
        True
    """
    subject = Subject.of(loss, dict(options or {}), kind, classes)
    names = checked_names(PROPERTIES if only is None else only)
    left_out = set(checked_names(skip))
    findings = []
    for name in names:
        if name in left_out:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            findings.append(found(name, subject))
    return Report(subject.title, subject.kind, findings)


def found(name: str, subject: Subject) -> Finding:
    """Ask one property."""
    about, ask = PROPERTIES[name]
    try:
        ask(subject)
    except NotAsked as reason:
        return Finding(name, about, "skipped", str(reason))
    except Noted as noted:
        return Finding(name, about, "noted", noted.text, noted.example)
    except Broken as broken:
        return Finding(name, about, "broken", broken.text, broken.example)
    return Finding(name, about, "holds")


def checked_names(names: Iterable[str]) -> list[str]:
    """Refuse names of no property."""
    for name in (chosen := list(names)):
        if name not in PROPERTIES:
            raise LossError("verify", "property", "one of the contract's", repr(name), nearest(name, PROPERTIES))
    return chosen
