"""What to do about an option that a loss does not have, or about a value that it does not take."""

from __future__ import annotations

import re
from collections.abc import Collection

from lossfold.errors import nearest, nearest_name
from lossfold.foreign import translation
from lossfold.options import Labels, Number, PerAxis, PerClass, Truth

WRITTEN_TRUTHS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
WRITTEN_TRUTHS |= {"true": "true", "false": "false"}


def unknown_option(
    name: str, valid: Collection[str], of_terms: Collection[str], in_set: bool, value: object = None, who: str = "the loss"
) -> str:
    """Return what is meant by an option that a loss does not have.

    Args:
        name: of the option.
        valid: the loss's own options.
        of_terms: those that a set has for each of its terms.
        in_set: whether the loss is a term.
        value: the option's.
        who: the loss.
    """
    if name in of_terms:
        return f"it is an option of a term in a set: {{'name': {{'type': ..., {name!r}: ...}}}}"
    near = nearest_name(name, of_terms) if in_set else None
    if near is not None and nearest_name(name, [near, *valid]) == near:
        return f"did you mean {near!r}? valid beside the loss's own options: {', '.join(sorted(of_terms))}"
    return translation(name, valid, value, who) or nearest(name, valid)


def unfit_text(value: object, kind: object) -> str:
    """Return what to write in place of a text where something of another kind is expected."""
    if not isinstance(value, str):
        return ""
    if isinstance(kind, Truth) and value.lower() in WRITTEN_TRUTHS:
        return f"it is a text here: write {WRITTEN_TRUTHS[value.lower()]} without quotes"
    if isinstance(kind, (Labels, Number, PerAxis, PerClass)) and is_written_number(value):
        dotless = re.fullmatch(r"[-+]?[0-9]+[eE].*|.*[eE][0-9].*", value)
        return "it is a text here, in quotes" + ("; or 1e-3 was read by PyYAML, which wants 1.0e-3" if dotless else "")
    return ""


def is_written_number(text: str) -> bool:
    """Whether a text is how a number is written."""
    try:
        float(text)
    except ValueError:
        return False
    return True
