"""The figures of a report, from the records: course of the search, importance of parameters, distance from the roofline."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import mean, median

import numpy as np

from ...kernels.configs.launch_config import LaunchConfig
from ...kernels.configs.space import OP_STAGES, op_stages, op_tiles
from ...results.schema.entry import TableEntry
from ...results.schema.key import Key
from ...results.schema.record import Compiled, Measured
from ...results.serve.query import REFERENCE
from ...specs.gpus import Gpu
from ...specs.rule import RULES
from ...verify.compile.compilation import Compilation
from ..model.cost import estimate
from ..model.op_counts import FP32, op_counts
from ..model.ranking import RUNS
from ..space.points import Family, Point, family_of, point_of, points_of


def predicted(records: Iterable[Compiled], gpu: Gpu) -> dict[Point, float]:
    """Milliseconds of every compiled point that can be launched, at the reference size, in the order of the records."""
    found = {}
    tokens, heads = (np.array([size]) for size in REFERENCE)
    for record in records:
        needs, point = record.resources, point_of(record)
        binary = Compilation(
            outcome="compiled", seconds=0.0, shared=needs.shared, registers=needs.registers // max(1, needs.threads),
            stack=record.stack, threads=needs.threads, tensor_core=dict.fromkeys(record.tensor_core, 1), code=record.code,
            instructions=record.instructions,
        )  # fmt: skip
        try:
            time = float(estimate(point, binary, gpu, tokens, heads)[0])
        except ValueError:
            continue  # it cannot be launched
        found[point] = time * RUNS[point.family.op].get(point.stage, 1)
    return found


def compile_history(times: Mapping[Point, float]) -> dict[Family, list[tuple[int, float]]]:
    """(points compiled, predicted milliseconds of the best whole configuration so far), by family, where that gets better."""
    best: dict[Family, dict[tuple[int, str], float]] = defaultdict(dict)
    count: dict[Family, int] = defaultdict(int)
    found: dict[Family, list[tuple[int, float]]] = defaultdict(list)
    for point, time in times.items():
        here = best[point.family]
        count[point.family] += 1
        place = (point.chunk_size, point.stage)
        here[place] = min(time, here.get(place, math.inf))
        total = _best_whole(point.family.op, here)
        if total < (found[point.family][-1][1] if found[point.family] else math.inf):
            found[point.family].append((count[point.family], total))
    for family, steps in found.items():
        if steps:
            steps.append((count[family], steps[-1][1]))
    return {family: steps for family, steps in found.items() if steps}


def timing_history(records: Iterable[Measured]) -> dict[Key, list[tuple[int, float]]]:
    """(configurations timed, milliseconds of the best so far), by key, at every timing."""
    seen: dict[Key, dict[str, float]] = defaultdict(dict)
    found: dict[Key, list[tuple[int, float]]] = defaultdict(list)
    for record in records:
        if record.config not in seen[record.key]:
            seen[record.key][record.config] = median(record.samples)
            found[record.key].append((len(seen[record.key]), min(seen[record.key].values())))
    return dict(found)


def importance(rows: Sequence[tuple[Mapping[str, object], float]]) -> dict[str, float]:
    """For every parameter the share of the variance of log(time) that its value alone explains (the correlation ratio).

    rows: (parameters, time); times that are equal in all give no shares.
    """
    logs = [math.log(time) for _, time in rows]
    total = float(np.var(logs)) if logs else 0.0
    if not total:
        return {}
    shares = {}
    for name in rows[0][0]:
        groups: dict[object, list[float]] = defaultdict(list)
        for (parameters, _), log in zip(rows, logs, strict=True):
            groups[parameters[name]].append(log)
        if len(groups) > 1:
            middle = mean(logs)
            shares[name] = sum(len(some) * (mean(some) - middle) ** 2 for some in groups.values()) / len(logs) / total
    return shares


def stage_importance(times: Mapping[Point, float]) -> dict[str, dict[str, float]]:
    """Shares of a stage's parameters in its predicted time, averaged over families."""
    rows: dict[tuple[str, Family], list[tuple[Mapping[str, object], float]]] = defaultdict(list)
    for point, time in times.items():
        parameters = {"chunk size": point.chunk_size, "block": point.tile.block,
                      "warps": point.tile.num_warps, "stages": point.tile.num_stages}  # fmt: skip
        rows[point.stage, point.family].append((parameters, time))
    shares: dict[str, list[dict[str, float]]] = defaultdict(list)
    for (stage, _), some in rows.items():
        shares[stage].append(importance(some))
    return {stage: _averaged(some) for stage, some in sorted(shares.items())}


def config_importance(records: Iterable[Measured]) -> dict[str, dict[str, float]]:
    """Shares of the parameters of whole configurations in the measured time, by op, averaged over keys."""
    rows: dict[Key, list[tuple[Mapping[str, object], float]]] = defaultdict(list)
    for record in records:
        config = LaunchConfig.parse(record.config)
        parameters: dict[str, object] = {
            "variant": config.variant,
            "chunk size": config.chunk_size,
            "group": config.group,
        }
        for stage in op_tiles(record.key.op):
            tile = getattr(config, stage)
            parameters |= {
                f"{stage} block": tile.block,
                f"{stage} warps": tile.num_warps,
                f"{stage} stages": tile.num_stages,
            }
        rows[record.key].append((parameters, median(record.samples)))
    shares: dict[str, list[dict[str, float]]] = defaultdict(list)
    for key, some in rows.items():
        shares[key.op].append(importance(some))
    return {op: _averaged(some) for op, some in sorted(shares.items())}


def roofline(entry: TableEntry, gpu: Gpu) -> float:
    """Milliseconds below which no implementation of this chunk size gets: the products of its stages at the peak rate, or its
    inputs and outputs once at the peak bandwidth, whichever is more.
    """
    config, family = LaunchConfig.parse(entry.config), family_of(entry.key)
    tokens, heads = np.array([entry.key.tokens]), np.array([entry.key.heads])
    flops = 0.0
    for point in points_of(family, config):
        # Programs for the blocks of one dimension repeat their common work; the roofline does not.
        job = op_counts(replace(point, tile=replace(point.tile, block=256)), tokens, heads, config.group)
        flops += float((job.products * job.programs * job.steps)[0]) * RUNS[family.op].get(point.stage, 1)
    peak = gpu.fp32_tflops if family.dtype == "fp32" else gpu.bf16_tflops
    moved = entry.key.tokens * entry.key.heads * _bytes(family)
    return 1e3 * max(flops / (peak * 1e12), moved / (gpu.bandwidth_gbs * 1e9))


def _bytes(family: Family) -> float:
    """Bytes of one token and head that go in and come out: inputs and o; to train also their gradients and that of o."""
    rule, size = RULES[family.rule], FP32 if family.dtype == "fp32" else 2
    channels = {"none": 0, "tied": 0, "scalar": 1}
    decay = FP32 * channels.get(rule.decay, family.K)
    erase, write = size * channels.get(rule.erase, family.K), size * channels.get(rule.write, family.V)
    inputs = size * (2 * family.K + family.V) + decay + erase + write
    return inputs + size * family.V if family.op == "chunk_fwd" else 2 * inputs + inputs + 2 * size * family.V


def _best_whole(op: str, best: Mapping[tuple[int, str], float]) -> float:
    totals = []
    for chunk, _ in best:
        for variant in OP_STAGES[op]:
            stages = op_stages(op, variant)
            parts = [best.get((chunk, space.stage), math.inf) for space in stages]
            totals.append(sum(parts))
    return min(totals, default=math.inf)


def _averaged(some: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for shares in some for name in shares)
    return {name: mean(shares.get(name, 0.0) for shares in some) for name in names}
