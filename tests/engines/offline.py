"""What the triton engine launches, compiled for GPUs that are not here: registers, spills, loads, atomics.

No driver and no CUDA toolkit: ptxas, nvdisasm and cuobjdump are in Triton's wheel, AMD's code generator in its library. Hosts are
run on tensors without data, and their launches recorded with the arguments that they have: what is compiled is what would run.
Triton decides when it decorates kernels whether to interpret them, so this belongs into a process without TRITON_INTERPRET.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from lossfold.folds.gpu import launch

TARGETS = {f"sm_{arch}": GPUTarget("cuda", arch, 32) for arch in (80, 90, 120)} | {"gfx942": GPUTarget("hip", "gfx942", 64)}
BIN = Path(triton.__file__).parent / "backends/nvidia/bin"
TYPES = {
    torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.int64: "i64", torch.int32: "i32", torch.int8: "i8", torch.uint8: "u8", torch.bool: "i1",
}  # fmt: skip


@dataclass
class Launch:
    """A kernel with the arguments of one launch, as Triton's own dispatch would specialise it for them."""

    kernel: Any
    grid: tuple[int, ...]
    signature: dict[str, Any]
    constants: dict[str, Any]
    attributes: dict[tuple[int, ...], Any]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)

    @property
    def key(self) -> str:
        return f"{self.name} {self.signature} {self.constants} {self.attributes} {self.options}"

    def compiled(self, target: str) -> Built:
        goal = TARGETS[target]
        options = {k: v for k, v in self.options.items() if goal.backend == "cuda" or k != "maxnreg"}
        source = ASTSource(self.kernel, self.signature, constexprs=self.constants, attrs=self.attributes)
        made = triton.compile(source, target=goal, options=options)
        return read_cuda(made, target) if goal.backend == "cuda" else read_amd(made, target)


def specialised(kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], named: dict[str, Any]) -> Launch:
    names = kernel.arg_names
    values = dict(zip(names, arguments, strict=False)) | {k: v for k, v in named.items() if k in names}
    one = Launch(kernel, grid, {}, {}, {}, {k: v for k, v in named.items() if k not in names})
    for place, parameter in enumerate(kernel.params):
        name, value = parameter.name, values[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1 and not parameter.do_not_specialize):
            one.signature[name], one.constants[name] = "constexpr", value
        elif isinstance(value, Tensor):
            one.signature[name] = f"*{TYPES[value.dtype]}"
            one.attributes[place,] = [["tt.divisibility", 16]]
        elif isinstance(value, tuple):
            one.signature[name] = tuple(f"*{TYPES[tensor.dtype]}" for tensor in value)
            one.attributes |= {(place, k): [["tt.divisibility", 16]] for k in range(len(value))}
        elif isinstance(value, float):
            one.signature[name] = "fp32"
        else:
            assert isinstance(value, int), (kernel, name, value)
            one.signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0 and not parameter.do_not_specialize:
                one.attributes[place,] = [["tt.divisibility", 16]]
    return one


@contextlib.contextmanager
def recording(lanes: int = 32) -> Iterator[list[Launch]]:
    """Record what is launched, for devices of so many lanes a warp, and run nothing."""
    found: list[Launch] = []

    def run(self: Any, *arguments: Any, grid: tuple[int, ...], warmup: bool, **named: Any) -> None:
        found.append(specialised(self, grid, arguments, named))

    with mock.patch.object(JITFunction, "run", run), mock.patch.object(launch, "LANES", lambda: lanes):
        yield found


def launches_of(call: Callable[[], Any], target: str) -> list[Launch]:
    with recording(TARGETS[target].warp_size) as found:
        call()
    return found


@dataclass
class Built:
    target: str
    registers: int
    spills: int  # bytes of local memory (CUDA), spilled registers and scratch (AMD)
    shared: int
    opcodes: Counter[str] = field(default_factory=Counter)
    source: str = ""
    """PTX, or AMD's assembly."""

    @property
    def loads(self) -> Counter[str]:
        """What reads global memory."""
        kinds = ("LDG", "LD.E", "LDGSTS", "global_load", "buffer_load", "flat_load")
        return Counter({op: n for op, n in self.opcodes.items() if op.startswith(kinds)})

    @property
    def instructions(self) -> int:
        return sum(n for op, n in self.opcodes.items() if op not in ("NOP", "BRA"))

    @property
    def float_atomics(self) -> list[str]:
        return re.findall(r"\b(?:atom|red)\.\S*\.b?f(?:16|32|64)\S*|(?:global|buffer)_atomic_\w*f(?:16|32|64)", self.source)

    @property
    def loaded_bytes(self) -> int:
        """Bytes that a thread loads from global memory, each instruction of the code counted once."""
        return sum(n * width_of(op) for op, n in self.loads.items())


def width_of(op: str) -> int:
    if op.startswith("LD"):
        for mark, size in ((".128", 16), (".64", 8), (".U8", 1), (".S8", 1), (".U16", 2), (".S16", 2)):
            if mark in op:
                return size
        return 4
    found = re.search(r"dwordx(\d)|dword|ushort|short_d16|ubyte|sbyte", op)
    assert found, op
    if found[1]:
        return 4 * int(found[1])
    return {"dword": 4, "ushort": 2, "short_d16": 2, "ubyte": 1, "sbyte": 1}[found[0]]


def read_cuda(made: Any, target: str) -> Built:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(made.asm["cubin"])
        usage = subprocess.run([BIN / "cuobjdump", "-res-usage", path], capture_output=True, text=True, check=True).stdout
        sass = subprocess.run([BIN / "nvdisasm", "-c", path], capture_output=True, text=True, check=True).stdout
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", usage)}
    opcodes = Counter(re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", sass))
    local = sum(n for op, n in opcodes.items() if op.startswith(("LDL", "STL")))
    spills = found["LOCAL"] or found["STACK"] * bool(local)
    return Built(target, found["REG"], spills, made.metadata.shared, opcodes, made.asm["ptx"])


def read_amd(made: Any, target: str) -> Built:
    text = made.asm["amdgcn"]
    wanted = "vgpr_count|vgpr_spill_count|private_segment_fixed_size"
    found = {key: int(value) for key, value in re.findall(rf"\.({wanted}):\s+(\d+)", text)}
    opcodes = Counter(re.findall(r"^\s+((?:v|s|ds|global|buffer|flat|scratch)_\w+)", text, re.M))
    spills = found["vgpr_spill_count"] + found["private_segment_fixed_size"]  # scalars spill into lanes of a register
    return Built(target, found["vgpr_count"], spills, made.metadata.shared, opcodes, text)
