"""A memory for payloads beside the real one: exact values stored through pointers that are too narrow to hold them."""

from __future__ import annotations

import numpy as np
import torch

from ....specs.arithmetic.field import OUTSIDE


class Shadow:
    """Payloads by byte address. Only kernels that narrow by hand come here, so that a dict is fast enough."""

    def __init__(self) -> None:
        self._payloads: dict[int, int] = {}

    def store(self, addresses: np.ndarray, bits: np.ndarray) -> None:
        self._payloads.update(zip(addresses.ravel().tolist(), bits.ravel().tolist(), strict=True))

    def load(self, addresses: np.ndarray) -> tuple[np.ndarray, bool]:
        """(payloads as uint32, whether all of them were there); OUTSIDE stands for the missing ones."""
        missing = int(OUTSIDE)
        found = [self._payloads.get(address, -1) for address in addresses.ravel().tolist()]
        bits = np.array([missing if payload < 0 else payload for payload in found], dtype=np.uint32)
        return bits.reshape(addresses.shape), -1 not in found

    @staticmethod
    def addresses(tensor: torch.Tensor) -> np.ndarray:
        """The byte address of every element, uint64, in the shape of the tensor."""
        offsets = np.zeros((1,) * tensor.dim(), dtype=np.uint64)
        for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            steps = np.arange(size, dtype=np.uint64) * np.uint64(stride * tensor.element_size())
            offsets = offsets + steps.reshape((-1,) + (1,) * (tensor.dim() - axis - 1))
        return offsets + np.uint64(tensor.data_ptr())
