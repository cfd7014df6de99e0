"""Somebody else's function in `verify compile`: its calls as pieces, and every launch of one in every configuration offered.

For processes that pretend to have the GPU (`fake_device.install`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ...results.files.one_line import told
from ...specs.problem import DType
from ..targets import tuners
from ..targets.calls import TargetCall, calls, make
from ..targets.tuners import LaunchChoice, choice_of, launches_noted, tuners_ask
from .plan import Piece, Subject

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch

FULL = "with states and packed sequences"


Asked = tuple[tuple[str, ...], tuple[DType, ...], tuple[int, ...]]
"""Rules (none: the function's own), dtypes and head dimensions."""


def pieces_of(target: str, asked: Asked) -> list[Piece]:
    """The calls of a target to compile. Raises ValueError in one line for one that is not understood."""
    return [
        Piece(
            subject=Subject(kernel=target, rule=call.rule, dtype=call.dtype, K=call.size, V=call.size),
            config=FULL if call.full else "",
            why="offered",
        )
        for call in calls(target, *asked)
    ]


@lru_cache(maxsize=64)
def noted(piece: Piece) -> list[tuple[Launch, str]]:
    """The launches of its call, and the configuration that each has of those offered to an autotuner, "" where there is one.

    Raises ValueError where the call cannot be made or launches nothing.
    """
    subject, found = piece.subject, []
    call = TargetCall(
        target=subject.kernel,
        rule=subject.rule,
        dtype=subject.dtype,  # pyright: ignore[reportArgumentType]
        size=subject.K,
        full=piece.config == FULL,
    )

    def each(asked: tuners.Asked) -> None:
        for config in asked.offered:
            before = len(found)
            asked.launch(config)
            found[before:] = [(launch, _words(choice_of(config))) for launch, _ in found[before:]]

    try:
        with launches_noted(lambda launch: found.append((launch, ""))), tuners_ask(each):
            make(call)
    except (Exception, SystemExit) as error:  # any error of somebody else's function
        raise ValueError(f"{call}: its launches cannot be noted: {told(error)}") from None
    if not found:
        raise ValueError(f"{call} launches no Triton kernel")
    return found


def _words(choice: LaunchChoice) -> str:
    tiles = [f"{name}={value}" for name, value in choice.kwargs]
    more = [f"num_ctas={choice.num_ctas}"] if choice.num_ctas != 1 else []
    more += [f"maxnreg={choice.maxnreg}"] if choice.maxnreg is not None else []
    return " ".join([*tiles, f"num_warps={choice.num_warps}", f"num_stages={choice.num_stages}", *more])
