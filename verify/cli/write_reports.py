"""The files that a run is asked to leave behind, each in its own format."""

from __future__ import annotations

from pathlib import Path

from ..verdicts.document import Document
from .options import usage, write, write_text


def write_reports(document: Document, *, json_path: Path | None, html: Path | None, junit: Path | None) -> None:
    """Write whichever are wanted. A file that cannot be written ends the command with one line."""
    if json_path is not None:
        write(json_path, document.to_json())
    if html is not None:
        from ..report.html import page

        write_text(html, page(document))
    if junit is not None:
        from ..report.junit import write_junit

        try:
            write_junit(document, junit)
        except OSError as error:
            usage(f"cannot write {junit}: {error.strerror}")
