"""`verify report`: a run that was kept as JSON, once more for people or for CI."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ...report.markdown import markdown
from ...report.text import print_report
from ...verdicts.document import read_document
from ..options import AllowOption, HtmlOption, JunitOption, stdout, usage
from ..write_reports import write_reports


class Format(StrEnum):
    """How a report is printed."""

    text = "text"
    md = "md"


def report(
    file: Annotated[Path, typer.Argument(help="A report that `verify all --json` wrote.", metavar="FILE.json")],
    form: Annotated[Format, typer.Option("--format", help="text, or md: Markdown for an issue.")] = Format.text,
    html: HtmlOption = None,
    junit: JunitOption = None,
    allow_unsupported: AllowOption = False,
) -> None:
    """Show a JSON report again: on the terminal, as Markdown, as a page, as JUnit XML. Exits as the run would."""
    try:
        document = read_document(file)
    except ValueError as error:
        usage(str(error))
    if form is Format.md:
        stdout.print("\n".join(markdown(document)), soft_wrap=True, markup=False)
    else:
        print_report(stdout, document.verdicts, document.seconds)
        for line in document.covered:
            stdout.print(line, soft_wrap=True, highlight=False, markup=False)
    write_reports(document, json_path=None, html=html, junit=junit)
    raise typer.Exit(document.exit_code(allow_unsupported=allow_unsupported))
