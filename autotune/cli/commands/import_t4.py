"""`autotune import`: read the results of any tuner that writes T4 files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ....verify.cli.options import stdout
from ..options import errors, usage


def import_results(
    file: Annotated[Path, typer.Argument(help="A T4 results file from any tuner.", exists=True, dir_okay=False)],
    source: Annotated[str, typer.Option("--from", help="Its format.")] = "t4",
) -> None:
    """Read a T4 file and show its contents and best configurations."""
    if source != "t4":
        usage(f"--from {source!r}; accepted: t4")
    from ....results.export.t4 import from_t4
    from ....results.schema.strict import TableError, parse
    from ....results.schema.text_files import read_text
    from ...reports.summary import print_t4

    with errors():
        document = parse(read_text(file), str(file))
        try:
            found = from_t4(document)
        except TableError as error:
            usage(f"{file}: {error}")
        print_t4(stdout, found)
