"""A row of the table: a class of another library, and the ways in which it is used."""

from __future__ import annotations

import re
from typing import NamedTuple

LABELS = "logits [B, C, *S], labels [B, *S]"
BINARY = "logits [B, 1, *S], labels [B, *S] of 0 and 1"
MASKS = "logits [B, C, *S], targets [B, C, *S] of 0 and 1"
ONE_HOT = "logits [B, C, *S], one_hot [B, C, *S] = torch.nn.functional.one_hot(labels, C).movedim(-1, 1)"
IMAGES = "pred [B, C, H, W], target [B, C, H, W]"
MATTES = "pred [B, 1, H, W], target [B, 1, H, W], region [B, 1, H, W]"
HARD = "predicted [B, *S], labels [B, *S]"
CRITIC = "scores of a discriminator"
FEATURES = "images [B, 3, H, W], and the weights of a network"


class Way(NamedTuple):
    """One way of calling a loss.

    ``v`` stands for a number for each class, ``w`` for a weight for each pixel, ``ignored`` for labels with 255 among them and
    ``share`` for the share of the others, B and C for the numbers of images and classes.

    Attributes:
        theirs: how it is written there.
        ours: how it is written here; "" where there is nothing like it.
        inputs: what both are called with.
        differs: what is not the same, "" where value and gradient are equal.
        by: how far the values are apart on the random inputs of the tests, relative to ours; None where they are NaN there.
        run: whether the tests run both; else the row is from reading: there is no package, it draws at random, or it wants weights.
    """

    theirs: str
    ours: str
    inputs: str
    differs: str = ""
    by: float | None = None
    run: bool = True


class Row(NamedTuple):
    """What becomes of a class of another library.

    Attributes:
        name: the library's short name and the class's: ``"monai.DiceLoss"``.
        ways: of calling it, the usual one first.
        reason: why there is nothing like it here, "" where there is.
    """

    name: str
    ways: tuple[Way, ...] = ()
    reason: str = ""

    @property
    def ours(self) -> tuple[str, ...]:
        """The names of the losses here that it leads to, each once."""
        calls = [re.search(r"\b(?!sum\b)\w+(?=\()", way.ours) for way in self.ways]
        return tuple(dict.fromkeys(call[0] for call in calls if call))

    def __str__(self) -> str:
        if self.reason:
            return f"{self.name}: nothing like it here: {self.reason}"
        lines = [self.name]
        for way in self.ways:
            lines += ["", f"  theirs   {way.theirs}", f"  ours     {way.ours or '-'}", f"  called   {way.inputs}"]
            lines.append(f"  differs  {way.differs}" if way.differs else "  equal    value and gradient")
            if not way.run:
                lines.append("  known    from reading alone")
            if way.by is not None:
                lines.append(f"  by       {way.by:.2g} of ours, on random inputs")
        return "\n".join(lines)


class Peer(NamedTuple):
    """A library, and its rows.

    Attributes:
        name: short, as in ``lossfold show --from NAME.CLASS``.
        modules: where its classes stand, the usual place first.
        facts: the release that the rows are of, and how they are known.
        rows: one for each class.
    """

    name: str
    modules: tuple[str, ...]
    facts: str
    rows: tuple[Row, ...]


def equal(theirs: str, ours: str, inputs: str = LABELS) -> Way:
    """Return a way in which value and gradient are equal."""
    return Way(theirs, ours, inputs)


def differs(theirs: str, ours: str, differs: str, inputs: str = LABELS, by: float | None = None) -> Way:
    """Return a way in which something is not the same: what, and by how much."""
    return Way(theirs, ours, inputs, differs, by)


def read(theirs: str, ours: str, differs: str, inputs: str = LABELS) -> Way:
    """Return a way that is known from reading alone, with what differs or what is the same."""
    return Way(theirs, ours, inputs, differs, run=False)


def peer(name: str, modules: tuple[str, ...], facts: str, classes: dict[str, tuple[Way, ...] | Way | str]) -> Peer:
    """Return a library of classes by name: their ways, or why there is nothing like them here."""
    rows = []
    for one, ways in classes.items():
        reason = ways if isinstance(ways, str) else ""
        rows.append(Row(f"{name}.{one}", () if reason else (ways,) if isinstance(ways, Way) else ways, reason))  # type: ignore[arg-type]
    return Peer(name, modules, facts, tuple(rows))
