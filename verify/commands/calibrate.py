"""`verify calibrate`: the threshold tau, from the errors of known-good kernels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ...specs.rule import RULES
from ..commandline import (
    CORES,
    INTERRUPTED,
    MERGE,
    Device,
    JobsOption,
    KernelOption,
    ProfileName,
    TargetOption,
    kernels_of,
    prepare,
    stderr,
    stdout,
    usage,
)
from ..document import environment
from ..interruption import interruptible
from ..targets import OWN


def calibrate(
    examples: Annotated[int, typer.Option(min=1, help="Cases per kernel and rule.")] = 40,
    target: TargetOption = OWN,
    kernel: KernelOption = None,
    profile: Annotated[ProfileName, typer.Option(help="Whose problems to draw.")] = MERGE,
    jobs: JobsOption = CORES,
    seed: Annotated[int, typer.Option(min=0, help="Draw other cases.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write here, not to results/calibration.json.")] = None,
) -> None:
    """Measure the error of known-good kernels in units of sigma, and derive tau from it."""
    place = prepare(Device.interpreter)

    from ...results import calibration
    from .. import plan, runner
    from ..calibrate import summarise

    selection = plan.Selection(target=target, rules=tuple(RULES), properties=(), kernels=kernel or ("*",))
    try:
        names = plan.kernel_names(selection, kernels_of(target))
    except ValueError as error:
        usage(str(error))
    with interruptible():
        try:
            measured = runner.calibrate(target, names, list(RULES), profile.value, examples, seed, jobs)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    record = summarise(measured, environment(place))
    if not math.isfinite(record["max"]):
        stderr.print(
            f"verify: not known-good, so no measure for others: {record['worst']}", soft_wrap=True, markup=False
        )
        raise typer.Exit(1)
    calibration.write(record, out or calibration.PATH)
    for name in ("cases", "rows", "p50", "p99", "p99.9", "p99.99", "max"):
        stdout.print(f"{name:8} {record[name]}")
    stdout.print(f"worst    {record['worst']}", soft_wrap=True, markup=False)
    stdout.print(f"tau      {record['tau']} = {record['rule']}, written to {out or calibration.PATH}", soft_wrap=True)
