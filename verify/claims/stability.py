"""How states grow: steps of the rule are no contraction once the erase gate is channel-wise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .claim import CARVE, CONTROL, GDN2, Claim, ClaimFinding, holds, under_conditions
from .data import unit

TOP, WIDE = 2 / math.sqrt(3), math.sqrt(2)
"""Largest 2-norms of I - k (b * k)^T for unit keys and b in [0, 1] and in [0, 2], by maximising over the mass of a mask."""


def contraction() -> ClaimFinding:
    norm = _largest_norm(1.0)
    return holds(
        norm <= 1 + 1e-9,
        f"the largest norm found is {norm:.4f}; the supremum is 2/sqrt(3) = {TOP:.4f}, at a 0/1 mask over a third of the key",
        norm=norm,
    )


def scalar_contraction() -> ClaimFinding:
    make = torch.Generator().manual_seed(0)
    k = unit(torch.randn(4000, 8, dtype=torch.float64, generator=make))
    beta = 2 * torch.rand(4000, 1, dtype=torch.float64, generator=make)
    norm = float(torch.linalg.matrix_norm(_step(k, beta.expand_as(k)), 2).max())
    return holds(
        norm <= 1 + 1e-12, f"4000 random steps with one beta in [0, 2]: largest norm 1 + {norm - 1:.0e}", norm=norm
    )


def wide_range() -> ClaimFinding:
    norm = _largest_norm(2.0)
    return holds(
        norm <= 1 + 1e-9, f"the largest norm found is {norm:.4f}; the supremum is sqrt(2) = {WIDE:.4f}", norm=norm
    )


def products() -> ClaimFinding:
    keys = torch.tensor([[1 / 6, 5 / 6], [5 / 6, 1 / 6]], dtype=torch.float64).sqrt()
    masks = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    pair = _step(keys[1], masks[1]) @ _step(keys[0], masks[0])
    rate = float(torch.linalg.eigvals(pair).abs().max() ** 0.5)
    overflow = math.log(3.4e38) / math.log(rate)
    return holds(
        rate <= 1 + 1e-9,
        f"two keys with complementary masks grow the state {rate:.4f}-fold a token (sqrt(5)/2 = {math.sqrt(5) / 2:.4f}) "
        f"without decay: fp32 overflows after about {overflow:.0f} tokens",
        rate=rate,
    )


def decay_bound() -> ClaimFinding:
    """With every decay at most 1/TOP the product of decay and erase is a contraction, and no larger decay is enough."""
    worst = TOP * math.sqrt(3) / 2
    norm = _largest_norm(1.0) * math.sqrt(3) / 2
    loose = _largest_norm(1.0) * 0.9
    return under_conditions(
        norm <= 1 + 1e-9,
        loose <= 1,
        f"if every alpha is at most sqrt(3)/2 (g <= -0.144) the largest norm is {norm:.4f} (supremum {worst:.4f}); at "
        f"alpha = 0.9 it is still {loose:.4f}",
        norm=norm,
    )


def lyapunov() -> ClaimFinding:
    inside, ends = _exponent(uniform=True, top=1.0), _exponent(uniform=False, top=2.0)
    return under_conditions(
        inside < 0,
        ends < 0 and _largest_norm(1.0) <= 1,
        f"random unit keys without decay: exponent {inside:+.4f} per token for b ~ U[0, 1], {ends:+.4f} for b in {{0, 2}}; with "
        "chosen keys and masks it is +0.11 (see the growing products), so it needs a bound on the decay",
        uniform=inside,
        ends=ends,
    )


def random_contraction() -> ClaimFinding:
    """The conclusion of a test with random keys."""
    make = torch.Generator().manual_seed(1)
    k = unit(torch.randn(2000, 64, dtype=torch.float64, generator=make))
    b = torch.rand(2000, 64, dtype=torch.float64, generator=make)
    norms = torch.linalg.matrix_norm(_step(k, b), 2)
    return holds(
        float(norms.max()) <= 1 + 1e-9,
        f"even random steps (K = 64, b ~ U[0, 1]) have norms of {norms.min():.3f} to {norms.max():.3f}, all above 1",
        norm=float(norms.max()),
    )


def _step(k: Tensor, b: Tensor) -> Tensor:
    return torch.eye(k.shape[-1], dtype=k.dtype) - k[..., :, None] * (b * k)[..., None, :]


def _largest_norm(top: float) -> float:
    """By search over the mass that a 0/top mask gives to the erased part of a key: two numbers decide the norm."""
    mass = torch.linspace(0, 1, 2001, dtype=torch.float64)
    k = torch.stack([mass.sqrt(), (1 - mass).sqrt()], -1)
    mask = torch.tensor([top, 0.0], dtype=torch.float64).expand_as(k)
    return float(torch.linalg.matrix_norm(_step(k, mask), 2).max())


def _exponent(*, uniform: bool, top: float, tokens: int = 2500, K: int = 32) -> float:
    """Growth of a state per token, in nats."""
    make = torch.Generator().manual_seed(2)
    k = unit(torch.randn(tokens, 4, K, dtype=torch.float64, generator=make))
    b = torch.rand(tokens, 4, K, dtype=torch.float64, generator=make)
    b = top * (b if uniform else (b < 0.5).double())
    S = torch.randn(4, K, 4, dtype=torch.float64, generator=make)
    grown = torch.zeros(4, dtype=torch.float64)
    for t in range(tokens):
        S = S - k[t, :, :, None] * ((b[t] * k[t])[:, None] @ S)
        size = S.norm(dim=(1, 2))
        grown += size.log()
        S = S / size[:, None, None]
    return float(grown.mean()) / tokens


CLAIMS = (
    Claim(name="scalar-contraction", claim="With one beta per token and unit keys, every erase is a contraction.",
          source=f"{GDN2}, of its special cases KDA and Gated DeltaNet", expected="holds", run=scalar_contraction),
    Claim(name="contraction", claim="With b in [0, 1] per channel and unit keys, every erase is a contraction.",
          source=f"{CARVE}, the Lyapunov stability that its abstract names, read for one step",
          expected="does not hold", run=contraction),
    Claim(name="wide-contraction", claim="So it is with b in [0, 2], for negative eigenvalues.",
          source=f"{GDN2}, the range for negative eigenvalues, read with the same stability",
          expected="does not hold", run=wide_range),
    Claim(name="products", claim="At least products of steps stay bounded.",
          source=f"{CARVE}, Lyapunov stability, read for many steps without decay",
          expected="does not hold", run=products),
    Claim(name="decay-bound", claim="Decay makes the steps contract.", source=f"{CARVE}, Lyapunov stability",
          expected="holds under conditions", run=decay_bound),
    Claim(name="lyapunov", claim="The state is Lyapunov stable.", source=f"{CARVE}, Lyapunov stability",
          expected="holds under conditions", run=lyapunov),
    Claim(name="control-random-norms", claim="Random keys and gates would show contraction.",
          source=f"{CONTROL} to the contraction claims", expected="does not hold", run=random_contraction),
)  # fmt: skip
