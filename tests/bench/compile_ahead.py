"""Compile what a GPU session will launch, by as many processes as there are cores, before it launches anything.

The calls are made as they will be, but on uninitialised tensors and without a launch; each process compiles what no other has
claimed. On a machine without a GPU, as a rehearsal, ours are compiled for one.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="compile_ahead", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--what", action="append", choices=["forward", "train", "decode", "peer", "peer-train", "landscape"]
    )
    parser.add_argument("--gpu", help="name of the tables whose configurations are compiled")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds; 0 for no end")
    parser.add_argument("--claims", type=Path, required=True, help="folder in which processes say what they compile")
    parser.add_argument("--out", type=Path, required=True, help="file of rows: kernel, seconds, failure")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    return work(args) if args.worker else share(args)


def share(args: argparse.Namespace) -> int:
    """Start the processes and wait; 75 if the time was up before all was compiled."""
    from compile_only import forget_unfinished

    began = time.monotonic()
    args.claims.mkdir(parents=True, exist_ok=True)
    forget_unfinished(args.claims)
    around = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "0"}
    command = [sys.executable, __file__, *sys.argv[1:], "--worker"]
    workers = [subprocess.Popen(command, env=around, start_new_session=True) for _ in range(args.jobs)]
    late = False
    try:
        for worker in workers:
            left = None if not args.budget else max(0.1, args.budget - (time.monotonic() - began))
            try:
                worker.wait(timeout=left)
            except subprocess.TimeoutExpired:
                late = True
    finally:
        for worker in workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
    failed = [worker.returncode for worker in workers if worker.returncode not in (0, -signal.SIGKILL)]
    found = rows.read(args.out)
    busy = sum(row["seconds"] for row in found)
    print(f"{len(found)} kernels in {time.monotonic() - began:.0f} s, {busy:.0f} s of compiling; failed: "
          f"{sum(row['failure'] is not None for row in found)}; processes that died: {len(failed)}")  # fmt: skip
    return 75 if late else 1 if len(failed) == len(workers) else 0


def work(args: argparse.Namespace) -> int:
    import torch
    from compile_only import compiling_only
    from shapes import tensors

    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        import absent_gpu

        absent_gpu.pretend()
    made = {}

    def told(kernel: str, seconds: float, failure: str | None) -> None:
        rows.add(args.out, kernel=kernel, seconds=round(seconds, 2), failure=failure, what=what)

    with compiling_only(args.claims, told):
        for what in args.what or ():
            for problem, contestant in calls(what, args.gpu, args.small):
                key = (problem.rule, problem.op == "decode", problem.shape)
                if key not in made:
                    made.clear()
                    made[key] = tensors(problem, device)
                try:
                    contestant.prepare(problem, made[key])()
                except Exception as error:  # a peer's wrapper may stumble over what was never computed
                    told(f"{problem.token} {contestant.name}", 0.0, f"{type(error).__name__}: {str(error)[:300]}")
    return 0


def calls(what: str, gpu: str | None, small: bool) -> Iterator[tuple]:
    """(work, contestant) of all that is to be compiled, in the order in which it will be wanted. Lengths share kernels."""
    from configurations import configurations
    from contestants import configured, contestants, peers
    from problems import LENGTHS, problems

    if what == "landscape":
        from landscape import candidates

        yield from candidates(gpu, small)
        return
    op = {"peer": "forward", "peer-train": "train"}.get(what, what)
    for problem in problems([op], small=small, lengths=LENGTHS[:1]):
        if what.startswith("peer"):
            found = peers(problem)
        elif what == "decode":
            found = contestants(problem, "cuda")
        else:
            found = configured(problem, configurations(op, problem.rule, problem.dtype, problem.shape.D, gpu))
        yield from ((problem, contestant) for contestant in found)


if __name__ == "__main__":
    sys.exit(main())
