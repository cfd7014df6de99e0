"""`verify all`: every kernel by every property."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ...specs.rule import RULES
from ..commandline import (
    CORES,
    INTERRUPTED,
    MERGE,
    Device,
    DeviceOption,
    JobsOption,
    JsonOption,
    KernelOption,
    ProfileName,
    TargetOption,
    chosen,
    prepare,
    stderr,
    stdout,
    usage,
    write,
)
from ..document import document, exit_code
from ..interruption import interruptible
from ..properties import NAMES as PROPERTIES
from ..report import Live, print_report
from ..store import Store, default_folder
from ..targets import OWN
from ..verdict import Verdict


def judge_all(
    profile: Annotated[ProfileName, typer.Option(help="How much to check.")] = MERGE,
    device: DeviceOption = Device.auto,
    target: TargetOption = OWN,
    rule: Annotated[list[str] | None, typer.Option("--rule", help="Only these rules; may be repeated.")] = None,
    kernel: KernelOption = None,
    prop: Annotated[list[str] | None, typer.Option("--property", help="Only these; may be repeated.")] = None,
    jobs: JobsOption = CORES,
    seed: Annotated[int, typer.Option(min=0, help="Draw other cases.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Judge again what is already known.")] = False,
    json_path: JsonOption = None,
) -> None:
    """Judge every kernel by every property, and report verdicts."""
    started = time.monotonic()
    rules, properties = chosen("rule", rule, RULES), chosen("property", prop, PROPERTIES)
    place = prepare(device)

    from ...results.calibration import tau
    from .. import plan, runner, targets

    selection = plan.Selection(
        target=target,
        rules=rules,
        properties=properties,
        kernels=kernel or ("*",),
        profile=profile.value,
        device=place,
        seed=seed,
    )
    try:
        judged = targets.load(target)
        oracle, cells = plan.plan(selection, judged.kernels)
        threshold = tau()
    except ValueError as error:
        usage(str(error))
    if not oracle and not cells:
        usage("nothing to judge: no selected property applies to a selected kernel and rule")
    settings = runner.Settings(
        profile=profile.value,
        device=place,
        seed=seed,
        tau=threshold,
        jobs=jobs,
        fresh=fresh or not judged.storable,
    )
    store = Store(folder=default_folder(), warn=lambda message: stderr.print(f"warning: {message}", soft_wrap=True))
    verdicts: list[Verdict] = []
    interrupted = False
    with Live(stderr, len(oracle) + len(cells)) as live, interruptible():

        def take(verdict: Verdict) -> None:
            verdicts.append(verdict)
            live.take(verdict)

        try:
            runner.run(oracle, cells, settings, store, take)
        except KeyboardInterrupt:
            interrupted = True
    seconds = time.monotonic() - started
    print_report(stdout, verdicts, seconds)
    if json_path is not None:
        write(json_path, document(verdicts, place, seconds))
    if interrupted:
        stderr.print("interrupted: these verdicts are kept, and the same command goes on from here")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(exit_code(verdicts))
