"""Settings of the whole suite: no GPU unless asked for, one thread per worker, reproducible property tests."""

import os

# Triton reads the flag when it decorates a kernel, so it must be set before any kernel is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("deltaproof", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("deltaproof")
