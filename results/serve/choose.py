"""From a call to the configuration for it: the cold path of `lookup`, which names the entry it took and the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from ..digests.kernels import kernel_digest
from ..schema.default import default_config
from ..schema.entry import TIERS, TableEntry, Tier
from ..schema.gpus import KnownGpu, excess
from ..schema.key import Key
from ..schema.table import Table
from .expected_loss import expected

MinGate = Literal["interpreter", "compiled", "device"]
"""The least that an entry of tier C must have passed."""
Source = Literal["exact", "nearest", "architecture", "portfolio", "default"]

BOUND = 3
"""How many steps away an entry may be from the call; a step is a bucket of tokens or heads, or an option."""
_FAR = f"for other calls, more than {BOUND} steps away in tokens, heads or options"

_Subject = tuple[str, str, str, int, int]
_Skipped = dict[tuple[str, str, Key, str], None]
"""(reason, GPU, key, configuration) of what was passed over: an entry that two tables hold is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableIndex:
    """The contents of some tables, by op, rule, dtype, K and V.

    entries: each with its GPU's slug, in order of precedence. refused: (configuration, kernel) that failed on those GPUs.
    left: how many points a budget left uncompiled, by GPU.
    """

    entries: Mapping[_Subject, Sequence[tuple[str, TableEntry]]]
    refused: Mapping[_Subject, Set[tuple[str, str]]]
    left: Mapping[tuple[str, _Subject], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The configuration to launch. config: a token of `kernels.LaunchConfig`.

    tier: of the entry for this very call, so one that was timed elsewhere counts as B; "default" where there is no
    entry.
    source: the step that found it. reason: the same in a sentence. entry: None for the default.
    expected_loss: extra time, as a fraction, against the best configuration: as timed or, of an entry that never was, as
    `expected_loss.expected` makes of the prediction. None where that is not known, and where anything was left.
    left: points that a budget left uncompiled where the entry was chosen: something better may be among them.
    """

    config: str
    tier: Literal["A", "B", "C", "portfolio", "default"]
    source: Source
    reason: str
    entry: TableEntry | None = None
    expected_loss: float | None = None
    left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A call, its sizes as buckets, and the requirements of the caller. kernel: the digest of the kernels that will be launched,
    None if these are the ones of this package.

    triton, driver: the asker's versions, None if they are not known.
    """

    key: Key
    gpu: KnownGpu
    kernel: str | None
    min_tier: Tier
    min_gate: MinGate = "compiled"
    triton: str | None = None
    driver: str | None = None


def index_tables(tables: Iterable[Table]) -> TableIndex:
    """The contents of these tables, arranged for `choose`; the first table has precedence."""
    entries: dict[_Subject, list[tuple[str, TableEntry]]] = {}
    refused: dict[_Subject, set[tuple[str, str]]] = {}
    left: dict[tuple[str, _Subject], int] = {}
    for table in tables:
        for entry in table.entries:
            entries.setdefault(_subject(entry.key), []).append((table.gpu, entry))
        for row in table.refused:
            refused.setdefault(_subject(row.key), set()).add((row.config, row.kernel))
        for row in table.left:
            subject = table.gpu, _subject(row.key)
            left[subject] = left.get(subject, 0) + row.count
    return TableIndex(entries=entries, refused=refused, left=left)


def choose(
    query: Query, own: TableIndex, relatives: Callable[[], TableIndex], everywhere: Callable[[], TableIndex]
) -> Answer:
    """The configuration for a call, from the tables of its GPU, of others of its architecture, and of all GPUs.

    The exact bucket, else the nearest within BOUND, else the same on a GPU of the architecture, else the portfolio, else the safe
    default. An entry of tier C only if it has passed `min_gate`: for "compiled" with the asker's Triton or, where that is not
    known, the one that it was compiled with. Never an entry for other kernel sources, a configuration that failed on this GPU,
    even if it serves others well, or one that does not fit the GPU. Tables of other GPUs are loaded only when they are needed.
    """
    asked = f"{query.key} on {query.gpu.slug}"
    skipped: _Skipped = {}
    refused = {
        config for config, kernel in own.refused.get(_subject(query.key), ()) if kernel == _kernel(query, config)
    }
    near = list(_usable(query, own, refused, skipped, same_gpu=True))
    if near:
        distance, slug, entry = min(near, key=lambda found: found[0])
        left = own.left.get((slug, _subject(query.key)), 0)
        return Answer(
            config=entry.config,
            tier=_tier(query, entry, same_gpu=True),
            source="nearest" if distance else "exact",
            reason=(f"{asked}: {_near(distance)}, {entry.key}" if distance else f"{asked}: has an entry")
            + _why([found for found in skipped if found[0] == _ungated(query)])
            + _partly(left),
            entry=entry,
            left=left,
            expected_loss=None if left else _loss_at(entry, distance),
        )
    related = list(_usable(query, relatives(), refused, skipped, same_gpu=False))
    if related:
        _, slug, entry = min(related, key=lambda found: found[0])
        left = relatives().left.get((slug, _subject(query.key)), 0)
        return Answer(
            config=entry.config,
            tier=_tier(query, entry, same_gpu=False),
            source="architecture",
            reason=f"{asked}: no entry{_why(skipped)}; {slug}, of the same architecture, has {entry.key}"
            + _partly(left),
            entry=entry,
            left=left,
        )
    for _, _, entry in _usable(query, everywhere(), refused, skipped, same_gpu=True):
        return Answer(
            config=entry.config,
            tier="portfolio",
            source="portfolio",
            reason=f"{asked}: no entry{_why(skipped)}; this one is for every size, on every known GPU",
            entry=entry,
            expected_loss=_loss_at(entry, 1),
        )
    return Answer(
        config=default_config(query.key.op, query.key.dtype, query.key.K),
        tier="default",
        source="default",
        reason=f"{asked}: no entry{_why(skipped)}{_lower(query, own, relatives, everywhere, skipped)}; the safe default",
        expected_loss=_default_loss(query, own),
    )


def untuned(key: Key, reason: str) -> Answer:
    """The safe default, for a call that no table is asked about."""
    return Answer(
        config=default_config(key.op, key.dtype, key.K), tier="default", source="default",
        reason=f"{reason}; the safe default",
    )  # fmt: skip


def steps(have: Key, want: Key) -> int:
    """How far apart two keys of one subject are; sizes and options do not count where `have` holds for all sizes."""
    if not have.tokens:
        return 0
    sizes = abs(have.tokens.bit_length() - want.tokens.bit_length()) + abs(
        have.heads.bit_length() - want.heads.bit_length()
    )
    return sizes + len(set(have.options) ^ set(want.options))


def _usable(
    query: Query, index: TableIndex, refused: Set[str], skipped: _Skipped, *, same_gpu: bool
) -> Iterator[tuple[int, str, TableEntry]]:
    """(distance, GPU, entry) of every entry near enough that may be served; the reasons against others go into `skipped`."""
    for slug, entry in index.entries.get(_subject(query.key), ()):
        distance = steps(entry.key, query.key)
        if distance > BOUND:
            reason = _FAR
        elif entry.kernel != _kernel(query, entry.config):
            reason = "stale, made for other kernel sources"
        elif entry.gate == "failed" or entry.config in refused:
            reason = "with a configuration that failed verification"
        elif entry.tier != "portfolio" and (too_much := excess(entry.resources, query.gpu)):
            reason = f"with a program that {too_much}"
        elif not _trusted(query, entry, same_gpu=same_gpu):
            reason = _below(query)
        elif _tier(query, entry, same_gpu=same_gpu) in ("C", "portfolio") and not _gated(query, entry):
            reason = _ungated(query) + _elsewhere(query, entry)
        else:
            yield distance, slug, entry
            continue
        skipped[reason, slug, entry.key, entry.config] = None


def _tier(query: Query, entry: TableEntry, *, same_gpu: bool) -> Tier:
    """The tier of the entry for this call."""
    other = any(
        asked is not None and asked != found
        for asked, found in ((query.triton, entry.triton), (query.driver, entry.driver))
    )
    return "B" if entry.tier == "A" and (other or not same_gpu) else entry.tier


def _trusted(query: Query, entry: TableEntry, *, same_gpu: bool) -> bool:
    if entry.tier == "portfolio":
        return _timed(entry) or query.min_tier == "C"
    return TIERS.index(_tier(query, entry, same_gpu=same_gpu)) <= TIERS.index(query.min_tier)


def _gated(query: Query, entry: TableEntry) -> bool:
    """Whether an entry that was never timed has passed the gate that is asked for."""
    if entry.gate == "device" or query.min_gate == "interpreter":
        return True
    if query.min_gate != "compiled" or entry.gate != "compiled":
        return False
    if entry.tier == "portfolio":
        # It was compiled with no one Triton, and for the architectures that it names.
        return query.gpu.arch in entry.passed_on and (not query.triton or query.triton in entry.passed_under)
    return (query.triton or entry.triton) in entry.passed_under


def _ungated(query: Query) -> str:
    if query.min_gate == "device":
        return "never timed, and not verified on the device"
    under = f" by Triton {query.triton}" if query.triton else ""
    return f"never timed, and not verified as compiled{under}"


def _elsewhere(query: Query, entry: TableEntry) -> str:
    """The architectures for which an ungated entry of the portfolio did pass under the asker's Triton."""
    if query.min_gate != "compiled" or not entry.passed_on or (query.triton and query.triton not in entry.passed_under):
        return ""
    return f" for {query.gpu.arch}, only for {' and '.join(entry.passed_on)}"


def _loss_at(entry: TableEntry, distance: int) -> float | None:
    """The loss of an entry so many steps away from its bucket, as it was timed or predicted; None where neither is known."""
    loss = 0.0 if not distance else entry.neighbour_loss if distance == 1 else None
    return loss if _timed(entry) else expected(loss)


def _timed(entry: TableEntry) -> bool:
    """Whether its losses are of times. An entry of the portfolio was timed where it was judged on a device."""
    return entry.tier == "A" or (entry.tier == "portfolio" and entry.gate == "device")


def _default_loss(query: Query, index: TableIndex) -> float | None:
    """The loss of the safe default, as the nearest entry of any tier gives it; None where tables are partial."""
    known = [
        (steps(entry.key, query.key), entry.default_loss if _timed(entry) else expected(entry.default_loss))
        for slug, entry in index.entries.get(_subject(query.key), ())
        if entry.kernel == _kernel(query, entry.config) and entry.default_loss is not None
        if not index.left.get((slug, _subject(query.key)))
    ]
    distance, found = min(known, default=(BOUND + 1, None))
    return found if distance <= BOUND else None


def _why(skipped: Iterable[tuple[str, str, Key, str]]) -> str:
    """The reasons why entries were passed over, each with how many."""
    counts = Counter(reason for reason, *_ in skipped)
    reasons = [f"{_counted(count, 'entry', 'entries')} {reason}" for reason, count in counts.items()]
    return f" (passed over: {'; '.join(reasons)})" if reasons else ""


def _partly(left: int) -> str:
    """The warning about a table that a budget cut short."""
    if not left:
        return ""
    points = _counted(left, "point was", "points were")
    return f"; that table is partial: {points} left uncompiled, so the loss against the best is not known"


def _lower(
    query: Query,
    own: TableIndex,
    relatives: Callable[[], TableIndex],
    everywhere: Callable[[], TableIndex],
    skipped: _Skipped,
) -> str:
    """The tier or gate that would have to be asked for to be served an entry, if an entry was withheld for that alone."""
    if any(reason.startswith(_ungated(query)) for reason, *_ in skipped):
        found = choose(replace(query, min_gate="interpreter"), own, relatives, everywhere)
        if found.entry:
            return f"; min_gate='interpreter' would serve {found.config}"
    if any(reason == _below(query) for reason, *_ in skipped):
        for tier in TIERS[TIERS.index(query.min_tier) + 1 : TIERS.index("C") + 1]:
            found = choose(replace(query, min_tier=tier), own, relatives, everywhere)
            if found.entry:
                return f"; min_tier={tier!r} would serve {found.config}"
    return ""


def _kernel(query: Query, config: str) -> str:
    return kernel_digest(query.key, config) if query.kernel is None else query.kernel


def _below(query: Query) -> str:
    return f"below tier {query.min_tier}, the least that was asked for"


def _near(distance: int) -> str:
    return f"the nearest entry is {_counted(distance, 'step', 'steps')} away in tokens, heads or options"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _subject(key: Key) -> _Subject:
    return key.op, key.rule, key.dtype, key.K, key.V
