"""Our kernels and flash-linear-attention's, side by side in one run: `make bench`.

One file per piece of work under the folder of results, with every raw sample; what is already there for the same device,
versions, kernels and tuned tables is not measured again, so that a run that was stopped goes on. At the end a table, and plots.
On a CPU: the torch path beside the peer's reference implementations, with one thread unless OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from contestants import Unable, contestants, versions
from cpu_table import cpu_table
from rich.console import Console
from shapes import CPU_FORWARD, DECODE, FORWARD, SMALL_DECODE, SMALL_FORWARD, Work, tensors
from stopwatch import Stopwatch, captured, cpu_clock, error_of, reference
from summary import table, write_plots

from deltaproof import kernels
from deltaproof.results.digests.kernels import stage_digests
from deltaproof.results.digests.sources import Sources, digest_of
from deltaproof.results.files.atomic import replace
from deltaproof.results.files.one_line import told

SCHEMA = 1
OPS = ("forward", "decode", "train")
stderr = Console(stderr=True, highlight=False)


def environment(device: str) -> dict[str, Any]:
    """What a measurement depends on."""
    if device == "cuda":
        facts = torch.cuda.get_device_properties(0)
        name, clock = facts.name, "CUDA events"
        driver = str(getattr(torch._C, "_cuda_getDriverVersion")())  # noqa: B009
    else:
        threads = torch.get_num_threads()
        used = "one used" if threads == 1 else f"{threads} threads used"
        name, driver = f"CPU, {_processor()}, {os.cpu_count()} cores, {used}", None
        clock = "processor time" if cpu_clock() is time.process_time else "time on the clock"
    eager = sorted((Path(kernels.__file__).parent / "eager").glob("*.py"))
    sources = digest_of([stage_digests(), Sources().module_digests(eager)])
    around = {"device": name, "driver": driver, "clock": clock, "python": platform.python_version(), **versions()}
    return around | {"kernels": sources, "tables": _tables()}


def _processor() -> str:
    """The model, where Linux tells it; and the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model} ({platform.machine()})" if model else platform.machine()


def _tables() -> str | None:
    """A digest of the tuned tables that are used instead of the packaged ones, if any are."""
    folder = os.environ.get("DELTAPROOF_TABLES")
    if not folder:
        return None
    contents = [path.read_bytes() for path in sorted(Path(folder).glob("*.json"))]
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def measure(work: Work, device: str, rounds: int, watch: Stopwatch) -> list[dict[str, Any]]:
    """Every contestant's samples, error and memory; or why it has none."""
    made = tensors(work, device)
    expected = reference(work, made)
    found: list[dict[str, Any]] = []
    calls: dict[str, Callable[[], object]] = {}
    for contestant in contestants(work, device):
        entry: dict[str, Any] = {"name": contestant.name, "who": contestant.who}
        found.append(entry)
        try:
            call = contestant.prepare(work, made)
            o, _ = call()
            entry["error"] = error_of(o, expected)
            entry["peak_bytes"] = watch.peak(call)
            timed = captured(call) if work.op == "decode" and device == "cuda" else call
            watch.sample(timed)
        except Unable as error:
            entry["unable"] = str(error)
        except Exception as error:
            # Peers' compilers and tuners raise anything; the run goes on, and the report shows it.
            entry["unable"] = told(error, 200)
        else:
            calls[contestant.name] = timed
            entry["samples_ms"] = []
    for _ in range(rounds):
        for entry in found:
            if entry["name"] in calls:
                entry["samples_ms"].append(watch.sample(calls[entry["name"]]))
    return found


def main(
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.")] = "auto",
    rule: Annotated[list[str] | None, typer.Option("--rule", help="gdn2, kda and gdn by default.")] = None,
    op: Annotated[
        list[str] | None,
        typer.Option("--op", help="forward, decode, train; by default the first two, on a CPU forward and train."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="bf16, fp16 or fp32; fp32 by default on a CPU.")] = "",
    small: Annotated[bool, typer.Option("--small", help="Small shapes, as on a CPU.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Samples of every contestant.")] = 9,
    budget: Annotated[float, typer.Option(help="Seconds after which no further work is begun; 0 for no end.")] = 0.0,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results/bench"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is there.")] = False,
) -> None:
    """Time every contestant on every shape, and write samples, a table and plots."""
    begun = time.monotonic()
    if device not in ("auto", "cuda", "cpu"):
        _usage(f"--device is {device!r}; accepted: auto, cuda, cpu")
    if device == "cuda" and not torch.cuda.is_available():
        _usage("--device cuda: there is no CUDA device here; use --device cpu")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    for name in op or ():
        if name not in OPS:
            _usage(f"--op is {name!r}; accepted: {', '.join(OPS)}")
    for name in rule or ():
        if name not in ("gdn2", "kda", "gdn"):
            _usage(f"--rule is {name!r}; accepted: gdn2, kda, gdn")
    if device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    works = [
        Work(op=kind, rule=name, dtype=dtype or ("fp32" if device == "cpu" else "bf16"), shape=shape)
        for kind in op or (("forward", "decode") if device == "cuda" else ("forward", "train"))
        for name in rule or ("gdn2", "kda", "gdn")
        for shape in _shapes(kind, device, small)
    ]
    around = environment(device)
    folder = out / ("cpu" if device == "cpu" else "".join(c if c.isalnum() else "-" for c in around["device"].lower()))
    folder.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch(device)
    documents, left = [], 0
    for index, work in enumerate(works, 1):
        path = folder / f"{work.token}.json"
        known = None if fresh else _known(path, around)
        if known is None and budget and time.monotonic() - begun > budget:
            left += 1
            continue
        if known is None:
            stderr.print(f"[{index}/{len(works)}] {work.token}", markup=False)
            size, samples = watch.copy_floor()
            known = {
                "schema": SCHEMA,
                "work": work.token,
                "op": work.op,
                "rule": work.rule,
                "ideal_bytes": work.ideal_bytes(),
                "environment": around,
                "copy": {"bytes": size, "samples_ms": samples},
                "contestants": measure(work, device, rounds, watch),
            }
            replace(path, json.dumps(known, indent=1) + "\n")
            if device == "cuda":
                torch.cuda.empty_cache()
        documents.append(known)
    if not documents:
        stderr.print(f"nothing measured yet; {left} pieces of work are left: the same command goes on")
        raise typer.Exit(0)
    text = cpu_table(documents) if device == "cpu" else table(documents)
    replace(folder / "table.md", text)
    write_plots(documents, folder)
    print(text)
    if left:
        print(f"{left} of {len(works)} pieces of work are left: the same command goes on.")
    stderr.print(f"samples, table and plots are in {folder}")


def _shapes(op: str, device: str, small: bool) -> Any:
    if op == "decode":
        return SMALL_DECODE if small or device == "cpu" else DECODE
    return SMALL_FORWARD if small else CPU_FORWARD if device == "cpu" else FORWARD


def _known(path: Path, around: dict[str, Any]) -> dict[str, Any] | None:
    """What was measured before, if all that it depends on is still the same."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    same = isinstance(document, dict) and document.get("schema") == SCHEMA and document.get("environment") == around
    return document if same else None


def _usage(message: str) -> None:
    stderr.print(f"bench: {message}", markup=False, soft_wrap=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
    sys.exit()
