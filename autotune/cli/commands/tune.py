"""`autotune --gpu X`: make or extend a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ....specs.gpus import Gpu, shipped
from ....verify.cli.options import CORES, FAILED, JobsOption, JsonOption, VersionOption, stdout
from ..options import (
    BudgetOption,
    DimOption,
    DtypeOption,
    Mode,
    OpOption,
    OutOption,
    RuleOption,
    TargetName,
    TargetOption,
    device_of,
    errors,
    gpu_of,
    progress,
    seconds_of,
    selection,
    usage,
    writable,
    write,
)


def tune_all(
    context: typer.Context,
    gpu: Annotated[str | None, typer.Option("--gpu", help=f"A name: {', '.join(shipped())}.")] = None,
    op: OpOption = None,
    rule: RuleOption = None,
    dtype: DtypeOption = None,
    dim: DimOption = None,
    mode: Annotated[Mode, typer.Option(help="auto: measure if that GPU is here, else compile.")] = Mode.auto,
    budget: BudgetOption = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Configurations to time per kind and size of call; 100 by default."),
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database that workers share: sqlite:///FILE or postgresql://USER@HOST/NAME.")
    ] = None,
    jobs: JobsOption = CORES,
    out: OutOption = None,
    json_path: JsonOption = None,
    kernels: TargetOption = TargetName.deltaproof.value,
    version: VersionOption = False,
) -> None:
    """Make or extend the table of a GPU."""
    if context.invoked_subcommand is not None:
        _hand_on(context)
        return
    if gpu is None:
        usage("say which GPU: --gpu NAME, with NAME one of " + ", ".join(shipped()))
    target = gpu_of(gpu)
    if kernels not in list(TargetName):
        if mode is Mode.measure or op or storage or trials:
            usage(
                f"--target {kernels} takes no --op, --storage, --trials or --mode measure: its kernels are compiled and judged "
                "here, not measured"
            )
        _tune_target(kernels, target, rule, dtype, dim, jobs, out, budget, json_path)
    ops, rules, dtypes, dims = selection(op, rule, dtype, dim)
    seconds = None if budget is None else seconds_of(budget)
    from ...records.ledger import default_out

    if kernels == TargetName.fla:
        if mode is Mode.measure or op or storage:
            usage(
                "--target fla takes no --op, --storage or --mode measure: its kernels are compiled here, forward and backward, "
                "not measured"
            )
        _tune_fla(target, rules, dtypes, dims, jobs, writable(out or default_out()), seconds, json_path)
    device = None if mode is Mode.compile else device_of(target)
    if mode is Mode.measure and device is None:
        usage(f"--mode measure: no {target.slug} found on this machine; use --mode compile")

    from ....verify.compile.compilation import compiled_folder
    from ... import tune
    from ...storage.database import address_of

    with errors():
        if storage is not None:
            address_of(storage)
    request = tune.Request(
        gpu=target, ops=ops, rules=rules, dtypes=dtypes, dims=dims, jobs=jobs,
        out=writable(out or default_out()), cache=compiled_folder(), budget=seconds, device=device, storage=storage,
        trials=trials or tune.TRIALS,
    )  # fmt: skip
    with errors(goes_on=True), progress() as hooks:
        report = tune.tune(request, hooks)
    from ...reports.summary import document, print_summary

    print_summary(stdout, report)
    if json_path is not None:
        write(json_path, json.dumps(document(report), indent=1) + "\n")
    raise typer.Exit(FAILED if report.failed else 0)


def _tune_fla(
    target: Gpu, rules: list[str], dtypes: list[str], dims: list[int], jobs: int, out: Path,
    budget: float | None, json_path: Path | None,
) -> NoReturn:  # fmt: skip
    from ....verify.compile.compilation import compiled_folder
    from ...fla import summary
    from ...fla.tune import tune_fla

    with errors(goes_on=True), progress() as hooks:
        outcome = tune_fla(
            target, rules, dtypes, dims, jobs=jobs, out=out, cache=compiled_folder(), budget=budget,
            hooks=hooks,
        )  # fmt: skip
    for line in summary.lines(outcome):
        stdout.print(line, soft_wrap=True, markup=False)
    if json_path is not None:
        write(json_path, json.dumps(summary.document(target.slug, outcome), indent=1) + "\n")
    raise typer.Exit(FAILED if outcome.broken else 0)


def _tune_target(
    kernels: str, target: Gpu, rule: list[str] | None, dtype: list[str] | None, dim: list[int] | None, jobs: int,
    out: Path | None, budget: str | None, json_path: Path | None,
) -> NoReturn:  # fmt: skip
    from ....verify.compile.compilation import compiled_folder
    from ...records.ledger import default_out
    from ...targets import summary
    from ...targets.tune import tune_target

    _, _, dtypes, dims = selection(None, rule, dtype, dim)
    seconds, folder = None if budget is None else seconds_of(budget), writable(out or default_out())
    with errors(goes_on=True), progress() as hooks:
        outcome = tune_target(
            kernels, target, rule or [], dtypes, dims, jobs=jobs, out=folder, cache=compiled_folder(), budget=seconds,  # pyright: ignore[reportArgumentType]
            hooks=hooks,
        )  # fmt: skip
    for line in summary.lines(outcome):
        stdout.print(line, soft_wrap=True, markup=False)
    if json_path is not None:
        write(json_path, json.dumps(summary.document(outcome), indent=1) + "\n")
    raise typer.Exit(FAILED if outcome.broken else 0)


def _hand_on(context: typer.Context) -> None:
    """Give the subcommand a --gpu that stands before it; end with one line for any other option there, or if it takes none."""
    name = str(context.invoked_subcommand)
    command: Any = context.command
    takes = {parameter.name for parameter in command.commands[name].params}
    for parameter in command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is None or source.name != "COMMANDLINE":
            continue
        if parameter.name != "gpu" or "gpu" not in takes:
            usage(f"{parameter.opts[0]} before {name} is an option of tuning; put options of {name} after it")
    context.default_map = {name: {"gpu": context.params["gpu"]}} if context.params["gpu"] else None
