"""Modules that are their options: keyword-only dataclasses of plain values, checked whenever one changes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn
from typing_extensions import Self

from lossfold.errors import LossError, naming, nearest
from lossfold.foreign import translation
from lossfold.memory import Memory
from lossfold.options import Kind, checked_options, declared
from lossfold.routing import arguments_of
from lossfold.signatures import is_same, options_of

NOT_CONFIGURED = "write @configured, of lossfold.options, above the class: it makes its annotated names options"


def is_ours(cls: type[Any]) -> bool:
    """Whether a class is lossfold's or PyTorch's."""
    return str(cls.__module__).startswith(("lossfold.", "torch."))  # of a function without one: None


@functools.cache
def call_of(forward: Callable[..., Any]) -> tuple[dict[str, bool], bool]:
    """Return a call's arguments, whether each has to be given, and whether it takes others."""
    kinds = [parameter.kind for parameter in inspect.signature(forward).parameters.values()]
    return arguments_of(forward), inspect.Parameter.VAR_POSITIONAL in kinds or inspect.Parameter.VAR_KEYWORD in kinds


class Configured(nn.Module):
    """A module that is a keyword-only dataclass of plain values: it pickles, copies, and its repr evaluates to it.

    A subclass may have a constructor of its own, which calls ``super().__init__`` with options: what it takes are then its options.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    __match_args__: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[dict[str, Kind]] = {}  # what its options may be, as their fields declare it
    own_kinds: ClassVar[dict[str, Kind]] = {}  # of the fields that it brings itself
    one_needed: ClassVar[tuple[str, ...]] = ()  # options one of which has to be given, although each has a default
    arguments: ClassVar[dict[str, bool]] = {}  # of a call, and whether each has to be given
    open_call: ClassVar[bool] = True  # whether a call takes arguments of other names, or any number of them
    ready: bool = False  # whether it is a module already, no dataclass that is being filled
    memory: Memory  # another one whenever an option or another attribute changes, and of every copy
    own_class: ClassVar[bool] = True  # whether it is one of lossfold's, and so are all that it derives from
    written: ClassVar[Callable[..., None] | None] = None  # the constructor that somebody has written, where one has

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if callable(vars(cls).get("validate")):  # what settle() was called; it would never run
            raise TypeError(f"{cls.__name__}: write settle(self) in place of validate(self)")
        cls.own_class = cls.own_class and is_ours(cls)
        cls.written = vars(cls).get("__init__", cls.written)  # before a dataclass makes one
        cls.own_kinds = declared(vars(cls))
        owners = reversed(cls.__mro__)
        cls.kinds = {name: kind for owner in owners for name, kind in vars(owner).get("own_kinds", {}).items()}
        cls.arguments, cls.open_call = call_of(cls.forward)

    def __new__(cls, *args: object, **options: object) -> Self:
        """Refuse unknown options, and make a module of what the dataclass is about to fill."""
        if cls.__init__ is cls.written:
            return super().__new__(cls)
        valid = [name for name in cls.__init__.__annotations__ if name != "return"]
        for name in options:
            if name not in valid:
                forgotten = NOT_CONFIGURED if name in cls.not_fields() else ""
                hint = translation(name, valid, options[name], cls.__name__) or forgotten or nearest(name, valid)
                raise LossError(cls.__name__, name, "an option of this loss", repr(options[name]), hint)
        first = cls.__match_args__  # the fields that are not keyword-only; torch.compile can't follow dataclasses.fields
        if len(args) > len(first):
            by_keyword = f"given by keyword{', but for ' * bool(first)}{', '.join(first)}"
            mode = translation("mode", valid, args[0]) if args[0] in ("binary", "multiclass", "multilabel") else ""
            raise LossError(
                cls.__name__, "options", by_keyword, f"positional {args!r}"[:80], mode or f"options: {', '.join(valid)}"
            )
        return super().__new__(cls)

    @classmethod
    def not_fields(cls) -> list[str]:
        """Return what is written as an option of a class that nothing has made a dataclass of."""
        if cls.__init__ is cls.written:
            return []
        owners = [owner for owner in reversed(cls.__mro__) if not is_ours(owner)]
        kinds = {name: kind for owner in owners for name, kind in inspect.get_annotations(owner).items()}
        return [name for name, kind in kinds.items() if "ClassVar" not in str(kind) and name not in cls.__dataclass_fields__]

    def __post_init__(self) -> None:
        super().__init__()
        self.ready = True
        with naming(type(self).__name__):
            self.settle()

    def settle(self) -> None:
        """Refuse wrong options, and derive from them what the loss keeps; called again when an option is changed.

        What each option may be, its field declares; what is to be said here is what relates several.
        """
        for name, value in checked_options(self.kinds, {name: getattr(self, name) for name in self.kinds}).items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__:
            super().__setattr__(name, value)
            if self.ready and name not in ("memory", "training"):
                self.memory = Memory(self.own_class)
            return
        value = value.detach() if isinstance(value, nn.Parameter) else value  # an option is no parameter
        if isinstance(value, nn.Module):
            raise LossError(type(self).__name__, name, "a plain value", type(value).__name__)
        if not self.ready:
            return super().__setattr__(name, value)
        before = getattr(self, name)
        super().__setattr__(name, value)
        try:
            with naming(type(self).__name__):
                self.settle()
        except LossError:
            super().__setattr__(name, before)
            self.settle()
            raise
        finally:  # last, because another thread's call may have remembered what no longer holds
            self.memory = Memory(self.own_class)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self.memory = Memory(self.own_class)

    def require(self, name: str, holds: bool, expected: str, hint: str = "") -> None:
        """Refuse the value of an option."""
        if not holds:
            raise LossError(type(self).__name__, name, expected, repr(getattr(self, name)), hint)

    def __repr__(self) -> str:
        cls = type(self)
        if cls.__init__ is not cls.written:
            fields = [f for f in dataclasses.fields(self) if f.init and getattr(self, f.name) != f.default]
            return f"{cls.__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in fields)})"
        options = {name: option.default for name, option in options_of(cls).items() if hasattr(self, name)}
        given = [
            f"{name}={getattr(self, name)!r}" for name, default in options.items() if not is_same(getattr(self, name), default)
        ]
        weight = getattr(self, "loss_weight", 1)
        return f"{weight!r} * " * ("loss_weight" not in options and weight != 1) + f"{cls.__name__}({', '.join(given)})"
