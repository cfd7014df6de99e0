"""Records sorted by their meaning: the configurations that passed, those that are out, and the cost of each at each key."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..schema.entry import Gate
from ..schema.gpus import Resources
from ..schema.key import Key
from ..schema.record import Estimated, Gated, Measured, Ranking, Record, Rejected, record_digest
from ..schema.token import head_of

_Claim = tuple[str, str, str, int, int, str]
"""op, rule, dtype, K, V, config; K or V may be 0, for all."""
_Setting = tuple[str, str, str]
"""device, triton, driver"""
FINALS = "-finals"
"""How the name of a protocol ends that times configurations in turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one configuration at one key.

    milliseconds: median of the samples, or predicted. record: its source.
    """

    config: str
    milliseconds: float
    resources: Resources
    record: Measured | Estimated


Kernels = Callable[[Key, str], str]
"""The digest of the kernels that a configuration launches for a key, as `kernel_digest` gives it."""

TIE = 0.005
"""Measured times this close, as a fraction, are the same time: the configuration with the fewest registers is taken."""
PREDICTED_TIE = 0.01
"""And predicted ones."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence in the records of one GPU; made by `weigh`.

    A failure on a device, a hang or a crash is for good: it takes a configuration out for every size and option, because one that
    is wrong once (a race, say) is not one to launch. Another version of the compiler may accept a configuration that this one
    refused; and the program that it makes of a configuration speaks for this version alone: the next one may mend it, or spoil
    it. In the interpreter two things must hold, the arithmetic of variant, chunk size and solver (recorded for K = V = 0) and the
    configuration as it stands at its head dimensions; it gives the same answer every time, so the last one counts. Running out of
    memory is a matter of the one key. The ranking already leaves out the configurations that were refused stage by stage.
    """

    _rounds: dict[Key, dict[_Setting, dict[str, dict[str, Measured]]]] = field(default_factory=dict)
    _guesses: dict[tuple[Key, str], dict[str, Estimated]] = field(default_factory=dict)
    _rankings: dict[Key, list[str]] = field(default_factory=dict)
    _stale: set[str] = field(default_factory=set)
    _out: set[_Claim] = field(default_factory=set)
    _refused: set[tuple[str, _Claim]] = field(default_factory=set)
    _out_of_memory: set[tuple[Key, str]] = field(default_factory=set)
    _passed: dict[tuple[str, _Claim], str] = field(default_factory=dict)
    _failed: set[tuple[str, _Claim]] = field(default_factory=set)
    _compiled: dict[tuple[_Claim, str], dict[bool, Gated]] = field(default_factory=dict)
    """By claim and version of Triton: the last search for hazards (False), and the last run (True)."""

    @property
    def keys(self) -> list[Key]:
        """Every key with a time or a prediction, sorted."""
        return sorted(self._rounds.keys() | {key for key, _ in self._guesses})

    @property
    def refused(self) -> set[tuple[Key, str]]:
        """(key without sizes, configuration) of all that failed on the device, hung or crashed it."""
        claims = self._out | {claim for where, claim in self._failed if where == "device"}
        return {
            (Key(op=op, rule=rule, dtype=dtype, K=K, V=V), config)
            for op, rule, dtype, K, V, config in claims
            if K and V
        }

    def gate(self, key: Key, config: str, triton: str) -> tuple[Gate, str]:
        """How far verification of a configuration got, for this Triton, and the digest of the record that says so."""
        exact = list(_claims(key, config))
        out = (key, config) in self._out_of_memory or any(
            claim in self._out or (triton, claim) in self._refused for claim in exact
        )
        if out or any(("device", claim) in self._failed for claim in exact):
            return "failed", ""
        own, arithmetic = _claim(key, config), _claim(replace(key, K=0, V=0), head_of(config))
        programs = self._compiled.get((own, triton), {})
        if any(("interpreter", claim) in self._failed for claim in (own, arithmetic)) or not _held(programs):
            return "failed", ""
        for claim in exact:
            if verdict := self._passed.get(("device", claim)):
                return "device", verdict
        verdict = self._passed.get(("interpreter", own))
        if not verdict or ("interpreter", arithmetic) not in self._passed:
            return "owed", ""
        return ("compiled", record_digest(programs[True])) if True in programs else ("interpreter", verdict)

    def passed_under(self, key: Key, config: str) -> tuple[str, ...]:
        """The versions of Triton whose programs of a configuration were run, and passed."""
        own = _claim(key, config)
        return tuple(
            sorted(
                triton
                for (claim, triton), programs in self._compiled.items()
                if claim == own and True in programs and _held(programs)
            )
        )

    def measured(self, key: Key) -> dict[str, Cost]:
        """Every configuration that was verified on the device and timed at this key, in one comparable round.

        Times of different devices or toolchains do not compare, nor do times taken in turns with those taken alone: where
        finalists were timed in turns, only that counts. A later round, and a round is as late as its last timing, takes over
        once it has timed the winner of the one before it, so that one that was cut short does not.
        """
        standing: dict[str, Cost] = {}
        for protocols in self._rounds.get(key, {}).values():
            finals = [protocol for protocol in protocols if protocol.endswith(FINALS)]
            costs: dict[str, Cost] = {}
            for protocol in [*(other for other in protocols if other not in finals), *finals]:
                costs = self._costs(key, protocols[protocol]) or costs
            if costs and (not standing or fastest(standing).config in costs):
                standing = costs
        return standing

    def _costs(self, key: Key, times: Mapping[str, Measured]) -> dict[str, Cost]:
        """The costs of configurations that were timed and verified on the device."""
        return {
            config: Cost(
                config=config, milliseconds=statistics.median(time.samples), resources=time.resources, record=time
            )
            for config, time in times.items()
            if self.gate(key, config, time.triton)[0] == "device"
        }

    def estimated(self, key: Key) -> dict[str, Cost]:
        """Every configuration that the last ranking predicts at this key, and that passed verification. A ranking whose
        estimates are all of other kernels is none."""
        rankings = self._rankings.get(replace(key, tokens=0, heads=0), [""])
        last = next(
            (name for name in reversed(rankings) if name not in self._stale or (key, name) in self._guesses), ""
        )
        return {
            config: Cost(config=config, milliseconds=guess.milliseconds, resources=guess.resources, record=guess)
            for config, guess in self._guesses.get((key, last), {}).items()
            if self.gate(key, config, guess.triton)[0] in ("device", "compiled", "interpreter")
        }


def weigh(records: Iterable[Record], kernels: Kernels) -> Evidence:
    """The evidence in `records` for kernels of these digests; records of others are ignored.

    A ranking counts even if kernels have changed since: each of its estimates says which kernels it is for.
    """
    evidence = Evidence()
    for record in records:
        if not isinstance(record, Ranking) and kernels(record.key, record.config) != record.kernel:
            if isinstance(record, Estimated):
                evidence._stale.add(record.ranking)
            continue
        match record:
            case Measured():
                evidence._out_of_memory.discard((record.key, record.config))
                setting = (record.device, record.triton, record.driver)
                rounds = evidence._rounds.setdefault(record.key, {})
                rounds[setting] = rounds.pop(setting, {})
                rounds[setting].setdefault(record.protocol, {})[record.config] = record
            case Estimated():
                evidence._guesses.setdefault((record.key, record.ranking), {})[record.config] = record
            case Ranking():
                evidence._rankings.setdefault(record.key, []).append(record.ranking)
            case Rejected(reason="memory"):
                evidence._out_of_memory.add((record.key, record.config))
            case Rejected(reason="crash" | "timeout" | "gate", stage=""):
                evidence._out.add(_claim(record.key, record.config))
            case Rejected(stage="") if record.reason != "duplicate":
                evidence._refused.add((record.triton, _claim(record.key, record.config)))
            case Gated(where="compiled"):
                programs = evidence._compiled.setdefault((_claim(record.key, record.config), record.triton), {})
                programs[bool(record.schedules)] = record
            case Gated():
                claim = record.where, _claim(record.key, record.config)
                if record.where != "device":
                    evidence._failed.discard(claim)
                    evidence._passed.pop(claim, None)
                if record.held:
                    evidence._passed[claim] = record_digest(record)
                else:
                    evidence._failed.add(claim)
    return evidence


def fastest(costs: Mapping[str, Cost]) -> Cost:
    """The best of one or more costs; of those that tie with it, the one with the fewest registers."""
    least = min(cost.milliseconds for cost in costs.values())
    tie = TIE if all(isinstance(cost.record, Measured) for cost in costs.values()) else PREDICTED_TIE
    tied = (cost for cost in costs.values() if cost.milliseconds <= least * (1 + tie))
    return min(tied, key=lambda cost: (cost.resources.registers, cost.milliseconds, cost.config))


def loss(config: str, costs: Mapping[str, Cost]) -> float | None:
    """Extra time of a configuration, as a fraction of the least; None if its cost is not known."""
    if config not in costs:
        return None
    least = min(cost.milliseconds for cost in costs.values())
    return round(costs[config].milliseconds / least - 1, 4) if least else 0.0


def neighbours(key: Key) -> Iterator[Key]:
    """The keys one bucket away, in length or in width."""
    for name in ("tokens", "heads"):
        size = getattr(key, name)
        yield replace(key, **{name: 2 * size})
        if size > 1:
            yield replace(key, **{name: size // 2})


def _held(programs: Mapping[bool, Gated]) -> bool:
    return all(record.held for record in programs.values())


def _claim(key: Key, config: str) -> _Claim:
    return key.op, key.rule, key.dtype, key.K, key.V, config


def _claims(key: Key, config: str) -> Iterator[_Claim]:
    """Every claim that would hold for this key."""
    for K in (key.K, 0):
        for V in (key.V, 0):
            yield key.op, key.rule, key.dtype, K, V, config
