"""The rule, and how its gates may be tied.

One step of the gated delta rule family (Gated DeltaNet-2, arXiv 2605.22791, Eq. 8-10), per value head,
with state S [K, V]:

    Sbar = Diag(exp(g)) S                  decay
    S    = Sbar + k (w * v - Sbar^T (b * k))^T      erase the value read, then write
    o    = scale * S^T q                   the output sees the token's own write

Every model of the family is this step with gates left out or tied. A `Rule` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Decay = Literal["none", "scalar", "channel"]
Erase = Literal["none", "scalar", "channel"]
Write = Literal["tied", "scalar", "channel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The gates that exist, and how they are tied.

    decay: g is absent (no decay), one number per head, or one per key channel.
    erase: b is absent (nothing is erased), one number per head, or one per key channel.
    write: w is tied to b (and is 1 where there is no b), one number per head, or one per value channel.

    Raises ValueError for a write gate tied to a channel-wise erase gate, which has no meaning: b lives on K, w on V.
    """

    name: str
    decay: Decay
    erase: Erase
    write: Write

    def __post_init__(self) -> None:
        if self.write == "tied" and self.erase == "channel":
            raise ValueError(f"rule {self.name}: w cannot be tied to a channel-wise b")

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gate tensors that a call of this rule passes, in signature order."""
        present = {"g": self.decay != "none", "b": self.erase != "none", "w": self.write != "tied"}
        return tuple(name for name, there in present.items() if there)


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(name="linear", decay="none", erase="none", write="tied"),
        Rule(name="mamba2", decay="scalar", erase="none", write="scalar"),
        Rule(name="gla", decay="channel", erase="none", write="tied"),
        Rule(name="delta_rule", decay="none", erase="scalar", write="tied"),
        Rule(name="gdn", decay="scalar", erase="scalar", write="tied"),
        Rule(name="kda", decay="channel", erase="scalar", write="tied"),
        Rule(name="gdn2", decay="channel", erase="channel", write="channel"),
    )
}
"""The named rules, from the smallest to the most general; each is the step above with gates tied."""

RELATIVES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(name="retnet", decay="none", erase="none", write="tied"),
        Rule(name="carve", decay="channel", erase="channel", write="scalar"),
        Rule(name="comba", decay="scalar", erase="scalar", write="tied"),
        Rule(name="precond_gdn", decay="scalar", erase="scalar", write="tied"),
        Rule(name="precond_kda", decay="channel", erase="scalar", write="tied"),
        Rule(name="delta_product", decay="scalar", erase="scalar", write="tied"),
        Rule(name="rwkv7", decay="channel", erase="channel", write="scalar"),
        Rule(name="mamba3", decay="scalar", erase="none", write="scalar"),
        Rule(name="mamba3_mimo", decay="scalar", erase="none", write="scalar"),
        Rule(name="longhorn", decay="none", erase="scalar", write="tied"),
    )
}
"""Systems that are the step above re-parameterised (`specs.relatives`): the gates that their inputs are drawn from."""

NAMED: dict[str, Rule] = RULES | RELATIVES
"""All that a problem may be of."""
