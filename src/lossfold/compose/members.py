"""Where a set keeps its terms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


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
