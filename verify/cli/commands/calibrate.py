"""`verify calibrate`: the threshold tau, from the errors of known-good kernels, and how often it is wrong about them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ...cases.target_names import OWN
from ...process.signals import interruptible
from ...report.bar import bar
from ...run.cache import default_folder, source_digest
from ...verdicts.document import environment
from ..options import (
    CORES,
    INTERRUPTED,
    MERGE,
    Device,
    JobsOption,
    KernelOption,
    ProfileName,
    SeedOption,
    TargetOption,
    kernels_of,
    prepare,
    stderr,
    stdout,
    usage,
)
from ..outputs import proven

ANEW = 1
"""Added to the seed of the problems by which tau is checked: they are not those that tau was set by."""


def calibrate(
    problems: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Problems, in equal shares of regimes and dtypes.")
    ] = 1000,
    check: Annotated[bool, typer.Option("--check", help="Keep tau: count false alarms on other problems.")] = False,
    target: TargetOption = OWN,
    kernel: KernelOption = None,
    profile: Annotated[ProfileName, typer.Option(help="The profile that problems are drawn from.")] = MERGE,
    jobs: JobsOption = CORES,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Write here, not to results/calibration.json.", dir_okay=False, callback=proven),
    ] = None,
) -> None:
    """Measure the errors of kernels known to be right; set or check tau, the threshold of all error budgets, by them."""
    place = prepare(Device.interpreter)

    from ....results.files import calibration
    from ...calibration.calibrate import false_alarms, shares, summarise
    from ...calibration.log import Log
    from ...calibration.run import calibrate as measure_shares
    from ...run import plan

    selection = plan.Selection(target=target, rules=(), properties=(), kernels=kernel or ("*",))
    path = out or calibration.PATH
    try:
        names = plan.kernel_names(selection, kernels_of(target))
        record: dict[str, Any] = calibration.read(calibration.PATH) if check else {}
    except ValueError as error:
        usage(str(error))
    wanted = shares(target, names, profile.value, problems, 2 * seed + (ANEW if check else 0))
    log = Log(folder=default_folder("calibration"), digest=source_digest("verify/calibration/calibrate.py"))
    with interruptible(), bar(stderr) as live:
        task = live.add_task("", total=len(wanted), title="measuring")
        try:
            measured = measure_shares(wanted, jobs, log, lambda share: live.advance(task))
        except KeyboardInterrupt:
            stderr.print("interrupted: what was measured is kept, and the same command goes on from here")
            raise typer.Exit(INTERRUPTED) from None
    if check:
        found = false_alarms(measured, record["tau"], seed, target)
        others = [known for known in record.get("false_alarms", []) if known["target"] != target]
        calibration.write({**record, "false_alarms": [*others, found]}, path)
        bound = "" if found["rate_below"] is None else f": the rate is below {found['rate_below']:.2%} (95%)"
        stdout.print(f"{found['alarms']} false alarms in {found['problems']} problems at tau {found['tau']}{bound}")
        for token in found["failing"]:
            stdout.print(f"  verify replay '{token}'", soft_wrap=True, markup=False)
        raise typer.Exit(int(found["alarms"] > 0 or not found["problems"]))
    record = summarise(measured, environment(place), seed)
    if not math.isfinite(record["max"]):
        stderr.print(
            f"verify: an error of these kernels is not finite, so tau cannot be set by them: {record['worst']}",
            soft_wrap=True,
            markup=False,
        )
        raise typer.Exit(1)
    calibration.write(record, path)
    for name in ("cases", "rows", "p50", "p99", "p99.9", "p99.99", "max"):
        stdout.print(f"{name:8} {record[name]}")
    stdout.print(f"worst    {record['worst']}", soft_wrap=True, markup=False)
    stdout.print(f"tau      {record['tau']} = {record['rule']}, written to {path}", soft_wrap=True)
