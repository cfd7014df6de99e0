"""float32 tensors that carry field elements. Only their bits have a meaning."""

from __future__ import annotations

import numpy as np
import torch

from ...specs.field import FieldArray, unpack


def payload_tensor(values: FieldArray) -> torch.Tensor:
    """A float32 tensor of the same shape for an exact session."""
    return torch.from_numpy(values.pack().view(np.float32).copy())


def field_array(tensor: torch.Tensor) -> FieldArray:
    """What a float32 tensor from an exact session stands for; what is no payload is OUTSIDE."""
    if tensor.dtype != torch.float32:
        raise TypeError(f"payloads live in float32 tensors, not in {tensor.dtype}")
    return unpack(tensor.detach().contiguous().view(torch.int32).numpy().view(np.uint32).copy())
