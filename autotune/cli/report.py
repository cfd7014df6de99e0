"""`autotune report`: a GPU's records, summed up for the terminal and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...verify.cli.options import FAILED, stderr, stdout
from .options import GpuOption, OutOption, errors, gpu_of, ledger_of, usage, write


def report(
    gpu: GpuOption,
    out: OutOption = None,
    html: Annotated[Path | None, typer.Option("--html", help="The page; <out>/reports/<gpu>.html by default.")] = None,
) -> None:
    """Summarise a GPU's records, and write one self-contained page."""
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
