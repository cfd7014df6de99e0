"""The `verify` command. Nothing here imports torch before it is known that something is to be run."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from ..specs.rule import RULES
from . import profiles
from .document import document, environment, exit_code, read_document
from .properties import NAMES as PROPERTIES
from .report import Live, print_report, print_shares
from .store import Store, default_folder
from .targets import FORMS, OWN
from .verdict import Verdict

USAGE, INTERRUPTED = 2, 130

EXAMPLES = """
Examples:

  verify all                                     before merging: every kernel, rule and property

  verify all --profile quick                     while editing: two rules for every kernel and property

  verify all --rule kda                          everything about one rule

  verify all --kernel 'chunk_*' --property error --property equality --json report.json

  verify replay 'equality@chunk_train/staged[c64]@gdn2:fp32:b1:t17:h1x1:k16:v16:ordinary:s0'

  verify explain gdn2:bf16:b1:t64:h1x1:k32:v32:collinear:s0

Exit codes: 0 what was checked holds, 1 something failed, 2 bad usage or nothing to check, 130 interrupted.
"""

app = typer.Typer(
    help="Is it right? Judge kernels of the gated delta rule family against oracles.",
    epilog=EXAMPLES, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
)  # fmt: skip
_stderr = Console(stderr=True, highlight=False)
_stdout = Console(highlight=False)


class Device(StrEnum):
    auto = "auto"
    interpreter = "interpreter"
    cuda = "cuda"


ProfileName = StrEnum("ProfileName", list(profiles.PROFILES))
MERGE = ProfileName("merge")
CORES = os.cpu_count() or 1
TargetOption = Annotated[str, typer.Option("--target", help=f"Whose kernels: {' or '.join(FORMS)}.")]
KernelOption = Annotated[
    list[str] | None, typer.Option("--kernel", help="Only kernels that this pattern matches; may be repeated.")
]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; all cores by default.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the report here.", dir_okay=False)]
DeviceOption = Annotated[
    Device, typer.Option(help="auto: a GPU if there is one, else the interpreter.", case_sensitive=False)
]


@app.command("all", epilog=EXAMPLES)
def judge_all(
    profile: Annotated[ProfileName, typer.Option(help="How much to check.")] = MERGE,
    device: DeviceOption = Device.auto,
    target: TargetOption = OWN,
    rule: Annotated[list[str] | None, typer.Option("--rule", help="Only these rules; may be repeated.")] = None,
    kernel: KernelOption = None,
    prop: Annotated[list[str] | None, typer.Option("--property", help="Only these; may be repeated.")] = None,
    jobs: JobsOption = CORES,
    seed: Annotated[int, typer.Option(min=0, help="Draw other cases.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Judge again what is already known.")] = False,
    json_path: JsonOption = None,
) -> None:
    """Judge every kernel by every property, and report verdicts."""
    started = time.monotonic()
    rules, properties = _chosen("rule", rule, RULES), _chosen("property", prop, PROPERTIES)
    place = _prepare(device)

    from ..results.calibration import tau
    from . import plan, runner, targets

    selection = plan.Selection(
        target=target,
        rules=rules,
        properties=properties,
        kernels=kernel or ("*",),
        profile=profile.value,
        device=place,
        seed=seed,
    )
    try:
        judged = targets.load(target)
        oracle, cells = plan.plan(selection, judged.kernels)
        threshold = tau()
    except ValueError as error:
        _usage(str(error))
    if not oracle and not cells:
        _usage("nothing to judge: no selected property applies to a selected kernel and rule")
    settings = runner.Settings(
        profile=profile.value,
        device=place,
        seed=seed,
        tau=threshold,
        jobs=jobs,
        fresh=fresh or not judged.storable,
    )
    store = Store(folder=default_folder(), warn=lambda message: _stderr.print(f"warning: {message}", soft_wrap=True))
    verdicts: list[Verdict] = []
    interrupted = False
    with Live(_stderr, len(oracle) + len(cells)) as live, _interruptible():

        def take(verdict: Verdict) -> None:
            verdicts.append(verdict)
            live.take(verdict)

        try:
            runner.run(oracle, cells, settings, store, take)
        except KeyboardInterrupt:
            interrupted = True
    seconds = time.monotonic() - started
    print_report(_stdout, verdicts, seconds)
    if json_path is not None:
        _write(json_path, document(verdicts, place, seconds))
    if interrupted:
        _stderr.print("interrupted: these verdicts are kept, and the same command goes on from here")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(exit_code(verdicts))


@app.command("list")
def list_everything(target: TargetOption = OWN) -> None:
    """Kernels, rules, properties and regimes that there are."""
    _prepare(Device.interpreter)

    from ..specs.regimes import REGIMES
    from .properties import load

    _section("kernels", {
        name: "forward and backward" if kernel.differentiable else "forward"
        for name, kernel in _load(target).items()
    })  # fmt: skip
    _section(
        "rules", {rule.name: f"decay {rule.decay}, erase {rule.erase}, write {rule.write}" for rule in RULES.values()}
    )
    _section("properties", {name: f"{load(name).says} [{load(name).arithmetic}]" for name in PROPERTIES})
    _section("regimes", {name: regime.about for name, regime in REGIMES.items()})


@app.command()
def replay(
    token: Annotated[str, typer.Argument(help="A replay token, or a JSON report whose counterexamples to replay.")],
    device: DeviceOption = Device.interpreter,
    target: TargetOption = OWN,
    json_path: JsonOption = None,
) -> None:
    """Judge single cases again: that of a replay token, or all counterexamples of a report."""
    started = time.monotonic()
    place = _prepare(device)

    from ..results.calibration import tau
    from . import plan, runner
    from .case import Replay
    from .properties import load

    try:
        if Path(token).is_file():
            found = [(v.target, v.counterexample.replay) for v in read_document(Path(token)) if v.counterexample]
            if not found:
                _usage(f"{token} holds no counterexample: nothing to replay")
        else:
            found = [(target, token)]
        replays = [(name, Replay.parse(text)) for name, text in found]
        for name, case in replays:
            _known("property", [case.prop], PROPERTIES)
            _known("kernel", [case.kernel], ["oracle"] if case.prop == "oracle" else _load(name))
            if not plan.runs_on(load(case.prop), place):
                _usage(f"{case.prop} cannot be judged with --device {place}")
        threshold = tau()
    except ValueError as error:
        _usage(str(error))
    verdicts = []
    with _interruptible():
        try:
            for verdict in runner.replay(replays, place, threshold):
                verdicts.append(verdict)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    seconds = time.monotonic() - started
    print_report(_stdout, verdicts, seconds)
    if json_path is not None:
        _write(json_path, document(verdicts, place, seconds))
    raise typer.Exit(exit_code(verdicts))


@app.command()
def calibrate(
    examples: Annotated[int, typer.Option(min=1, help="Cases per kernel and rule.")] = 40,
    target: TargetOption = OWN,
    kernel: KernelOption = None,
    profile: Annotated[ProfileName, typer.Option(help="Whose problems to draw.")] = MERGE,
    jobs: JobsOption = CORES,
    seed: Annotated[int, typer.Option(min=0, help="Draw other cases.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write here, not to results/calibration.json.")] = None,
) -> None:
    """Measure the error of known-good kernels in units of sigma, and derive tau from it."""
    place = _prepare(Device.interpreter)

    from ..results import calibration
    from . import plan, runner
    from .calibrate import summarise

    selection = plan.Selection(target=target, rules=tuple(RULES), properties=(), kernels=kernel or ("*",))
    try:
        names = plan.kernel_names(selection, _load(target))
    except ValueError as error:
        _usage(str(error))
    with _interruptible():
        try:
            measured = runner.calibrate(target, names, list(RULES), profile.value, examples, seed, jobs)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    record = summarise(measured, environment(place))
    if not math.isfinite(record["max"]):
        _stderr.print(
            f"verify: not known-good, so no measure for others: {record['worst']}", soft_wrap=True, markup=False
        )
        raise typer.Exit(1)
    calibration.write(record, out or calibration.PATH)
    for name in ("cases", "rows", "p50", "p99", "p99.9", "p99.99", "max"):
        _stdout.print(f"{name:8} {record[name]}")
    _stdout.print(f"worst    {record['worst']}", soft_wrap=True, markup=False)
    _stdout.print(f"tau      {record['tau']} = {record['rule']}, written to {out or calibration.PATH}", soft_wrap=True)


@app.command()
def explain(
    token: Annotated[str, typer.Argument(help="A replay token, or a problem token for the first kernel.")],
    target: TargetOption = OWN,
) -> None:
    """Print the error budget of a problem, output by output and rounding site by site."""
    _prepare(Device.interpreter)

    from ..results.calibration import tau
    from .case import Replay
    from .explain import explain as shares_of

    kernels = _load(target)
    try:
        wanted = Replay.parse(token if "@" in token else f"error@{next(iter(kernels))}[-]@{token}")
        _known("kernel", [wanted.kernel], kernels)
        shares, threshold = shares_of(kernels[wanted.kernel], wanted.case), tau()
    except ValueError as error:
        _usage(str(error))
    print_shares(_stdout, shares, threshold)


def main() -> None:
    """Entry point of the `verify` script."""
    try:
        app(prog_name="verify")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _prepare(device: Device) -> str:
    """Where kernels run, "interpreter" or "cuda", with the environment set that Triton reads when it is imported."""
    if device is Device.cuda or (device is Device.auto and _has_gpu()):
        if not _has_gpu():
            _usage("--device cuda: there is no CUDA device here; use --device interpreter")
        os.environ.pop("TRITON_INTERPRET", None)
        return "cuda"
    os.environ["TRITON_INTERPRET"] = "1"
    return "interpreter"


def _has_gpu() -> bool:
    # The driver's device files, since asking torch would import it.
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return False
    import torch

    return torch.cuda.is_available()


def _chosen(noun: str, names: Sequence[str] | None, known: Iterable[str]) -> tuple[str, ...]:
    """The names asked for, in order and once each; all of them if none was."""
    if not names:
        return tuple(known)
    _known(noun, names, known)
    return tuple(dict.fromkeys(names))


def _known(noun: str, names: Sequence[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            _usage(f"unknown {noun} {name!r}; known: {', '.join(known)}")


def _usage(message: str) -> NoReturn:
    _stderr.print(f"verify: {message}", soft_wrap=True, markup=False)
    raise typer.Exit(USAGE)


def _load(target: str) -> Mapping[str, Any]:
    from .targets import load

    try:
        return load(target).kernels
    except ValueError as error:
        _usage(str(error))


def _section(title: str, lines: dict[str, str]) -> None:
    _stdout.print(f"[bold]{title}[/bold]")
    for name, text in lines.items():
        _stdout.print(f"  {name:20} {text}", soft_wrap=True, markup=False)


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        _usage(f"cannot write {path}: {error.strerror}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """A plain kill ends the run as Ctrl-C does: children stopped, verdicts kept."""

    def interrupt(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
