"""Time the calls of a GPU session, ours under several configurations, or the peer's beside the best of ours.

Every sample is a row in `times.jsonl` the moment it is taken, and what is there is not taken again. Exit code 75: some is left.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import rows
import torch
from alive import LEFT, end_if_lost
from configurations import configurations
from contestants import OURS, Contestant, Unable, configured, contestants, peers, versions
from launch_events import launches
from problems import LENGTHS, RULES, problems
from session_summary import is_right
from shapes import Work, tensors
from stopwatch import Stopwatch, captured, error_of, reference

from deltaproof.results.files.one_line import told

PEER_BENCH = {"warmup": 5, "rep": 20}
"""Milliseconds that the peer's autotuner gives each configuration; Triton's own 25 and 100 would be most of a session."""
BEST_OF_OURS = 2
HOPELESS = 8.0
"""A call this many times slower than the best of ours is sampled twice, not as often as the others."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="times", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--who", choices=["ours", "peer"], default="ours")
    parser.add_argument("--op", action="append", choices=["forward", "train", "decode"])
    parser.add_argument("--rule", action="append", choices=RULES)
    parser.add_argument("--length", action="append", type=int, help=f"tokens of a sequence: {LENGTHS} by default")
    parser.add_argument("--gpu", help="name of the tables whose configurations are timed")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=0.0, help="seconds after which nothing is begun; 0 for no end")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    end = time.monotonic() + args.budget if args.budget else float("inf")
    if args.device == "cpu":
        torch.set_num_threads(1)
    if args.who == "peer":
        shorten_tuning()
    path = args.out / "times.jsonl"
    watch = Stopwatch(args.device)
    known = Known(rows.read(path))
    if not known.copied:
        size, samples = watch.copy_floor()
        rows.add(path, kind="copy", bytes=size, milliseconds=samples, versions=versions())
        if args.device == "cuda":
            torch.cuda.empty_cache()
    left = 0
    work_list = problems(
        args.op or ["forward", "train"], small=args.small, lengths=args.length or LENGTHS, rules=args.rule or RULES
    )
    for work in work_list:
        who = chosen(work, args, known)
        wanted = [one for one in who if not known.settled(work, one.name, args.rounds)]
        if args.who == "peer" and not any(one.who != OURS for one in wanted):
            continue
        if not wanted:
            continue
        if time.monotonic() > end:
            left += 1
            continue
        print(f"{work.token}: {', '.join(one.name for one in wanted)}", flush=True)
        if not take(work, wanted, args, watch, partial(rows.add, path), end):
            left += 1
        if args.device == "cuda":
            torch.cuda.empty_cache()
    if left:
        print(f"{left} pieces of work are left: the same command goes on")
    return LEFT if left else 0


class Known:
    """What earlier rows say."""

    def __init__(self, found: list[rows.Row]) -> None:
        self.copied = any(row["kind"] == "copy" for row in found)
        self._samples: dict[tuple[str, str], list[float]] = {}
        self._unable = {(row["work"], row["name"]) for row in found if row["kind"] == "call" and row["unable"]}
        self._right = {(row["work"], row["name"]) for row in found if row["kind"] == "call" and is_right(row)}
        for row in found:
            if row["kind"] == "sample":
                self._samples.setdefault((row["work"], row["name"]), []).append(row["milliseconds"])

    def settled(self, work: Work, name: str, rounds: int) -> bool:
        key = (work.token, name)
        return key in self._unable or len(self._samples.get(key, ())) >= min(2, rounds)

    def best(self, work: Work, who: str) -> list[str]:
        """Names, the fastest first, of calls whose outputs were right."""
        medians = {
            name: statistics.median(samples)
            for (token, name), samples in self._samples.items()
            if token == work.token and name.startswith(f"{who}/") and (token, name) in self._right
        }
        return sorted(medians, key=lambda name: medians[name])


def chosen(work: Work, args: argparse.Namespace, known: Known) -> list[Contestant]:
    if args.device == "cpu":
        return [one for one in contestants(work, "cpu") if (one.who == OURS) == (args.who == "ours")]
    if work.op == "decode":
        return [one for one in contestants(work, "cuda") if args.who == "peer" or one.who == OURS]
    tokens = configurations(work.op, work.rule, work.dtype, work.shape.D, args.gpu)
    ours = configured(work, tokens)
    if args.who == "ours":
        return ours
    best = known.best(work, OURS)[:BEST_OF_OURS]
    again = [one for one in ours if one.name in best or one is ours[0]]
    # Ours are timed again beside the peer, in turns with it: names of their own keep both.
    again = [Contestant(name=f"{one.name} beside", who=one.who, prepare=one.prepare) for one in again]
    return [*again, *peers(work)]


def take(
    work: Work, who: list[Contestant], args: argparse.Namespace, watch: Stopwatch, add: Callable[..., Any], end: float
) -> bool:
    """Rows of one piece of work; False if time was up before all samples were taken."""
    made = tensors(work, args.device)
    expected = reference(work, made)
    calls: dict[str, Callable[[], object]] = {}
    medians: dict[str, float] = {}
    for one in who:
        if time.monotonic() > end:
            return False
        row: dict[str, Any] = {"kind": "call", "work": work.token, "name": one.name, "unable": None, "error": None}
        row |= {"op": work.op, "rule": work.rule, "dtype": work.dtype, "ideal_bytes": work.ideal_bytes()}
        row |= {"B": work.shape.B, "T": work.shape.T, "H": work.shape.H, "D": work.shape.D}
        began = time.monotonic()
        try:
            call = one.prepare(work, made)
            o, _ = call()
            row["error"] = error_of(o, expected)
            del o
            row["peak_bytes"] = watch.peak(call)
            timed = captured(call) if work.op == "decode" and args.device == "cuda" else call
            watch.warm(timed)
            calls[one.name] = timed
            if one.who == OURS and timed is call and args.device == "cuda":
                row["stages"] = stage_times(call)
        except Unable as error:
            row["unable"] = str(error)
        except Exception as error:  # compilers and tuners raise anything; the run goes on, and the row shows it
            row["unable"] = told(error)
        add(**row, seconds=round(time.monotonic() - began, 2))
        if row["unable"]:
            end_if_lost(f"{one.name} on {work.token}: {row['unable']}")
    for turn in range(args.rounds):
        for name, call in calls.items():
            if time.monotonic() > end and turn >= 2:
                return True
            if turn >= 2 and medians[name] > HOPELESS * min(medians.values()):
                continue
            sample = watch.take(call)
            add(kind="sample", work=work.token, name=name, turn=turn, **sample)
            medians[name] = min(sample["milliseconds"], medians.get(name, float("inf")))
    return True


def stage_times(call: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of each kernel of a call, the median of three, by events around its launches."""
    samples: dict[str, list[float]] = {}
    for _ in range(3):
        with launches(events=True) as seen:
            call()
        torch.cuda.synchronize()
        taken: dict[str, float] = {}
        for one in seen:
            taken[one.name] = taken.get(one.name, 0.0) + one.milliseconds
        for name, milliseconds in taken.items():
            samples.setdefault(name, []).append(milliseconds)
    return {name: round(statistics.median(some), 5) for name, some in samples.items()}


def shorten_tuning() -> None:
    """Let Triton's autotuners, which only the peer has here, time each configuration for milliseconds."""
    import triton.testing

    triton.testing.do_bench = partial(triton.testing.do_bench, **PEER_BENCH)


if __name__ == "__main__":
    sys.exit(main())
