"""Decays in a chunk: the cost of dividing by the accumulated decay, and the ways to avoid it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from .claim import CONTROL, GDN2, Claim, ClaimFinding, holds, under_conditions
from .data import Tokens, draw, off, op, recurrence

LIMIT = 128 * math.log(2)
"""exp of more overflows fp32 and bf16."""


def division_at_initialisation() -> ClaimFinding:
    """Gates as the reference initialises them: A ~ U(1, 16), dt ~ logU(1e-3, 0.1), small logits."""
    make = torch.Generator().manual_seed(0)
    heads, K, T = 400, 64, 128
    A = 1 + 15 * torch.rand(heads, 1, 1, generator=make, dtype=torch.float64)
    dt = torch.exp(math.log(1e-3) + math.log(100) * torch.rand(heads, 1, K, generator=make, dtype=torch.float64))
    bias = dt + torch.log(-torch.expm1(-dt))
    logits = 0.33 * torch.randn(heads, T, K, generator=make, dtype=torch.float64)
    G = (A * torch.nn.functional.softplus(logits + bias)).cumsum(1)
    bad = {C: float((G[:, C - 1] > LIMIT).any(-1).double().mean()) for C in (16, 32, 64, 128)}
    return under_conditions(
        bad[16] == 0,
        bad[64] == 0,
        "heads with a channel whose 1 / gamma overflows within one chunk at initialisation: "
        + ", ".join(f"{share:.1%} at C = {C}" for C, share in bad.items()),
        **{f"C{C}": share for C, share in bad.items()},
    )


def naive_division() -> ClaimFinding:
    x = _fp32(replace(draw(T=64, seed=1), g=torch.full((64, 8), -5.0, dtype=torch.float64)))
    gamma = x.g.cumsum(0).exp()
    scores = torch.tril((gamma * x.q) @ (x.k / gamma).T)
    finite = bool(torch.isfinite(scores).all())
    return holds(
        finite,
        f"64 tokens at g = -5 in fp32: {float(torch.isfinite(scores).double().mean()):.0%} of the scores are finite",
    )


def sums_between() -> ClaimFinding:
    """Gates between two tokens are added up, never taken as a difference of two long sums."""
    worst = 0.0
    for g in (-1e-3, -5.0, -20.0, -1e6, -math.inf):
        x = draw(T=64, seed=2)
        gates = x.g.clone()
        gates[20] = g
        x = replace(x, g=gates if g < -100 else torch.full_like(x.g, g))
        worst = max(worst, off(op(_fp32(x))[0].double(), recurrence(x)[0]))
    return holds(
        worst < 1e-5,
        f"fp32, from g = -0.001 to -20 everywhere and resets of -1e6 and -inf: worst error {worst:.1e}",
        error=worst,
    )


def differences() -> ClaimFinding:
    errors = {}
    for g in (-1e2, -1e4, -1e6):
        x = draw(T=64, seed=3)
        gates = x.g.clone()
        gates[5] = g
        G = gates.float().cumsum(0)
        between = torch.exp(G[40] - G[30]).double()
        errors[g] = off(between, gates[31:41].sum(0).exp())
    return under_conditions(
        errors[-1e2] < 1e-4,
        errors[-1e6] < 1e-4,
        "the decay between two later tokens as exp(G_i - G_j) in fp32, after a reset of "
        + ", ".join(f"{g:.0e}: {error:.0e} off" for g, error in errors.items()),
        **{f"reset{g:.0e}": error for g, error in errors.items()},
    )


def _fp32(x: Tokens) -> Tokens:
    return Tokens(**{name: getattr(x, name).float() for name in ("q", "k", "v", "g", "b", "w", "S0")})


CLAIMS = (
    Claim(name="division", claim="Keys may be divided by the accumulated decay within a chunk of 64.",
          source=f"{GDN2}, Eq. 36 and its chunk size", expected="holds under conditions", run=division_at_initialisation),
    Claim(name="differences", claim="Decays between tokens may be had as differences of cumulative sums in fp32.",
          source=f"{GDN2}, Appendix D.1", expected="holds under conditions", run=differences),
    Claim(name="sums-between", claim="Adding up only the gates between two tokens is exact for every gate.",
          source="this package, kernels/eager/chunkwise.py", expected="holds", run=sums_between),
    Claim(name="control-division", claim="Dividing by the accumulated decay survives strong decays in fp32.",
          source=f"{CONTROL} to Eq. 36", expected="does not hold", run=naive_division),
)  # fmt: skip
