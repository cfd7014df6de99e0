"""`verify all`: every kernel by every property."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

import typer

from ....specs.rule import NAMED
from ...cases.coverage import coverage
from ...cases.profiles import PROFILES
from ...cases.target_names import OWN
from ...process.signals import interruptible
from ...properties import NAMES as PROPERTIES
from ...report.text import Live, print_report
from ...run.cache import VerdictStore, default_folder
from ...verdicts.document import COVERED, SHORT, Document
from ...verdicts.judgement import Verdict
from ..options import (
    CORES,
    INTERRUPTED,
    MERGE,
    AllowOption,
    Device,
    DeviceOption,
    HtmlOption,
    JobsOption,
    JsonOption,
    JunitOption,
    KernelOption,
    ProfileName,
    SeedOption,
    TargetOption,
    chosen,
    prepare,
    stderr,
    stdout,
    usage,
)
from ..outputs import distinct
from ..write_reports import write_reports


def judge_all(
    profile: Annotated[ProfileName, typer.Option(help="How much to check.")] = MERGE,
    device: DeviceOption = Device.auto,
    target: TargetOption = OWN,
    rule: Annotated[list[str] | None, typer.Option("--rule", help="Only these rules; may be repeated.")] = None,
    kernel: KernelOption = None,
    prop: Annotated[
        list[str] | None, typer.Option("--property", help="Only these properties; may be repeated.")
    ] = None,
    jobs: JobsOption = CORES,
    seed: SeedOption = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore stored verdicts and judge everything again.")] = False,
    json_path: JsonOption = None,
    html: HtmlOption = None,
    junit: JunitOption = None,
    allow_unsupported: AllowOption = False,
) -> None:
    """Judge every kernel by every property, and report verdicts."""
    started = time.monotonic()
    rules, properties = chosen("rule", rule, NAMED), chosen("property", prop, PROPERTIES)
    place = prepare(device)

    from ....results.files.calibration import tau
    from ... import targets
    from ...run import plan, runner
    from ...run.served_cases import all_served
    from ...run.stages import cells as stage_cells
    from ...targets.declared import resolved
    from ...targets.launchable import launchable

    try:
        target = resolved(target)
    except ValueError as error:
        usage(str(error))

    selection = plan.Selection(
        target=target,
        rules=rules,
        named=bool(rule),
        properties=properties,
        kernels=kernel or ("*",),
        profile=profile.value,
        device=place,
        seed=seed,
    )
    try:
        judged = targets.load(target, place)
        if judged.ambiguous and not rule:
            usage(judged.ambiguous)
        if judged.stages:
            if rule:
                usage(f"--rule {rule[0]}: a stage has a reference of its own, and no rule; leave it out")
            oracle, declined = [], []
            cells = stage_cells(target, plan.matching(selection, judged.stages), properties, place)
        else:
            oracle, cells = plan.plan(selection, judged.kernels)
            declined = [] if target == OWN else plan.inapplicable(selection, judged.kernels)
        threshold = tau()
    except ValueError as error:
        usage(str(error))
    if not oracle and not cells and not declined:
        usage("nothing to judge: no selected property applies to a selected kernel and rule")
    distinct(json_path, html, junit)
    settings = runner.Settings(
        profile=profile.value,
        device=place,
        seed=seed,
        tau=threshold,
        jobs=jobs,
        fresh=fresh or not judged.storable,
    )
    store = VerdictStore(
        folder=default_folder(), warn=lambda message: stderr.print(f"warning: {message}", soft_wrap=True)
    )
    verdicts: list[Verdict] = []
    interrupted = False
    with Live(stderr, len(oracle) + len(cells)) as live, interruptible():

        def take(verdict: Verdict) -> None:
            verdicts.append(verdict)
            live.take(verdict)

        try:
            for verdict in declined:
                take(verdict)
            runner.run(oracle, cells, settings, store, take)
        except KeyboardInterrupt:
            interrupted = True
    seconds = time.monotonic() - started
    print_report(stdout, verdicts, seconds)
    for line in judged.absences():
        stdout.print(line, style="yellow", soft_wrap=True, highlight=False)
    must = () if judged.stages else PROFILES[profile.value].must
    if target == OWN and PROFILES[profile.value].everything:
        must += all_served(place)
    selected = bool(rule or kernel or prop)
    kernels = launchable(judged) if place == "interpreter" and not selected else ()
    covered = coverage([verdict.covered for verdict in verdicts], must, kernels)
    # A selection of cells, compiled code and other people's kernels are told; our own whole profile has to have it all.
    whole = target == OWN and place == "interpreter" and not (interrupted or selected)
    short = whole and bool(covered.missing or (PROFILES[profile.value].everything and covered.gaps))
    for line in covered.lines():
        stdout.print(line, soft_wrap=True, highlight=False, markup=False)
    document = Document.of(verdicts, place, seconds)
    told = {} if judged.version is None else {"target": judged.version}
    if judged.not_offered:
        told["not offered"] = "; ".join(judged.absences())
    told[COVERED] = "\n".join(covered.lines())
    if short:
        told[SHORT] = "yes"
    document = replace(document, environment={**document.environment, **told})
    write_reports(document, json_path=json_path, html=html, junit=junit)
    if interrupted:
        kept = "these verdicts are kept, and the same command goes on from here"
        stderr.print(f"interrupted: {kept if judged.storable else 'verdicts of a target are not kept'}")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(document.exit_code(allow_unsupported=allow_unsupported))
