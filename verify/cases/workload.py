"""How much work a problem is, so that one that can never end is refused before it begins."""

from __future__ import annotations

from ...specs.problem import Problem

MOST = 2**28
"""Updates of state elements; twice those of the largest problem that the nightly profile draws."""
SLOW = 2**20
"""From here on a person waits for minutes, and is told."""


def updates(problem: Problem) -> int:
    """Elements of states that its tokens update, counting a sequence without tokens as one token."""
    return max(problem.T, 1) * problem.B * problem.HV * problem.K * problem.V


def check_problem(problem: Problem) -> None:
    """Raises ValueError for an unknown regime, and for a problem too large to be judged on a CPU."""
    from ...specs.inputs.regimes import REGIMES  # which brings torch, and a command line asks for MOST at its start

    if problem.regime not in REGIMES:
        raise ValueError(f"unknown regime {problem.regime!r} in {problem.token!r}; known: {', '.join(REGIMES)}")
    if updates(problem) > MOST:
        raise ValueError(
            f"{problem.token!r} is too large: B x T x HV x K x V is {updates(problem)}, at most {MOST} is accepted"
        )
