"""Record how long a call takes under many launch configurations, so that a cost model can be judged by it later.

Every point of every stage's space is in at least one of the configurations, those near the default first. A row each goes to
`landscape.jsonl`: the whole call, each of its launches, and what its kernels take. Only what is compiled already is run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import rows
from alive import LEFT, end_if_lost
from compile_only import NotCompiled, compiled_only
from configurations import OPS
from contestants import Contestant, configured
from launch_events import Seen, launches
from shapes import Shape, Work, tensors

from deltaproof.results.files.one_line import told

PROBLEMS = (
    ("forward", "gdn2", 8192, 32), ("train", "gdn2", 8192, 32), ("forward", "gdn", 8192, 32),
    ("forward", "gdn2", 8192, 8), ("forward", "kda", 8192, 32),
)  # fmt: skip
SHARES = (60, 40, 40, 40, 40)
"""Configurations of each problem in a row, so that all have some when time is up."""
SAMPLES = 5
GROUP = 64
"""Chunks, where sequences are split."""
SPLIT = 3
"""Samples in which every launch has events of its own."""


def candidates(gpu: str | None, small: bool) -> Iterator[tuple[Work, Contestant]]:
    """(work, contestant) in the order in which they are compiled and timed: a share of each problem, again and again."""
    waiting = [[(work, one) for one in configured(work, covering(work))] for work in works(small)]
    while any(waiting):
        for place, share in enumerate(SHARES):
            taken, waiting[place % len(waiting)] = _cut(waiting[place % len(waiting)], 2 if small else share)
            yield from taken
        if small:
            return


def _cut(some: list, count: int) -> tuple[list, list]:
    return some[:count], some[count:]


def works(small: bool) -> list[Work]:
    if small:
        return [Work(op="forward", rule="gdn", dtype="bf16", shape=Shape(B=1, T=64, H=2, D=32))]
    return [Work(op=op, rule=rule, dtype="bf16", shape=Shape(B=1, T=T, H=H, D=128)) for op, rule, T, H in PROBLEMS]


def covering(work: Work) -> list[str]:
    """Tokens of configurations that hold every point of every stage of the op, the likeliest of all stages first.

    Points of a variant and chunk size are put together at random, always in the same way; groups have one length.
    """
    from deltaproof.autotune.space.points import Family, breadth_first, config_of, enumerate_points
    from deltaproof.kernels.configs.space import op_stages
    from deltaproof.specs.gpus import gpu as gpu_named

    family = Family(op=OPS[work.op], rule=work.rule, dtype=work.dtype, K=work.shape.D, V=work.shape.D)
    points, _ = enumerate_points(family, gpu_named("h200-sxm").arch)
    groups: dict[tuple, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for point in breadth_first(points):
        groups[point.variant, point.chunk_size][point.stage].append(point)
    draw = random.Random(0)
    found: list[tuple[int, int, str]] = []
    for ((variant, _), stages), group in product(groups.items(), (0, GROUP)):
        names = [space.stage for space in op_stages(family.op, variant, grouped=group > 0)]
        if not set(names) <= set(stages) or (group and "group_maps" not in names):
            continue
        columns = []
        for name in names:
            some = list(stages[name])
            likely, rest = some[:1], some[1:]
            draw.shuffle(rest)
            columns.append(likely + rest)
        for place, together in enumerate(zip_longest(*columns)):
            filled = [point or draw.choice(column) for point, column in zip(together, columns, strict=True)]
            found.append((place, sum(point.distance for point in filled), config_of(filled, group).token))
    return list(dict.fromkeys(token for _, _, token in sorted(found)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="landscape", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpu", help="not used: every configuration of the space may be recorded")
    parser.add_argument("--claims", type=Path, required=True, help="folder that says what is compiled")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds after which nothing is begun; 0 for no end")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--beside", action="store_true", help="another process compiles: come back for what it adds")
    parser.add_argument("--small", action="store_true", help="rehearse without a GPU: nothing is launched")
    args = parser.parse_args()
    import torch

    end = time.monotonic() + args.budget if args.budget else float("inf")
    path = args.out / "landscape.jsonl"
    known = {(row["work"], row["config"]) for row in rows.read(path)}
    if args.small and not torch.cuda.is_available():
        print(f"{sum(1 for _ in candidates(args.gpu, small=True))} configurations, none of which can be run here")
        return 0
    from deltaproof.autotune.timing.stopwatch import Stopwatch

    watch = Stopwatch()
    warm = False
    made: dict[Work, dict[str, Any]] = {}
    waiting = [
        (work, one) for work, one in candidates(args.gpu, args.small) if (work.token, token_of(one)) not in known
    ]
    while waiting and time.monotonic() < end:
        absent = []
        for work, one in waiting:
            if time.monotonic() > end:
                absent.append((work, one))
                continue
            if work not in made:
                made[work] = tensors(work, "cuda")
            began = time.monotonic()
            try:
                row = record(one.prepare(work, made[work]), watch, args.claims, warm)
                warm = True
            except NotCompiled:
                absent.append((work, one))
                continue
            except Exception as error:  # launches and drivers raise anything
                row = {"unable": told(error)}
            about = {"op": work.op, "rule": work.rule, "dtype": work.dtype, "config": token_of(one), "work": work.token}
            sizes = {"T": work.shape.T, "H": work.shape.H, "B": work.shape.B, "D": work.shape.D}
            rows.add(path, **about, **sizes, **row, seconds=round(time.monotonic() - began, 3))
            if row["unable"]:
                end_if_lost(f"{work.token} {token_of(one)}: {row['unable']}")
        if not args.beside:
            waiting = absent
            break
        if len(absent) == len(waiting):
            time.sleep(1.0)
        waiting = absent
    print(f"{len(waiting)} are left, for want of time or of a compiled kernel")
    return LEFT if waiting else 0


def token_of(one: Contestant) -> str:
    """Of the configuration that a contestant has."""
    return one.name.partition(" ")[2]


def record(call: Callable[[], object], watch: Any, claims: Path, warm: bool) -> dict[str, Any]:
    """Milliseconds of the call and of its launches by kernel, and each kernel's registers, spills and shared memory.

    warm: the device's clocks are up already.
    """
    import torch

    with compiled_only(claims), launches() as seen:
        call()
    torch.cuda.synchronize()
    kernels = {
        one.name: {
            "registers": one.kernel.n_regs, "spills": one.kernel.n_spills, "shared": one.kernel.metadata.shared,
            "warps": one.kernel.metadata.num_warps, "grid": list(one.grid),
        }
        for one in seen
    }  # fmt: skip
    if not warm:
        watch.warm(call)
    samples = [watch.sample(call) for _ in range(SAMPLES)]
    stages: dict[str, list[float]] = defaultdict(list)
    for _ in range(SPLIT):
        # A sample is more than one call: the last is the one that counts.
        calls: list[list[Seen]] = []

        def watched(calls: list[list[Seen]] = calls) -> None:
            with launches(events=True) as seen:
                call()
            calls.append(seen)

        watch.sample(watched)
        torch.cuda.synchronize()
        times: dict[str, float] = defaultdict(float)
        for one in calls[-1]:
            times[one.name] += one.milliseconds
        for name, milliseconds in times.items():
            stages[name].append(milliseconds)
    return {
        "milliseconds": [one.milliseconds for one in samples],
        "megahertz": [one.megahertz for one in samples],
        "queued": all(one.queued for one in samples),
        "stages": {name: statistics.median(some) for name, some in stages.items()},
        "kernels": kernels,
        "unable": None,
    }


if __name__ == "__main__":
    sys.exit(main())
