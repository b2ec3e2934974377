"""Bad input is refused with words that tell what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import lossfold as lf

Bad = dict[str, tuple[tuple[Any, ...], list[str]]]
"""What is wrong: the arguments of a call, and the words that the message must have."""


def all_refused(bad: Bad, call: Callable[..., Any], *words: str) -> None:
    """Every one of these calls is refused, with its own words and with these."""
    for what, (given, own) in bad.items():
        print(what)  # pytest tells it where the test fails
        refused(lambda given=given: call(*given), *words, *own)  # type: ignore[misc]


def refused(action: Callable[[], Any], *words: str) -> str:
    """The message of the error, which must have all these words: argument, expected, came."""
    with pytest.raises(lf.LossError) as caught:
        action()
    message = str(caught.value)
    for word in words:
        assert re.search(word, message), f"{word!r} is not in: {message}"
    return message
