"""Names for losses: what configs, the functional form, the tests and the benchmarks enumerate."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from torch import nn

from lossfold.errors import LossError, naming, nearest
from lossfold.foreign import loss_meant
from lossfold.options import Kind, checked_options
from lossfold.plugins import Plugins

LISTED = "`lossfold list` shows them"

L = TypeVar("L", bound=type[nn.Module])
C = TypeVar("C", bound=Callable[..., Any])


def snake_case(name: str) -> str:
    """Return ``CrossEntropyLoss`` as ``cross_entropy_loss``, ``CEDiceLoss`` as ``ce_dice_loss``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Registry(Mapping[str, type[nn.Module]]):
    """A mapping from names to loss classes; a name is taken once.

    Other packages' losses, of the entry points ``lossfold.losses``, are found by name and imported when their name is asked for;
    until then they are not among the keys (:meth:`plugins` names them).

    Args:
        group: of the entry points; "" for none.
    """

    of_function: ClassVar[Callable[[Callable[..., Any], str], type[nn.Module]]]  # handed in by what makes a loss of a function

    def __init__(self, group: str = "") -> None:
        self._classes: dict[str, type[nn.Module]] = {}
        self.entries = 0  # that have been made: what is derived from the classes holds until it is another number
        self._plugins = Plugins(group)

    def register(self, cls: L) -> L:
        """Enter a class under its own name (use as a decorator)."""
        return self.register_as(cls.__name__)(cls)

    def register_as(self, name: str) -> Callable[[L], L]:
        """Enter a class under another name: ``@LOSSES.register_as("MyDice")``."""

        def enter(cls: L) -> L:
            self._free(name)
            self._enter({name: cls})
            return cls

        return enter

    def _enter(self, classes: Mapping[str, type[nn.Module]]) -> None:
        self._classes.update(classes)
        self.entries += 1

    def _free(self, name: str) -> None:
        """Refuse a name that is taken."""
        if name in self._classes:
            raise LossError("LOSSES", "name", "a name that is not taken", repr(name), "force=True takes it")

    def register_module(
        self, name: str | Sequence[str] | None = None, force: bool = False, module: Callable[..., Any] | None = None
    ) -> Any:
        """Enter a loss class of one's own, or a function of single elements, as MMEngine's registries do it.

        A function ``f(pred, target, **options)`` is entered as a loss class made with :func:`lossfold.masked_loss`;
        its options are those of the function.

        Args:
            name: the name or names to enter it under, all or (where one is taken) none; its own without.
            force: take a name that is taken.
            module: what to enter; without it, the result is a decorator.

        Returns:
            What was entered, unchanged; or the decorator.

        Raises:
            LossError: for something that is no loss class or function, and for names that are taken.

        Example:
            >>> @LOSSES.register_module()
            ... def quartic_loss(pred, target, factor=1.0):
            ...     return factor * (pred - target) ** 4
            >>> lossfold.build({"type": "quartic_loss", "factor": 2.0})
            LOSSES['quartic_loss'](factor=2.0)
        """
        who, names = "LOSSES.register_module", [name] if isinstance(name, str) else name
        if callable(name):
            raise LossError(who, "name", "a string", repr(name), "write @LOSSES.register_module() or module=...")
        if names is not None and (not isinstance(names, (list, tuple)) or not all(isinstance(one, str) and one for one in names)):
            raise LossError(who, "name", "a name, or a list of names", repr(name))
        if not isinstance(force, bool):
            raise LossError(who, "force", "True or False", repr(force))

        def enter(given: C) -> C:
            cls = loss_class(who, given, names[0] if names else getattr(given, "__name__", ""))
            wanted = dict.fromkeys(names or [given.__name__], cls)
            for one in [] if force else wanted:
                self._free(one)
            self._enter(wanted)
            return given

        return enter if module is None else enter(module)

    def plugins(self) -> dict[str, str]:
        """Return the names that installed packages add, and where they stand; nothing is imported."""
        return {name: where for name, where in self._plugins.names().items() if name not in self._classes}

    def __getitem__(self, name: str) -> type[nn.Module]:
        if name not in self._classes and name in self._plugins:
            loaded = loss_class("lossfold.losses", self._plugins.load(name), name)
            self._enter({name: self._classes.get(name, loaded)})
        if name not in self._classes:
            raise LossError(
                "LOSSES",
                "type",
                "the name of a registered loss",
                repr(name),
                loss_meant(name) or nearest(name, self._classes, LISTED),
            )
        return self._classes[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a loss class, or a default for names that there are not."""
        return self[name] if name in self else default  # noqa: SIM401 - this is what get is made of

    def __contains__(self, name: object) -> bool:
        return name in self._classes or name in self._plugins

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


def loss_class(who: str, given: object, name: str) -> type[nn.Module]:
    """Return a class of losses as it is, and a function of single elements as one."""
    if isinstance(given, type):
        if issubclass(given, nn.Module):
            return given
    elif callable(given) and hasattr(given, "__name__"):
        return Registry.of_function(given, name)
    raise LossError(who, name or "module", "a class of modules, or a function f(pred, target, **options)", f"{given!r}"[:80])


LOSSES = Registry("lossfold.losses")
PARTS: dict[str, Callable[..., Any]] = {}
"""What configs may name in the options of losses and sets, beside losses: terms, schedules."""
PRESETS: dict[str, Callable[..., nn.Module]] = {}
"""Functions that return a set, by name."""


def part(maker: C) -> C:
    """Enter what configs may name beside losses, under its own name (use as a decorator)."""
    PARTS[maker.__name__] = maker
    return maker


def preset(**kinds: Kind) -> Callable[[C], C]:
    """Enter a function that returns a set (use as a decorator); the set remembers how it was made, see :func:`lossfold.to_config`.

    Args:
        kinds: what its options may be, by name.
    """

    def enter(function: C) -> C:
        first = [name for name, one in inspect.signature(function).parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]

        @functools.wraps(function)
        def remembering(*given: Any, **options: Any) -> Any:
            options = dict(zip(first, given, strict=False)) | options
            with naming(function.__name__):
                checked_options(kinds, {name: options[name] for name in kinds.keys() & options.keys()})
            made = function(**options)
            made.made_by = function.__name__, dict(options)
            return made

        remembering.kinds = kinds  # type: ignore[attr-defined]
        PRESETS[function.__name__] = remembering
        return remembering  # type: ignore[return-value]

    return enter
