"""Everything that a GPU is for, in calls of a few minutes: verify on the device, tune, time side by side; `make gpu`.

Every step may be stopped and goes on at the next call, so that a machine that is lent for minutes is used for minutes. What
is found lies under one folder: the report of every step, its log, and `summary.md`. Standard library only, so that the first
second is not spent on imports.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
LEAST = 20.0
"""Seconds with which a step is still begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command. share: of the time that is left when it begins. done: exit codes that end it for good."""

    name: str
    command: list[str]
    share: float
    done: tuple[int, ...] = (0,)


def steps(args: argparse.Namespace, folder: Path, gpu: str | None) -> list[Step]:
    """What there is to do, in order."""
    python = sys.executable
    verify = [python, "-m", "deltaproof.verify", "all", "--device", "interpreter" if args.pretend else "cuda"]
    verify += ["--profile", "quick", "--json", str(folder / "verify.json"), "-j", "1"]
    if args.pretend:
        verify += ["--kernel", "recurrent/tokens", "--rule", "linear", "--property", "linearity"]
    bench = [python, str(BENCH / "side_by_side.py"), "--out", str(folder), "--budget", "{seconds}"]
    bench += ["--device", "cpu", "--small", "--rounds", "2", "--rule", "gdn"] if args.pretend else ["--device", "cuda"]
    found = [Step(name="verify", command=verify, share=0.35, done=(0, 1))]
    # The quickest look at speed comes first, since a machine may go away.
    small = [*bench, "--out", str(folder / "first-look"), "--small", "--op", "forward"]
    small += [] if args.pretend else ["--op", "decode"]
    found.insert(0, Step(name="first-look", command=small, share=0.25))
    if gpu is not None:
        tune = [python, "-m", "deltaproof.autotune", "--gpu", gpu, "--mode", "compile" if args.pretend else "measure"]
        # A rehearsal sends what it compiled through the gate in the interpreter, which no budget counts.
        dim, budget = ("64", "40s") if args.pretend else ("128", "{seconds}s")
        tune += ["--op", "chunk_fwd", "--dim", dim, "--budget", budget, *(["--rule", "gdn"] if args.pretend else [])]
        found.append(Step(name="tune", command=[*tune, "--out", str(folder / "tuned")], share=0.4))
    found.append(Step(name="bench", command=bench, share=0.95))
    return found


def run(step: Step, seconds: float, log: Path) -> int | None:
    """The exit code, or None if the time was up. The step's processes end with it."""
    # Room to finish what was begun: budgets end what begins, not what runs.
    command = [part.replace("{seconds}", str(max(1, int(seconds * 0.7)))) for part in step.command]
    with log.open("a") as stream:
        stream.write(f"$ {' '.join(command)}\n")
        stream.flush()
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            # An interrupt first: it makes commands keep what they have.
            for kind in (signal.SIGINT, signal.SIGKILL):
                os.killpg(process.pid, kind)
                try:
                    process.wait(timeout=10)
                    break
                except subprocess.TimeoutExpired:
                    continue
            return None
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise


def machine() -> dict[str, Any]:
    """What is here, asked in a process of its own, which must not keep the device."""
    program = """
import json, platform, torch, triton
facts = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
print(json.dumps({
    "device": facts.name if facts else None,
    "arch": f"sm_{facts.major}{facts.minor}" if facts else None,
    "sm_count": facts.multi_processor_count if facts else None,
    "memory_gib": facts.total_memory / 2**30 if facts else None,
    "python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__}))
"""
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise SystemExit(f"gpu: torch and triton do not import here: {asked.stderr.strip().splitlines()[-1]}")
    return json.loads(asked.stdout)


def slug_of(found: dict[str, Any]) -> str | None:
    """The name under which tables know the device; None for one that they do not know."""
    from deltaproof.results.schema.gpus import identify

    if found["device"] is None:
        return None
    known = identify(found["arch"], found["sm_count"], found["memory_gib"])
    return None if known is None else known.slug


def summary(folder: Path, found: dict[str, Any], state: dict[str, Any]) -> str:
    """Markdown: the machine, every step, then the tables of the side-by-side runs."""
    lines = [", ".join(f"{name} {value}" for name, value in found.items() if value is not None), ""]
    lines += ["| step | state | seconds |", "|---|---|---:|"]
    for name, entry in state.items():
        lines.append(f"| {name} | {entry['state']} | {entry['seconds']:.0f} |")
    report = folder / "verify.json"
    if report.exists():
        counts = json.loads(report.read_text())["summary"]
        lines += ["", "verify: " + ", ".join(f"{value} {name}" for name, value in counts.items() if name != "seconds")]
    for table in sorted(folder.glob("**/table.md")):
        lines += ["", table.read_text().rstrip()]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=float, default=570.0, help="seconds that this call may take (570)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "gpu", help="folder of results")
    parser.add_argument("--fresh", action="store_true", help="do again what is done")
    parser.add_argument("--pretend", action="store_true", help="rehearse on the CPU, with little of everything")
    args = parser.parse_args()
    began = time.monotonic()
    found = machine()
    if found["device"] is None and not args.pretend:
        print("gpu: torch sees no CUDA device here; --pretend rehearses on the CPU", file=sys.stderr)
        return 2
    if args.pretend and args.out == ROOT / "results" / "bench" / "gpu":
        print("gpu: a rehearsal is no result; give it a folder of its own with --out", file=sys.stderr)
        return 2
    folder = args.out
    folder.mkdir(parents=True, exist_ok=True)
    # Compiled kernels, and what a peer's autotuner found, stay for the next call.
    os.environ.setdefault("TRITON_CACHE_DIR", str(ROOT / ".deltaproof" / "triton"))
    os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT / ".import"), os.environ.get("PYTHONPATH"))))
    os.environ["PYTHONUNBUFFERED"] = "1"
    sys.path.insert(0, str(ROOT / ".import"))
    progress = folder / "progress.json"
    try:
        before = json.loads(progress.read_text()) if progress.exists() and not args.fresh else {}
    except ValueError:
        before = {}
    state: dict[str, Any] = before["steps"] if before.get("machine") == found else {}
    gpu = slug_of(found) or ("h100-sxm" if args.pretend else None)
    wanted = steps(args, folder, gpu)
    for step in wanted:
        entry = state.setdefault(step.name, {"state": "to do", "seconds": 0.0})
        left = args.limit - (time.monotonic() - began)
        if entry["state"].startswith("done") or left < LEAST:
            continue
        seconds = left * step.share
        if (folder / "tuned" / "tables").is_dir():
            os.environ["DELTAPROOF_TABLES"] = str(folder / "tuned" / "tables")
        print(f"{step.name}: up to {seconds:.0f} s", flush=True)
        start = time.monotonic()
        code = run(step, seconds, folder / f"{step.name}.log")
        if step.name == "tune" and "bench" in state:
            # It knows itself what was measured under other tables.
            state["bench"]["state"] = "to do"
        entry["seconds"] += time.monotonic() - start
        if code is None:
            entry["state"] = "stopped for time; goes on"
        elif code in step.done:
            entry["state"] = "done" if code == 0 else f"done, exit code {code}"
        else:
            entry["state"] = f"failed, exit code {code}; see {step.name}.log"
        if (
            step.name == "bench"
            and code == 0
            and "pieces of work are left" in (folder / "bench.log").read_text()[-400:]
        ):
            entry["state"] = "some is left; goes on"
        progress.write_text(json.dumps({"machine": found, "steps": state}, indent=1) + "\n")
        (folder / "summary.md").write_text(summary(folder, found, state))
    print(
        (folder / "summary.md").read_text() if (folder / "summary.md").exists() else "nothing was done: too little time"
    )
    unfinished = [step.name for step in wanted if not state[step.name]["state"].startswith("done")]
    if unfinished:
        print(f"left: {', '.join(unfinished)}; the same command goes on")
    return 1 if any("failed" in entry["state"] or "exit code 1" in entry["state"] for entry in state.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
