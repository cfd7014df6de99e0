"""Tables from records, by a pure function: whoever edits a table by hand is found out by deriving it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..schema.default import default_config
from ..schema.entry import TableEntry
from ..schema.gpus import KnownGpu, excess
from ..schema.key import Key
from ..schema.record import Measured, Record, Unexplored, record_digest
from ..schema.table import Left, Refused, Table, make_table
from .weigh import Cost, Kernels, fastest, loss, neighbours, weigh

_Costs = dict[Key, dict[str, Cost]]


def derive(records: Iterable[Record], gpu: KnownGpu, kernels: Kernels) -> Table:
    """The table derived from the records of a GPU, for kernels of these digests.

    At each key the fastest configuration that was verified on the device and timed (tier A); where there is none, the
    one that the last ranking predicts to be the fastest of those that nothing speaks against (tier C). Equal records,
    equal table.
    """
    records = list(records)
    evidence = weigh(records, kernels)
    keys = evidence.keys
    measured = {key: _fitting(evidence.measured(key), gpu) for key in keys}
    estimated = {key: _fitting(evidence.estimated(key), gpu) for key in keys}
    entries = []
    for key in keys:
        costs = measured if measured[key] else estimated
        if costs[key]:
            best = fastest(costs[key])
            gate, verdict = evidence.gate(key, best.config, best.record.triton)
            entries.append(
                TableEntry(
                    key=key,
                    config=best.config,
                    tier="A" if measured[key] else "C",
                    kernel=best.record.kernel,
                    gate=gate,
                    verdict=verdict,
                    measurement=record_digest(best.record) if isinstance(best.record, Measured) else "",
                    triton=best.record.triton,
                    driver=best.record.driver,
                    resources=best.resources,
                    milliseconds=float(f"{best.milliseconds:.6g}"),
                    neighbour_loss=_neighbour_loss(key, best.config, costs),
                    default_loss=loss(default_config(key.op, key.dtype, key.K), costs[key]),
                    passed_under=evidence.passed_under(key, best.config),
                )
            )
    refused = (Refused(key=key, config=config, kernel=kernels(key, config)) for key, config in evidence.refused)
    return make_table(gpu, entries, left_uncompiled(records, kernels), refused)


def _fitting(costs: Mapping[str, Cost], gpu: KnownGpu) -> dict[str, Cost]:
    return {config: cost for config, cost in costs.items() if not excess(cost.resources, gpu)}


def _neighbour_loss(key: Key, config: str, costs: _Costs) -> float | None:
    """The greatest loss of a configuration one bucket away; None if it is known at no such key."""
    losses = [loss(config, costs[near]) for near in neighbours(key) if near in costs]
    return max((known for known in losses if known is not None), default=None)


def left_uncompiled(records: Iterable[Record], kernels: Kernels) -> list[Left]:
    """How many points a budget left uncompiled, by the last word on each key."""
    last = {
        record.key: record.count
        for record in records
        if isinstance(record, Unexplored) and kernels(record.key, record.config) == record.kernel
    }
    return [Left(key=key, count=count) for key, count in last.items() if count]
