"""Named regimes of hard inputs. Each is there because an implementation, or a test suite, was seen to fail on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ..rule import Rule
from . import draws
from .draws import Draw, Generator

Need = Literal["decay", "erase", "channel erase", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """One way to draw inputs. A tensor that a regime says nothing about is ordinary.

    about: the kind of kernel that it is made to break. needs: the gates that a rule must have for the regime to differ from the
    ordinary one.
    """

    name: str
    about: str
    needs: tuple[Need, ...] = ()
    queries: Generator = draws.unit
    keys: Generator = draws.unit
    values: Generator = draws.normal
    decay: Generator = draws.rates(1e-3, 1)
    erase: Generator = draws.uniform(0, 1)
    write: Generator = draws.uniform(0, 1)
    states: Generator = draws.scaled(draws.normal, 0.5, 0.5)

    def applies(self, rule: Rule) -> bool:
        """Whether the rule has the gates that this regime is about."""
        have = {
            "decay": rule.decay != "none",
            "erase": rule.erase != "none",
            "channel erase": rule.erase == "channel",
            "write": rule.write != "tied",
        }
        return all(have[need] for need in self.needs)


def _coarse(draw: Draw) -> np.ndarray:
    g = torch.from_numpy(draws.some(0.1, -0.0, draws.weak)(draw))
    return g.to(torch.bfloat16).to(torch.float64).numpy()


def _inverse_square(length: Callable[[Draw], float]) -> Generator:
    """An erase gate in [0, 1] / length^2, so that keys of that length erase no more than unit keys do."""
    return lambda draw: draws.uniform(0, 1)(draw) / length(draw) ** 2


def _long(draw: Draw) -> float:
    return draw.legal(1e3, 30.0)


_near_householder = draws.one_of([draws.uniform(0, 1), draws.constant(2.0), draws.constant(1.0)])

REGIMES: dict[str, Regime] = {
    regime.name: regime
    for regime in (
        Regime(name="ordinary", about="slow and fast channels, unit keys, gates in [0, 1]"),
        # Decay
        Regime(
            name="fla",
            about="g ~ U(-5, -0.1): the common test distribution, so strong that a dropped state hardly shows",
            needs=("decay",),
            decay=draws.uniform(-5, -0.1),
        ),
        Regime(name="no_decay", about="g = 0: the inverse really works", needs=("decay",), decay=draws.constant(0.0)),
        Regime(
            name="near_one",
            about="g = -1e-3 or -1e-8: memory over the whole chunk",
            needs=("decay",),
            decay=draws.near_one,
        ),
        Regime(
            name="init_gates",
            about="gates of a freshly initialised model: exp(-cumsum g) overflows fp32 within 64 to 128 tokens",
            needs=("decay",),
            decay=draws.gate_of_model(0.015),
        ),
        Regime(
            name="trained_gates",
            about="gates spread as after training: a sixth of the channels pass -88 within 64 tokens",
            needs=("decay",),
            decay=draws.gate_of_model(2.0),
        ),
        Regime(
            name="strong",
            about="all g at -5, -11, -12, -20 or -100: anchored exponents overflow",
            needs=("decay",),
            decay=draws.strong_strength,
        ),
        Regime(
            name="instant_forget",
            about="a quarter of the channels at -16, the rest weak: clamps and 0 * inf",
            needs=("decay",),
            decay=draws.instant_forget,
        ),
        Regime(
            name="forget_spike",
            about="one token of each chunk at -76 to -90, at any row: anchors and clamps",
            needs=("decay",),
            decay=draws.at_row(draws.uniform(-90, -76)),
        ),
        Regime(
            name="reset",
            about="one token of each chunk at -1e3 to -1e8, then weak: differences of cumulative sums lose all digits",
            needs=("decay",),
            decay=draws.at_row(draws.reset_strength),
        ),
        Regime(
            name="reset_inf",
            about="one token of each chunk at -inf: inf - inf, 0 * inf",
            needs=("decay",),
            decay=draws.at_row(draws.constant(-np.inf)),
        ),
        Regime(name="coarse_gates", about="g rounded to bf16, some of it -0.0", needs=("decay",), decay=_coarse),
        # Erase and write
        Regime(name="erase_zero", about="b = 0: nothing is erased", needs=("erase",), erase=draws.constant(0.0)),
        Regime(name="erase_one", about="b = 1: each key is overwritten", needs=("erase",), erase=draws.constant(1.0)),
        Regime(name="erase_mask", about="b in {0, 1}", needs=("erase",), erase=draws.mask(1.0)),
        Regime(
            name="erase_two",
            about="b = 2: reflections, nothing decays",
            needs=("erase",),
            erase=draws.constant(2.0),
            decay=draws.weak,
        ),
        Regime(
            name="erase_wide",
            about="b in [0, 2]: negative eigenvalues",
            needs=("erase",),
            erase=draws.uniform(0, 2),
            decay=draws.weak,
        ),
        Regime(
            name="growth",
            about="the pair of keys and masks under which the state grows by 1.118 a token: no contraction to rely on",
            needs=("channel erase",),
            keys=draws.growth_keys,
            erase=draws.growth_erase,
            decay=lambda draw: np.where(draws.growing(draw), 0.0, draws.rates(1e-1, 1)(draw)),
        ),
        Regime(
            name="write_zero",
            about="w = 0 on a third of the rows",
            needs=("write",),
            write=draws.some(0.3, 0.0, draws.uniform(0, 1)),
        ),
        Regime(name="write_one", about="w = 1", needs=("write",), write=draws.constant(1.0)),
        # Keys
        Regime(
            name="collinear",
            about="keys with cosine 0.99, b up to 2: the worst conditioned inverse",
            keys=draws.collinear(0.1),
            erase=_near_householder,
            decay=draws.weak,
        ),
        Regime(
            name="identical_keys",
            about="one key throughout, b up to 2",
            keys=draws.collinear(0.0),
            erase=_near_householder,
            decay=draws.weak,
        ),
        Regime(
            name="zero_keys",
            about="k = 0 on a third of the rows: division by a norm",
            keys=draws.some(0.3, 0.0, draws.unit),
        ),
        Regime(name="tiny_keys", about="|k| = 1e-3", keys=draws.scaled(draws.unit, 1e-3, 1e-2)),
        Regime(name="long_keys", about="|k| = 1.5: single steps expand", keys=draws.scaled(draws.unit, 1.5, 1.5)),
        Regime(
            name="huge_keys",
            about="|k| = 1e3 with b scaled by 1 / |k|^2",
            needs=("erase",),
            keys=lambda draw: draws.unit(draw) * _long(draw),
            erase=_inverse_square(_long),
            write=_inverse_square(_long),
        ),
        Regime(
            name="silu_keys",
            about="keys in one orthant, as SiLU leaves them, b up to 2",
            keys=draws.silu,
            erase=draws.uniform(0, 2),
        ),
        Regime(name="rank_two", about="keys in one plane", keys=draws.rank_two, erase=draws.uniform(0, 2)),
        # Magnitudes
        Regime(
            name="huge_values",
            about="values and initial state of size 1e4",
            values=draws.scaled(draws.normal, 1e4, 1e2),
            states=draws.scaled(draws.normal, 1e4, 1e2),
        ),
        Regime(
            name="tiny_values",
            about="values and initial state of size 1e-4",
            values=draws.scaled(draws.normal, 1e-4, 1e-2),
            states=draws.scaled(draws.normal, 1e-4, 1e-2),
        ),
        Regime(name="tiny_queries", about="|q| = 1e-3", queries=draws.scaled(draws.unit, 1e-3, 1e-2)),
        Regime(
            name="mixed",
            about="everything at once: fast and slow channels, resets, zero gates, correlated and zero keys",
            keys=draws.mixed_keys,
            decay=draws.mixed_decay,
            erase=draws.some(0.2, 0.0, draws.uniform(0, 2)),
            write=draws.some(0.2, 0.0, draws.uniform(0, 1)),
        ),
    )
}
"""The regimes by name."""
