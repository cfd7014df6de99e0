"""`verify replay`: single cases again."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...cases.target_names import OWN
from ...process.signals import interruptible
from ...properties import NAMES as PROPERTIES
from ...report.text import print_report
from ...verdicts.document import document, exit_code, read_document
from ...verdicts.judgement import is_compiled
from ..options import (
    INTERRUPTED,
    AllowOption,
    Device,
    DeviceOption,
    JsonOption,
    TargetOption,
    kernels_of,
    known,
    prepare,
    stderr,
    stdout,
    usage,
    write,
)

if TYPE_CHECKING:
    from ...cases.replay import StageReplay


def replay(
    token: Annotated[str, typer.Argument(help="A replay token, or a JSON report whose counterexamples to replay.")],
    device: DeviceOption = Device.interpreter,
    target: TargetOption = OWN,
    json_path: JsonOption = None,
    allow_unsupported: AllowOption = False,
) -> None:
    """Run one case again from its replay token, or every counterexample in a report."""
    started = time.monotonic()
    place = prepare(device)

    from ....results.files.calibration import tau
    from ...cases.replay import Replay, StageReplay
    from ...cases.workload import check_problem
    from ...properties import load
    from ...run import plan, runner

    try:
        if os.path.isfile(token):
            found = [
                (v.target, v.counterexample.replay) for v in read_document(Path(token)).verdicts if v.counterexample
            ]
            if not found:
                usage(f"{token} holds no counterexample, so there is nothing to replay")
        elif "@" not in token and token.endswith(".json"):
            usage(f"there is no file {token}")
        else:
            found = [(target, token)]
        replays = [(name, StageReplay.parse(text) or Replay.parse(text)) for name, text in found]
        for name, case in replays:
            if isinstance(case, StageReplay):
                _known_stage(name, case, place)
                continue
            check_problem(case.case.problem)
            known("property", [case.prop], PROPERTIES)
            known("kernel", [case.kernel], ["oracle"] if case.prop == "oracle" else kernels_of(name, place))
            accepted = (
                True if case.prop == "oracle" else kernels_of(name, place)[case.kernel].accepts(case.case.problem)
            )
            if accepted is not True:
                usage(f"{case.kernel} does not take {case.case.problem.token}: {accepted or 'it gives no reason'}")
            if not plan.runs_on(load(case.prop), place):
                usage(f"{case.prop} cannot be judged with --device {place}")
            if is_compiled(place) and case.prop != "oracle":
                kernel, rule = kernels_of(name, place)[case.kernel], case.case.problem.rule.name
                if why := plan.reason(load(case.prop), kernel, rule, compiled=True):
                    usage(f"{case.prop} cannot be judged with --device {place}: {case.kernel} {why}")
        threshold = tau()
    except ValueError as error:
        usage(str(error))
    verdicts = []
    with interruptible():
        try:
            for verdict in runner.replay(replays, place, threshold):
                verdicts.append(verdict)
        except KeyboardInterrupt:
            stderr.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None
    seconds = time.monotonic() - started
    print_report(stdout, verdicts, seconds)
    if json_path is not None:
        write(json_path, document(verdicts, place, seconds))
    raise typer.Exit(exit_code(verdicts, allow_unsupported=allow_unsupported))


def _known_stage(target: str, wanted: StageReplay, place: str) -> None:
    """End with one line unless the stage is there, and the property can be judged."""
    from ...run.stages import cells
    from ...targets import load

    stages = load(target, place).stages
    known("stage", [wanted.kernel], stages)
    judged = cells(target, stages, PROPERTIES, place)
    known("property of a stage", [wanted.prop], dict.fromkeys(cell.property for cell in judged))
