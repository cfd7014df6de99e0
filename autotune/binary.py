"""What compiling a point came to, as it is kept on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Outcome = Literal["compiled", "compile", "timeout", "crash"]
"""It compiled; the compiler refused it; it did not end in time; it took the compiling process down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """Outcome of compiling one point for one architecture.

    detail: the compiler's words where it failed. seconds: wall time. cpu: seconds of processor time, the assembler's included.
    shared: bytes per program. registers, stack (bytes, spills included): per thread. threads: per program.
    tensor_core: instructions by family. code: digest of the machine code.
    """

    outcome: Outcome
    seconds: float
    cpu: float = 0.0
    detail: str = ""
    shared: int = 0
    registers: int = 0
    stack: int = 0
    threads: int = 0
    tensor_core: Mapping[str, int] = field(default_factory=dict)
    code: str = ""

    def __post_init__(self) -> None:
        if self.outcome not in get_args(Outcome):
            raise ValueError(f"outcome {self.outcome!r} is not one of {', '.join(get_args(Outcome))}")
        if (self.outcome == "compiled") != bool(self.code):
            raise ValueError(f"outcome {self.outcome!r} with machine code {self.code!r}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> Compilation:
        """Reads `to_json` back. Raises ValueError for anything else."""
        try:
            found = cls(**record)
            sizes = (found.shared, found.registers, found.stack, found.threads)
            numbers = (found.seconds, found.cpu, *sizes, *found.tensor_core.values())
            texts = (found.detail, found.code)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a compilation: {error}") from None
        if any(type(number) not in (int, float) or number < 0 for number in numbers) or any(
            not isinstance(text, str) for text in texts
        ):
            raise ValueError("not a compilation: a figure is no number, or a text no text")
        return found
