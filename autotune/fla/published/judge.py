"""The cost model against published times of flash-linear-attention's gated delta rule: a call's time as the sum of its launches.

The kernels are those of the installed release, compiled here for the GPU that was timed; of each, the fastest by the model among
some of the configurations that the release would try. The work of a launch per step is counted from the equations; keys and
queries come normalised, sequences are packed, K = V = 128, bf16. Nothing in the model was set on these times.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import rankdata

from ....results.schema.instructions import Instructions
from ....results.schema.strict import TableError
from ....specs.gpus import Gpu
from ....specs.gpus import gpu as find_gpu
from ....verify.compile.compilation import Cache
from ....verify.compile.programs import triton_version
from ....verify.process.progress import Progress
from ....verify.report.grid import grid, show
from ...model.cost import milliseconds
from .. import installed
from .launches import CompiledKernel, compile_call
from .read import Published, read_published
from .work import BLOCK, DIM, WORK

SCHEMA = 1


def bench_published(path: Path, *, cache: Cache, jobs: int, progress: Progress) -> dict[str, Any]:
    """How predicted and published times compare, by GPU. GPUs that are not known by name are counted and left out.

    Raises TableError for a bad file, or where flash-linear-attention is not there.
    """
    rows = read_published(path)
    place = installed.where()
    if place is None:
        raise TableError("bench-model: --published needs flash-linear-attention, which comes with deltaproof[peers]")
    found, unknown = {}, {}
    for name in dict.fromkeys(row.gpu for row in rows):
        some = [row for row in rows if row.gpu == name]
        try:
            gpu = find_gpu(name)
        except ValueError:
            unknown[name] = len(some)
            continue
        kernels = compile_call(gpu, str(place.parent), cache, jobs, progress)
        found[gpu.slug] = judge(some, [predict(row, kernels, gpu) for row in some])
    return {"schema": SCHEMA, "gpus": found, "unknown": unknown, "triton": triton_version()}


def judge(rows: Sequence[Published], predicted: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """predicted: milliseconds by kernel. The rival is the power law of tokens x heads that fits these very times best."""
    measured, heads = np.array([row.milliseconds for row in rows]), np.array([row.token_heads for row in rows])
    model = np.array([sum(parts.values()) for parts in predicted])
    slope, start = np.polyfit(np.log(heads), np.log(measured), 1)
    rival = np.exp(start + slope * np.log(heads))
    errors = {name: np.abs(np.log(some / measured)) for name, some in (("model", model), ("fit", rival))}
    return {
        "calls": len(rows),
        "predicted_over_measured": round(float(np.median(model / measured)), 4),
        "rank_correlation_per_token_head": round(_rank(model / heads, measured / heads), 4),
        "rank_correlation": round(_rank(model, measured), 4),
        "worst_tenth": {name: round(_worst_tenth(some), 4) for name, some in errors.items()},
        "rows": [
            {"lengths": list(row.lengths), "key_heads": row.key_heads, "value_heads": row.value_heads,
             "measured": row.milliseconds, "predicted": round(float(time), 5),
             "kernels": {name: round(part, 5) for name, part in parts.items()}}
            for row, time, parts in zip(rows, model, predicted, strict=True)
        ],
    }  # fmt: skip


def predict(row: Published, kernels: Sequence[CompiledKernel], gpu: Gpu) -> dict[str, float]:
    """Milliseconds of each kernel of a call in its fastest configuration."""
    best: dict[str, float] = {}
    for one in kernels:
        work = WORK[one.kernel](row, one.sizes)
        binary = replace(one.binary, instructions=_unrolled(one)) if not work.serial else one.binary
        try:
            time = float(milliseconds(work, binary, gpu, num_stages=one.num_stages)[0])
        except ValueError:
            continue  # it cannot be launched there
        best[one.kernel] = min(time, best.get(one.kernel, math.inf))
    return best


def _unrolled(one: CompiledKernel) -> Instructions | None:
    """All that a program of a kernel that goes over no chunks issues: its loops go over tiles of a head, or row by row."""
    if one.binary.instructions is None:
        return None
    tiles = max(DIM // one.sizes.get(name, DIM) for name in ("BK", "BV"))
    rows = BLOCK - 2 if "solve" in one.kernel else 1
    counts = one.binary.instructions.issued(lambda loop: tiles if loop.own.get("tensor core") else rows)
    return Instructions(straight=counts)


def print_published(console: Console, result: Mapping[str, Any]) -> None:
    """A row per GPU, and the meaning of the columns."""
    table = grid("GPU", "calls", "ratio", "rank per head", "rank", "worst 10th", "fit's")
    for name, row in result["gpus"].items():
        values = (row["predicted_over_measured"], row["rank_correlation_per_token_head"], row["rank_correlation"])
        errors = (row["worst_tenth"]["model"], row["worst_tenth"]["fit"])
        table.add_row(name, str(row["calls"]), *(f"{value:.3f}" for value in (*values, *errors)))
    show(console, table)
    console.print(
        "ratio: median of predicted over published time; rank per head: Spearman's correlation of times per token and head; "
        "worst 10th: mean of |log ratio| over the worst tenth, beside that of the power law of tokens x heads that fits best"
    )
    for name, count in result["unknown"].items():
        console.print(f"left out: {count} calls on {name}, a GPU that is not known")


def _rank(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _worst_tenth(errors: np.ndarray) -> float:
    return statistics.mean(sorted(map(float, errors), reverse=True)[: max(1, len(errors) // 10)])
