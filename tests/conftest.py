"""Settings of the whole suite: no GPU unless asked for, one thread per worker, reproducible property tests."""

import os

# Triton reads the flag when it decorates a kernel, so it must be set before any kernel is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

import torch
from hypothesis import settings
from triton.runtime import interpreter

_patch_tensor = interpreter._patch_lang_tensor


def _patch_tensor_and_index(tensor, scope):
    """A loop's bounds as integers: Triton 3.6 takes int() of an array of one element, which NumPy refuses since 2.4."""
    _patch_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


interpreter._patch_lang_tensor = _patch_tensor_and_index

torch.set_num_threads(1)
settings.register_profile("deltaproof", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("deltaproof")
