"""Shared by the subcommands: consoles, exit codes, options, and the end of a command on bad usage."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from ... import __version__  # pyright: ignore[reportMissingImports]  # the folders are linked into the package
from ..cases import profiles
from ..cases.target_names import FORMS
from ..verdicts.judgement import is_compiled
from .outputs import is_stdout, proven
from .usage_errors import one_line

FAILED, USAGE, NOT_JUDGED, INTERRUPTED = 1, 2, 3, 130
EXIT_CODES = (
    "Exit codes: 0 what was checked holds, 1 something failed, 2 bad usage or nothing to check, 3 something could not be "
    "judged, 130 interrupted."
)

stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)


class Device(StrEnum):
    auto = "auto"
    interpreter = "interpreter"
    cuda = "cuda"
    sm_80 = "sm_80"
    sm_86 = "sm_86"
    sm_89 = "sm_89"
    sm_90 = "sm_90"


def _few(jobs: int) -> int:
    """Refuse a number of processes that would take the machine down."""
    if jobs > MOST_JOBS:
        raise typer.BadParameter(f"{jobs} processes on {CORES} cores; at most {MOST_JOBS} are accepted")
    return jobs


ProfileName = StrEnum("ProfileName", list(profiles.PROFILES))
MERGE = ProfileName("merge")
CORES = os.cpu_count() or 1
TargetOption = Annotated[str, typer.Option("--target", help=f"Whose kernels: {', '.join(FORMS[:-1])} or {FORMS[-1]}.")]
KernelOption = Annotated[
    list[str] | None, typer.Option("--kernel", help="Only kernels that match this pattern; may be repeated.")
]
MOST_JOBS = max(16, 4 * CORES)
"""More processes than this only take memory from each other."""
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; all cores by default.", callback=_few)]
LARGEST_SEED = 2**31 - 1
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed for everything that is drawn.")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Write the report to this file, as JSON.", dir_okay=False, callback=proven)
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html", help="Write the report to this file, as one self-contained page.", dir_okay=False, callback=proven
    ),
]
JunitOption = Annotated[
    Path | None,
    typer.Option(
        "--junit", help="Write the report to this file, as JUnit XML for CI.", dir_okay=False, callback=proven
    ),
]
DeviceOption = Annotated[
    Device,
    typer.Option(
        help="auto: a GPU if there is one, else the interpreter. sm_80 to sm_90: as compiled for it, run on the CPU.",
        case_sensitive=False,
    ),
]

AllowOption = Annotated[
    bool, typer.Option("--allow-unsupported", help="Exit 0, not 3, where something could not be judged.")
]


def prepare(device: Device) -> str:
    """Where kernels run: "interpreter", "cuda" or an architecture. Sets the environment that Triton reads on import."""
    if is_compiled(device):
        from ..ptx.errors import NoCompiler
        from ..ptx.library import library

        os.environ.pop("TRITON_INTERPRET", None)
        try:
            library()
        except NoCompiler as error:
            usage(str(error))
        return device.value
    if device is Device.cuda or (device is Device.auto and _has_gpu()):
        if not _has_gpu():
            usage("--device cuda: there is no CUDA device here; use --device interpreter")
        os.environ.pop("TRITON_INTERPRET", None)
        return "cuda"
    os.environ["TRITON_INTERPRET"] = "1"
    return "interpreter"


def chosen(noun: str, names: Sequence[str] | None, there: Iterable[str]) -> tuple[str, ...]:
    """The names asked for, in order and once each; all of them if none was."""
    if not names:
        return tuple(there)
    known(noun, names, there)
    return tuple(dict.fromkeys(names))


def known(noun: str, names: Sequence[str], there: Iterable[str]) -> None:
    """End with one line unless every name is there."""
    for name in names:
        if name not in there:
            usage(f"unknown {noun} {name!r}; known: {', '.join(there)}")


def kernels_of(target: str, device: str = "") -> Mapping[str, Any]:
    """The kernels of a target, by id. Ends with one line for stages, which are none."""
    from ..targets import load

    try:
        found = load(target, device)
    except ValueError as error:
        usage(str(error))
    if found.stages:
        usage(
            f"target {target!r} has stages, which have references of their own and no rule; `verify all` judges them, and "
            "`verify replay` takes <property>@<stage>@s<seed>"
        )
    return found.kernels


def usage(message: str, command: str = "verify") -> NoReturn:
    """End with one line that says why the command cannot be run."""
    stderr.print(f"{command}: {one_line(message)}", soft_wrap=True, markup=False)
    raise typer.Exit(USAGE)


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON document, or end with one line."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str, command: str = "verify") -> None:
    """Replace a file whole, or end with one line. Through a link, the file behind it is replaced; a pipe or a device is written
    to."""
    from ...results.files.atomic import replace

    try:
        if is_stdout(path):
            typer.echo(text, nl=False)
        elif path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            replace(Path(os.path.realpath(path)), text)
    except OSError as error:
        usage(f"cannot write {path}: {error.strerror}", command)


def _has_gpu() -> bool:
    # The driver's device files, since asking torch would import it.
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return False
    import torch

    return torch.cuda.is_available()


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"deltaproof {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
]
