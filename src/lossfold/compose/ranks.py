"""Sums over ranks: what a set's terms add up goes out in one buffer, and every rank has the loss of all.

All ranks have the same loss of the same sums, so the gradients that arrive at a sum are the same, and a rank knows what they add up
to: one, times their count. Not so where the sum is known first (``rounds``) and each rank goes on with elements of its own: there
the backward adds them up. So the ranks' gradients add up to that of their losses' sum, of which a trainer takes the mean.

Every buffer begins with a head: how many ranks' calls have failed, which, how many need a larger buffer than there was before, and
a number that says what stands where. So buffers are of a length that all ranks know from the calls before, and a rank whose checks
refuse a call sends zeros and its complaint in place of sums: no other waits for it, and all of them raise.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from lossfold.compose.standing import standing
from lossfold.errors import LossError, naming, wrong
from lossfold.folds.arithmetic import widest_on
from lossfold.losses.base import tensors_in
from lossfold.losses.reduce import Addends

if TYPE_CHECKING:
    from lossfold.compose.passes import Leaf

HEAD = 4  # ranks that failed, the sum of their numbers + 1, ranks without room, the codes of their layouts
GRADIENTS = ("mean", "sum")
ALIKE = "intervals and steps are the same on all, and so is whether what has to be known first requires a gradient"
CODES = 2**31 - 1  # codes are below; their sum over the ranks is exact in float64


class Ranks:
    """With which ranks a set adds up, and what it has learnt about its buffers.

    Args:
        group: the process group; None for the default one, as it is at each call.
        gradients: what a trainer does with the ranks' gradients: takes their "mean" (DDP, FSDP) or their "sum".

    Attributes:
        rooms: how many sums each all_reduce of a call holds at most, beside its head; all ranks have the same.
        sent: the bytes of each all_reduce of the last call.
    """

    def __init__(self, group: Any, gradients: str) -> None:
        self.group, self.gradients = group_of(group), gradients
        self.rooms: list[int] = []
        self.sent: list[int] = []
        self.device: torch.device | None = None  # where a call's sums have been

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return Ranks(self.group, self.gradients)  # a group is a connection: copies share it

    def __reduce__(self) -> tuple[Any, ...]:
        if self.group is not None:
            hint = "the default group (process_group=None) is found again where the set is loaded"
            raise LossError("LossSet", "process_group", "None in a set that is pickled", type(self.group).__name__, hint)
        return Ranks, (None, self.gradients)

    @property
    def count(self) -> int:
        """How many ranks there are; 1 without a process group."""
        if not distributed.is_available() or not distributed.is_initialized():
            return 1
        return distributed.get_world_size(self.group)

    def share(self, alike: Tensor) -> Tensor:
        """Return what all ranks have alike, losses or their weights; it takes a share of the gradient where these are summed."""
        if self.gradients == "mean" or self.count == 1:
            return alike
        return standing(alike, alike.detach(), 1 / self.count)

    def exchange(self) -> Exchange | None:
        """Return what adds up the sums of one call; None where there is one rank."""
        count = self.count
        return Exchange(self, count) if count > 1 else None


class Exchange:
    """The sums over ranks of one call: as many all_reduces as its terms have rounds, usually one."""

    def __init__(self, ranks: Ranks, count: int) -> None:
        self.ranks, self.count = ranks, count
        self.round = 0
        self.over = False  # whether no rank waits for another: all have the sums, or know that the call has failed
        self.sent: list[int] = []
        self.code = 0  # of the terms that take part
        self.before: Tensor | None = None  # the sums of the last round whose backward sends

    def add(self, parts: Sequence[Tensor], first: bool = False) -> list[Tensor]:
        """Return the sums over all ranks of some tensors, which take the gradient of this rank's share.

        Args:
            parts: the tensors.
            first: whether what adds up next depends on them, so that each rank has a gradient of its own.
        """
        own = [part.reshape(-1).to(widest_on(part.device)) for part in parts]
        sizes = [part.numel() for part in parts]
        if self.before is not None:  # no gradient, but a way: every rank's backward gets there, and to the last round first
            own.append(self.before[:0])
        flat = torch.cat(own)
        numbers = [*sizes, int(first)]  # a backward that sends is one of all ranks
        code = functools.reduce(lambda before, number: (before * 31 + number + 1) % CODES, numbers, self.code)
        with torch.no_grad():
            whole = self._whole(flat.detach(), code)
        self.round += 1
        if first:
            sums = self.before = Known.apply(flat, whole, self.ranks.group)
        else:
            sums = standing(flat, whole, float(self.count))
        return [one.view(part.shape) for one, part in zip(torch.split(sums, sizes), parts, strict=True)]

    def _whole(self, flat: Tensor, code: int) -> Tensor:
        if torch.compiler.is_compiling():
            buffer = torch.cat([_head(flat, 0, 0, 0, code), flat])
            buffer = compiled_all_reduce(buffer, self.ranks.group)
            self._assert(buffer, code)
            return buffer[HEAD:]
        self.ranks.device = flat.device
        if len(flat) > self._room():
            buffer = self._send(_head(flat, 0, 0, 1, code), None)
            self._check(buffer, code, grow=True)  # waits for the device, the first time
            self.ranks.rooms[self.round :] = [len(flat)]
        buffer = self._send(_head(flat, 0, 0, 0, code), flat)
        self._check(buffer, code)
        return buffer[HEAD : HEAD + len(flat)]

    def _room(self) -> int:
        return self.ranks.rooms[self.round] if self.round < len(self.ranks.rooms) else 0

    def _send(self, head: Tensor, flat: Tensor | None) -> Tensor:
        room = self._room()
        own = 0 if flat is None else len(flat)
        buffer = torch.cat([head, *([] if flat is None else [flat]), *([head.new_zeros(room - own)] if room > own else [])])
        distributed.all_reduce(buffer, group=self.ranks.group)
        self.sent.append(buffer.nbytes)
        self.ranks.sent = self.sent
        return buffer

    def takes(self, place: int) -> None:
        """Note that the term at a place takes part."""
        self.code = (self.code * 31 + place + 1) % CODES

    def fail(self, *given: Any) -> None:
        """Take part in place of a call that is refused, so that the other ranks learn of it.

        Where their sums are is known from the calls before; at the first, ``given`` tells, and then what the group is for.
        """
        if self.over:
            return
        self.over = True
        device = self.ranks.device or device_of(self.ranks.group, given)
        like = torch.zeros((), device=device, dtype=widest_on(device))
        with contextlib.suppress(RuntimeError):  # where the others are gone, this rank's own error says more
            self._send(_head(like, 1, distributed.get_rank(self.ranks.group) + 1, 0, 0), None)

    def _check(self, buffer: Tensor, code: int, grow: bool = False) -> None:
        """Refuse the call if another rank does, or calls otherwise; on other devices than CPUs without waiting for them."""
        if buffer.device.type != "cpu" and not grow:
            self._assert(buffer, code)
            return
        failed, who, without_room, codes = (int(one) for one in buffer[:HEAD].tolist())
        alike = codes == self.count * code and without_room == self.count * grow
        if not failed and alike:
            return
        self.over = True
        expected = "a call that all ranks can make"
        if failed:
            whose = f"rank {who - 1}" if failed == 1 else f"{failed} ranks"
            raise wrong("sync", expected, f"one that {whose} could not", "see the error there")
        raise wrong("sync", expected, "other terms, classes or channels on other ranks", ALIKE)

    def _assert(self, buffer: Tensor, code: int) -> None:
        fine = (buffer[0] + buffer[2] == 0) & (buffer[3] == self.count * code)
        torch._assert_async(fine, "lossfold: sync: another rank could not make this call, or made another one")


def _head(like: Tensor, *numbers: float) -> Tensor:
    """Return the head of a buffer, without copying from the host."""
    return torch.stack([like.new_full((), number) for number in numbers])


def compiled_all_reduce(buffer: Tensor, group: Any) -> Tensor:
    """Return a sum over ranks, as compiled graphs have it."""
    from torch.distributed import _functional_collectives as collectives  # a torch built without distributed has none

    found = collectives.all_reduce(buffer, "sum", group or distributed.group.WORLD)  # type: ignore[arg-type]
    whole: Tensor = collectives.wait_tensor(found)  # type: ignore[no-untyped-call]
    return whole


def group_of(group: Any) -> Any:
    """Return the process group of a group, or of a mesh of one dimension."""
    if group is None or (distributed.is_available() and isinstance(group, distributed.ProcessGroup)):
        return group
    if hasattr(group, "get_group") and getattr(group, "ndim", 0) == 1:
        return group.get_group()
    with naming("LossSet"):
        raise wrong("process_group", "a ProcessGroup, a DeviceMesh of one dimension, or None", f"{group!r}"[:80])


def device_of(group: Any, given: Any) -> torch.device:
    """Return where a group's ranks have their sums, as far as a call's arguments and what the group is for tell."""
    devices = {tensor.device.type: tensor.device for tensor in tensors_in(given)}
    on_cpu, backends = devices.pop("cpu", None), str(distributed.get_backend_config(group))
    if devices:
        return next(iter(devices.values()))
    if not torch.cuda.is_available() or "nccl" not in backends or (on_cpu is not None and "cpu" in backends):
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


class Known(torch.autograd.Function):
    """Sums over ranks that have to be known first: what each rank makes of them has a gradient of its own, and these add up."""

    @staticmethod
    def forward(part: Tensor, whole: Tensor, group: Any) -> Tensor:
        """Return the whole."""
        return whole.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Any], output: Tensor) -> None:
        """Keep the group."""
        ctx.group = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of all ranks' losses; every rank gets here."""
        if torch.compiler.is_compiling():
            return compiled_all_reduce(grad, ctx.group), None, None
        return Summed.apply(grad, ctx.group), None, None


class Summed(torch.autograd.Function):
    """A gradient that the backward adds up over ranks."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, group: Any) -> Tensor:
        """Return the sum."""
        whole = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(whole, group=group)
        return whole

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Refuse: each rank's gradient of a gradient is another one, which nobody adds up."""
        got = "a second one, of a loss for which sums over ranks have to be known first"
        raise LossError("LossSet", "sync", "left out, or for first derivatives", got)


def in_rounds(
    pending: dict[str, Any], add: Callable[[Sequence[Tensor], bool], list[Tensor]], leaves: Sequence[Leaf]
) -> dict[str, Tensor]:
    """Return the values of losses, of what they add up; a tensor that several of them share is added once.

    Args:
        pending: the losses' addends, by name.
        add: the sum of such tensors over all parts; see :meth:`Exchange.add`.
        leaves: the losses.
    """
    leaf_of = {leaf.name: leaf for leaf in leaves}
    for turn in itertools.count(1):
        parts: list[Tensor] = []
        slopes: dict[str, bool] = {}  # of the losses that are not done, whether what they add up has a gradient
        for name, one in pending.items():
            if isinstance(one, Addends):
                parts += [part for part in one.parts if not any(part is other for other in parts)]
                slopes[name] = any(part.requires_grad for part in one.parts)
        if not parts:
            break
        sums = add(parts, any(slopes[name] and rounds_of(leaf_of[name]) > turn for name in slopes))

        def whole(part: Tensor, parts: list[Tensor] = parts, sums: list[Tensor] = sums) -> Tensor:
            return next(total for one, total in zip(parts, sums, strict=True) if one is part)

        for name in slopes:
            leaf, one = leaf_of[name], pending[name]
            with naming(leaf.who):
                pending[name] = one.then(*map(whole, one.parts))
                if slopes[name] and isinstance(pending[name], Addends) and rounds_of(leaf) <= turn:
                    hint = "then the gradients of the sums that are known first add up, too"
                    raise wrong("rounds", f"more than {turn} beside addends() that add up further", str(rounds_of(leaf)), hint)
    return pending


def rounds_of(leaf: Leaf) -> int:
    """Return in how many rounds a loss says that it adds up."""
    return 1 if leaf.own is None else leaf.own.rounds
