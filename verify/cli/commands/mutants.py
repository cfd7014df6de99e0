"""`verify mutants`: faults planted in kernels, and the properties that find them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from ...cases.target_names import OWN
from ...mutants.engines.names import EngineName
from ...process.signals import interruptible
from ...run.cache import default_folder, source_digest
from ...verdicts.document import environment
from ..options import (
    CORES,
    INTERRUPTED,
    Device,
    JobsOption,
    JsonOption,
    ProfileName,
    SeedOption,
    TargetOption,
    chosen,
    kernels_of,
    known,
    prepare,
    stderr,
    stdout,
    usage,
    write,
)
from ..outputs import proven

QUICK = ProfileName("quick")
OURS = EngineName.deltaproof
GOALS = {"quick": 0.90, "merge": 0.99, "nightly": 0.99}
"""The least score of a profile; below it the command fails."""


def mutants(
    profile: Annotated[ProfileName, typer.Option(help="The profile that must find the faults.")] = QUICK,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many faults to draw.")] = 200,
    seed: SeedOption = 0,
    engine: Annotated[
        EngineName, typer.Option(help="Whose operators: ours, or those of the mutation tester cosmic-ray.")
    ] = OURS,
    operator: Annotated[
        list[str] | None, typer.Option("--operator", help="Only these kinds of faults; may be repeated.")
    ] = None,
    stage: Annotated[list[str] | None, typer.Option("--stage", help="Only in these stages; may be repeated.")] = None,
    target: TargetOption = OWN,
    jobs: JobsOption = CORES,
    timeout: Annotated[
        float,
        typer.Option(min=1, max=1_000_000, help="Seconds of processor time after which a fault counts as survived."),
    ] = 1800,
    peers: Annotated[bool, typer.Option("--peers", help="Also score other projects' tolerance rules.")] = False,
    prove: Annotated[
        float,
        typer.Option(
            min=0,
            max=100_000,
            help="Minutes of processor time for comparing survivors bit for bit in the nightly profile.",
        ),
    ] = 0,
    list_only: Annotated[bool, typer.Option("--list", help="Only list the faults drawn.")] = False,
    json_path: JsonOption = None,
    localise_path: Annotated[
        Path | None,
        typer.Option(
            "--localise",
            help="Also localise each killed fault, and write the accuracy to this file.",
            dir_okay=False,
            callback=proven,
        ),
    ] = None,
) -> None:
    """Plant faults in kernels, inside the interpreter, and see whether verification finds them."""
    from ...mutants.engines import ENGINES
    from ...mutants.mutant import family

    planter = ENGINES[engine]
    try:
        version = planter.version()
        families = chosen("operator", operator, dict.fromkeys(map(family, planter.operators())))
    except ValueError as error:
        usage(str(error))
    place = prepare(Device.interpreter)

    from ....results.files.calibration import tau
    from ...mutants import campaign, detectable, functions, locating, pool, report
    from ...mutants.judge import MutantResult
    from ...mutants.peers import PeerResult
    from ...mutants.peers import score as score_of
    from ...mutants.sources import own_stages

    kernels = kernels_of(target)
    if target == OWN:  # those of others are known after their kernels ran
        known("stage", stage or (), own_stages())
    try:
        threshold = tau()
        choice = campaign.MutantChoice(count=count, seed=seed, families=families, stages=stage or ())
        drawn = campaign.prepare(planter, kernels, choice)
    except ValueError as error:
        usage(str(error))
    if list_only:
        for mutant in drawn.mutants:
            stdout.print(f"{mutant.id}  {' '.join(mutant.where.split())}", soft_wrap=True, markup=False)
        return

    def setting(*words: str) -> pool.CampaignSettings:
        return pool.CampaignSettings(
            target=target, tau=threshold, jobs=jobs, folder=default_folder("mutants"), timeout=timeout,
            profile=profile.value, digest=source_digest("verify/mutants"), words=(engine, version, *words),
        )  # fmt: skip

    results: list[MutantResult] = []
    compared: list[PeerResult] = []
    interrupted = False
    with report.CampaignProgress(stderr, len(drawn.mutants) * (1 + peers)) as live, interruptible():

        def take(result: MutantResult) -> None:
            results.append(result)
            live.take(result)

        def compare(result: PeerResult) -> None:
            compared.append(result)
            live.advance("rules of others")

        try:
            campaign.judge_all(drawn, kernels, setting(), take)
            if peers:
                campaign.judge_by_peers(drawn, results, setting("peers"), compare)
        except KeyboardInterrupt:
            interrupted = True
    about = {
        "engine": engine.value, "engine_version": version,
        "profile": profile.value, "seed": seed, "count": count, "target": target, "tau": threshold,
        "points": len(drawn.points), "operators": len({mutant.operator for mutant in drawn.points}),
    }  # fmt: skip
    written = functions.own_functions() if target == OWN else ()
    unreached = functions.out_of_reach(drawn.usage.sources, drawn.every, results, written)
    count_of = len({*written, *drawn.usage.sources})
    document = report.document(
        results,
        environment(place),
        about,
        score_of(compared) if compared else {},
        detectable.record(threshold) if peers else {},
        {"all": count_of, "out_of_reach": unreached},
    )
    report.print_report(stdout, results, document["summary"])
    stdout.print(functions.sentence(unreached, count_of), soft_wrap=True, markup=False)
    if json_path is not None:
        write(json_path, document)
    if interrupted:
        stderr.print("interrupted: these results are kept, and the same command goes on from here")
        raise typer.Exit(INTERRUPTED)
    if prove:
        with interruptible():
            try:
                compared_bits = campaign.prove(drawn, results, kernels, target, 60 * prove)
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None
        for name, comparison in compared_bits.items():
            said = comparison.different or f"the same bits in {comparison.launches} launches"
            stdout.print(f"{name}: {said}", soft_wrap=True, markup=False)
    if localise_path is not None:
        killed = sum(result.status == "killed" for result in results)
        with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bar, interruptible():
            localising = bar.add_task("localising", total=killed)
            try:
                located = locating.locate(
                    drawn.mutants, results, setting("localise"), lambda _: bar.advance(localising)
                )
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None
        write(localise_path, locating.document(located, environment(place), about))
        stdout.print(locating.sentence(located), soft_wrap=True)
    score = document["summary"]["score"]
    raise typer.Exit(2 if score is None else int(score < GOALS[profile.value]))
