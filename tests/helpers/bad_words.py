"""Command lines that are wrong in one word, made from the parameters that the commands themselves declare."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.models import OptionInfo

from deltaproof.autotune.cli.app import app as autotune
from deltaproof.verify.cli.app import app as verify

APPS = {"verify": verify, "autotune": autotune}

HUGE = "9" * 40
WORDS = ("nosuch", "-1", HUGE, "x" * 5000, "[/bold]", "two\nlines", "../..", "\0", "\udcff", "[", "::", "@", ",")
"""No name of anything. Among them what breaks formatting, encoding, paths, patterns and splitting."""
NO_NUMBERS = ("many", "1.5.0", "0x10", "nan", "inf", "1e999", HUGE, f"-{HUGE}", "\0", "[/bold]")
NO_FLAG = ("yes", "1", "\0", "")

VALID = {
    "gpu": "h100-sxm",
    "storage": "sqlite:///runs.db",
    "token": "error@recurrent/tokens[-]@gdn2:bf16:b1:t64:h1x1:k32:v32:ordinary:s0",
    "what": "module:call",
}
"""Of required parameters whose type does not give one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """An option, or an argument if `option` is "". kind: str, int, float, bool, Path, an enumeration. about: its declaration."""

    name: str
    option: str
    kind: type
    required: bool
    about: Any

    @property
    def written(self) -> bool:
        """Whether it names a file to write."""
        return self.kind is Path and bool(self.option) and not self.about.dir_okay and not self.about.exists

    @property
    def folder(self) -> bool:
        return self.kind is Path and not self.about.file_okay


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of one of the applications. name: "" for the application itself."""

    app: str
    name: str
    parameters: tuple[Parameter, ...]

    @property
    def id(self) -> str:
        return f"{self.app} {self.name}".strip()


@cache
def commands() -> tuple[Command, ...]:
    """Every command there is."""
    found = []
    for name, app in APPS.items():
        callback: Any = app.registered_callback
        for command, function in [("", callback.callback), *((c.name, c.callback) for c in app.registered_commands)]:
            found.append(Command(app=name, name=command, parameters=tuple(_parameters(function))))
    return tuple(found)


def _parameters(function: Callable[..., Any]) -> Iterator[Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        for about in getattr(hints[name], "__metadata__", ()):
            if getattr(about, "is_eager", False):
                continue
            words = [str(word) for word in (about.default, *(about.param_decls or ()))]
            named = [*(word for word in words if word.startswith("--")), f"--{name.replace('_', '-')}"]
            yield Parameter(
                name=name,
                option=named[0] if isinstance(about, OptionInfo) else "",
                kind=_bare(hints[name].__origin__),
                required=parameter.default is inspect.Parameter.empty,
                about=about,
            )


def _bare(hint: Any) -> type:
    """What a value is: of `list[str] | None`, str."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    return _bare(parts[0]) if parts else hint


def bad_words(parameter: Parameter, folder: Path) -> list[str]:
    """Words that a parameter has to refuse, whatever else is on the line. folder: has a file `file` and a folder `folder`."""
    if parameter.kind is bool:
        return list(NO_FLAG)
    if issubclass(parameter.kind, StrEnum):
        return [*WORDS, f"{next(iter(parameter.kind))} "]
    if parameter.kind in (int, float):
        low = parameter.about.min
        return [*NO_NUMBERS, *([] if low is None else [str(low - 1)])]
    if parameter.kind is str:
        return list(WORDS)
    below = ["n" * 300, str(folder / "file" / "below"), "a\0b"]
    return [*below, str(folder / "file")] if parameter.folder else [*below, str(folder / "folder"), "no-such/one"]


def lines(command: Command, parameter: Parameter, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A word, and a command line in which it alone is wrong. Every file that the command writes is there already."""
    good: list[str] = []
    arguments: list[str] = []
    for other in command.parameters:
        if other is parameter or not (other.required or other.written or other.name == "gpu"):
            continue
        words = _spelled(other, str(folder / "file") if other.written else _valid(other, folder))
        (good if other.option else arguments).extend(words)
    for word in bad_words(parameter, folder):
        bad = _spelled(parameter, word)
        line = [*bad, *good, *arguments] if parameter.option else [*good, "--", *bad]
        yield word, [*([command.name] if command.name else []), *line]


def _spelled(parameter: Parameter, word: str) -> list[str]:
    """A parameter with a value, as it is typed."""
    if parameter.kind is bool:
        return [f"{parameter.option}={word}"]
    return [parameter.option, word] if parameter.option else [word]


def _valid(parameter: Parameter, folder: Path) -> str:
    if parameter.name in VALID:
        return VALID[parameter.name]
    if issubclass(parameter.kind, StrEnum):
        return str(list(parameter.kind)[-1])
    return str(folder / ("folder" if parameter.folder else "report.json"))
