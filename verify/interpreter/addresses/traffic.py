"""The bytes that every launch touches: how many it requests, and how many different ones it reads and writes.

Each different byte must be read from or written to a GPU's memory at least once; repeated requests are served by its caches, as
far as they reach. Between kernels, torch moves bytes too: each of its operations counts as a launch that reads its arguments and
writes its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from ..custom_ops import body
from .memory import Memory

TORCH = "torch."
"""How the names of torch's own operations begin."""


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Bytes of one launch. read, written: different bytes; requested: all of them, by every program and load."""

    kernel: str
    read: int = 0
    written: int = 0
    requested: int = 0

    @property
    def unique(self) -> int:
        return self.read + self.written


class _Bytes:
    """Which bytes of one storage a launch has touched."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.start, self.end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
        self.touched = {way: np.zeros(storage.nbytes(), dtype=bool) for way in ("load", "store")}


class Counting(Memory):
    """A memory check that also counts."""

    def __init__(self) -> None:
        super().__init__()
        self._launches: list[Traffic] = []
        self._storages: list[_Bytes] = []

    @property
    def launches(self) -> list[Traffic]:
        """Every launch so far, in order."""
        self._close()
        return self._launches

    def begin(self, kernel: str, tensors: list[torch.Tensor], warps: int = 1) -> None:
        with _disable_current_modes():
            super().begin(kernel, tensors, warps)
        self._close()
        self._launches.append(Traffic(kernel=kernel))
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
        self._storages = [_Bytes(storage) for storage in storages.values() if storage.nbytes()]

    def admit(self, kind: Any, addresses: np.ndarray, mask: np.ndarray, dtype: tl.dtype) -> np.ndarray:
        on = super().admit(kind, addresses, mask, dtype)
        active = addresses[np.broadcast_to(on, addresses.shape)].astype(np.int64)
        if active.size:
            self._touch(kind, active, max(1, dtype.primitive_bitwidth // 8))
        return on

    def add(self, name: str, read: int, written: int) -> None:
        """A launch that this check does not see."""
        self._close()
        self._launches.append(Traffic(kernel=name, read=read, written=written, requested=read + written))

    def _touch(self, kind: str, active: np.ndarray, item: int) -> None:
        ways = ("load", "store") if kind == "atomic" else (kind,)
        self._launches[-1].requested += len(ways) * item * active.size
        for storage in self._storages:
            here = active[(active >= storage.start) & (active < storage.end)] - storage.start
            for way in ways:
                for byte in range(item if here.size else 0):
                    storage.touched[way][here + byte] = True

    def _close(self) -> None:
        """Count the bytes that the last launch touched."""
        for storage in self._storages:
            self._launches[-1].read += int(storage.touched["load"].sum())
            self._launches[-1].written += int(storage.touched["store"].sum())
        self._storages = []


class TorchTraffic(TorchDispatchMode):
    """Counts the operations of torch between kernels. Views, and memory that is only set aside, cost nothing."""

    def __init__(self, counting: Counting) -> None:
        super().__init__()
        self._counting = counting

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if custom := body(func):
            with self:
                return custom(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        inputs = _storages((args, kwargs))
        mutated = any(argument.alias_info and argument.alias_info.is_write for argument in func._schema.arguments)
        results = _storages(out)
        fresh = {address: size for address, size in results.items() if address not in inputs}
        written = results if mutated else fresh
        if written and not name.startswith(("empty", "new_empty")):
            self._counting.add(TORCH + name, sum(inputs.values()), sum(written.values()))
        return out


def _storages(values: Any) -> dict[int, int]:
    """Bytes that the tensors in `values` cover, by the storage they lie in."""
    found: dict[int, int] = {}
    for x in torch.utils._pytree.tree_leaves(values):
        if isinstance(x, torch.Tensor) and x.device.type == "cpu" and x.numel():
            address = x.untyped_storage().data_ptr()
            found[address] = max(found.get(address, 0), x.numel() * x.element_size())
    return found
