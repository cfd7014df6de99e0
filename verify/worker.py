"""What runs in the child processes: one cell at a time, the case at hand on disk in case the process dies of it."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .case import Case
from .check import Cell, judge, judge_one
from .harness import Harness
from .profiles import PROFILES
from .properties import load
from .targets import load as load_target
from .verdict import Verdict

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Set for every child: cells run side by side, one thread each, so that sums have one order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A cell and how to judge it.

    current: file that always names the case being run. only: judge the cell by this one case.
    """

    cell: Cell
    profile: str
    seed: int
    tau: float
    device: str
    current: Path
    only: Case | None = None


def start(parent: int) -> None:
    """Prepare a child. It ends when its parent is gone, which a killed parent could not tell it."""
    import torch

    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run(task: Task) -> Verdict:
    """The verdict of one cell."""
    cell = task.cell
    prop = load(cell.property)
    kernels = load_target(cell.target).kernels
    harness = Harness(
        kernel=kernels[cell.kernel] if prop.needs_kernel else None,
        kernels=kernels,
        tau=task.tau,
        device="cpu" if task.device == "interpreter" else task.device,
    )
    if task.only is not None:
        return judge_one(cell, prop, harness, task.only, on_case=task.current.write_text)
    profile = PROFILES[task.profile]
    return judge(cell, prop, harness, profile, seed=task.seed, on_case=task.current.write_text)
