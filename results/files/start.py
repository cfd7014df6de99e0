"""The start of a command where only look-ups can be had: an installation without what deltaproof depends on."""

from __future__ import annotations

import sys
from importlib import import_module


def start(command: str, module: str) -> None:
    """Run `main` of a module. A package that it needs and nobody installed is told in one line, with exit code 2."""
    try:
        main = import_module(module).main
    except ModuleNotFoundError as error:
        if str(error.name).startswith("deltaproof"):
            raise
        print(
            f"{command}: needs {error.name}, which is not installed here; install deltaproof without --no-deps",
            file=sys.stderr,
        )
        sys.exit(2)
    main()
