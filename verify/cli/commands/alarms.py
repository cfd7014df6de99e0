"""`verify alarms`: kernels known to be right over many seeds, and how often one of them is failed."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from ....specs.rule import NAMED
from ...cases.target_names import OWN
from ...process.signals import interruptible
from ...properties import NAMES as PROPERTIES
from ...report.bar import bar
from ...run.cache import VerdictStore, default_folder
from ...verdicts.document import environment
from ..options import (
    CORES,
    FAILED,
    INTERRUPTED,
    LARGEST_SEED,
    MERGE,
    NOT_JUDGED,
    AllowOption,
    Device,
    JobsOption,
    JsonOption,
    KernelOption,
    ProfileName,
    TargetOption,
    chosen,
    kernels_of,
    prepare,
    stderr,
    stdout,
    usage,
    write,
)

DRAWING = ("oracle", "error", "equality")
"""The properties that draw most of their cases."""


def alarms(
    seeds: Annotated[str, typer.Option(help="First and last seed, as 1-40.")] = "1-40",
    prop: Annotated[
        list[str] | None,
        typer.Option("--property", help=f"Only these properties, not {', '.join(DRAWING)}; may be repeated."),
    ] = None,
    rule: Annotated[list[str] | None, typer.Option("--rule", help="Only these rules; may be repeated.")] = None,
    target: TargetOption = OWN,
    kernel: KernelOption = None,
    profile: Annotated[ProfileName, typer.Option(help="The profile whose cells are judged.")] = MERGE,
    jobs: JobsOption = CORES,
    json_path: JsonOption = None,
    allow_unsupported: AllowOption = False,
) -> None:
    """Judge kernels known to be right with many seeds, and count how often one is failed."""
    wanted = _range(seeds)
    rules, properties = chosen("rule", rule, NAMED), chosen("property", prop or DRAWING, PROPERTIES)
    place = prepare(Device.interpreter)

    from ....results.files.calibration import tau
    from ...calibration.alarms import Judged, document, over_seeds, sentence
    from ...run import plan, runner

    selection = plan.Selection(
        target=target, rules=rules, named=bool(rule), properties=properties, kernels=kernel or ("*",),
        profile=profile.value, device=place,
    )  # fmt: skip
    kernels = kernels_of(target)
    try:
        plan.kernel_names(selection, kernels)
        settings = runner.Settings(profile=profile.value, device=place, seed=0, tau=tau(), jobs=jobs)
    except ValueError as error:
        usage(str(error))
    store = VerdictStore(
        folder=default_folder(), warn=lambda message: stderr.print(f"warning: {message}", soft_wrap=True)
    )
    judged: list[Judged] = []
    interrupted = False
    with interruptible(), bar(stderr) as live:
        doing = live.add_task("", total=len(wanted), title="seeds")

        def take(one: Judged) -> None:
            judged.append(one)
            live.update(doing, completed=one.seed - wanted.start)
            if one.alarm:
                verdict = one.verdict
                stderr.print(f"seed {one.seed}: {verdict.kernel} {verdict.rule} {verdict.property} is {verdict.status}")

        try:
            over_seeds(wanted, selection, kernels, settings, store, take)
        except KeyboardInterrupt:
            interrupted = True
    setting = {
        "target": target, "profile": profile.value, "seeds": seeds, "tau": settings.tau, "rules": list(rules),
        "properties": list(properties), "kernels": list(selection.kernels), "complete": not interrupted,
        "last_seed": judged[-1].seed if judged else None,
    }  # fmt: skip
    report = document(judged, environment(place), setting)
    for each in report["alarms"]:
        stdout.print(f"  verify replay '{each['replay']}'" if each["replay"] else f"  {each['message']}",
                     soft_wrap=True, markup=False)  # fmt: skip
    stdout.print(sentence(report["summary"]), soft_wrap=True)
    if json_path is not None:
        write(json_path, report)
    if interrupted:
        stderr.print("interrupted: these verdicts are kept, and the same command goes on from here")
        raise typer.Exit(INTERRUPTED)
    if not report["summary"]["cells"] and not report["summary"]["not_judged"]:
        usage("nothing to judge: no selected property applies to a selected kernel and rule")
    if report["summary"]["alarms"]:
        raise typer.Exit(FAILED)
    raise typer.Exit(NOT_JUDGED if report["summary"]["not_judged"] and not allow_unsupported else 0)


def _range(text: str) -> range:
    """`1-40` or `7` as seeds."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not first <= last <= LARGEST_SEED:
        usage(f"--seeds {text!r} is neither a seed nor two, as 1-40, from 0 to {LARGEST_SEED}")
    return range(first, last + 1)
