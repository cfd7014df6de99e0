"""Command lines whose bad usage ends in one line on stderr and exit code 2, whoever finds it: the parser or the command."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from ...results.files.one_line import folded
from ...results.files.start import INTERRUPTED, leave
from ..process.signals import remembered
from .closed_pipe import readers_may_leave

FAILED = 1
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Of a disk that standard output goes to."""
_LONG = re.compile(r"\S{200,}")


def one_line(message: str) -> str:
    """A message as one line that a person can read: words of hundreds of characters are cut."""
    return _LONG.sub(lambda word: f"{word[0][:60]}...{word[0][-20:]}", folded(message))


def _refuse_at_once(name: str, words: Sequence[str]) -> None:
    """End with one line for an empty word, or without a standard output."""
    if named := _empty(words):
        print(f"{name}: {named} is empty; see {name} --help", file=sys.stderr)
        sys.exit(2)
    if sys.stdout is None:
        # The next file that is opened would get its number, and what is printed.
        print(f"{name}: standard output is closed; accepted: a file, or /dev/null", file=sys.stderr)
        sys.exit(FAILED)


# Some versions of typer bring a click of their own, whose exceptions are not those of the installed one.
_ClickError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class OneLineGroup(TyperGroup):
    """A typer application made with `cls=OneLineGroup` prints neither usage boxes nor tracebacks for a typing error."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the words; Ctrl-C ends that in one line, too."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except KeyboardInterrupt:
            raise _interrupted(info_name) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C ends it in one line wherever it strikes."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _interrupted(ctx.info_name) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with the command's code; without `standalone_mode`, as click does."""
        name = prog_name or self.name or ""
        words = sys.argv[1:] if args is None else list(args)
        if not standalone_mode:
            _refuse_at_once(name, words)
            return super().main(args, prog_name, standalone_mode=False, **extra)
        if sys.stderr is None:
            # What is printed to None goes to standard output.
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        with readers_may_leave():
            _refuse_at_once(name, words)
            self._main(args, prog_name, **extra)

    def _main(self, args: Sequence[str] | None, prog_name: str | None, **extra: Any) -> NoReturn:
        try:
            with remembered():
                code = super().main(args, prog_name, standalone_mode=False, **extra)
        except (typer.Abort, KeyboardInterrupt):
            _interrupted(prog_name or self.name)
            leave(INTERRUPTED)
        except _ClickError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()
            else:
                context = getattr(error, "ctx", None)
                command = context.command_path if context else prog_name or self.name
                message = one_line(error.format_message()).rstrip(".").replace(": Value error, ", ": ")
                print(f"{command}: {message}; see {command} --help", file=sys.stderr)
            sys.exit(error.exit_code)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            with suppress(OSError):
                print(f"{prog_name or self.name}: {error.strerror}: the output is lost", file=sys.stderr)
            leave(FAILED)
        # A command that raises Exit gives its code here, one that returns gives None.
        leave(code if isinstance(code, int) else 0)


def _interrupted(command: str | None) -> typer.Exit:
    """The exit after Ctrl-C, which is told in a line."""
    print(f"{command}: interrupted", file=sys.stderr)
    return typer.Exit(INTERRUPTED)


def _empty(words: Sequence[str]) -> str | None:
    """The option or argument that is an empty string, as an unset variable of a shell gives it: a path or pattern of no length
    would mean the folder at hand, or nothing."""
    for before, word in zip(("", *words), words, strict=False):
        if not word:
            return before if before.startswith("-") else "an argument"
        if word.startswith("--") and word.endswith("="):
            return word[:-1]
    return None
