"""A handful of configurations that are safe on every GPU, for the GPUs that nobody tuned for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..schema.entry import TableEntry
from ..schema.gpus import KnownGpu, Resources, excess, known_gpus
from ..schema.key import Key
from ..schema.record import Record
from ..schema.table import Table, make_table
from .derive import left_uncompiled
from .weigh import Cost, Evidence, Kernels, loss, weigh

_Place = tuple[KnownGpu, Evidence, Key, dict[str, Cost]]
"""A key on one GPU, and the costs of the configurations known to run there."""


def portfolio(records: Mapping[str, Iterable[Record]], kernels: Kernels) -> Table:
    """For every op, rule, dtype and head dimensions, one entry: the configuration that loses least where it loses most.

    records: by slug of the GPU; kernels: their digests. A configuration is considered if it fits every known GPU, has a known
    cost at every key of all the GPUs given, and failed on none. The resources of a program on one maker's GPUs say nothing of
    another's; an entry gives those on NVIDIA's where they are known. `neighbour_loss` is the greatest loss anywhere. Options do
    not tell entries apart. A GPU that was not tuned whole, for a budget left points uncompiled, has no say.
    """
    places: dict[Key, list[_Place]] = {}
    refused: set[tuple[Key, str]] = set()
    for slug, rows in sorted(records.items()):
        rows = list(rows)
        evidence = weigh(rows, kernels)
        refused |= evidence.refused
        partial = {row.key for row in left_uncompiled(rows, kernels)}
        for key in evidence.keys:
            subject = Key(op=key.op, rule=key.rule, dtype=key.dtype, K=key.K, V=key.V)
            costs = evidence.measured(key) or evidence.estimated(key)
            if costs and subject not in partial:
                places.setdefault(subject, []).append((known_gpus()[slug], evidence, key, costs))
    entries = (
        _safest(subject, found, kernels, {config for key, config in refused if key == subject})
        for subject, found in places.items()
    )
    return make_table(None, (entry for entry in entries if entry))


def _safest(subject: Key, places: list[_Place], kernels: Kernels, refused: set[str]) -> TableEntry | None:
    choices: list[tuple[float, int, str, Resources]] = []
    for config in set.intersection(*(set(costs) for *_, costs in places)) - refused:
        needs = {
            nvidia: _most(costs[config].resources for gpu, _, _, costs in places if _is_nvidia(gpu) == nvidia)
            for nvidia in {_is_nvidia(gpu) for gpu, *_ in places}
        }
        usual = needs.get(True) or needs[False]
        # A program is taken to need the same on the GPUs of a maker that nobody tuned for.
        if not any(excess(needs.get(_is_nvidia(gpu), usual), gpu) for gpu in known_gpus().values()):
            worst = max(loss(config, costs) or 0.0 for *_, costs in places)
            choices.append((worst, usual.registers, config, usual))
    if not choices:
        return None
    worst, _, config, need = min(choices, key=lambda choice: choice[:3])
    passed_under, passed_on = _passed(config, places)
    gates = [evidence.gate(key, config, costs[config].record.triton) for _, evidence, key, costs in places]
    gate, verdict = max(gates, key=lambda gate: ("device", "compiled", "interpreter", "owed").index(gate[0]))
    return TableEntry(
        key=subject,
        config=config,
        tier="portfolio",
        kernel=kernels(subject, config),
        gate=gate,
        verdict=verdict,
        resources=need,
        neighbour_loss=worst,
        passed_under=passed_under,
        passed_on=passed_on,
    )


def _passed(config: str, places: list[_Place]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Versions of Triton and architectures: each version's programs of a configuration for each of them were run, and passed."""
    ran: dict[str, set[str]] = {}
    for gpu, evidence, key, _ in places:
        under = set(evidence.passed_under(key, config))
        ran[gpu.arch] = ran.get(gpu.arch, under) & under
    ran = {arch: versions for arch, versions in ran.items() if versions}
    everywhere = set.intersection(*ran.values()) if ran else set()
    return tuple(sorted(everywhere)), tuple(sorted(ran)) if everywhere else ()


def _is_nvidia(gpu: KnownGpu) -> bool:
    return gpu.arch.startswith("sm_")


def _most(needs: Iterable[Resources]) -> Resources:
    rows = [(need.shared, need.registers, need.threads) for need in needs]
    shared, registers, threads = map(max, zip(*rows, strict=True))
    return Resources(shared=shared, registers=registers, threads=threads)
