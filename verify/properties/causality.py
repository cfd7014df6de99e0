"""The output before a token does not depend on it, to the bit; nor on how many follow, nor on other sequences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...kernels.registry import Kernel
from ...specs.inputs.make import Inputs, generate
from ...specs.problem import Problem
from ..cases.case import Case
from ..cases.rearrange import TOKEN_WISE, take_tokens
from ..execution.compare import different_bits
from ..execution.harness import Harness
from ..verdicts.outcome import Outcome, Unsupported, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """One sequence is edited from a drawn token on, then cut there. Everything else must keep its bits."""
    problem, inputs = case.problem, generate(case.problem)
    rng = np.random.default_rng((problem.seed, 4))
    longest = int(np.argmax([length for _, _, length in problem.sequences]))
    row, start, length = problem.sequences[longest]
    cut = int(rng.integers(1, length))
    edited = np.zeros((problem.B, problem.T), dtype=bool)
    edited[row, start + cut : start + length] = True

    before = harness.faithful(case, inputs)["o"]

    def judge(only: str | None = None) -> Outcome | None:
        after = harness.faithful(case, _edit(problem, inputs, edited, only))["o"]
        what = "tokens" if only is None else f"nothing but {only} at tokens"
        return _changed(problem, before, after, ~edited, f"editing {what} from {cut} of sequence {longest} on")

    wrong = judge()
    if wrong is not None:
        # Most often it is an anchor among the decays: say so if they alone suffice.
        return (judge("g") if inputs.g is not None else None) or wrong

    if not harness.kernel.needs_triton:
        return held()  # torch's CPU products choose their order of summation by the shape of the whole batch

    # The rows of a plain batch can only be cut together.
    kept = np.flatnonzero(~edited[row]) if problem.lengths is not None else np.arange(cut)
    lengths = None if problem.lengths is None else tuple(
        cut if index == longest else own for index, own in enumerate(problem.lengths)
    )  # fmt: skip
    prefix = replace(problem, T=len(kept), lengths=lengths)
    short = np.zeros_like(before)
    short[:, kept] = harness.faithful(replace(case, problem=prefix), take_tokens(inputs, kept))["o"]
    present = np.zeros_like(edited)
    present[:, kept] = True
    return _changed(problem, before, short, present, f"ending sequence {longest} at token {cut}") or held()


def applies(kernel: Kernel, problem: Problem) -> str | None:
    """There must be a token before another."""
    longest = max((length for _, _, length in problem.sequences), default=0)
    return None if longest > 1 else "no token has another before it"


def _edit(problem: Problem, inputs: Inputs, edited: np.ndarray, only: str | None) -> Inputs:
    """Other values of the same regime at the edited positions, of one tensor or of all."""
    other = generate(replace(problem, seed=problem.seed + 1)).arrays()
    changed = {}
    for name, x in inputs.arrays().items():
        if name in TOKEN_WISE and only in (None, name):
            where = edited.reshape(edited.shape + (1,) * (x.ndim - 2))
            changed[name] = np.where(where, other[name], x)
    return replace(inputs, **changed)


def _changed(problem: Problem, before: np.ndarray, after: np.ndarray, kept: np.ndarray, message: str) -> Outcome | None:
    """The first kept position of o, [B, T] True, whose bits differ. Raises Unsupported where o is not finite."""
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        # Its cause may depend on the length of a block in any way; the error budgets judge it.
        raise Unsupported("an output that is not finite says nothing about causality")
    same = np.where(kept[..., None, None], after, before)
    return different_bits(problem, {"o": before}, {"o": same}, f"{message} changes the output elsewhere", "causality")


CAUSALITY = Property(
    name="causality",
    says="editing or cutting off later tokens leaves the bits of earlier outputs",
    arithmetic="faithful",
    kind="causality",
    catches=("reads future tokens", "anchor in the middle of a block", "depends on sequence length or batch"),
    check=check,
    applies=applies,
    calls=1.5,
    on_device=True,
    as_compiled=True,
)
