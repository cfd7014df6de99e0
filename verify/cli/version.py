"""`--version`, the same for every command."""

from __future__ import annotations

from typing import Annotated

import typer

from ... import __version__  # pyright: ignore[reportMissingImports]  # the folders are linked into the package


def _show(asked: bool) -> None:
    if asked:
        typer.echo(f"deltaproof {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show)
]
