"""Inputs by name: where a loss's arguments stand in a network's outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lossfold.errors import nearest, wrong


def checked_mapping(value: object) -> dict[str, str] | None:
    """Return the option ``inputs`` as a dict from argument names to paths."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(x, str) and x for pair in value.items() for x in pair):
        raise wrong("inputs", "a dict from argument names to paths in the outputs", repr(value))
    return dict(value)


def arguments_of(function: Callable[..., Any]) -> dict[str, bool]:
    """Return the arguments of a method, and whether each has to be given."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return {p.name: p.default is p.empty for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def route(mapping: Mapping[str, str], arguments: Mapping[str, bool], outputs: object) -> dict[str, Any]:
    """Return a loss's arguments from one dict of outputs.

    Args:
        mapping: argument -> path; an argument that is not in it stands under its own name, if there.
        arguments: of the loss's call, and whether each has to be given.
        outputs: a dict; a path walks through nested dicts and sequences, as in ``"heads.0"`` or ``"heads.-1"``.
    """
    if not isinstance(outputs, Mapping):
        raise wrong("outputs", "one dict, because the loss has inputs=", type(outputs).__name__)
    for name in mapping:
        check_argument(name, arguments)
    paths = {name: name for name in arguments if name in outputs} | dict(mapping)
    for name, required in arguments.items():
        if required and name not in paths:
            raise wrong(name, "in the outputs, or named by inputs=", f"only {list(outputs)}")
    return {name: walk(name, path, outputs) for name, path in paths.items()}


def check_argument(name: str, arguments: Mapping[str, bool]) -> None:
    """Refuse a name in ``inputs`` that is none of a loss's arguments."""
    if name not in arguments:
        raise wrong("inputs", f"names among {', '.join(arguments)}", repr(name), nearest(name, arguments))


def check_arguments(arguments: Mapping[str, bool], inputs: tuple[object, ...], named: Mapping[str, object], hint: str = "") -> None:
    """Refuse a call with other arguments than a loss takes."""
    if not named and len(inputs) <= len(arguments) and True not in list(arguments.values())[len(inputs) :]:
        return
    names = list(arguments)
    given = [*names[: len(inputs)], *named]
    missing = [name for name, required in arguments.items() if required and name not in given]
    if len(inputs) > len(names) or len(set(given)) < len(given) or missing or not set(named) <= set(names):
        came = f"{len(inputs)} by position" + "".join(f", {name}=" for name in named)
        hint = "weight= takes masks, too" if "mask" in named and "mask" not in names and "weight" in names else hint
        raise wrong("arguments", f"({', '.join(names)})", came, f"{missing[0]} is missing" if missing else hint)


def is_one_dict(inputs: tuple[object, ...], named: Mapping[str, object]) -> bool:
    """Whether a call gives one dict of outputs, positionally or as ``outputs_dict``."""
    return "outputs_dict" in named or (len(inputs) == 1 and isinstance(inputs[0], Mapping))


def one_dict(inputs: tuple[object, ...], named: Mapping[str, object]) -> object:
    """Return the one dict of outputs of a call, and refuse anything beside it."""
    given = [*inputs, *named.values()]
    if len(given) != 1 or (named and "outputs_dict" not in named):
        hint = f"put {', '.join(named)} into the dict" if is_one_dict(inputs, {}) else "because the loss has inputs="
        raise wrong("outputs", "one dict and nothing beside it", f"{len(given)} arguments", hint)
    return given[0]


def walk(argument: str, path: str, outputs: Mapping[str, Any]) -> Any:
    """Return what stands at a path."""
    if path in outputs:  # a key may have dots of its own
        return outputs[path]
    here: Any = outputs
    for step in path.split("."):
        if isinstance(here, Mapping) and step in here:
            here = here[step]
        elif isinstance(here, (list, tuple)) and step in positions(here):
            here = here[int(step)]
        else:
            there = list(here) if isinstance(here, Mapping) else f"{type(here).__name__} of {_length(here)}"
            raise wrong(argument, f"at {path!r} in the outputs", f"no {step!r} among {there}")
    return here


def positions(sequence: Sequence[object]) -> list[str]:
    """Return how the places in a sequence are written, from the first or from the last."""
    return [str(index) for index in range(-len(sequence), len(sequence))]


def _length(value: object) -> object:
    return len(value) if isinstance(value, (list, tuple)) else getattr(value, "shape", "no parts")
