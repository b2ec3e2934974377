"""What a pass over the pixels collected, whichever fold it was, and what it can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import Self

from lossfold import engines
from lossfold.engines import Engine
from lossfold.errors import LossError, wrong
from lossfold.folds.histogram import Errors

Sum = tuple[str, float]  # a kind and its number (a focal sum's gamma, say; 0 where it has none)
Key = tuple[Any, ...]  # what a row of sums is known by: a Sum, or more
MOST_SUMS = 64  # of one pass


class Arguments:
    """What a loss's ``check`` returns: the tensors of a call, as its pass reads them."""

    def same(self, other: Any) -> bool:
        """Whether both hold the same tensors, read alike, so that two losses may share a pass."""
        raise NotImplementedError

    def merge(self, other: Any) -> Self:
        """Return the arguments of a pass that two calls share: where they hold the same, these."""
        return self

    def having(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the arguments with other scores, made of these."""
        raise NotImplementedError


@dataclass(eq=False)
class Fold:
    """What was collected: ``fold[kind, number]`` is ``[I, C]``, with I images, or 1 once they are added.

    Folds of tiles, micro-batches and ranks add up: ``a + b`` (which pixels are hard is decided within each).

    Attributes:
        sums: ``[I, K, C]``, float64 (float32 on devices without it).
        wanted: what the K rows are.
        dtype: of the results.
        constants: the kinds among them that have no part of the scores, so that they have no gradient.
        table: ``[I, 4, C, bins]``, the histogram; see :class:`lossfold.folds.label.definition.Collected`.
        target: what scores were held against: "labels", "masks" or "soft".
        launches: whether each small step over it is a launch that costs more than its work, so that formulas are worth a kernel.
        errors: in place of a table, the errors themselves.
    """

    sums: Tensor
    wanted: tuple[Key, ...]
    dtype: torch.dtype
    constants: tuple[str, ...] = ()
    table: Tensor | None = None
    target: str = "labels"
    errors: Errors | None = None
    launches: bool = False
    _rows: tuple[Tensor, ...] | None = field(default=None, init=False)
    _summed: Fold | None = field(default=None, init=False)

    def __getitem__(self, key: Key) -> Tensor:
        if self._rows is None:  # once for all losses, because each small step costs as much as a small image
            self._rows = self.sums.unbind(1)
        index = place(self.wanted, key)
        if index < 0:
            raise KeyError(key)
        return self._rows[index].detach() if key[0] in self.constants else self._rows[index]

    def __add__(self, other: Fold) -> Self:
        mine, yours = self._shapes(), other._shapes()
        if self.wanted != other.wanted or mine != yours:
            raise LossError("Fold", "other", f"a fold of {self.wanted} {mine}", f"{other.wanted} {yours}")
        errors = self.errors
        if errors is not None and other.errors is not None:
            errors = Errors(*(torch.cat(pair, 2) for pair in zip(errors, other.errors, strict=True)))
        return replace(self.of(*(mine + yours for mine, yours in zip(self.tensors, other.tensors, strict=True))), errors=errors)

    def _shapes(self) -> list[tuple[int, ...]]:
        errors = () if self.errors is None else (self.errors.error[..., :0],)
        return [tuple(one.shape) for one in (*self.tensors, *errors)]

    def only(self, gate: Tensor) -> Self:
        """Return the fold of the images that a gate ``[B]`` lets through."""
        if gate.dtype != torch.bool or tuple(gate.shape) != (len(self.sums),):
            raise wrong("when", f"a boolean tensor [{len(self.sums)}]", describe(gate))
        if gate.device != self.sums.device:
            raise wrong("when", f"on the images' device {self.sums.device}", str(gate.device))
        found = self.changed(lambda part: torch.where(gate.view(-1, *[1] * (part.dim() - 1)), part, 0.0))
        return found if self.errors is None else replace(found, errors=self.errors.only(gate))

    def sum_images(self) -> Fold:
        """Return the fold of all images together."""
        if self._summed is None:
            found = self.changed(lambda part: part if len(part) == 1 else part.sum(0, keepdim=True))
            self._summed = found if self.errors is None else replace(found, errors=self.errors.together())
        return self._summed

    def scaled(self, unit: Tensor) -> Self:
        """Return the fold in other units of weight, ``[1 or I, 1, 1]``."""
        if self.launches and self.table is not None and type(self.sums) is Tensor and not torch.compiler.is_compiling():
            from lossfold.folds.gpu.units import Scaled

            return self.of(*Scaled.apply(unit, self.sums, self.table))
        return self.changed(lambda part: part * (unit if part.dim() == 3 else unit[..., None]))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What adds up: the sums, and the histogram if there is one."""
        return (self.sums,) if self.table is None else (self.sums, self.table)

    def of(self, sums: Tensor, table: Tensor | None = None) -> Self:
        """Return a fold of other sums and another histogram."""
        return replace(self, sums=sums, table=table)

    def changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return a fold of other sums and another histogram, made of these."""
        return self.of(*map(change, self.tensors))


@dataclass(eq=False)
class Rows(Fold):
    """A fold whose rows are tensors of their own, for formulas that are written as a kernel.

    Attributes:
        integral: ``[I, C]`` each, what formulas read of the histogram: values, and the weights of foreground and background.
    """

    integral: tuple[Tensor, ...] | None = None

    @classmethod
    def reading(cls, fold: Fold, rows: tuple[Tensor, ...], integral: tuple[Tensor, ...] | None) -> Rows:
        """Return the fold with these rows."""
        made = cls(rows[0][:, None], fold.wanted, fold.dtype, fold.constants, None, fold.target, integral=integral)
        made._rows = rows
        return made

    def changed(self, change: Callable[[Tensor], Tensor]) -> Any:
        """Return a fold of other rows, made of these; the integral is not one of the rows', and stays."""
        assert self._rows is not None
        return Rows.reading(self, tuple(change(row) for row in self._rows), self.integral)


def place(sums: tuple[Key, ...], wanted: Key) -> int:
    """Return where a sum stands, or -1 (spelled out, because torch.compile does not trace ``tuple.index`` with tuples)."""
    for index, one in enumerate(sums):
        if all(a == b for a, b in zip(one, wanted, strict=True)):
            return index
    return -1


Spec = TypeVar("Spec")
P = TypeVar("P")


@dataclass(frozen=True)
class Needs(Generic[Spec]):
    """What a loss wants collected. Losses whose needs :meth:`agree` share one pass, which collects all they want."""

    spec: Spec
    engine: str | None
    apart: bool = field(default=True, kw_only=True)  # whether anyone asks for the images apart
    validate: bool = field(default=False, kw_only=True)  # whether anyone asks for looks at values that wait for the device

    def agree(self, other: object) -> bool:
        """Whether one pass can serve both."""
        return type(other) is type(self) and other.engine == self.engine and self.reads_alike(other.spec)

    def merge(self, other: Self) -> Self:
        """Return the needs of both."""
        return replace(
            self, spec=self.joined(other.spec), apart=self.apart or other.apart, validate=self.validate or other.validate
        )

    def each_image(self) -> Self:
        """Return the same fold, of each image apart."""
        return replace(self, apart=True)

    def asking(self, **options: Any) -> Self:
        """Return the same fold with other options of the spec."""
        return replace(self, spec=replace(self.spec, **options))  # type: ignore[type-var]

    def reads_alike(self, other: Spec) -> bool:
        """Whether one pass can read its inputs for both specs, and collect what they ask for."""
        raise NotImplementedError

    def joined(self, other: Spec) -> Spec:
        """Return the spec of a pass for both."""
        raise NotImplementedError

    def adding(self) -> Self:
        """Return the same fold as one of a part, which is added to others."""
        return self

    def collect(self, given: Any) -> Fold:
        """Make the pass over a call's arguments, which have been checked."""
        raise NotImplementedError

    def engine_for(self, given: Any) -> Engine | None:
        """Return the engine that serves a call; None where only the pass itself finds out."""
        return None

    def serving(self) -> str:
        """Say which engine serves what, before there is a call."""
        return engines.forced(self.engine) or engines.serving()

    def describe(self) -> tuple[str, str, list[str]]:
        """Return the fold's name, how it reads what it is given, and what it collects."""
        raise NotImplementedError


def more_of(mine: tuple[Any, ...], yours: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the sums of both."""
    return mine + tuple(one for one in yours if place(mine, one) < 0)


def code_of(kinds: tuple[str, ...], kind: str) -> int:
    """Return the number that a kind of sums has in the operators."""
    if kind not in kinds:
        raise unknown(kinds, kind)
    return kinds.index(kind)


def unknown(kinds: Iterable[str], kind: str) -> LossError:
    """Return the error of an engine that is asked for a kind of sums that it does not know."""
    return wrong("sums", f"of kinds that this engine knows: {', '.join(kinds)}", repr(kind))


def shares_of(parts: P, sums: Iterable[Sum], shares: Mapping[str, Callable[[P, float], Tensor]]) -> list[Tensor]:
    """Return what each pixel adds for each sum, made of its parts by a definition's table."""
    found = []
    for kind, number in sums:
        if kind not in shares:
            raise unknown(shares, kind)
        found.append(shares[kind](parts, number))
    return found


def texts_of(sums: tuple[Key, ...]) -> list[str]:
    """Return how a plan names sums."""
    return [f"{kind}({number:g})" if number else kind for kind, number, *_ in sums]


def describe(value: object) -> str:
    """Say what came, shortly."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{type(value).__name__} {value!r}"[:80]
