"""`autotune export`: a GPU's table in the formats of other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ....specs.gpus import Gpu
from ....verify.cli.options import FAILED, stderr, stdout
from ..options import (
    ExportedOption,
    ExportFormat,
    GpuOption,
    TargetName,
    errors,
    gpu_of,
    ledger_of,
    needs_table,
    possible,
    usage,
    writable,
    write,
)

if TYPE_CHECKING:
    from ....results.schema.entry import TableEntry


def export(
    to: Annotated[
        ExportFormat,
        typer.Option(
            "--to",
            help="t4: Kernel Tuner's results. python: one module. fla: FLA's folder. For --target module:function alone, "
            "triton: Triton's cache of tuning results; megatron: Megatron-LM's tuning table, added to what is in it.",
        ),
    ],
    gpu: GpuOption,
    out: Annotated[Path, typer.Option("--out", help="The folder to write into.", file_okay=False, callback=possible)],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder of the table (--out of the run that made it); by default your data folder, then the tables that ship.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    kernels: ExportedOption = TargetName.deltaproof.value,
) -> None:
    """Write a GPU's table in the format of another program."""
    target = gpu_of(gpu)
    writable(out)
    if kernels not in list(TargetName):
        _export_target(kernels, target, to, source, out)
    if to in (ExportFormat.triton, ExportFormat.megatron):
        usage(f"--to {to} is for --target module:function: our own kernels look their configurations up")
    if kernels == TargetName.fla and to is not ExportFormat.fla:
        usage(f"--target fla --to {to}: configurations of FLA's kernels have one format, --to fla")
    if to is ExportFormat.fla:
        _export_fla(target, source, out)
    from ....results.digests.kernels import kernel_digest
    from ....results.evidence.archive import current
    from ....results.export.python import to_python
    from ....results.export.t4 import to_t4
    from ....verify.verdicts.plural import counted

    with errors():
        ledger = ledger_of(target, source)
        needs_table(ledger)
        written = ledger.written()
        # An entry that was made for other kernel sources is never looked up, so it is not exported either.
        entries = tuple(entry for entry in written.entries if entry.kernel == kernel_digest(entry.key, entry.config))
        if stale := len(written.entries) - len(entries):
            verb = "was" if stale == 1 else "were"
            line = f"left out: {counted(stale, 'entry')} of {len(written.entries)} {verb} made for other kernel sources"
            stderr.print(f"{line}; run `{ledger.command()}`", soft_wrap=True, markup=False)
        if not entries:
            stderr.print(f"autotune: nothing to export in {ledger.table_path}", soft_wrap=True, markup=False)
            raise typer.Exit(FAILED)
        told = ""
        if to is ExportFormat.python:
            told = _served(entries)
            files = {f"{target.slug.replace('-', '_')}.py": to_python(replace(written, entries=entries))}
        else:
            records = current(ledger.records)
            files = {
                f"{str(entry.key).replace(':', '-')}.json": json.dumps(to_t4(records, entry.key), indent=1) + "\n"
                for entry in entries
            }
        for name, text in files.items():
            write(out / name, text)
    stdout.print(f"{counted(len(files), 'file')} in {out}{told}", soft_wrap=True, markup=False)


def _served(entries: Sequence[TableEntry]) -> str:
    """The entries that a module serves, in words, since its user will not see the table."""
    from ....results.export.python import passed
    from ....verify.verdicts.plural import counted

    told = f": {counted(len(entries), 'entry')}"
    if untimed := [entry for entry in entries if entry.tier == "C"]:
        told += f", {len(untimed)} of them never timed (tier C)"
    if held := sum(passed(entry) == () for entry in untimed):
        told += f"; {held} did not run as compiled, and are served only with min_gate='interpreter'"
    return told


def _export_fla(target: Gpu, source: Path | None, out: Path) -> NoReturn:
    from ....verify.verdicts.plural import counted
    from ...fla.tune import export as fla_files

    with errors():
        files = fla_files(source, target)
    for name, text in files.items():
        write(out / name, text)
    stdout.print(
        f"{counted(len(files), 'file')} in {out}: FLA_CONFIG_DIR={out} FLA_CACHE_MODE=strict",
        soft_wrap=True,
        markup=False,
    )
    raise typer.Exit(0)


def _export_target(kernels: str, target: Gpu, to: ExportFormat, source: Path | None, out: Path) -> NoReturn:
    from ....results.export.target import to_fla_folder, to_python, to_t4
    from ....verify.verdicts.plural import counted
    from ...records.ledger import default_out
    from ...targets import megatron, triton_cache
    from ...targets.tune import read_target_table

    with errors():
        table, hint = read_target_table(source or default_out(), target, kernels), ""
        if to is ExportFormat.triton:
            count = len(triton_cache.write(table, target, out))
            hint = f": TRITON_CACHE_DIR={out} TRITON_CACHE_AUTOTUNING=1"
        elif to is ExportFormat.megatron:
            path, text, modules = megatron.exported(table, target, out)
            write(path, text)
            count, scope = 1, f"--triton-autotune-modules {' '.join(modules)}"
            hint = f": --triton-autotune-mode pinned --triton-autotune-table-path {out} {scope}"
        else:
            module = f"{target.slug.replace('-', '_')}.py"
            files = (
                {module: to_python(table)} if to is ExportFormat.python
                else to_t4(table) if to is ExportFormat.t4
                else to_fla_folder(table)
            )  # fmt: skip
            for name, text in files.items():
                write(out / name, text)
            count = len(files)
    stdout.print(f"{counted(count, 'file')} in {out}{hint}", soft_wrap=True, markup=False)
    raise typer.Exit(0)
