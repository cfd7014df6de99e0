"""A NaN or inf in a token stays in its chunk and those that follow, in its sequence and heads, and is not hidden there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...kernels.registry import Kernel
from ...specs.inputs.make import Inputs, generate
from ...specs.problem import Problem
from ..cases.case import Case
from ..execution.compare import different_bits
from ..execution.harness import Harness
from ..verdicts.outcome import Outcome, held, place
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """One element of one drawn tensor goes bad. Outside its reach bits must not change; its own output must be bad."""
    problem, inputs = case.problem, generate(case.problem)
    poisoned, tensor, index = _poison(problem, inputs)
    reach = _reach(case, harness, tensor, index)
    before, after = harness.faithful(case, inputs)["o"], harness.faithful(case, poisoned)["o"]
    outside = {"o": np.where(reach[..., None], before, after)}
    bad = f"a bad value in {place(problem, tensor, index)}"
    if wrong := different_bits(problem, {"o": before}, outside, f"{bad} reaches beyond its chunk or heads", "contract"):
        return wrong
    row, token = index[:2]
    heads = np.flatnonzero(reach[row, token])
    hidden = [head for head in heads if np.isfinite(after[row, token, head]).all()]
    if not hidden:
        return held()
    where = (row, token, int(hidden[0]), 0)
    return Outcome(
        status="failed",
        kind="contract",
        place=place(problem, "o", where),
        expected=float("nan"),
        got=float(after[where]),
        message=f"{bad} does not show in its own output",
    )


def applies(kernel: Kernel, problem: Problem) -> str | None:
    """There must be a token to poison."""
    return None if problem.T else "no tokens"


def _poison(problem: Problem, inputs: Inputs) -> tuple[Inputs, str, tuple[int, ...]]:
    """NaN in a drawn element of q, k or v, or inf in one of v."""
    rng = np.random.default_rng((problem.seed, 5))
    tensor, value = [("q", np.nan), ("k", np.nan), ("v", np.nan), ("v", np.inf)][rng.integers(4)]
    x = getattr(inputs, tensor).copy()
    index = tuple(int(rng.integers(size)) for size in x.shape)
    x[index] = value
    return replace(inputs, **{tensor: x}), tensor, index


def _reach(case: Case, harness: Harness, tensor: str, index: tuple[int, ...]) -> np.ndarray:
    """Where o may change, [B, T, HV]: from the start of the token's chunk to the end of its sequence, in its heads."""
    problem = case.problem
    row, token, head = index[:3]
    group = problem.HV // problem.H
    heads = slice(head, head + 1) if tensor == "v" else slice(head * group, (head + 1) * group)
    chunk = 1 if harness.kernel.op == "recurrent" or case.config is None else case.config.chunk_size
    reach = np.zeros((problem.B, problem.T, problem.HV), dtype=bool)
    for own_row, start, length in problem.sequences:
        if own_row == row and start <= token < start + length:
            first = start + (token - start) // chunk * chunk
            reach[row, first : start + length, heads] = True
    return reach


NAN_LOCALITY = Property(
    name="nan_locality",
    says="a NaN or inf stays in its chunk and what follows, in its sequence and heads, and shows",
    arithmetic="faithful",
    kind="contract",
    catches=("leak between heads or sequences", "0 * inf in masked lanes", "bad values hidden by a maximum"),
    check=check,
    applies=applies,
    calls=1,
    on_device=True,
    as_compiled=True,
)
