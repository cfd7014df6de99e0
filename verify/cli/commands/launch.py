"""`verify launch`: the launches of any Triton code, as compiled, run and checked on the CPU."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ....results.schema.strict import TableError
from ....results.schema.text_files import read_text
from ...verdicts.plural import counted
from ..options import FAILED, NOT_JUDGED, USAGE, JsonOption, stderr, stdout, usage, write
from ..usage_errors import one_line

if TYPE_CHECKING:
    from ...ptx.verdict import PtxVerdict

EXAMPLES = """
Examples:

  verify launch examples/one_race.py:call               compile for sm_90, run, check

  verify launch package.module:call --device sm_80      for an A100

  verify launch script.py:call --orders 20              with 20 random warp orders

  verify launch kernel.ptx                              the static rules, and what ptxas makes of it

A call takes no arguments, makes its tensors on the CPU and launches kernels; it may import anything.

Exit codes: 0 nothing found, 1 a rule is broken, 2 bad usage or no C compiler, 3 a launch needs what the engine cannot do, or none
has a program to run.
"""


def launch(
    what: Annotated[str, typer.Argument(help="module:call, script.py:call, or a file of PTX.", metavar="WHAT")],
    device: Annotated[str, typer.Option("--device", help="sm_80, sm_86, sm_89 or sm_90.")] = "sm_90",
    orders: Annotated[
        int, typer.Option("--orders", min=0, max=1000, help="Random warp orders to run, besides four fixed ones.")
    ] = 2,
    notes: Annotated[bool, typer.Option("--notes", help="Also show notes, which are not faults.")] = False,
    json_path: JsonOption = None,
) -> None:
    """Run one call on a CPU as its kernels are compiled for a GPU; find races, missing fences and wrong accesses."""
    os.environ.pop("TRITON_INTERPRET", None)
    from ...ptx.architectures import architecture
    from ...ptx.errors import NoCompiler, PtxError
    from ...ptx.schedules import ALL, random_schedules

    try:
        arch = architecture(device)
    except ValueError as error:
        usage(str(error))
    if what.endswith(".ptx"):
        _static(Path(what))
        return
    from ...ptx.launch import judge_call
    from ...ptx.library import library

    verdicts: list[PtxVerdict] = []
    raised = ""
    try:
        library()
        judge_call(
            lambda: _found(what)(), arch, (*ALL, *random_schedules(orders)), each=lambda v: _shown(v, verdicts, notes)
        )
    except NoCompiler as error:
        usage(str(error))
    except (PtxError, MemoryError) as error:
        raised = f"{what}: {error or 'not enough memory'}"
    except typer.Exit:
        raise
    except (Exception, SystemExit) as error:  # any error of somebody else's code, or of Triton on its account
        raised = f"{what} raised {_in_words(error)}"
    if not verdicts:
        usage(raised or f"{what} launched no kernel")
    unsupported = sum(bool(verdict.unsupported) for verdict in verdicts)
    faults = sum(len(verdict.faults) - len(verdict.unsupported) for verdict in verdicts)
    judged = any(verdict.program for verdict in verdicts) and not unsupported
    stdout.print(
        f"{counted(len(verdicts), 'launch')} on {device}, {sum(v.seconds for v in verdicts):.1f} s in the engine: "
        + (counted(faults, "fault") if faults else "no fault" if judged else "no verdict")
        + (f", {unsupported} not judged" if unsupported else "")
    )
    if json_path is not None:
        write(json_path, document(device, verdicts))
    if raised:
        stderr.print(f"verify: {one_line(raised)}", soft_wrap=True, markup=False)
    raise typer.Exit(FAILED if faults else USAGE if raised else 0 if judged else NOT_JUDGED)


def document(device: str, verdicts: list[PtxVerdict]) -> dict[str, Any]:
    """For JSON: findings, counts of traffic, and where results differ between schedules."""
    return {
        "device": device,
        "launches": [
            {
                "kernel": verdict.kernel,
                "findings": [finding.document() for finding in verdict.findings],
                "traffic": verdict.traffic,
                "seconds": round(verdict.seconds, 3),
                "differences": [
                    {"memory": d.memory, "bytes": d.count, "offset": d.offset, "schedules": list(d.schedules),
                     "first": d.first.hex(), "second": d.second.hex()}
                    for d in verdict.differences
                ],
            }
            for verdict in verdicts
        ],
    }  # fmt: skip


def _shown(verdict: PtxVerdict, verdicts: list[PtxVerdict], notes: bool) -> None:
    verdicts.append(verdict)
    if verdict.unsupported:
        stdout.print(Text(f"{verdict.kernel}: not judged", style="bold yellow"))
    elif verdict.faults:
        stdout.print(Text(f"{verdict.kernel}: {counted(len(verdict.faults), 'fault')}", style="bold red"))
    elif not verdict.program:
        stdout.print(f"{verdict.kernel}: not run, its grid is empty")
    else:
        stdout.print(f"{verdict.kernel}: nothing found")
    for finding in [*verdict.faults, *(verdict.notes if notes else ())]:
        stdout.print(Text(f"  {'note: ' if finding.note else ''}{finding}"), soft_wrap=True)
        if finding.about.report:
            stdout.print(Text(f"    of the kind of {finding.about.report}"), soft_wrap=True)
    if verdict.faults:
        for difference in {each.memory: each for each in reversed(verdict.differences)}.values():
            first, second = difference.schedules
            stdout.print(
                f"  results: {difference.count} bytes of {difference.memory} differ between {first} and {second}",
                soft_wrap=True,
            )


def _static(path: Path) -> None:
    from ...ptx.errors import PtxError
    from ...ptx.ptxas import assemble
    from ...ptx.static.machine_code import unwritten_registers
    from ...ptx.static.text import lint

    try:
        text = read_text(path, piped=True)
        findings = lint(text)
    except TableError as error:
        usage(str(error))
    except PtxError as error:
        usage(f"{path}: {error}")
    try:
        program = assemble(text)
        findings += unwritten_registers(program.code, program.kernel)
        assembled, refused = f"assembled for {program.arch} by ptxas {program.version}", ""
    except PtxError as error:
        assembled, refused = "not assembled", str(error)
    for finding in findings:
        stdout.print(Text(("note: " if finding.note else "") + str(finding)), soft_wrap=True)
    faults = [finding for finding in findings if not finding.note]
    stdout.print(
        f"{path.name}: {counted(len(faults), 'fault') + ' by' if faults else 'no fault by'} the static rules; {assembled}",
        soft_wrap=True,
    )
    if refused:
        stderr.print(f"verify: {path}: {refused}", soft_wrap=True, markup=False)
    raise typer.Exit(FAILED if faults else USAGE if refused else 0)


def _found(what: str) -> Callable[[], object]:
    """The function that `module:call` or `script.py:call` names. Ends with one line where there is none."""
    module_name, _, name = what.rpartition(":")
    if not module_name or not name.isidentifier():
        usage(f"{what!r} names no call; accepted: module:call, script.py:call, or a file of PTX")
    try:
        if module_name.endswith(".py"):
            module = _script(Path(module_name))
        else:
            sys.path.insert(0, os.getcwd())
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # any error of somebody else's module
        usage(f"cannot import {module_name}: {error if isinstance(error, ImportError) else _in_words(error)}")
    found = getattr(module, name, None)
    if not callable(found):
        usage(f"{module_name} has no function {name!r}")
    if required := _required(found):
        usage(
            f"{what} takes {', '.join(required)}; accepted: a function without arguments, which makes the tensors and launches "
            f"the kernels. `verify all --device sm_90 --target {what}` calls an op of the family for you"
        )
    return found


def _required(function: Callable[..., object]) -> list[str]:
    """Arguments that a function must be given, as far as its signature can be read."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def _in_words(error: BaseException) -> str:
    """An error of somebody else's code, and the last line of theirs on the way to it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).resolve().parents[3])
    theirs = [one for one in frames if "site-packages" not in one.filename and not one.filename.startswith((ours, "<"))]
    where = f", at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""
    return f"{type(error).__name__}: {error}{where}"


def _script(path: Path) -> Any:
    if not path.is_file():
        raise ImportError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    return module
