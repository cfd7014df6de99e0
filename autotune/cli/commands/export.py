"""`autotune export`: a GPU's table in the formats of other programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ....specs.gpus import Gpu
from ....verify.cli.options import FAILED, stderr, stdout
from ..options import Format, GpuOption, errors, gpu_of, ledger_of, needs_table, possible, writable, write


def export(
    to: Annotated[
        Format, typer.Option("--to", help="t4: Kernel Tuner's results. python: one module. fla: FLA's folder.")
    ],
    gpu: GpuOption,
    out: Annotated[Path, typer.Option("--out", help="The folder to write into.", file_okay=False, callback=possible)],
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder of tables and records.", exists=True, file_okay=False)
    ] = None,
) -> None:
    """Write a GPU's table in the format of another program."""
    target = gpu_of(gpu)
    writable(out)
    if to is Format.fla:
        _export_fla(target, source, out)
    from ....results.digests.kernels import kernel_digest, record_kernel
    from ....results.export.python import to_python
    from ....results.export.t4 import to_t4
    from ...plural import counted

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
        for name, text in files.items():
            write(out / name, text)
    stdout.print(f"{counted(len(files), 'file')} in {out}", soft_wrap=True, markup=False)


def _export_fla(target: Gpu, source: Path | None, out: Path) -> NoReturn:
    from ...fla.tune import export as fla_files
    from ...plural import counted

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
