"""The cost model against published times of flash-linear-attention's gated delta rule: a call's time as the sum of its launches.

The kernels are those of the installed release, compiled here for the GPU that was timed; of each, the fastest by the model among
some of the configurations that the release would try. What a launch does per step is counted from the equations; keys and queries
come normalised, sequences are packed, K = V = 128, bf16. Nothing in the model was set on these times.
"""

from __future__ import annotations

import csv
import hashlib
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from ...results.schema.instructions import Instructions
from ...results.schema.strict import TableError
from ...specs.gpus import Gpu
from ...specs.gpus import gpu as find_gpu
from ...verify.compile.process import COMPILE_SECONDS, CompileTarget
from ...verify.process.pool import Failure, Workers
from ...verify.process.progress import Progress
from ..compile.binary import Compilation
from ..compile.cache import Cache
from ..compile.compiler import compiled
from ..compile.toolchain import triton_version
from ..foreign.fake_device import facts
from ..foreign.launches import launches_noted
from ..model.cost import milliseconds
from ..model.op_counts import OpCounts
from . import installed
from .calls import OPS

SCHEMA = 1
COLUMNS = ("gpu", "pass", "sequences", "h_qk", "h_v", "fla_ms")
DIM, SIZE, FP32 = 128, 2, 4
CHUNK, BLOCK = 64, 16
"""Rows of a chunk, and of the blocks whose inverses are made row by row."""
CONFIGURATIONS = 3
"""Of each kernel, at most, evenly drawn from what the release offers."""
LEFT_OUT = ("l2norm_fwd_kernel",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published time. lengths: tokens of each sequence. milliseconds: of one forward pass."""

    gpu: str
    lengths: tuple[int, ...]
    key_heads: int
    value_heads: int
    milliseconds: float

    @property
    def token_heads(self) -> int:
        return sum(self.lengths) * self.value_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """One kernel of the call in one configuration. sizes: its constants by name, such as BT and BV."""

    kernel: str
    sizes: Mapping[str, int]
    num_stages: int
    binary: Compilation


def read_published(path: Path) -> list[Published]:
    """The forward passes of a file (CSV). Raises TableError, in one line, for a file that holds none."""
    rows = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise ValueError(f"no column {missing[0]!r}")
            for row in reader:
                if any(row[name] is None for name in COLUMNS):
                    raise ValueError(f"line {reader.line_num} has another number of fields than the first line")
                if row["pass"] == "forward":
                    rows.append(_published(row))
    except (OSError, ValueError, csv.Error) as error:
        raise TableError(f"{path}: no published times ({error})") from None
    if not rows:
        raise TableError(f"{path}: no published times (no row whose pass is 'forward')")
    return rows


def _published(row: Mapping[str, str]) -> Published:
    times = row["sequences"].split("x")
    if len(times) == 2:
        # A count comes before a length, or behind it, and is the smaller one.
        count, length = sorted(map(int, times))
        lengths = (length,) * count
    else:
        lengths = tuple(map(int, row["sequences"].split("+")))
    heads = int(row["h_qk"]), int(row["h_v"])
    time = float(row["fla_ms"])
    if not (
        lengths
        and 0 < time < math.inf
        and min(*lengths, *heads) > 0
        and sum(lengths) < 1 << 31
        and max(heads) < 1 << 16
    ):
        raise ValueError(f"{dict(row)} is no call")
    return Published(gpu=row["gpu"], lengths=lengths, key_heads=heads[0], value_heads=heads[1], milliseconds=time)


def bench_published(path: Path, *, cache: Cache, jobs: int, progress: Progress) -> dict[str, Any]:
    """By GPU: how predicted and published times compare. GPUs that are not known by name are counted and left out.

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
        kernels = _compile(gpu, str(place.parent), cache, jobs, progress)
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


def predict(row: Published, kernels: Sequence[Compiled], gpu: Gpu) -> dict[str, float]:
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


def _unrolled(one: Compiled) -> Instructions | None:
    """All that a program of a kernel that goes over no chunks issues: its loops go over tiles of a head, or row by row."""
    if one.binary.instructions is None:
        return None
    tiles = max(DIM // one.sizes.get(name, DIM) for name in ("BK", "BV"))
    rows = BLOCK - 2 if "solve" in one.kernel else 1
    counts = one.binary.instructions.issued(lambda loop: tiles if loop.own.get("tensor core") else rows)
    return Instructions(straight=counts)


def _chunked(row: Published, blocks: int = 1, **work: Any) -> OpCounts:
    """A program for every chunk, value head and block."""
    chunks = sum(-(-length // CHUNK) for length in row.lengths)
    return OpCounts(programs=np.array([chunks * row.value_heads * blocks]), steps=np.array([1]), elements=0.0, **work)


def _cumsum(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    return _chunked(row, products=0.0, chain=0, own=2.0 * FP32 * CHUNK)


def _solve(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    products = 2.0 * CHUNK * CHUNK * DIM / 2
    return _chunked(row, products=products, chain=6, own=float(SIZE * CHUNK * CHUNK), shared=float(SIZE * CHUNK * DIM))


def _recompute(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    own = SIZE * CHUNK * (3 * DIM + CHUNK)
    return _chunked(row, products=4.0 * CHUNK * CHUNK * DIM, chain=1, own=float(own), shared=float(SIZE * CHUNK * DIM))


def _walk(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    block = sizes["BV"]
    longest = max(row.lengths)
    # Shorter sequences fill a program's place for as long as they last.
    programs = math.ceil(sum(row.lengths) / longest * row.value_heads * (DIM // block))
    return OpCounts(
        programs=np.array([programs]), steps=np.array([-(-longest // CHUNK)]), products=4.0 * CHUNK * DIM * block, chain=2,
        elements=0.0, own=float(SIZE * block * (2 * CHUNK + DIM)), shared=float(SIZE * 2 * CHUNK * DIM), serial=True,
    )  # fmt: skip


def _output(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    block = sizes["BV"]
    products = 2.0 * CHUNK * (DIM * block + CHUNK * DIM + CHUNK * block)
    own, shared = SIZE * block * (DIM + 2 * CHUNK), SIZE * 2 * CHUNK * DIM
    return _chunked(row, DIM // block, products=products, chain=2, own=float(own), shared=float(shared))


WORK: dict[str, Callable[[Published, Mapping[str, int]], OpCounts]] = {
    "chunk_local_cumsum_scalar_kernel": _cumsum,
    "chunk_gated_delta_rule_fwd_kkt_solve_kernel": _solve,
    "recompute_w_u_fwd_kernel": _recompute,
    "chunk_gated_delta_rule_fwd_kernel_h_blockdim64": _walk,
    "chunk_fwd_kernel_o": _output,
}
"""What each kernel of a forward pass does."""


def _compile(gpu: Gpu, site: str, cache: Cache, jobs: int, progress: Progress) -> list[Compiled]:
    with Workers(jobs, partial(installed.pretend, facts(gpu), "", site)) as workers:
        ((_, listed),) = workers.run(list_launches, [()], COMPILE_SECONDS)
        if isinstance(listed, Failure):
            raise TableError(f"bench-model: recording the launches of the call did not finish: {listed.outcome}")
        if unknown := sorted({kernel for kernel, *_ in listed} - set(WORK)):
            raise TableError(f"bench-model: this release launches {', '.join(unknown)}, whose work is not known here")
        progress.begin("compiling", len(listed))
        found: list[Compiled] = []
        left = []
        for place, (kernel, sizes, stages, words) in enumerate(listed):
            key = hashlib.sha256(f"{words}\0{gpu.arch.name}".encode()).hexdigest()
            if binary := cache.get(key):
                found.append(Compiled(kernel=kernel, sizes=sizes, num_stages=stages, binary=binary))
                progress.step(kernel)
            else:
                left.append((place, key))
        for index, binary in workers.run(compile_one, [(place, gpu.arch.target) for place, _ in left], COMPILE_SECONDS):
            place, key = left[index]
            kernel, sizes, stages, _ = listed[place]
            if isinstance(binary, Failure):
                raise TableError(f"bench-model: compiling {kernel} did not finish: {binary.outcome}")
            cache.put(key, binary)
            found.append(Compiled(kernel=kernel, sizes=sizes, num_stages=stages, binary=binary))
            progress.step(kernel)
    return [one for one in found if one.binary.outcome == "compiled"]


def list_launches() -> list[tuple[str, dict[str, int], int, str]]:
    """(kernel, constants, depth, all that its binary depends on) of what is to be compiled. For a process that pretends."""
    import triton

    return [
        (launch.name, _constants(launch), launch.options.get("num_stages", 1),
         repr((triton.__version__, launch.source().hash(), sorted(launch.options.items()))))
        for launch in _launches()
    ]  # fmt: skip


def compile_one(place: int, target: CompileTarget) -> Compilation:
    """Compile one of `list_launches`, in a process that pretends."""
    launch = _launches()[place]
    return compiled(launch, target, launch.options.get("num_warps", 4))


def _constants(launch: Any) -> dict[str, int]:
    constant = {parameter.name for parameter in launch.kernel.params if parameter.is_constexpr}
    return {name: int(value) for name, value in launch.arguments.items() if name in constant and isinstance(value, int)}


def _launches() -> list[Any]:
    """The launches of one forward pass, of an autotuned kernel some configurations."""
    if _recorded:
        return _recorded
    from importlib import import_module

    import torch

    cache = import_module("fla.ops.utils.cache")
    original = cache.CachedAutotuner.run

    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        offered = self.prune_configs(kwargs) if len(self.configs) > 1 else list(self.configs)
        for config in offered[:: max(1, len(offered) // CONFIGURATIONS)][:CONFIGURATIONS]:
            self.fn.run(*args, **kwargs, **config.all_kwargs())

    def tensor(*channels: int, kind: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(1, 8192, 16, *channels, device="meta", dtype=kind)

    module, op = OPS["gdn"]
    cache.CachedAutotuner.run = run
    try:
        with launches_noted(_recorded.append), torch.no_grad():
            getattr(import_module(module), op)(
                q=tensor(DIM), k=tensor(DIM), v=tensor(DIM), g=tensor(kind=torch.float32), beta=tensor(),
                cu_seqlens=torch.tensor([0, 4096, 8192]),
            )  # fmt: skip
    finally:
        cache.CachedAutotuner.run = original
    _recorded[:] = [launch for launch in _recorded if launch.name not in LEFT_OUT]
    return _recorded


_recorded: list[Any] = []


def print_published(console: Console, result: Mapping[str, Any]) -> None:
    """A row per GPU, and what the columns are."""
    table = Table(
        "GPU", "calls", "ratio", "rank per head", "rank", "worst 10th", "fit's", header_style="bold", box=SIMPLE_HEAD
    )
    for name, row in result["gpus"].items():
        values = (row["predicted_over_measured"], row["rank_correlation_per_token_head"], row["rank_correlation"])
        errors = (row["worst_tenth"]["model"], row["worst_tenth"]["fit"])
        table.add_row(name, str(row["calls"]), *(f"{value:.3f}" for value in (*values, *errors)))
    console.print(table)
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
