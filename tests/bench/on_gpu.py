"""Everything that a GPU is for, in calls of a few minutes: check, time, record, verify and tune on the device; `make gpu`.

Every step may be stopped and goes on at the next call, so that a machine that is lent for minutes is used for minutes. What is
found lies under one folder, as rows that are written as they come: a report of every step, its log, and `summary.md`. Standard
library only, so that the first second is not spent on imports.
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

import archive
from session_summary import summary

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
CACHE = ROOT / ".deltaproof" / "triton"
CLAIMS = ROOT / ".deltaproof" / "claims"
LEAST = 12.0
"""Seconds with which a step is still begun."""
PACKING = 8.0
"""Seconds kept for the archive and the summary after the last step."""
LEFT = 75
"""Exit code of a step with work left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Commands that run side by side. most: seconds. done: exit codes that end it for good."""

    name: str
    commands: list[list[str]]
    most: float
    done: tuple[int, ...] = (0,)


def steps(folder: Path, gpu: str | None, pretend: bool) -> list[Step]:
    """What there is to do, the most wanted first, since a machine may go away."""
    python, cores = sys.executable, os.cpu_count() or 1
    tables = ["--gpu", gpu] if gpu else []

    def script(name: str, *arguments: str, out: Path = folder) -> list[str]:
        return [python, str(BENCH / f"{name}.py"), *arguments, *tables, "--budget", "{seconds}", "--out", str(out)]

    def ahead(*what: str, jobs: int = cores) -> list[str]:
        wanted = [word for name in what for word in ("--what", name)]
        small = ["--small"] if pretend else []
        return script(
            "compile_ahead",
            *wanted,
            *small,
            "--jobs",
            str(jobs),
            "--claims",
            str(CLAIMS),
            out=folder / "compiled.jsonl",
        )

    times = ["--device", "cpu", "--small", "--rounds", "2"] if pretend else ["--device", "cuda"]
    verify = [python, "-m", "deltaproof.verify", "all", "--device", "interpreter" if pretend else "cuda"]
    verify += ["--profile", "quick", "--json", str(folder / "verify.json"), "-j", str(cores)]
    if pretend:
        verify += ["--kernel", "recurrent/tokens", "--rule", "linear", "--property", "linearity"]
    device = ["--device", "cpu", "--repeats", "2"] if pretend else []
    rehearsed = ["--small"] if pretend else ["--beside"]
    landscape_ahead = [] if pretend else [ahead("landscape", jobs=max(1, cores - 3))]
    found = [
        Step(name="compile", commands=[ahead("forward", *([] if pretend else ["train"]))], most=80),
        # While the device is checked, the other cores compile what is wanted next.
        Step(
            name="check",
            commands=[
                script("device_check", *device),
                *([] if pretend else [ahead("peer", "decode", jobs=max(1, cores - 2))]),
            ],
            most=45,
        ),
        Step(name="times", commands=[script("times", "--who", "ours", *times)], most=80),
        Step(name="peer", commands=[script("times", "--who", "peer", "--op", "forward", *times)], most=70),
        Step(name="verify", commands=[verify], most=90, done=(0, 1)),
        Step(name="compile-more", commands=[ahead("forward" if pretend else "peer-train")], most=60),
        Step(
            name="peer-train",
            commands=[script("times", "--who", "peer", "--op", "train", *times), *landscape_ahead],
            most=70,
        ),
        Step(
            name="landscape",
            commands=[script("landscape", "--claims", str(CLAIMS), *rehearsed), *landscape_ahead],
            most=100,
        ),
        Step(name="decode", commands=[script("times", "--who", "peer", "--op", "decode", *times)], most=25),
    ]
    if gpu is not None:
        tune = [python, "-m", "deltaproof.autotune", "--gpu", gpu, "--mode", "compile" if pretend else "measure"]
        # A rehearsal sends what it compiled through the gate in the interpreter, which no budget counts.
        dim, budget = ("64", "20s") if pretend else ("128", "{seconds}s")
        tune += ["--op", "chunk_fwd", "--dim", dim, "--budget", budget, *(["--rule", "gdn"] if pretend else [])]
        found.append(Step(name="tune", commands=[[*tune, "--out", str(folder / "tuned")]], most=400))
    return found


def run(step: Step, seconds: float, log: Path) -> int | None:
    """The first exit code that is not 0, else 0; None if the time was up. The step's processes end with it."""
    end = time.monotonic() + seconds
    # Room to finish what was begun: budgets end what begins, not what runs.
    room = max(1, int(min(seconds * 0.85, seconds - 6)))
    with log.open("a") as stream:
        processes = []
        for command in step.commands:
            words = [part.replace("{seconds}", str(room)) for part in command]
            stream.write(f"$ {' '.join(words)}\n")
            stream.flush()
            processes.append(
                subprocess.Popen(words, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
            )
        try:
            codes = [process.wait(timeout=max(0.1, end - time.monotonic())) for process in processes]
            return next((code for code in codes if code), 0)
        except subprocess.TimeoutExpired:
            stop(processes)
            return None
        except KeyboardInterrupt:
            stop(processes)
            raise


def stop(processes: list[subprocess.Popen[Any]]) -> None:
    """An interrupt first: it makes commands keep what they have."""
    for kind, patience in ((signal.SIGINT, 8.0), (signal.SIGKILL, 5.0)):
        running = [process for process in processes if process.poll() is None]
        for process in running:
            os.killpg(process.pid, kind)
        for process in running:
            try:
                process.wait(timeout=patience)
            except subprocess.TimeoutExpired:
                continue


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


def kernels() -> dict[str, str]:
    """What names our kernels, by stage."""
    from deltaproof.results.digests.kernels import stage_digests

    return dict(stage_digests())


def set_aside(folder: Path) -> None:
    """Rows of other kernels or of another machine are kept, and are nothing to go on from."""
    there = [*folder.glob("*.jsonl"), *folder.glob("verify.json")]
    if there:
        target = folder / f"before-{1 + len(list(folder.glob('before-*')))}"
        target.mkdir()
        for path in there:
            path.rename(target / path.name)


def slug_of(found: dict[str, Any]) -> str | None:
    """The name under which tables know the device; None for one that they do not know."""
    from deltaproof.results.schema.gpus import identify

    if found["device"] is None:
        return None
    known = identify(found["arch"], found["sm_count"], found["memory_gib"], found["device"])
    return None if known is None else known.slug


def told(code: int | None, step: Step, log: Path) -> str:
    """The state of a step after a run. Some commands end well with work left, and say so last."""
    if code is None:
        return "stopped for time; goes on"
    if code in step.done and "the same command goes on" in log.read_text()[-300:]:
        return "some is left; goes on"
    if code in step.done:
        return "done" if code == 0 else f"done, exit code {code}"
    if code == LEFT:
        return "some is left; goes on"
    return f"failed, exit code {code}; see {step.name}.log"


def main() -> int:
    parser = argparse.ArgumentParser(prog="gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=float, default=480.0, help="seconds that this call may take (480)")
    parser.add_argument("--only", help="steps of this call, with commas between; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "gpu", help="folder of results")
    parser.add_argument("--tar", type=Path, help="folder that gets everything in few archives, after every step")
    parser.add_argument("--from", type=Path, dest="source", help="folder of archives that an earlier call made")
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
    packed, first = set[str](), 0
    if args.source:
        first = len(list(args.source.glob("compiled-*.tar.xz")))
        archive.unpack(args.source, folder, CACHE, CLAIMS)
        packed = archive.names_in(args.source)
    # Compiled kernels, and what a peer's autotuner found, stay for the next call.
    os.environ.setdefault("TRITON_CACHE_DIR", str(CACHE))
    os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT / ".import"), os.environ.get("PYTHONPATH"))))
    os.environ["PYTHONUNBUFFERED"] = "1"
    sys.path.insert(0, str(ROOT / ".import"))
    progress = folder / "progress.json"
    try:
        before = json.loads(progress.read_text()) if progress.exists() and not args.fresh else {}
    except ValueError:
        before = {}
    found["kernels"] = "-".join(kernels().values())
    state: dict[str, Any] = before["steps"] if before.get("machine") == found else {}
    if not state:
        set_aside(folder)
    gpu = slug_of(found) or ("h200-sxm" if args.pretend else None)
    wanted = steps(folder, gpu, args.pretend)
    if args.only:
        names = args.only.split(",")
        if unknown := set(names) - {step.name for step in wanted}:
            print(
                f"gpu: no step {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in wanted)}",
                file=sys.stderr,
            )
            return 2
        wanted = [step for step in wanted if step.name in names]
    for step in wanted:
        entry = state.setdefault(step.name, {"state": "to do", "seconds": 0.0})
        left = args.limit - PACKING - (time.monotonic() - began)
        if entry["state"].startswith("done") or left < LEAST:
            continue
        seconds = min(left, step.most)
        if (folder / "tuned" / "tables").is_dir():
            os.environ["DELTAPROOF_TABLES"] = str(folder / "tuned" / "tables")
        print(f"{step.name}: up to {seconds:.0f} s", flush=True)
        start = time.monotonic()
        log = folder / f"{step.name}.log"
        code = run(step, seconds, log)
        if step.name == "tune":
            for name in ("times", "peer", "peer-train"):
                # They know themselves what was measured under other tables.
                if name in state:
                    state[name]["state"] = "to do"
        entry["seconds"] += time.monotonic() - start
        entry["state"] = told(code, step, log)
        progress.write_text(json.dumps({"machine": found, "steps": state}, indent=1) + "\n")
        (folder / "summary.md").write_text(summary(folder, found, state))
        if args.tar:
            archive.pack_results(folder, args.tar)
            if step.name in ("check", "peer", "peer-train", "landscape"):
                archive.pack_compiled(CACHE, CLAIMS, args.tar, packed, first)
    print(
        (folder / "summary.md").read_text() if (folder / "summary.md").exists() else "nothing was done: too little time"
    )
    unfinished = [step.name for step in wanted if not state[step.name]["state"].startswith("done")]
    if unfinished:
        print(f"left: {', '.join(unfinished)}; the same command goes on")
    return 1 if any("failed" in entry["state"] or "exit code 1" in entry["state"] for entry in state.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
