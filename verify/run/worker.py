"""The work of child processes: one cell at a time, the case at hand on disk in case the process dies of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...results.files.one_line import told
from ..cases import profiles
from ..cases.cell import Cell
from ..cases.replay import Case
from ..execution.harness import Harness
from ..process.lost_device import EXIT_CODE, DeviceLost
from ..properties import load
from ..targets import load as load_target
from ..verdicts.judgement import Status, Verdict
from .judge import judge, judge_one
from .stage_calls import BrokenStage
from .stages import judge_stage


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTask:
    """A cell and how to judge it.

    current: file that always names the case being run. only: judge the cell by this one case; only_seed: of a stage, by this
    call.
    """

    cell: Cell
    profile: str
    seed: int
    tau: float
    device: str
    current: Path
    only: Case | None = None
    only_seed: int | None = None


def run(task: CellTask) -> Verdict:
    """The verdict of one cell, or the error that kept it from being judged. Ends the process if the device is lost to it."""
    try:
        return _judged(task)
    except DeviceLost:
        # At once, as destructors may hang; the case on disk says which one ended the cell.
        os._exit(EXIT_CODE)
    except BrokenStage as error:
        return not_judged(task.cell, str(error), "error")
    except (Exception, SystemExit) as error:
        return not_judged(task.cell, told(error), "error")


def not_judged(cell: Cell, note: str, status: Status = "unsupported") -> Verdict:
    """The verdict of a cell of which nothing is known: it applies, but no case got an answer, or judging broke."""
    return Verdict(
        kernel=cell.kernel, rule=cell.rule, target=cell.target, property=cell.property,
        arithmetic=load(cell.property).arithmetic, status=status, problems=0, seconds=0.0, notes=(note,),
    )  # fmt: skip


def _judged(task: CellTask) -> Verdict:
    cell, target = task.cell, load_target(task.cell.target, task.device)
    if target.stages:
        return judge_stage(
            cell, target.stages[cell.kernel], profile=task.profile, seed=task.seed, tau=task.tau, device=task.device,
            on_case=task.current.write_text, only=task.only_seed,
        )  # fmt: skip
    prop, kernels = load(cell.property), target.kernels
    harness = Harness(
        kernel=kernels[cell.kernel] if prop.needs_kernel else None,
        kernels=kernels,
        tau=task.tau,
        device="cpu" if task.device == "interpreter" else task.device,
    )
    if task.only is not None:
        return judge_one(cell, prop, harness, task.only, on_case=task.current.write_text)
    profile = profiles.named(task.profile)
    return judge(cell, prop, harness, profile, seed=task.seed, on_case=task.current.write_text)
