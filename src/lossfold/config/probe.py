"""What a loss takes, from what it says when it is given something else: no second list of words and ranges to keep."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from lossfold.config.options import options_of
from lossfold.errors import LossError

Maker = Callable[..., Any]
NOWHERE = "\x00"  # a word that no option takes
NUMBER = r"(-?[0-9.]+(?:e-?[0-9]+)?)"
KIND = r"(?:None or )?an? (?:finite |odd )?(?:integer|number)(?: of pixels)?"
RANGES = (
    (rf"{KIND} >= {NUMBER}", ("minimum",)),
    (rf"{KIND} of at least {NUMBER}", ("minimum",)),
    (rf"{KIND} > {NUMBER}(?:, at most {NUMBER})?", ("exclusiveMinimum", "maximum")),
    (rf"{KIND} from {NUMBER} to {NUMBER}", ("minimum", "maximum")),
    (rf"(?:None or )?in \[{NUMBER}, {NUMBER}\]", ("minimum", "maximum")),
    (rf"(?:None or )?in \({NUMBER}, {NUMBER}\]", ("exclusiveMinimum", "maximum")),
)


def complaint(maker: Maker, given: dict[str, Any]) -> LossError | None:
    """Return what a loss says of these options, None if it takes them or says nothing that is known."""
    try:
        maker(**given)
    except LossError as error:
        return error
    except Exception:  # a class of somebody else's, of which nothing was promised
        return None
    return None


def stand_ins(maker: Maker, but: str = "") -> dict[str, Any]:
    """Return a value for each option that has to be given."""
    required = [name for name, option in options_of(maker).items() if option.default is option.empty and name != but]
    plain: dict[str, Any] = {name: nn.Identity() if name == "loss" else 1 for name in required}
    found = {}
    for name in required:
        words = words_in(complaint(maker, {**plain, name: NOWHERE}), name)
        found[name] = words[0] if words else plain[name]
    return found


def refusal(maker: Maker, name: str) -> LossError | None:
    """Return what a loss says of an option that is none of what it may be."""
    error = complaint(maker, {**stand_ins(maker, name), name: NOWHERE})
    return error if error is not None and error.argument == name else None


def words_in(error: LossError | None, name: str) -> tuple[str, ...]:
    """Return the words that an option may be, as a loss names them."""
    if error is None or error.argument != name:
        return ()
    if re.fullmatch(r"(?:one of )?'[^']*'(?:(?:, | or )'[^']*')*", error.expected):
        return tuple(re.findall(r"'([^']*)'", error.expected))
    valid = re.fullmatch(r"valid: ([\w, -]+)", error.hint) if error.expected.startswith("the name of") else None
    return tuple(valid[1].split(", ")) if valid else ()


def range_in(error: LossError | None) -> dict[str, float]:
    """Return the range of a number in the words of JSON's schemas, {} if it has none."""
    for pattern, limits in RANGES if error is not None else ():
        found = re.fullmatch(pattern, error.expected) if error is not None else None
        if found:
            return {limit: json.loads(text) for limit, text in zip(limits, found.groups(), strict=True) if text is not None}
    return {}


def left_out(error: LossError | None) -> bool:
    """Whether an option is one that nothing is done for yet."""
    return error is not None and error.expected.startswith("left out")


def one_needed(maker: Maker) -> list[str]:
    """Return the options one of which has to be given although each has a default, such as ``pretrained`` and ``network``."""
    given, options = stand_ins(maker), options_of(maker)
    error = complaint(maker, given)
    if error is None or error.argument in given or error.argument not in options:
        return []
    return [error.argument, *(name for name in re.findall(r"(\w+)=", error.hint) if name in options and name != error.argument)]
