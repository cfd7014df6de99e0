"""One step as the minimiser of a local loss (Eq. 13), and many as a triangular solve (Eq. 36, 40, 44)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .claim import CONTROL, GDN2, Claim, ClaimFinding, holds
from .data import EXACT, Tokens, draw, off, recurrence


def minimiser() -> ClaimFinding:
    """L(S) = |S - Sbar|^2 - 2 <S^T k, z - Sbar^T e>: its gradient at the update, and the rise of L around it."""
    x = draw(T=1)
    decayed = x.g[0].exp()[:, None] * x.S0
    error = x.w[0] * x.v[0] - decayed.T @ (x.b[0] * x.k[0])

    def loss(S: Tensor) -> Tensor:
        return (S - decayed).square().sum() - 2 * (S.T @ x.k[0]) @ error

    S = recurrence(x)[1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(S), S)
    around = torch.randn(200, *S.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rises = torch.stack([loss(S.detach() + step) - loss(S.detach()) for step in around])
    curvature = off(rises, around.square().sum((-2, -1)))
    return holds(
        float(gradient.abs().max()) < EXACT and bool((rises > 0).all()) and curvature < EXACT,
        f"the loss has gradient {gradient.abs().max():.1e} there and rises in 200 of 200 directions, by |step|^2 to "
        f"{curvature:.1e}: the minimum, and the only one",
        gradient=float(gradient.abs().max()),
    )


def gradient_step() -> ClaimFinding:
    """From Sbar, half a gradient of the same loss is the whole update."""
    x = draw(T=1, seed=1)
    decayed = (x.g[0].exp()[:, None] * x.S0).requires_grad_()
    fixed = decayed.detach()
    error = x.w[0] * x.v[0] - fixed.T @ (x.b[0] * x.k[0])
    loss = (decayed - fixed).square().sum() - 2 * (decayed.T @ x.k[0]) @ error
    (gradient,) = torch.autograd.grad(loss, decayed)
    distance = off(fixed - 0.5 * gradient, recurrence(x)[1])
    return holds(distance < EXACT, f"Sbar - grad L / 2 is the new state to {distance:.1e}", error=distance)


def wy_form() -> ClaimFinding:
    worst = 0.0
    for T in (1, 16, 33, 64, 128):
        x = draw(T=T, seed=T)
        o, S = chunk(x, inverse(strict(x)))
        truth, last = recurrence(x)
        worst = max(worst, off(o, truth), off(S, last))
    return holds(
        worst < EXACT,
        f"one chunk of 1 to 128 tokens: outputs and state are the recurrence's to {worst:.1e}",
        error=worst,
    )


def normalised_decay() -> ClaimFinding:
    """Eq. 36: with Kbar = k / gamma and Ebar = gamma e the decay leaves the recurrence. Also how far that goes in fp32."""
    x = draw(T=32, seed=2)
    gamma = x.g.cumsum(0).exp()
    P = x.S0
    for t in range(32):
        P = P + torch.outer(x.k[t] / gamma[t], x.w[t] * x.v[t] - P.T @ (gamma[t] * x.b[t] * x.k[t]))
    distance = off(gamma[-1][:, None] * P, recurrence(x)[1])
    return holds(
        distance < EXACT, f"diag(gamma) P_t is S_t to {distance:.1e} after 32 tokens of mild decay", error=distance
    )


def always_invertible() -> ClaimFinding:
    """I + T has ones on its diagonal for all gates: determinant 1, and T^C = 0."""
    worst, power = 0.0, 0.0
    for seed in range(20):
        x = draw(T=24, seed=seed)
        T = strict(replace(x, b=2 * x.b, k=1.5 * x.k))
        worst = max(worst, abs(float(torch.linalg.det(torch.eye(24, dtype=T.dtype) + T)) - 1))
        power = max(power, float(torch.linalg.matrix_power(T, 24).abs().max()))
    return holds(
        worst < 1e-9 and power == 0,
        f"20 draws with gates up to 2 and keys of length 1.5: |det - 1| <= {worst:.1e}, and T^24 = {power:g}",
        error=worst,
    )


def chunk_invariance() -> ClaimFinding:
    x = draw(T=96, seed=3)
    truth, last = recurrence(x)
    worst = 0.0
    for C in (8, 16, 32, 48, 96):
        S, o = x.S0, []
        for start in range(0, 96, C):
            part = Tokens(**{n: getattr(x, n)[start : start + C] for n in "qkvgbw"}, S0=S)
            piece, S = chunk(part, inverse(strict(part)))
            o.append(piece)
        worst = max(worst, off(torch.cat(o), truth), off(S, last))
    return holds(
        worst < EXACT, f"chunks of 8, 16, 32, 48 and 96 tokens agree with the recurrence to {worst:.1e}", error=worst
    )


def first_order() -> ClaimFinding:
    x = draw(T=64, seed=4)
    T = strict(replace(x, g=torch.full_like(x.g, -1e-3)))
    mild = replace(x, g=torch.full_like(x.g, -1e-3))
    distance = off(chunk(mild, torch.eye(64, dtype=T.dtype) - T)[0], recurrence(mild)[0])
    strong = replace(x, g=torch.full_like(x.g, -5.0))
    hidden = off(chunk(strong, torch.eye(64, dtype=T.dtype) - strict(strong))[0], recurrence(strong)[0])
    return holds(
        distance < EXACT,
        f"outputs {distance:.2f} off at g = -0.001; at g = -5 only {hidden:.1e}, which is why strong decays alone test nothing",
        error=distance,
    )


def strict(x: Tokens) -> Tensor:
    """T_ij = sum_c e_ic k_jc exp(g_{j+1} + ... + g_i), i > j. Sums of gates between, never a difference of sums."""
    n = len(x.k)
    T = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        between = torch.zeros_like(x.g[0])
        for j in range(i - 1, -1, -1):
            between = between + x.g[j + 1]
            T[i, j] = (x.b[i] * x.k[i] * x.k[j] * between.exp()).sum()
    return T


def inverse(T: Tensor) -> Tensor:
    return torch.linalg.inv(torch.eye(len(T), dtype=T.dtype) + T)


def chunk(x: Tokens, A: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and last state of one chunk, given the inverse (Eq. 40, 44)."""
    gamma = x.g.cumsum(0).exp()
    R = A @ (x.w * x.v) - A @ ((gamma * x.b * x.k) @ x.S0)
    scores = torch.tril(strict(replace(x, b=torch.ones_like(x.b), k=x.k)) * 0)
    for i in range(len(x.k)):
        between = torch.zeros_like(x.g[0])
        for j in range(i, -1, -1):
            scores[i, j] = (x.q[i] * x.k[j] * between.exp()).sum()
            between = between + x.g[j]
    tail = (x.g.flip(0).cumsum(0).flip(0) - x.g).exp()
    return (gamma * x.q) @ x.S0 + scores @ R, gamma[-1][:, None] * x.S0 + (tail * x.k).T @ R


CLAIMS = (
    Claim(name="minimiser", claim="The update is the minimiser of a local loss around the decayed state.",
          source=f"{GDN2}, Eq. 13", expected="holds", run=minimiser),
    Claim(name="gradient-step", claim="It is also one gradient step of that loss.", source=f"{GDN2}, after Eq. 13",
          expected="holds", run=gradient_step),
    Claim(name="decay-normalisation", claim="Dividing keys by the accumulated decay takes the decay out of the recurrence.",
          source=f"{GDN2}, Eq. 36", expected="holds", run=normalised_decay),
    Claim(name="wy", claim="The WY form of a chunk equals the recurrence.", source=f"{GDN2}, Eq. 40 and 44", expected="holds",
          run=wy_form),
    Claim(name="invertible", claim="The triangular system always has a solution.", source=f"{GDN2}, Eq. 40", expected="holds",
          run=always_invertible),
    Claim(name="chunk-size", claim="The chunk size does not change the function.", source=f"{GDN2}, Eq. 44", expected="holds",
          run=chunk_invariance),
    Claim(name="control-first-order", claim="I - T will do for the inverse of I + T.", source=f"{CONTROL} to Eq. 40",
          expected="does not hold", run=first_order),
)  # fmt: skip
