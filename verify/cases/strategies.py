"""Hypothesis strategies for cases: seeds, shapes at the edges of tiles, regimes, options. Never arrays.

Every choice is ordered from simple to hard, so that shrinking ends at few tokens, few channels, ordinary inputs, no
options. Sizes where kernels change behaviour are repeated in their list: more likely, and still in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from ...kernels.configs.launch_config import LaunchConfig
from ...specs.inputs.regimes import REGIMES
from ...specs.problem import DType, Problem
from ...specs.rule import Rule
from .profiles import Profile
from .replay import Case

_TILES = (16, 32, 64, 128)
_OFTEN = 6
"""Copies of an edge size, against one of any other."""

MaybeReason = Callable[[Problem], str | None]


def cases(
    rule: Rule,
    profile: Profile,
    *,
    dtypes: Sequence[DType],
    regimes: Sequence[str],
    kernel: Any,
    applies: MaybeReason,
    styles: Sequence[str] = ("",),
) -> st.SearchStrategy[Case]:
    """Cases that the kernel accepts (None: there is no kernel) and the property applies to."""

    @st.composite
    def draw_case(draw: st.DrawFn) -> Case:
        problem = draw(problems(rule, profile, dtypes=dtypes, regimes=regimes))
        assume(kernel is None or kernel.accepts(problem) is True)
        assume(applies(problem) is None)
        config = None if kernel is None else draw(st.sampled_from(filled(kernel.configs(problem), problem)))
        return Case(problem=problem, config=config, style=draw(st.sampled_from(styles)) if len(styles) > 1 else "")

    return draw_case()


def filled(configs: Sequence[LaunchConfig], problem: Problem) -> list[LaunchConfig]:
    """Of a kernel's configurations, the default first, those whose chunks are not larger than the default's and more than three
    quarters empty: they cost most, and say what the default says."""
    longest = max((length for _, _, length in problem.sequences), default=0)
    return [config for config in configs if config.chunk_size <= max(configs[0].chunk_size, 4 * longest)]


@st.composite
def problems(
    draw: st.DrawFn, rule: Rule, profile: Profile, *, dtypes: Sequence[DType] = ("fp32",), regimes: Sequence[str]
) -> Problem:
    """Problems of a rule within the limits of a profile; `regimes` and `dtypes` from simple to hard."""
    packed = draw(st.sampled_from((False, False, True)))
    lengths = draw(_lengths(profile)) if packed else None
    T = draw(st.sampled_from(token_counts(profile.tokens))) if lengths is None else sum(lengths)
    heads = st.sampled_from([(1, 1), (1, 2), (2, 2), (2, 4), (3, 3)])
    # Long calls have fewer rows: half of what the longest with the most would cost.
    rows = max(1, min(profile.rows, profile.tokens * profile.rows // (2 * max(1, T))))
    H, HV = draw(heads.filter(lambda pair: pair[1] <= rows))
    B = 1 if packed else draw(st.integers(1, max(1, rows // HV)))
    widths = st.sampled_from(channel_counts(profile))
    return Problem(
        rule=rule,
        dtype=draw(st.sampled_from(list(dtypes))),
        B=B,
        T=T,
        H=H,
        HV=HV,
        K=draw(widths),
        V=draw(widths),
        regime=draw(st.sampled_from(list(regimes))),
        seed=draw(st.integers(0, 9999)),
        lengths=lengths,
        initial_state=draw(st.sampled_from((False, True, True))),
        final_state=draw(st.sampled_from((False, True, True))),
        gate_heads="key" if H != HV and draw(st.booleans()) else "value",
        strided=draw(_seldom),
        qk_l2norm=draw(_seldom),
        gate_in_kernel=rule.decay != "none" and draw(_seldom),
        scale=draw(st.sampled_from((None, None, None, 1.0, 8.0, 0.0))),
    )


def regimes_of(rule: Rule) -> list[str]:
    """Names of the regimes that differ from the ordinary one on this rule, the ordinary one first."""
    return [name for name, regime in REGIMES.items() if regime.applies(rule)]


_seldom = st.sampled_from((False, False, False, True))


@lru_cache
def token_counts(limit: int) -> tuple[int, ...]:
    """0..limit in order, but 1 first; sizes a tile or two long, give or take a token, are repeated."""
    edges = {0, 1, 2} | {tiles * tile + more for tile in _TILES for tiles in (1, 2, 3) for more in (-1, 0, 1, 2)}
    return (1, *sorted([*range(limit + 1), *(edge for edge in edges if edge <= limit for _ in range(_OFTEN))]))


@lru_cache
def channel_counts(profile: Profile) -> tuple[int, ...]:
    """1..channels in order; tile sizes, their neighbours and head sizes that are no power of two are repeated."""
    edges = {1, 2, 8, 15, 16, 17, 24, 31, 32, 33, 40, 48, 60, 64, 65, 96, 128}
    usual = [edge for edge in edges if edge <= profile.channels for _ in range(2)]
    # Wide channels are dear: one draw in about a hundred.
    return (*sorted([*range(1, profile.channels + 1), *usual]), *([profile.wide] if profile.wide else []))


@st.composite
def _lengths(draw: st.DrawFn, profile: Profile) -> tuple[int, ...]:
    """Lengths of packed sequences, empty ones among them, that add up to no more than the profile's tokens."""
    left, lengths = profile.tokens, []
    for _ in range(draw(st.integers(1, profile.sequences))):
        length = min(left, draw(st.sampled_from(sorted(token_counts(profile.tokens)))))
        lengths.append(length)
        left -= length
    return tuple(lengths)
