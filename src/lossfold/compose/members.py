"""Where a set keeps its terms, what may be one, and what it is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from lossfold.compose.term import Term
from lossfold.errors import LossError
from lossfold.losses.folded import Folded
from lossfold.registry import snake_case


def is_term(member: nn.Module) -> bool:
    """Whether a member is a Term, which has a state of its own: the step."""
    return type(member).get_extra_state is not nn.Module.get_extra_state


class Members(nn.Module):
    """The terms of a set by name, which may be that of a method, too."""

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        # A loss goes in and out of a Term, and terms come and go: what was kept of one that is no Term any more is dropped, and one
        # that was none stays at its step.
        for name, member in self._modules.items():
            assert member is not None
            here, kept, takes = f"{prefix}{name}.", f"{prefix}{name}._extra_state" in state, is_term(member)
            if kept != takes:
                old, new = (here, f"{here}loss.") if takes else (f"{here}loss.", here)
                for key in [key for key in state if key.startswith(old)]:
                    state[new + key.removeprefix(old)] = state.pop(key)
            if takes and not kept:
                state[f"{here}_extra_state"] = member.get_extra_state()
            elif kept and not takes:
                del state[f"{here}_extra_state"]
        for key in [key for key in state if key.startswith(prefix) and key.endswith("._extra_state")]:
            if key.removeprefix(prefix).partition(".")[0] not in self._modules:
                del state[key]
        super()._load_from_state_dict(state, prefix, *others)

    @property
    def names(self) -> list[str]:
        """The names in their order."""
        return list(self._modules)

    def add(self, name: str, loss: nn.Module) -> None:
        """Add a term."""
        self._modules[name] = loss

    def __getitem__(self, which: str | int) -> nn.Module:
        return self._modules[self.names[which] if isinstance(which, int) else which]  # type: ignore[return-value]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._modules.values())  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._modules)


def check_member(who: str, name: str, loss: nn.Module, sets: type[Any]) -> None:
    """Refuse what can't be a term.

    Args:
        who: the name of the set's class.
        name: that of the term.
        loss: the term.
        sets: the class of sets.
    """
    if not isinstance(name, str) or not name or "." in name or name == "total":
        raise LossError(who, "terms", "named by strings without dots, other than 'total'", repr(name))
    if not isinstance(loss, nn.Module):
        hint = "use lossfold.build for dicts" if isinstance(loss, Mapping) else ""
        hint = "LOSSES.register_module() makes a class of a function f(pred, target)" if callable(loss) else hint
        raise LossError(who, name, "a loss (an nn.Module)", type(loss).__name__, hint)
    inner = loss.loss if isinstance(loss, Term) else loss
    here = f"{who} term {name!r} ({type(inner).__name__})"
    reduction = getattr(inner, "reduction", "mean")
    if reduction == "none":
        raise LossError(here, "reduction", "'mean' or 'sum' in a set", "'none'")
    if isinstance(loss, Term) and loss.balance is not None and isinstance(inner, sets):
        raise LossError(here, "balance", "left out of a set", repr(loss.balance), "give it to the losses in the set")
    if isinstance(loss, Term) and loss.when is not None:
        if not isinstance(inner, Folded) or not inner.folds:
            hint = "give it to the losses in the set" if isinstance(inner, sets) else ""
            raise LossError(here, "when", "left out: this loss has no value for each image", repr(loss.when), hint)
        if loss.when_mean == "all" and reduction != "mean":
            raise LossError(here, "when_mean", "'applicable' unless reduction='mean'", "'all'")


def by_names(losses: Sequence[nn.Module], sets: type[Any]) -> dict[str, nn.Module]:
    """Return losses by names; those of plain sets are their terms."""
    terms: dict[str, nn.Module] = {}
    for loss in losses:
        pairs: list[tuple[str, nn.Module]] = [("", loss)]
        if type(loss) is sets and loss.loss_weight == 1 and loss.ranks is None and not loss.as_it_is:
            pairs = list(zip(loss.names, loss.members, strict=True))
        for name, one in pairs:
            inner = one.loss if isinstance(one, Term) else one
            name = free = name or getattr(inner, "loss_name", None) or snake_case(type(inner).__name__)
            number = 2
            while free in terms:
                free, number = f"{name}_{number}", number + 1
            terms[free] = one
    return terms
