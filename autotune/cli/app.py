"""The `autotune` command. Nothing here imports torch before it is known that something is to be done."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ...specs.gpus import Gpu, gpus
from ...verify.cli.options import VersionOption
from ...verify.cli.usage_errors import OneLineGroup
from .options import (
    FAILED,
    INTERRUPTED,
    BudgetOption,
    DimOption,
    DtypeOption,
    Format,
    GpuOption,
    Mode,
    OpOption,
    OutOption,
    RuleOption,
    Target,
    device_of,
    errors,
    gpu_of,
    ledger_of,
    needs_table,
    progress,
    seconds_of,
    selection,
    stderr,
    stdout,
    usage,
    writable,
    write,
)

EXAMPLES = """
Examples:

  autotune --gpu H100                      no H100 here: compile for it

  autotune --gpu H100 --rule kda --dim 64  one rule, one size

  autotune --gpu H100 --budget 30m         the same command goes on

  autotune report --gpu H100               what was rejected, and why

Exit codes: 0 done, and everything in the table passed the gate; 1 something failed; 2 bad usage; 130 interrupted.
"""

app = typer.Typer(
    cls=OneLineGroup, help="Which configuration? Make tuned tables whose entries are verified and keep their evidence.",
    epilog=EXAMPLES, invoke_without_command=True, add_completion=False, rich_markup_mode=None,
)  # fmt: skip


@app.callback()
def tune_all(
    context: typer.Context,
    gpu: Annotated[str | None, typer.Option("--gpu", help=f"A name: {', '.join(gpus())}.")] = None,
    op: OpOption = None,
    rule: RuleOption = None,
    dtype: DtypeOption = None,
    dim: DimOption = None,
    mode: Annotated[Mode, typer.Option(help="auto: measure if that GPU is here, else compile.")] = Mode.auto,
    budget: BudgetOption = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Configurations to time per kind and size of call; 100 by default.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database that workers share: sqlite:///FILE or postgresql://USER@HOST/NAME.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; all cores by default.")] = os.cpu_count()
    or 1,
    out: OutOption = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report here.", dir_okay=False)] = None,
    kernels: Annotated[
        Target,
        typer.Option(
            "--target", help="fla: flash-linear-attention's kernels, compiled and judged in the interpreter only."
        ),
    ] = Target.deltaproof,
    version: VersionOption = False,
) -> None:
    """Make or extend the table of a GPU."""
    if context.invoked_subcommand is not None:
        _hand_on(context)
        return
    if gpu is None:
        usage("say which GPU: --gpu NAME, with NAME one of " + ", ".join(gpus()))
    target = gpu_of(gpu)
    ops, rules, dtypes, dims = selection(op, rule, dtype, dim)
    seconds = None if budget is None else seconds_of(budget)
    from ..records.ledger import default_out

    if kernels is Target.fla:
        if mode is Mode.measure or op or storage:
            usage("--target fla: its kernels are compiled, not measured, forward and backward, by this machine alone")
        _tune_fla(target, rules, dtypes, dims, jobs, writable(out or default_out()), seconds, json_path)
    device = None if mode is Mode.compile else device_of(target)
    if mode is Mode.measure and device is None:
        usage(
            f"--mode measure: the device of this machine, if there is one, is not a {target.slug}; use --mode compile"
        )

    from .. import tune
    from ..compile.cache import default_folder
    from ..storage.database import address_of

    with errors():
        if storage is not None:
            address_of(storage)
    request = tune.Request(
        gpu=target, ops=ops, rules=rules, dtypes=dtypes, dims=dims, jobs=jobs,
        out=writable(out or default_out()), cache=default_folder(), budget=seconds, device=device, storage=storage,
        trials=trials or tune.TRIALS,
    )  # fmt: skip
    how = f"measuring on {device.name}" if device else "nothing is timed, and every entry says so (tier C)"
    stderr.print(f"{target.slug}: compiling and ranking; {how}", soft_wrap=True, markup=False)
    with errors(), progress() as hooks:
        report = tune.tune(request, hooks)
    from ..reports.summary import document, print_summary

    print_summary(stdout, report)
    if json_path is not None:
        write(json_path, json.dumps(document(report), indent=1) + "\n")
    raise typer.Exit(FAILED if report.failed else 0)


@app.command()
def worker(
    storage: Annotated[str, typer.Option("--storage", help="The URL that `autotune --gpu X --storage URL` was given.")],
    budget: BudgetOption = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; all cores by default.")] = os.cpu_count()
    or 1,
    out: OutOption = None,
) -> None:
    """Join: measure, on the GPU of this machine, what others asked for in a storage. One worker for each GPU."""
    seconds = None if budget is None else seconds_of(budget)
    from ..reports.summary import print_summary
    from .worker import join

    if out is not None:
        writable(out)
    with errors(), progress() as hooks:
        reports = join(storage, device_of=device_of, jobs=jobs, out=out, budget=seconds, hooks=hooks)
    for report in reports:
        print_summary(stdout, report)
    raise typer.Exit(FAILED if any(report.failed for report in reports) else 0)


@app.command()
def space(
    gpu: GpuOption = "h100-sxm",
    op: OpOption = None,
    rule: RuleOption = None,
    dtype: DtypeOption = None,
    dim: DimOption = None,
) -> None:
    """Sizes of the search space, and what each constraint removed."""
    target = gpu_of(gpu)
    ops, rules, dtypes, dims = selection(op, rule, dtype, dim)

    from ..reports.summary import print_space
    from ..space.points import enumerate_points, families

    print_space(stdout, [
        count for family in families(ops, rules, dtypes, dims) for count in enumerate_points(family, target.arch)[1]
    ])  # fmt: skip


@app.command()
def report(
    gpu: GpuOption,
    out: OutOption = None,
    html: Annotated[Path | None, typer.Option("--html", help="The page; <out>/reports/<gpu>.html by default.")] = None,
) -> None:
    """Summary of a GPU's records, and one self-contained page."""
    from ..reports.page import outdated, page, print_records

    with errors():
        ledger = ledger_of(gpu_of(gpu), out)
        if not ledger.records:
            usage(f"no records in {ledger.folder}; run `autotune --gpu {gpu}` first")
        if line := outdated(ledger):
            stderr.print(f"autotune: {line}", soft_wrap=True, markup=False)
            raise typer.Exit(FAILED)
        path = html or ledger.table_path.parent.parent / "reports" / f"{ledger.gpu.slug}.html"
        print_records(stdout, ledger)
        write(path, page(ledger))
    stdout.print(f"page: {path}", soft_wrap=True, markup=False)


@app.command()
def check(
    gpu: GpuOption,
    out: OutOption = None,
    canaries: Annotated[
        bool, typer.Option("--canaries", help="Try canaries again even if Triton and the driver are what they were.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; all cores by default.")] = os.cpu_count()
    or 1,
) -> None:
    """Whether a table is what its records amount to, for the kernels as they are, and whether a few entries still are as they
    were under the installed Triton and driver."""
    from ..check import check_table

    target = gpu_of(gpu)
    with errors():
        ledger = ledger_of(target, out)
        needs_table(ledger)
        lines, holds = check_table(ledger, target, device_of, forced=canaries, jobs=jobs)
    for line in lines:
        stdout.print(line, soft_wrap=True, markup=False)
    raise typer.Exit(0 if holds else FAILED)


@app.command()
def gate(
    gpu: GpuOption,
    out: OutOption = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; all cores by default.")] = os.cpu_count()
    or 1,
) -> None:
    """Compile the configurations that a GPU's records rank, refuse those with a known hazard, and write the table again."""
    from ..gates.compiled import gate_table

    target = gpu_of(gpu)
    with errors(), progress() as hooks:
        ledger = ledger_of(target, out)
        needs_table(ledger)
        outcome = gate_table(ledger, target, jobs=jobs, progress=hooks.progress)
    for line in (*outcome.failed, *outcome.broken):
        stderr.print(f"autotune: {line}", soft_wrap=True, markup=False)
    stdout.print(
        f"compiled code: {outcome.asked - len(outcome.failed)} of {outcome.asked} configurations have no known hazard, "
        f"{len(outcome.failed)} are refused; {len(outcome.table.entries)} entries in {ledger.table_path}",
        soft_wrap=True,
        markup=False,
    )
    raise typer.Exit(FAILED if outcome.broken else 0)


@app.command()
def rekey(
    gpu: GpuOption,
    out: OutOption = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; all cores by default.")] = os.cpu_count()
    or 1,
) -> None:
    """After an edit of a kernel: recompile what stale entries launch, and keep those whose programs are the same."""
    from ..compile.cache import Cache, default_folder
    from ..rekey import rekey as carry_over

    target = gpu_of(gpu)
    with errors(), progress() as hooks:
        ledger = ledger_of(target, out)
        needs_table(ledger)
        cache = Cache(folder=default_folder(), warn=hooks.warn)
        outcome = carry_over(ledger, target, cache, jobs=jobs, progress=hooks.progress)
    for line in outcome.left:
        stderr.print(f"autotune: {line}", soft_wrap=True, markup=False)
    left = outcome.stale - outcome.carried
    stdout.print(
        f"{outcome.stale} stale: {outcome.carried} carried over, {left} left"
        + (f"; run `autotune --gpu {target.slug}` for these" if left else ""),
        soft_wrap=True,
        markup=False,
    )
    raise typer.Exit(FAILED if left else 0)


@app.command()
def export(
    to: Annotated[
        Format, typer.Option("--to", help="t4: Kernel Tuner's results. python: one module. fla: FLA's folder.")
    ],
    gpu: GpuOption,
    out: Annotated[Path, typer.Option("--out", help="The folder to write into.", file_okay=False)],
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder of tables and records.", file_okay=False)
    ] = None,
) -> None:
    """Hand a GPU's table to other programs."""
    target = gpu_of(gpu)
    if to is Format.fla:
        _export_fla(target, source, out)
    from ...results.digests.kernels import kernel_digest, record_kernel
    from ...results.export.python import to_python
    from ...results.export.t4 import to_t4
    from ..plural import counted

    with errors():
        ledger = ledger_of(target, source)
        needs_table(ledger)
        written = ledger.written()
        # What was made for other kernel sources is never looked up, so it is not handed on either.
        entries = tuple(entry for entry in written.entries if entry.kernel == kernel_digest(entry.key, entry.config))
        if stale := len(written.entries) - len(entries):
            verb = "was" if stale == 1 else "were"
            line = f"left out: {counted(stale, 'entry')} of {len(written.entries)} {verb} made for other kernel sources"
            stderr.print(f"{line}; run `autotune --gpu {target.slug}`", soft_wrap=True, markup=False)
        if not entries:
            stderr.print(f"autotune: nothing to export in {ledger.table_path}", soft_wrap=True, markup=False)
            raise typer.Exit(FAILED)
        if to is Format.python:
            files = {f"{target.slug.replace('-', '_')}.py": to_python(replace(written, entries=entries))}
        else:
            records = [record for record in ledger.records if record.kernel == record_kernel(record)]
            files = {
                f"{str(entry.key).replace(':', '-')}.json": json.dumps(to_t4(records, entry.key), indent=1) + "\n"
                for entry in entries
            }
        writable(out)
        for name, text in files.items():
            write(out / name, text)
    stdout.print(f"{counted(len(files), 'file')} in {out}", soft_wrap=True, markup=False)


@app.command("import")
def import_results(
    file: Annotated[Path, typer.Argument(help="A T4 file, anybody's.", exists=True, dir_okay=False)],
    source: Annotated[str, typer.Option("--from", help="Its format.")] = "t4",
) -> None:
    """Read a T4 file: what it holds, and its best configurations."""
    if source != "t4":
        usage(f"--from {source!r}; accepted: t4")
    from ...results.export.t4 import from_t4
    from ...results.schema.strict import parse
    from ...results.schema.table import read_text
    from ..reports.summary import print_t4

    with errors():
        print_t4(stdout, from_t4(parse(read_text(file), str(file))))


@app.command("bench-search")
def bench_search(
    landscapes: Annotated[
        Path, typer.Option("--landscapes", help="Folder of recordings.", exists=True, file_okay=False)
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every method on every landscape.")] = 10,
    budget: Annotated[int, typer.Option(min=50, help="Evaluations of a run.")] = 200,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1)] = os.cpu_count() or 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report here.", dir_okay=False)] = None,
) -> None:
    """Replay recorded timings: our search against random search and plain TPE, as fractions of the optimum."""
    from ..search.bench_search import bench, print_bench

    with errors(), progress() as hooks:
        result = bench(landscapes, seeds=seeds, budget=budget, jobs=jobs, progress=hooks.progress)
    print_bench(stdout, result)
    if json_path is not None:
        write(json_path, json.dumps(result, indent=1) + "\n")


def _tune_fla(
    target: Gpu, rules: list[str], dtypes: list[str], dims: list[int], jobs: int, out: Path,
    budget: float | None, json_path: Path | None,
) -> NoReturn:  # fmt: skip
    from ..compile.cache import default_folder
    from ..fla import summary
    from ..fla.tune import tune_fla

    with errors(), progress() as hooks:
        outcome = tune_fla(
            target, rules, dtypes, dims, jobs=jobs, out=out, cache=default_folder(), budget=budget,
            hooks=hooks,
        )  # fmt: skip
    for line in summary.lines(outcome):
        stdout.print(line, soft_wrap=True, markup=False)
    if json_path is not None:
        write(json_path, json.dumps(summary.document(target.slug, outcome), indent=1) + "\n")
    raise typer.Exit(FAILED if outcome.broken else 0)


def _export_fla(target: Gpu, source: Path | None, out: Path) -> NoReturn:
    from ..fla.tune import export as fla_files
    from ..plural import counted

    with errors():
        files = fla_files(source, target)
    writable(out)
    for name, text in files.items():
        write(out / name, text)
    stdout.print(
        f"{counted(len(files), 'file')} in {out}: FLA_CONFIG_DIR={out} FLA_CACHE_MODE=strict",
        soft_wrap=True,
        markup=False,
    )
    raise typer.Exit(0)


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
            usage(f"{parameter.opts[0]} before {name} is for tuning; options of {name} come after it")
    context.default_map = {name: {"gpu": context.params["gpu"]}} if context.params["gpu"] else None


def main() -> None:
    """Entry point of the `autotune` script."""
    try:
        app(prog_name="autotune")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
