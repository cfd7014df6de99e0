"""float32 and float64 tensors that carry field elements. Only their bits have a meaning; of float64, the lower half."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from ....specs.arithmetic.field import OUTSIDE, FieldArray, unpack

CARRIERS = (torch.float32, torch.float64)
"""The types of tensors that carry payloads."""


def payload_tensor(values: FieldArray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor of the same shape for an exact session, which would take floats out of nowhere for numbers."""
    with _disable_current_modes():
        if dtype == torch.float64:
            return torch.from_numpy(values.pack().astype(np.uint64).view(np.float64))
        return torch.from_numpy(values.pack().view(np.float32).copy())


def field_array(tensor: torch.Tensor) -> FieldArray:
    """The field elements for which a tensor of an exact session stands; a value that is not a payload is OUTSIDE."""
    if tensor.dtype not in CARRIERS:
        raise TypeError(f"payloads live in float32 and float64 tensors, not in {tensor.dtype}")
    if tensor.dtype == torch.float64:
        wide = tensor.detach().contiguous().view(torch.int64).numpy().view(np.uint64)
        return unpack(np.where(wide >> np.uint64(32), OUTSIDE, wide).astype(np.uint32))
    return unpack(tensor.detach().contiguous().view(torch.int32).numpy().view(np.uint32).copy())
