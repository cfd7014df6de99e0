"""The start of a command: an installation without what deltaproof depends on, and a Ctrl-C while that is imported."""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

INTERRUPTED = 130


def start(command: str, module: str) -> None:
    """Run `main` of a module. A package that it needs and nobody installed is told in one line, with exit code 2; so is Ctrl-C,
    with 130, before `main` can take care of it."""
    try:
        _start(command, module)
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        leave(INTERRUPTED)


def _start(command: str, module: str) -> None:
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


def leave(code: int) -> NoReturn:
    """Exit with this code. Where Ctrl-C struck inside a string that Python ran (a dataclass being made, on import), `python -m`
    remembers it although it was handled, and would die of SIGINT at its end; another string that runs makes it forget."""
    eval("None")
    sys.exit(code)
