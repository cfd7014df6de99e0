"""The cases of compiled code: our configurations as tables serve them, at the head dimensions that they serve.

Nothing is drawn or shrunk: another size would be another program. Two chunks and a tail pass every branch of a kernel.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from ...kernels.configs.launch_config import LaunchConfig, kernel_of
from ...kernels.registry import Kernel
from ...results.files.packaged import packaged
from ...results.schema.table import EVERYWHERE, Table, loads
from ...specs.problem import Problem
from ...specs.rule import NAMED, Rule
from ..cases.cell import Cell
from ..cases.profiles import Profile
from ..cases.replay import Case
from ..cases.strategies import regimes_of
from ..properties.base import Property

TAIL = 22
"""Tokens after the last whole chunk: more than one tile of tensor cores, and no whole number of them."""

_USUAL = 128
_CONFIGS = {"quick": 1, "merge": 2}
_HARD = ("mixed", "strong", "collinear")


def served_cases(cell: Cell, prop: Property, kernel: Kernel, profile: Profile, device: str) -> list[Case]:
    """quick: one configuration at head dimension 128. merge: two at each served; nightly: all, and hard inputs."""
    rule = NAMED[cell.rule]
    served = served_configs(device).get((kernel.name, rule.name), {})
    sizes = (_USUAL,) if profile.name == "quick" or not served else tuple(sorted(served))
    found: list[Case] = []
    for size in sizes:
        for config in served.get(size, ())[: _CONFIGS.get(profile.name)] or (None,):
            found += _of(rule, size, config, prop, kernel, nightly=profile.name == "nightly")
    return list(dict.fromkeys(found))


def _of(
    rule: Rule, size: int, config: LaunchConfig | None, prop: Property, kernel: Kernel, *, nightly: bool
) -> Iterator[Case]:
    usual = Problem(rule=rule, dtype="bf16", T=2 * 64 + TAIL, H=1, HV=1, K=size, V=size)
    own: LaunchConfig = (config or kernel.configs(usual)[0]).shortest
    plain = replace(usual, T=2 * own.run_tokens + TAIL)
    # Heads that share a key show in addresses and between programs; numbers are those of one head.
    others = [replace(plain, HV=2)] if prop.name in ("memory", "determinism") else [plain]
    if nightly and prop.name == "memory":
        lengths = (0, 1, own.run_tokens + 3)
        others.append(replace(plain, T=sum(lengths), lengths=lengths, strided=True))
    if nightly and prop.name == "error":
        others += [replace(plain, regime=name) for name in _HARD if name in regimes_of(rule)]
    for problem in others:
        able = (one for one in (problem, *with_fewer_states(plain)) if kernel.accepts(one) is True)
        taken = next((one for one in able if prop.applies(kernel, one) is None), None)
        if taken is not None:
            yield Case(problem=taken, config=own)


def with_fewer_states(problem: Problem) -> Iterator[Problem]:
    """The problem, and the same without the states that a function of somebody else's need not take."""
    for less in ((), ("initial_state",), ("final_state",), ("initial_state", "final_state")):
        yield replace(problem, **dict.fromkeys(less, False))


@lru_cache(maxsize=4)
def served_configs(device: str) -> dict[tuple[str, str], dict[int, tuple[LaunchConfig, ...]]]:
    """(kernel, rule) -> head dimension -> configurations that packaged tables serve on this architecture, most served first."""
    counts: dict[tuple[str, str], dict[int, Counter[str]]] = {}
    for table in _tables():
        if device != table.arch and table.gpu != EVERYWHERE:
            continue
        for entry in table.entries:
            key = entry.key
            if device not in (table.arch, *entry.passed_on):
                continue
            where = counts.setdefault((kernel_of(key.op, entry.config), key.rule), {})
            if key.K == key.V:
                where.setdefault(key.K, Counter())[entry.config] += 1
    return {
        where: {
            size: tuple(
                LaunchConfig.parse(token) for token, _ in sorted(some.items(), key=lambda one: (-one[1], one[0]))
            )
            for size, some in sizes.items()
        }
        for where, sizes in counts.items()
    }


def served_at(kernel: Kernel, problem: Problem) -> tuple[LaunchConfig, ...]:
    """Of each chunk size with which any packaged table serves the kernel at this dtype and these head dimensions, the
    configuration that is served most."""
    return _by_sizes().get((kernel.name, *_where(problem)), ())


def served_names(case: Case, kernel: Kernel) -> set[str]:
    """The names, of those of `all_served`, that a case covers."""
    found = served_at(kernel, case.problem)
    return {_named(kernel.name, *_where(case.problem), one) for one in found if one == case.config}


def all_served(device: str) -> tuple[str, ...]:
    """The names of all served combinations of kernel, head dimensions, chunk size and dtype. None but in the interpreter."""
    if device != "interpreter":
        return ()
    return tuple(
        _named(kernel, dtype, K, V, config)
        for (kernel, dtype, K, V), configs in _by_sizes().items()
        for config in configs
    )


def _where(problem: Problem) -> tuple[str, int, int]:
    return problem.dtype, problem.K, problem.V


def _named(kernel: str, dtype: str, K: int, V: int, config: LaunchConfig) -> str:
    return f"served: {kernel}, K = {K}, V = {V}, chunk {config.chunk_size}, {dtype}"


def served_digest(device: str) -> str:
    """The digest of the tables' configurations for a device: verdicts on it depend on nothing else of the tables."""
    found = _by_sizes() if device == "interpreter" else served_configs(device)
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _by_sizes() -> dict[tuple[str, str, int, int], tuple[LaunchConfig, ...]]:
    """(kernel, dtype, K, V) -> the configuration of each chunk size that tables serve most."""
    counts: dict[tuple[str, str, int, int], Counter[str]] = {}
    for table in _tables():
        for entry in table.entries:
            key = entry.key
            where = (kernel_of(key.op, entry.config), key.dtype, key.K, key.V)
            counts.setdefault(where, Counter())[entry.config] += 1
    found = {}
    for where, some in sorted(counts.items()):
        rarest_first = sorted(some.items(), key=lambda one: (one[1], one[0]))
        configs = [LaunchConfig.parse(token) for token, _ in rarest_first]
        found[where] = tuple({config.chunk_size: config for config in configs}.values())
    return found


@lru_cache(maxsize=1)
def _tables() -> tuple[Table, ...]:
    paths = sorted(packaged("tables").iterdir(), key=lambda path: path.name)
    return tuple(loads(path.read_text(encoding="utf-8"), path.name) for path in paths if path.name.endswith(".json"))
