"""How a bad input may be answered: in one line, soon, and without a process of its own."""

from __future__ import annotations

import dis
import io
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import typer

from tests.helpers.bad_words import APPS

SECONDS = 5.0
LONGEST = 1500
"""Characters of a line that a person still reads."""


class TookTooLong(BaseException): ...


class StartedAProcess(BaseException): ...


@contextmanager
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process may be started, and no more than `SECONDS` of the processor be taken."""

    def late(*_: object) -> None:
        raise TookTooLong

    def start(_: object) -> None:
        raise StartedAProcess

    with monkeypatch.context() as patch:
        patch.setattr(BaseProcess, "start", start)
        before = signal.signal(signal.SIGPROF, late)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command said. traceback: of an error that was not caught, else ""."""

    code: Any
    stdout: str
    stderr: str
    traceback: str = ""

    def fault(self, names: Sequence[str]) -> str | None:
        """What is wrong with it as a refusal, which is one line with one of `names`, and exit code 2."""
        one = len(self.stderr.strip().splitlines()) == 1 and len(self.stderr) <= LONGEST
        if self.traceback or self.code != 2 or not one or self.stdout:
            return f"exit code {self.code}, {self.stderr[:300]!r}, {self.stdout[:200]!r} {self.traceback}"
        return None if any(name in self.stderr for name in names) else f"does not name it: {self.stderr!r}"


@cache
def _built(app: str) -> Any:
    # Making a command of the application takes typer longer than most of what is asked of it here.
    return typer.main.get_command(APPS[app])


def answer(app: str, line: Sequence[str]) -> Answer:
    """The answer of `verify` or `autotune`, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    code, trace = None, ""
    with redirect_stdout(out), redirect_stderr(err):
        try:
            _built(app).main(line, prog_name=app)
        except SystemExit as error:
            code = error.code
        except BaseException as error:
            trace = "".join(traceback.format_exception(error)[-6:])
    return Answer(code=code, stdout=out.getvalue(), stderr=err.getvalue(), traceback=trace)


def refusal(error: BaseException, *names: str) -> str | None:
    """What is wrong with an error as a refusal: it is our own ValueError or TypeError, of one line, with one of `names`."""
    said = str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised = trace is not None and trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    ours = raised and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("deltaproof.")  # pyright: ignore
    if not isinstance(error, ValueError | TypeError) or not ours:
        return "".join(traceback.format_exception(error)[-3:])
    if "\n" in said or not said or len(said) > LONGEST:
        return f"{len(said)} characters in {len(said.splitlines())} lines: {said[:300]!r}"
    return None if not names or any(name in said for name in names) else f"does not name it: {said!r}"
