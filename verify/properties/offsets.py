"""No offset is kept in 32 bits: on tensors of more than 2^31 elements the last program of every launch stays in bounds. And no
number of tokens is too large: past all powers of two up to 2^17 their last one is written as it is in a short sequence; nor is a
number of sequences, more than the second axis of a grid has programs.

Only that program runs, on memory that is reserved and never filled, so a call of tens of gigabytes costs a few pages.
"""

from __future__ import annotations

from dataclasses import replace

from ...specs.problem import Problem
from ..cases.replay import Case
from ..execution.harness import Harness
from ..verdicts.outcome import KernelRaised, Outcome, Unsupported, held
from .base import Property

_SEQUENCES, _TOKENS, _WIDE, _NARROW = 32768, 640, 128, 8
"""Sequences x tokens x wide channels are more than 2^31, and so are the states of their chunks; no more sequences than a grid has
rows."""
_SHORT, _LONG = 577, 2**17 + 577
"""Tokens of one sequence: the last block of tokens is the same in both, whatever its size up to 512."""

_ROWS = 140_000
"""Sequences of one token: more than two of the three axes of a grid have programs, and with states of more than 2^31 elements."""

_EVERY = 4
"""One case of so many is asked for a limit of tokens or of rows, by its seed: their sizes are this property's own. The simplest
case of a cell, which has seed 0, always is."""


def check(case: Case, harness: Harness) -> Outcome:
    """Forward, and backward where there is one. Every question is asked, whatever the others find: one fault hides no other."""
    questions = [_in_64_bits]
    if case.problem.seed % _EVERY == 0:
        questions += [_in_one_sequence, _in_many_rows]
    found: list[Outcome] = []
    unsupported: list[Unsupported] = []
    for question in questions:
        try:
            found.append(question(case, harness))
        except KernelRaised as error:
            found.append(Outcome(status="failed", kind=error.kind, message=str(error), cause=error.cause))
        except Unsupported as reason:
            unsupported.append(reason)
    failed = [outcome for outcome in found if outcome.status == "failed"]
    if failed:
        return replace(failed[0], message="; ".join(outcome.message for outcome in failed))
    if unsupported:
        raise unsupported[0]
    return held()


def _in_64_bits(case: Case, harness: Harness) -> Outcome:
    """All channels are wide where the kernel takes that, so that the states are large, too."""
    size = _widest(case.problem, harness)
    for K, V in ((size, size),) if size == _WIDE else ((_WIDE, _NARROW), (_NARROW, _WIDE)):
        problem = _enlarged(case.problem, K, V)
        if harness.kernel.differentiable:
            # The sums over all tokens that are gradients of A_log and dt_bias run for minutes in an interpreter.
            problem = replace(problem, gate_in_kernel=False)
        found = harness.offsets(replace(case, problem=problem))
        if found:
            return Outcome(
                status="failed",
                kind="memory",
                message=f"with K={K}, V={V} and {_SEQUENCES} x {_TOKENS} tokens: {found[0]}",
            )
    return held()


def _widest(problem: Problem, harness: Harness) -> int:
    return next((x for x in (_WIDE, _NARROW) if harness.kernel.accepts(replace(problem, K=x, V=x)) is True), _NARROW)


def _in_many_rows(case: Case, harness: Harness) -> Outcome:
    problem = case.problem
    size = _widest(problem, harness)
    many = replace(problem, B=_ROWS, T=1, lengths=None, H=1, HV=1, K=size, V=size, gate_heads="value", strided=False,
                   gate_in_kernel=False)  # fmt: skip
    if harness.kernel.accepts(many) is not True:
        return held()
    if found := harness.offsets(replace(case, problem=many)):
        return Outcome(
            status="failed", kind="memory", message=f"with {_ROWS} sequences: {found[0]}", cause="grid limit"
        )
    return held()


def _in_one_sequence(case: Case, harness: Harness) -> Outcome:
    size = _widest(case.problem, harness)
    short, long = (replace(case, problem=_of_tokens(case.problem, T, size)) for T in (_SHORT, _LONG))
    if any(harness.kernel.accepts(one.problem) is not True for one in (short, long)):
        return held()
    if found := harness.unreached(short, long):
        message = f"with {_LONG} tokens {found}; with {_SHORT} tokens the last one does"
        return Outcome(status="failed", kind="memory", message=message, cause="limit of tokens")
    return held()


def _of_tokens(problem: Problem, T: int, size: int) -> Problem:
    lengths = None if problem.lengths is None else (T,)
    return replace(problem, B=1, T=T, lengths=lengths, H=1, HV=1, K=size, V=size, gate_heads="value", strided=False,
                   gate_in_kernel=False)  # fmt: skip


def _enlarged(problem: Problem, K: int, V: int) -> Problem:
    shape = {"B": _SEQUENCES, "T": _TOKENS, "lengths": None}
    if problem.lengths is not None:
        shape = {"B": 1, "T": _SEQUENCES * _TOKENS, "lengths": (_TOKENS,) * _SEQUENCES}
    return replace(problem, **shape, dtype="bf16", H=1, HV=1, K=K, V=V, gate_heads="value", strided=False)


def applies(kernel: object, problem: Problem) -> str | None:
    """Shapes are this property's own, so one head is as good as many."""
    return None if problem.H == problem.HV == 1 else "the enlarged problem has one head"


OFFSETS = Property(
    name="offsets",
    says="tensors of more than 2^31 elements are addressed in 64 bits, and no number of tokens or sequences is too large",
    arithmetic="bounds",
    kind="memory",
    catches=("32-bit offset", "grid limit", "limit of tokens"),
    check=check,
    applies=applies,
    calls=6,
)
