"""A `Problem` is one question: shapes, options, regime and seed. Arrays are generated from it, never stored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite
from typing import Literal

from .rule import NAMED, RULES, Rule

DType = Literal["fp32", "bf16", "fp16"]

_TOKEN = re.compile(
    r"(?P<rule>\w+):(?P<dtype>\w+):b(?P<B>\d{1,12}):t(?P<T>\d{1,12}):h(?P<H>\d{1,12})x(?P<HV>\d{1,12}):k(?P<K>\d{1,12})"
    r":v(?P<V>\d{1,12}):(?P<regime>\w+):s(?P<seed>\d{1,12})(?P<options>(?:\+[\w.=-]+)*)",
    re.ASCII,
)
_LENGTHS = re.compile(r"(\d{1,12}(\.\d{1,12})*)?", re.ASCII)
_LONGEST = 10_000
"""Characters of a token, most of them lengths of packed sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Shapes, options, regime and seed of one call, forward and backward. Small, hashable, shrinkable.

    B, T: sequences and tokens per sequence. With `lengths` the batch is packed: B is 1 and T is their sum.
    H, HV: key heads and value heads; HV is a multiple of H. K, V: head dimensions.
    dtype: of q, k, v, b, w and o; g and the states are always fp32.
    regime: name of an input generator (`specs.inputs.regimes.REGIMES`). seed: of that generator.
    lengths: tokens of each packed sequence (zeros allowed), or None for a plain batch.
    initial_state: pass one. final_state: ask for one, and send a gradient into it.
    gate_heads: g and b have one row per "value" head (HV of them) or per "key" head (H).
    strided: pass q, k, v and the gates as non-contiguous views.
    qk_l2norm: normalise q and k inside the op. gate_in_kernel: pass raw gate values, `A_log` and `dt_bias`.
    scale: of the output; None means K ** -0.5.

    Raises ValueError for shapes that cannot be.
    """

    rule: Rule
    dtype: DType = "fp32"
    B: int = 1
    T: int = 64
    H: int = 1
    HV: int = 1
    K: int = 16
    V: int = 16
    regime: str = "ordinary"
    seed: int = 0
    lengths: tuple[int, ...] | None = None
    initial_state: bool = True
    final_state: bool = True
    gate_heads: Literal["value", "key"] = "value"
    strided: bool = False
    qk_l2norm: bool = False
    gate_in_kernel: bool = False
    scale: float | None = None

    def __post_init__(self) -> None:
        if min(self.B, self.H, self.HV, self.K, self.V) < 1 or self.T < 0:
            raise ValueError(f"B, H, HV, K, V must be positive and T not negative: {self.token}")
        if self.HV % self.H:
            raise ValueError(f"HV={self.HV} is not a multiple of H={self.H}")
        if self.lengths is not None and (not self.lengths or min(self.lengths) < 0):
            raise ValueError(f"packed lengths {self.lengths} must be one or more token counts")
        if self.lengths is not None and (self.B != 1 or sum(self.lengths) != self.T):
            raise ValueError(
                f"packed lengths {self.lengths} need B=1 and T={sum(self.lengths)}, not B={self.B}, T={self.T}"
            )
        if self.scale is not None and not isfinite(self.scale):
            raise ValueError(f"scale={self.scale} must be a finite number")
        if self.gate_in_kernel and self.rule.decay == "none":
            raise ValueError(f"rule {self.rule.name} has no decay gate to activate")

    @property
    def sequences(self) -> tuple[tuple[int, int, int], ...]:
        """(batch row, first token, tokens) of every sequence, in the order of the states."""
        if self.lengths is None:
            return tuple((row, 0, self.T) for row in range(self.B))
        starts = accumulate(self.lengths[:-1], initial=0)
        return tuple((0, start, length) for start, length in zip(starts, self.lengths, strict=True))

    @property
    def gate_rows(self) -> int:
        """Heads of g and b."""
        return self.HV if self.gate_heads == "value" else self.H

    @property
    def effective_scale(self) -> float:
        return self.K**-0.5 if self.scale is None else self.scale

    @property
    def token(self) -> str:
        """The compact string that a verdict prints; `Problem.parse` reads it back."""
        options = [
            f"+lengths={'.'.join(map(str, self.lengths))}" if self.lengths is not None else "",
            "" if self.initial_state else "+no_h0",
            "" if self.final_state else "+no_ht",
            "+key_gates" if self.gate_heads == "key" else "",
            "+strided" if self.strided else "",
            "+l2norm" if self.qk_l2norm else "",
            "+raw_gate" if self.gate_in_kernel else "",
            # "+" separates the options, so 1e+20 is written 1e20.
            f"+scale={self.scale!r}".replace("e+", "e") if self.scale is not None else "",
        ]
        return (
            f"{self.rule.name}:{self.dtype}:b{self.B}:t{self.T}:h{self.H}x{self.HV}:k{self.K}:v{self.V}"
            f":{self.regime}:s{self.seed}{''.join(options)}"
        )

    @classmethod
    def parse(cls, token: str) -> Problem:
        """Read a `token` back. Raises ValueError that shows the expected form."""
        match = _TOKEN.fullmatch(token) if len(token) <= _LONGEST else None
        if match is None:
            raise ValueError(f"not a problem token: {token!r:.200}; expected e.g. {cls(rule=RULES['gdn2']).token!r}")
        part = match.groupdict()
        if part["rule"] not in NAMED:
            raise ValueError(f"unknown rule {part['rule']!r:.200} in {token!r:.200}; known: {', '.join(NAMED)}")
        if part["dtype"] not in ("fp32", "bf16", "fp16"):
            raise ValueError(f"unknown dtype {part['dtype']!r:.200} in {token!r:.200}; known: fp32, bf16, fp16")
        words = [option.partition("=") for option in part["options"].split("+") if option]
        options = {name: value for name, _, value in words}
        if len(options) < len(words):
            raise ValueError(f"an option is repeated in {token!r:.200}")
        known = {"lengths", "no_h0", "no_ht", "key_gates", "strided", "l2norm", "raw_gate", "scale"}
        if unknown := set(options) - known:
            raise ValueError(
                f"unknown options {sorted(unknown)!s:.200} in {token!r:.200}; known: {', '.join(sorted(known))}"
            )
        if not _LENGTHS.fullmatch(options.get("lengths", "")):
            raise ValueError(f"lengths={options['lengths']:.200} in a problem token; expected e.g. lengths=60.4")
        return cls(
            rule=NAMED[part["rule"]],
            dtype=part["dtype"],
            **{name: int(part[name]) for name in ("B", "T", "H", "HV", "K", "V", "seed")},
            regime=part["regime"],
            lengths=tuple(int(n) for n in options["lengths"].split(".") if n) if "lengths" in options else None,
            initial_state="no_h0" not in options,
            final_state="no_ht" not in options,
            gate_heads="key" if "key_gates" in options else "value",
            strided="strided" in options,
            qk_l2norm="l2norm" in options,
            gate_in_kernel="raw_gate" in options,
            scale=_scale(options["scale"]) if "scale" in options else None,
        )


def _scale(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"scale={text:.200} in a problem token; expected a number") from None
