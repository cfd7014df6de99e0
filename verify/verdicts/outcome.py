"""The outcome of one property on one case, and the place of an error in an output."""

from __future__ import annotations

from dataclasses import dataclass

from ...specs.problem import Problem
from .verdict import Kind, Status

_TOKEN_AXES = {"o", "dq", "dk", "dv", "dg", "db", "dw", "q", "k", "v", "g", "b", "w", "do"}
_STATES = {"ht", "dh0", "h0", "dht"}


class Unsupported(Exception):
    """This arithmetic cannot judge the case; the text says why."""


class Inapplicable(Exception):
    """There is no such thing to judge in the case; the text says why. It leaves no gap in the verification."""


class KernelRaised(Exception):
    """The kernel raised on a valid call, or answered with the wrong shape or dtype."""

    def __init__(self, message: str, kind: Kind, cause: str = "") -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One element of an output: its full index, and the same place as token, head and channel where it has them.

    A state row keeps its key channel in `index`; `channel` is the value channel. Tokens of a packed batch count
    from the start of the packed axis.
    """

    tensor: str
    index: tuple[int, ...]
    token: int | None = None
    head: int | None = None
    channel: int | None = None

    def __str__(self) -> str:
        words = ((name, getattr(self, name)) for name in ("token", "head", "channel"))
        text = ", ".join(f"{name} {value}" for name, value in words if value is not None)
        return f"{self.tensor}[{', '.join(map(str, self.index))}]" + (f" ({text})" if text else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a property. ratio: error over budget, for properties that measure one; ratios: by tensor.

    cause: short words that tell one failure of a kind from another; a failure is never shrunk into one of another cause.
    """

    status: Status
    kind: Kind | None = None
    ratio: float | None = None
    place: Place | None = None
    expected: float | None = None
    got: float | None = None
    message: str = ""
    cause: str = ""
    ratios: tuple[tuple[str, float], ...] = ()


def held(ratio: float | None = None, ratios: tuple[tuple[str, float], ...] = ()) -> Outcome:
    """The property holds on this case."""
    return Outcome(status="held", ratio=ratio, ratios=ratios)


def place(problem: Problem, tensor: str, index: tuple[int, ...]) -> Place:
    """Name the element `index` of the output (or input) `tensor`, which has its user layout.

    Token-wise tensors are [B, T, heads(, channels)], states [N, HV, K, V], dA_log [G], ddt_bias [G] or [G*K].
    """
    index = tuple(int(i) for i in index)
    if tensor in _TOKEN_AXES and len(index) >= 3:
        return Place(tensor=tensor, index=index, token=index[1], head=index[2],
                     channel=index[3] if len(index) > 3 else None)  # fmt: skip
    if tensor in _STATES and len(index) == 4:
        return Place(tensor=tensor, index=index, head=index[1], channel=index[3])
    if tensor in ("dA_log", "A_log") and len(index) == 1:
        return Place(tensor=tensor, index=index, head=index[0])
    if tensor in ("ddt_bias", "dt_bias") and len(index) == 1:
        channels = problem.K if problem.rule.decay == "channel" else 1
        return Place(tensor=tensor, index=index, head=index[0] // channels,
                     channel=index[0] % channels if channels > 1 else None)  # fmt: skip
    return Place(tensor=tensor, index=index)
