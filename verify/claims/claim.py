"""A claim: a sentence of a paper, its place, and an experiment that measures whether it is true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

ClaimVerdict = Literal["holds", "holds under conditions", "does not hold"]

GDN2 = "Gated DeltaNet-2 (arXiv 2605.22791)"
CARVE = "CARVE (arXiv 2606.27229)"
CONTROL = "negative control"
"""Sources. A control is a false sentence of ours beside a true one of a paper: the experiment must see the difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimFinding:
    """The finding of an experiment. measured: one or two sentences with the numbers in them. numbers: the same for machines."""

    verdict: ClaimVerdict
    measured: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """claim: as the source means it. source: paper and place. expected: the verdict that these experiments have reached
    before; another one is a failure. name: short, for the command line."""

    name: str
    claim: str
    source: str
    expected: ClaimVerdict
    run: Callable[[], ClaimFinding]

    @property
    def control(self) -> bool:
        return self.source.startswith(CONTROL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimResult:
    """A claim, its finding, and the time that it took."""

    claim: Claim
    finding: ClaimFinding
    seconds: float

    @property
    def as_expected(self) -> bool:
        return self.finding.verdict == self.claim.expected

    def to_json(self) -> dict[str, object]:
        """JSON values; others may rely on the first four fields."""
        return {
            "claim": self.claim.claim,
            "source": self.claim.source,
            "measured": self.finding.measured,
            "verdict": self.finding.verdict,
            "name": self.claim.name,
            "expected": self.claim.expected,
            "control": self.claim.control,
            "numbers": {name: float(value) for name, value in self.finding.numbers.items()},
            "seconds": round(self.seconds, 3),
        }


def holds(condition: bool, measured: str, **numbers: float) -> ClaimFinding:
    """Holds or does not, by one condition."""
    return ClaimFinding(verdict="holds" if condition else "does not hold", measured=measured, numbers=numbers)


def under_conditions(when: bool, otherwise: bool, measured: str, **numbers: float) -> ClaimFinding:
    """`when`: it holds where the claim's silent condition is met. `otherwise`: it also holds where it is not."""
    verdict: ClaimVerdict = "does not hold" if not when else "holds" if otherwise else "holds under conditions"
    return ClaimFinding(verdict=verdict, measured=measured, numbers=numbers)
