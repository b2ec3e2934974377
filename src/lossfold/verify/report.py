"""What was found, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MARKS = {"holds": "ok", "broken": "BROKEN", "noted": "note", "skipped": "-"}


@dataclass(frozen=True)
class Finding:
    """One property of the contract.

    Attributes:
        name: of the property.
        about: what must hold.
        status: "holds", "broken", "noted" (what to know; nothing is wrong) or "skipped".
        text: what broke, what to know, or why it was not asked.
        example: the smallest input found that shows it, as code.
    """

    name: str
    about: str
    status: str
    text: str = ""
    example: str = ""

    def __str__(self) -> str:
        lines = [f"{MARKS[self.status]:>6}  {self.name}: {self.about}"]
        if self.text:
            lines += [f"        {line}" for line in self.text.splitlines()]
        if self.example:
            lines += ["        the smallest input that shows it:", *(f"            {line}" for line in self.example.splitlines())]
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """What a loss was held against.

    Attributes:
        title: the loss.
        kind: what it was called with.
        findings: one for each property.
    """

    title: str
    kind: str
    findings: Sequence[Finding]

    @property
    def broken(self) -> list[Finding]:
        """The properties that do not hold."""
        return [one for one in self.findings if one.status == "broken"]

    @property
    def ok(self) -> bool:
        """Whether nothing that was asked broke."""
        return not self.broken

    def raise_if_broken(self) -> None:
        """For tests.

        Raises:
            AssertionError: with the whole report, if a property does not hold.
        """
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        asked = [one for one in self.findings if one.status in ("holds", "broken")]
        last = f"{len(asked) - len(self.broken)} of {len(asked)} properties hold" + "." * self.ok
        if self.broken:
            last += f"; broken: {', '.join(repr(one.name) for one in self.broken)}."
        return "\n".join([f"{self.title}, called with {self.kind}", "", *map(str, self.findings), "", last])
