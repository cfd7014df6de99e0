"""Shared by the subcommands: consoles, exit codes, options, and the end of a command after an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ...specs.gpus import Gpu, shipped
from ...specs.gpus import gpu as find_gpu
from ...specs.problem import DIMS, DTYPES
from ...specs.rule import RULES
from ...verify.cases.target_names import is_function
from ...verify.cli import options as common
from ...verify.cli.options import FAILED, INTERRUPTED, stderr

if TYPE_CHECKING:
    from ..records.ledger import Ledger
    from ..timing.device import Device
    from ..tune import Hooks

OPS = ("chunk_fwd", "chunk_train")
TUNED_RULES = ("gdn2", "kda", "gdn")
LONGEST_BUDGET = 1000 * 3600
"""Seconds."""


def possible(folder: Path | None) -> Path | None:
    """The callback of an option that names a folder, there or not: one line for a path that cannot be one."""
    try:
        if folder is not None:
            folder.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{folder} cannot be a folder: {getattr(error, 'strerror', None) or error}") from None
    return folder


class Mode(StrEnum):
    auto = "auto"
    measure = "measure"
    compile = "compile"


class TargetName(StrEnum):
    deltaproof = "deltaproof"
    fla = "fla"


class ExportFormat(StrEnum):
    fla = "fla"
    t4 = "t4"
    triton = "triton"
    megatron = "megatron"
    python = "python"


def whose(target: str) -> str:
    """The callback of --target: one line for a name that cannot be a target."""
    if target not in list(TargetName) and not is_function(target):
        raise typer.BadParameter(f"{target!r}; accepted: {', '.join(TargetName)}, module:function")
    return target


TargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        help="fla: flash-linear-attention's kernels, judged in the interpreter. module:function: the "
        "@triton.autotune kernels that this function launches; it has the signature of an op of the family, or takes no "
        "arguments.",
        callback=whose,
    ),
]


ExportedOption = Annotated[
    str,
    typer.Option("--target", help="module:function: the table that `autotune --target` made of it.", callback=whose),
]
GpuOption = Annotated[
    str, typer.Option("--gpu", help=f"A name: {', '.join(shipped())}, or the name that a device reports.")
]
OpOption = Annotated[list[str] | None, typer.Option("--op", help=f"{', '.join(OPS)}; may be repeated.")]
RuleOption = Annotated[
    list[str] | None, typer.Option("--rule", help=f"{', '.join(TUNED_RULES)} by default; may be repeated.")
]
DtypeOption = Annotated[list[str] | None, typer.Option("--dtype", help="bf16 by default; may be repeated.")]
DimOption = Annotated[
    list[int] | None, typer.Option("--dim", help="K = V; 64, 128 and 256 by default; may be repeated.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder of your tables and records, used on top of those that ship; by default your data folder.",
        file_okay=False,
        callback=possible,
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="Time for compiling and measuring, e.g. 90s, 30m, 2h. Work in progress is finished. Counting "
        "the points, verifying and writing come on top: minutes, however short the budget.",
    ),
]


def gpu_of(name: str) -> Gpu:
    try:
        return find_gpu(name)
    except ValueError as error:
        usage(str(error))


def device_of(target: Gpu) -> Device | None:
    """The device of this machine if it is that GPU. One that cannot be used is reported in a line and not returned."""

    def find() -> Device | None:
        from ..timing.measure import find

        return find(target)

    return _asked(find)


def device_here() -> Device | None:
    """The device of this machine, of any kind; otherwise as `device_of`."""

    def find() -> Device | None:
        from ..timing.measure import here

        return here()

    return _asked(find)


def _asked(find: Callable[[], Device | None]) -> Device | None:
    # The driver's device files, since asking torch would take seconds where there is no GPU.
    files = (Path("/dev/kfd"), Path("/dev/dxg"))
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not any(file.exists() for file in files):
        return None
    try:
        return find()
    except Exception as error:
        # Any error of a driver, of a torch without it, or of a full disk.
        name = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        line = " ".join(f"autotune: found a GPU but could not use it: {name}{error}".split())
        stderr.print(line, soft_wrap=True, markup=False)
        return None


def ledger_of(target: Gpu, out: Path | None) -> Ledger:
    from ...results.schema.gpus import resolve
    from ..records.ledger import Ledger, default_out

    return Ledger(out or default_out(), resolve(target.slug))


def selection(
    op: Sequence[str] | None, rule: Sequence[str] | None, dtype: Sequence[str] | None, dim: Sequence[int] | None
) -> tuple[list[str], list[str], list[str], list[int]]:
    for noun, names, known in (("op", op, OPS), ("rule", rule, tuple(RULES)), ("dtype", dtype, DTYPES)):
        if unknown := [name for name in names or () if name not in known]:
            usage(f"unknown {noun} {unknown[0]!r}; known: {', '.join(known)}")
    if wrong := [size for size in dim or () if not 32 <= size <= 256]:
        usage(f"--dim {wrong[0]}: head dimensions are from 32 to 256")
    return list(op or OPS), list(rule or TUNED_RULES), list(dtype or ["bf16"]), list(dim or DIMS)


def seconds_of(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        usage(f"--budget {text!r}; expected e.g. 90s, 30m or 2h")
    if not float(match[1]):
        usage(f"--budget {text!r}; expected more than 0")
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
    if seconds > LONGEST_BUDGET:
        usage(f"--budget {text!r}; at most {LONGEST_BUDGET // 3600}h is accepted")
    return seconds


def needs_table(ledger: Ledger) -> None:
    """End with one line where there is no table, neither written nor shipped."""
    if not ledger.has_table:
        usage(f"no table {ledger.table_path}; run `{ledger.command()}` first")


def writable(folder: Path) -> Path:
    """The folder; end with one line where nothing can be written into it, before any work is done."""
    from ...results.files.checkout import checkout

    if (root := checkout()) and folder.resolve() == root / "results":
        usage(f"--out {folder}: only `autotune publish` writes the tables that ship")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with TemporaryFile(dir=there):
            return folder
    except OSError as error:
        usage(f"--out {folder}: cannot write there: {error.strerror}")


def usage(message: str) -> NoReturn:
    """End with one line that says why the command cannot be run."""
    common.usage(message, "autotune")


def write(path: Path, text: str) -> None:
    """Replace a file whole, or end with one line."""
    common.write_text(path, text, "autotune")


@contextmanager
def errors(*, goes_on: bool = False) -> Iterator[None]:
    """Errors on the way end the command in one line each; a plain kill ends the run as Ctrl-C does.

    goes_on: whether the command keeps what it finds, and goes on from there when it is called again.
    """
    from ...results.schema.strict import TableError
    from ...verify.process.signals import interruptible

    kept = "what was found is kept, and the same command goes on from here" if goes_on else ""
    try:
        with interruptible():
            yield
    except TableError as error:
        usage(str(error))
    except OSError as error:
        stderr.print(f"autotune: {error}{'; ' if goes_on else ''}{kept}", soft_wrap=True, markup=False)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        stderr.print(f"interrupted{': ' if goes_on else ''}{kept}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def progress() -> Iterator[Hooks]:
    """A bar with the time that is left on a terminal, otherwise a line now and then."""
    from .progress import shown

    with shown(stderr) as hooks:
        yield hooks
