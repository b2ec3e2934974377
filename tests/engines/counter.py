"""What plain eager code would launch and move on a device: PyTorch's operations, counted as they are dispatched.

Tensors on the meta device compute nothing, have no data, and take the branches that tensors on GPUs take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VIEWS = {
    *("view", "_unsafe_view", "expand", "permute", "transpose", "t", "unsqueeze", "squeeze", "slice", "select", "narrow", "detach"),
    *(
        "alias",
        "as_strided",
        "unbind",
        "split",
        "split_with_sizes",
        "unfold",
        "diagonal",
        "lift_fresh",
        "_reshape_alias",
        "view_as_real",
    ),
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "is_same_size"),
}
"""Operations that launch nothing: views and bare memory."""
FILLS = {
    *("fill", "zero", "zeros", "ones", "full", "arange", "scalar_tensor", "copy"),
    *("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"),
}
"""Operations that do not read what they write to."""
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_unique2", "bincount"}
"""Operations for whose result the host waits."""

COMPOSITE = {"binary_cross_entropy_with_logits": 5, "masked_fill": 2, "constant_pad_nd": 2}
"""Operations that are made of others on every device, of how many."""


def nbytes(tensor: Tensor) -> int:
    """The bytes that are really there: an expanded dimension counts once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride != 0 or size == 0 else 1
    return count * tensor.element_size()


def tensors(value: Any) -> list[Tensor]:
    """The tensors in nested containers, each once."""
    return list({id(leaf): leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)}.values())


class FromHost(TorchFunctionMode):
    """Notes tensors that are made of the host's numbers on a device, a copy that the dispatcher does not see."""

    def __init__(self, device: str, copies: list[str]) -> None:
        super().__init__()
        self.device, self.copies = device, copies

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in MAKERS and result.device.type == self.device and not isinstance(args[-1], Tensor):
            self.copies.append(f"{func.__name__} {list(result.shape)} to {result.device}")
        return result


MAKERS = (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor)


class Count(TorchDispatchMode):
    """Counts kernels, bytes moved, the most bytes alive at once, waits of the host, and copies between host and device."""

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.kernels: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.copies: list[str] = []
        self.peak = 0
        self._from_host = FromHost(device, self.copies) if device != "cpu" else nullcontext()
        self._alive: dict[StorageWeakRef, int] = {}
        self._seen: set[int] = set()

    def __enter__(self) -> Any:
        self._from_host.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._from_host.__exit__(*error)

    @property
    def bytes(self) -> int:
        """The bytes read and written."""
        return sum(self.moved.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        name = name if name.endswith("__") else name.rstrip("_")
        if func._schema.name == "aten::_assert_async":
            self.kernels[name] += 1
            return func(*args, **kwargs)
        if name in WAITS or (
            name in ("index", "index_put") and any(i.dtype in (torch.bool, torch.uint8) for i in tensors(args[1]))
        ):
            self.waits[name] += 1
        given = tensors((args, kwargs))
        known = {StorageWeakRef(t.untyped_storage()) for t in given}
        result = func(*args, **kwargs)
        made = tensors(result)
        self._keep(made, known)
        if name == "binary_cross_entropy_with_logits":
            self.peak = max(self.peak, sum(self._alive.values()) + 2 * nbytes(args[0]))
        devices = {t.device.type for t in (*given, *made)}
        if name in ("_to_copy", "copy") and len(devices) > 1:
            self.copies.append(f"{name} {[list(t.shape) for t in given]} to {made[0].device}")
        if name not in VIEWS and self.device in devices:
            self.kernels[name] += 1 if func._schema.name.endswith("_") else COMPOSITE.get(name, 1)
            self.moved[name] += moved(func, name, args, kwargs, [t for t in given if t.device.type == self.device], made)
        return result

    def _keep(self, made: Iterable[Tensor], known: set[StorageWeakRef]) -> None:
        for tensor in made:
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            if tensor.device.type == self.device and reference not in known and reference not in self._alive:
                self._alive[reference] = storage.nbytes()
        self._alive = {reference: size for reference, size in self._alive.items() if not reference.expired()}
        self.peak = max(self.peak, sum(self._alive.values()))


def moved(func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor], made: list[Tensor]) -> int:
    """The bytes that an operation reads and writes; of tables that stay in a cache, their own."""
    in_place = func._schema.name.endswith("_") and not func._schema.name.endswith("__")
    outputs = {id(t) for key, t in kwargs.items() if key in OUTPUTS}
    outputs -= {id(t) for t in tensors(args)}
    read = [t for t in given if id(t) not in outputs and not (name in FILLS and t is args[0])]

    def some(table: Tensor, count: int) -> int:
        return min(count * table.element_size(), nbytes(table))

    match name:
        case "gather":
            return nbytes(args[2]) + nbytes(made[0]) + some(args[0], args[2].numel())
        case "scatter_add" | "scatter":
            values = nbytes(args[3]) if isinstance(args[3], Tensor) else 0
            copied = 0 if in_place else 2 * nbytes(args[0])
            return nbytes(args[2]) + values + copied + (2 if name == "scatter_add" else 1) * some(args[0], args[2].numel())
        case "nll_loss2d_forward" | "nll_loss_forward":
            return nbytes(args[1]) + some(args[0], args[1].numel()) + nbytes(made[0])
        case "nll_loss2d_backward" | "nll_loss_backward":
            return nbytes(made[0]) + nbytes(args[2]) + nbytes(args[0]) + some(made[0], args[2].numel())
        case "index":
            return nbytes(made[0]) + some(args[0], made[0].numel()) + sum(nbytes(i) for i in args[1] if i is not None)
        case "sort":  # by radix: a pass over keys and places for every eight bits
            return args[0].element_size() * 2 * sum(nbytes(t) for t in made)
        case "binary_cross_entropy_with_logits":  # log_sigmoid, 1 - target, two in place, and the mean
            return 11 * nbytes(args[0])
        case "masked_fill" if not in_place:  # a copy first
            return 4 * nbytes(made[0]) + nbytes(args[1])
        case "constant_pad_nd":  # filled first
            return 2 * nbytes(args[0]) + nbytes(made[0])
        case _:
            return sum(nbytes(t) for t in read) + sum(nbytes(t) for t in made)


OUTPUTS = ("out", "grad_input")


def count(function: Callable[..., Tensor], leaf: Tensor, rest: tuple[Tensor, ...]) -> Count:
    """Count a loss and its gradient; without inputs, with the gradient."""
    with Count(leaf.device.type) as counter:
        (gradient,) = torch.autograd.grad(function(leaf, *rest), leaf)
    assert gradient.shape == leaf.shape
    return counter


def enlarged(tensor: Tensor, factor: int) -> Tensor:
    """A tensor without data, of the same dtype, whose last two sides are so many times as long."""
    shape = (*tensor.shape[:-2], *(factor * side for side in tensor.shape[-2:]))
    return torch.empty(shape, dtype=tensor.dtype, device="meta", requires_grad=tensor.requires_grad)
