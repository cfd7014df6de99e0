"""`verify report`: a run that was kept as JSON, once more for people or for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..report.text import print_report
from ..verdicts.document import exit_code, read_document
from .options import HtmlOption, JunitOption, stdout, usage
from .write_reports import write_reports


def report(
    file: Annotated[Path, typer.Argument(help="What `verify all --json` wrote.", metavar="FILE.json")],
    html: HtmlOption = None,
    junit: JunitOption = None,
) -> None:
    """Show a JSON report again: on the terminal, as a page, as JUnit XML. Exits as the run did."""
    try:
        document = read_document(file)
    except ValueError as error:
        usage(str(error))
    print_report(stdout, document.verdicts, document.seconds)
    write_reports(document, json_path=None, html=html, junit=junit)
    raise typer.Exit(exit_code(document.verdicts))
