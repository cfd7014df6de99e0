"""Whether the device of this process still answers: after some errors its context is lost, and with it all that would follow."""

from __future__ import annotations

import os
import sys

import torch

LEFT = 75
"""Exit code of a step with work left: the same command goes on, in a process with a context of its own."""


def end_if_lost(after: str) -> None:
    """End this process if the device answers no more. after: what went wrong, in a line."""
    if not torch.cuda.is_available():
        return
    try:
        torch.cuda.synchronize()
        torch.zeros(1, device="cuda").item()
    except RuntimeError:
        print(f"the device answers no more, after {after}")
        sys.stdout.flush()
        # Destructors may hang on a lost context.
        os._exit(LEFT)
