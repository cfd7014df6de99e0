"""A device that answers no more: every later kernel in the same process would be blamed for the fault of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...results.files.one_line import told

EXIT_CODE = 70
"""Of a process that ends for it."""


class DeviceLost(BaseException):
    """Not an Exception, since nothing in this process can deal with it: a fresh one has the device again."""


@contextmanager
def noticed(device: str) -> Iterator[None]:
    """Within, an exception after which the device answers no more becomes DeviceLost. Queued work has run at the end."""
    try:
        yield
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    except Exception as error:
        if device.startswith("cuda") and not answers(device):
            raise DeviceLost(told(error)) from error
        raise


def answers(device: str) -> bool:
    """Whether the device still computes for this process."""
    try:
        torch.cuda.synchronize()
        return float(torch.ones(2, device=device).sum().item()) == 2.0
    except Exception:
        return False
