"""A finding in a compiled program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .rules import RULES, PtxRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that a program breaks.

    rule: its code. kernel: name. source, instruction: where; other_source, other_instruction: the access that it clashes with.
    warps: the warp, and the other one where there is one. address: first byte, in shared memory or in `memory`; count: how often.
    program: number in the launch. schedule: under which one it was seen first, or "static". detail: in words.
    """

    rule: str
    kernel: str
    source: str = ""
    instruction: str = ""
    other_source: str = ""
    other_instruction: str = ""
    warps: tuple[int, ...] = ()
    address: int | None = None
    memory: str = ""
    count: int = 1
    program: int = 0
    schedule: str = ""
    detail: str = ""

    @property
    def about(self) -> PtxRule:
        return RULES[self.rule]

    @property
    def note(self) -> bool:
        return self.about.note

    def __str__(self) -> str:
        """One line."""
        words = [f"{self.rule}: {self.about.sentence}"]
        if self.detail:
            words.append(f"({self.detail})")
        words.append(f"in {self.kernel}")
        if self.source:
            words.append(f"at {self.source}")
        if self.instruction:
            words.append(f"`{_short(self.instruction)}`")
        if self.other_instruction:
            words.append(
                f"against `{_short(self.other_instruction)}`"
                + (f" at {self.other_source}" if self.other_source else "")
            )
        if self.warps:
            words.append(("warps " if len(self.warps) > 1 else "warp ") + " and ".join(map(str, self.warps)))
        if self.address is not None:
            words.append(f"byte {self.address}" + (f" of {self.memory}" if self.memory else ""))
        if self.count > 1:
            words.append(f"{self.count} times")
        if self.schedule:
            words.append(f"[{self.schedule}]")
        return " ".join(words)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "sentence": self.about.sentence,
            "report": self.about.report,
        }


def _short(text: str, length: int = 90) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
