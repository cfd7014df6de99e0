"""The gate-aware backward pass of Appendix B, and the numerics of Appendix D.6."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...specs.inputs.make import Inputs, generate
from ...specs.oracle.chunkwise import Stages, chunkwise
from ...specs.oracle.precise import solve_precisely
from ...specs.oracle.recurrence import solve
from ...specs.problem import Problem
from ...specs.relatives import SYSTEMS
from ...specs.relatives import solve as solve_system
from ...specs.rule import RULES
from .base import CONTROL, GDN2, Claim, ClaimFinding, holds, under_conditions
from .data import EXACT

_PROBLEM = Problem(rule=RULES["gdn2"], T=50, K=8, V=6, seed=3)


def full_backward() -> ClaimFinding:
    """Every gradient of the chunk form, over four chunks with a state handed back, against autograd of the recurrence."""
    inputs = generate(_PROBLEM)
    system = SYSTEMS["gdn2"]
    truth = solve_system(system, _PROBLEM, system.draw(_PROBLEM, inputs))
    found = chunkwise(_PROBLEM, inputs, 16).outputs
    errors = {n: _off(found["dh0" if n == "dstate" else n], x) for n, x in truth.items() if n.startswith("d")}
    worst = max(errors, key=errors.__getitem__)
    return holds(
        errors[worst] < EXACT,
        f"all of dq, dk, dv, dg, db, dw and dh0 over 50 tokens in chunks of 16: worst {worst}, {errors[worst]:.1e}",
        **errors,
    )


def exact_oracle() -> ClaimFinding:
    """The same against 60-digit arithmetic, on a smaller problem."""
    problem = replace(_PROBLEM, T=10, K=4, V=3)
    inputs = generate(problem)
    truth, found = solve_precisely(problem, inputs), chunkwise(problem, inputs, 4).outputs
    worst = max(_off(found[name], np.array(x, dtype=np.float64)) for name, x in truth.items())
    return holds(
        worst < 1e-14, f"outputs and gradients in chunks of 4 equal 60-digit arithmetic to {worst:.1e}", error=worst
    )


def post_scaling() -> ClaimFinding:
    """dA = dR Z^T + dY Ebar^T with Z = w * V and Ebar = b * K inside. For KDA the gate is one number per column and may be
    taken out; here the best such numbers are fitted, column by column and term by term."""
    channel = _fit_columns(_PROBLEM)
    scalar = _fit_columns(_PROBLEM, tied=True)
    return holds(
        channel > 0.05 and scalar < EXACT,
        f"the best scalar per column, fitted with the answer known, leaves {channel:.1%} of dA unexplained; with tied gates it "
        f"leaves {scalar:.0e}, so the shortcut is KDA's alone",
        channel=channel,
        scalar=scalar,
    )


def post_scaled_is_right() -> ClaimFinding:
    error = _fit_columns(_PROBLEM)
    return holds(error < EXACT, f"dA is {error:.1%} off even with the best scalars", error=error)


def machine_precision() -> ClaimFinding:
    from ...kernels import gated_delta_rule

    inputs = generate(replace(_PROBLEM, T=130))
    problem = replace(_PROBLEM, T=130)
    truth = solve(problem, inputs)
    leaves = {
        n: torch.from_numpy(x).clone().requires_grad_() for n, x in inputs.arrays().items() if n not in ("do", "dht")
    }
    o, ht = gated_delta_rule(
        *(leaves[n] for n in "qkvgbw"), initial_state=leaves["h0"], output_final_state=True, variant="torch"
    )
    assert ht is not None
    total = (o * torch.from_numpy(inputs.do)).sum() + (ht * torch.from_numpy(inputs.dht)).sum()
    grads = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    found = {"o": o, "ht": ht} | {f"d{n}": x for n, x in grads.items()}
    worst = max(_off(x.detach().numpy(), truth[n]) for n, x in found.items())
    return holds(worst < 1e-13, f"the fp64 chunk form over 130 tokens: {worst:.1e} forward and backward", error=worst)


def mantissa() -> ClaimFinding:
    errors = {dtype: _kernel_error(dtype) for dtype in ("fp32", "fp16", "bf16")}
    bits = {"fp32": 24, "fp16": 11, "bf16": 8}
    units = {dtype: error * 2.0 ** bits[dtype] for dtype, error in errors.items()}
    spread = max(units.values()) / min(units.values())
    return holds(
        spread < 8,
        "the Triton kernel on one problem whose inputs all three dtypes hold, in the interpreter with a GPU's rounding: "
        + ", ".join(f"{d} {e:.1e} = {units[d]:.2f} units in the last place" for d, e in errors.items()),
        **errors,
    )


def mantissa_only() -> ClaimFinding:
    easy, hard = (_kernel_error("bf16", regime) for regime in ("ordinary", "collinear"))
    return under_conditions(
        easy < 2**-7,
        hard < 2 * easy,
        f"bf16 error {easy:.1e} on random keys but {hard:.1e} on nearly collinear ones with b = 2: conditioning counts too",
        easy=easy,
        hard=hard,
    )


def _fit_columns(problem: Problem, *, tied: bool = False) -> float:
    """Part of dA of one chunk that no scalar per column explains, in the Frobenius norm."""
    problem = replace(problem, T=32)
    inputs = generate(problem)
    if tied:
        beta = inputs.b[..., :1]
        inputs = replace(inputs, b=np.broadcast_to(beta, inputs.b.shape), w=np.broadcast_to(beta, inputs.w.shape))
    terms, plain = _score_gradient(chunkwise(problem, inputs, 32).stages[0][0], inputs)
    truth, left = sum(terms), 0.0
    for term, bare in zip(terms, plain, strict=True):
        best = (term * bare).sum(0) / np.maximum((bare * bare).sum(0), 1e-300)
        left = left + term - best * bare
    return float(np.linalg.norm(left) / np.linalg.norm(truth))


def _score_gradient(stages: Stages, inputs: Inputs) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The two terms of dA, with the gates in their inner products and without."""
    dR, S = stages.dR[0], stages.S[0]
    k, v, g, b, w = (getattr(inputs, name)[0, :, 0] for name in "kvgbw")
    gamma = np.exp(g.cumsum(0))
    dY = -dR @ S.T
    return [dR @ (w * v).T, dY @ (gamma * b * k).T], [dR @ v.T, dY @ (gamma * k).T]


@lru_cache(maxsize=8)
def _kernel_error(dtype: str, regime: str = "ordinary") -> float:
    """Relative error of the outputs of the inference kernel, with inputs that are bf16 and fp16 numbers at once."""
    os.environ.setdefault("TRITON_INTERPRET", "1")
    from ...kernels import KERNELS
    from ..cases.replay import Case
    from ..execution.harness import Harness

    problem = Problem(rule=RULES["gdn2"], T=64, K=32, V=32, dtype="bf16", regime=regime, seed=4, initial_state=False)
    inputs = generate(problem)
    truth = solve(problem, inputs)["o"]
    kernel = KERNELS["chunk_fwd/split"]
    asked = replace(problem, dtype=dtype)  # pyright: ignore[reportArgumentType]
    case = Case(problem=asked, config=kernel.configs(asked)[0])
    found = Harness(kernel=kernel, kernels=KERNELS).faithful(case, inputs)["o"]
    return _off(found.astype(np.float64), truth)


def _off(x: np.ndarray | Tensor, truth: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(x) - truth) / max(np.linalg.norm(truth), 1e-300))


CLAIMS = (
    Claim(name="backward", claim="The gate-aware backward pass is the gradient of the recurrence.",
          source=f"{GDN2}, Appendix B, Eq. 64-65", expected="holds", run=full_backward),
    Claim(name="backward-60-digits", claim="So it is in arithmetic that leaves no doubt about rounding.",
          source=f"{GDN2}, Appendix B", expected="holds", run=exact_oracle),
    Claim(name="post-scaling", claim="KDA's shortcut, scaling gradients by the gate afterwards, is invalid here.",
          source=f"{GDN2}, Appendix B.5", expected="holds", run=post_scaling),
    Claim(name="control-post-scaling", claim="Scaling dA by one number per column afterwards is right.",
          source=f"{CONTROL} to Appendix B.5", expected="does not hold", run=post_scaled_is_right),
    Claim(name="fp64", claim="In fp64 the chunk form agrees with the recurrence to machine precision.",
          source=f"{GDN2}, Appendix D.6", expected="holds", run=machine_precision),
    Claim(name="mantissa", claim="The error of lower precisions follows their mantissa.", source=f"{GDN2}, Appendix D.6",
          expected="holds", run=mantissa),
    Claim(name="mantissa-only", claim="Nothing else decides it.", source=f"{GDN2}, Appendix D.6, read strictly",
          expected="holds under conditions", run=mantissa_only),
)  # fmt: skip
