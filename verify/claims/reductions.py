"""The special cases of Gated DeltaNet-2: KDA, Gated DeltaNet and the others, forward, backward and in chunks (Eq. 47-48)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ...specs.relatives import SYSTEMS
from .claim import CONTROL, GDN2, Claim, ClaimFinding, holds
from .data import EXACT, Tokens, draw, off, op, recurrence

Gradients = dict[str, Tensor]


def kda_forward() -> ClaimFinding:
    x = draw()
    beta = x.b[:, 0]
    theirs = _published("kda", x, g=x.g, beta=beta)
    ours = recurrence(_tied(x, beta))[0]
    return holds(
        off(ours, theirs) < EXACT,
        f"with b = w = beta the outputs are KDA's own recurrence to {off(ours, theirs):.1e}; at beta = 0.1 less in one "
        f"erase channel they are {off(recurrence(_one_channel_less(x, beta))[0], theirs):.1e} off",
        error=off(ours, theirs),
    )


def kda_backward() -> ClaimFinding:
    x = draw(seed=1)
    worst = _backward("kda", x, lambda leaf: {"g": leaf["g"], "beta": leaf["beta"]}, x.g)
    return holds(worst < EXACT, f"dq, dk, dv, dg and dbeta through the tie equal KDA's to {worst:.1e}", error=worst)


def gdn_forward() -> ClaimFinding:
    x = draw(seed=2)
    beta, g = x.b[:, 0], x.g[:, 0]
    theirs = _published("gdn", x, g=g, beta=beta)
    tied = _tied(replace(x, g=g[:, None].expand_as(x.k)), beta)
    return holds(
        off(recurrence(tied)[0], theirs) < EXACT,
        f"with a scalar decay as well, the outputs are Gated DeltaNet's own recurrence to {off(recurrence(tied)[0], theirs):.1e}",
        error=off(recurrence(tied)[0], theirs),
    )


def gdn_backward() -> ClaimFinding:
    x = draw(seed=3)
    worst = _backward("gdn", x, lambda leaf: {"g": leaf["g"], "beta": leaf["beta"]}, x.g[:, 0])
    return holds(
        worst < EXACT, f"dq, dk, dv, dg and dbeta through the ties equal Gated DeltaNet's to {worst:.1e}", error=worst
    )


def chunk_form() -> ClaimFinding:
    x = draw(T=150, seed=4)
    beta = x.b[:, 0]
    worst = 0.0
    for name, g in (("kda", x.g), ("gdn", x.g[:, 0])):
        theirs = _published(name, x, g=g, beta=beta)
        ours, _ = op(x, g=g if g.dim() == 2 else g[:, None].expand_as(x.k), b=beta[:, None].expand_as(x.k),
                     w=beta[:, None].expand_as(x.v))  # fmt: skip
        worst = max(worst, off(ours, theirs))
    return holds(
        worst < EXACT,
        f"150 tokens in chunks of 64, gates broadcast to channels: {worst:.1e} from the recurrences of KDA and Gated DeltaNet",
        error=worst,
    )


def sum_rule() -> ClaimFinding:
    x = draw(seed=5)
    free = {name: getattr(x, name).clone().requires_grad_() for name in "gbw"}
    tied = {"beta": x.b[:, 0].clone().requires_grad_()}
    b, w = (tied["beta"][:, None].expand_as(y) for y in (x.k, x.v))
    with torch.no_grad():
        free["b"].copy_(b)
        free["w"].copy_(w)
    db, dw = torch.autograd.grad(_loss(replace(x, **free)), (free["b"], free["w"]))
    (dbeta,) = torch.autograd.grad(_loss(replace(x, b=b, w=w)), (tied["beta"],))
    error = off(db.sum(-1) + dw.sum(-1), dbeta)
    return holds(error < EXACT, f"sum_i db_i + sum_j dw_j = dbeta to {error:.1e}", error=error)


def decay_sum_rule() -> ClaimFinding:
    x = draw(seed=6)
    scalar = x.g[:, 0].clone().requires_grad_()
    wide = x.g[:, :1].expand_as(x.g).clone().requires_grad_()
    (summed,) = torch.autograd.grad(_loss(replace(x, g=scalar[:, None].expand_as(x.g))), (scalar,))
    (each,) = torch.autograd.grad(_loss(replace(x, g=wide)), (wide,))
    error = off(each.sum(-1), summed)
    return holds(error < EXACT, f"sum_i dg_i = dg to {error:.1e}", error=error)


def mean_rule() -> ClaimFinding:
    x = draw(seed=5)
    b = x.b[:, :1].expand_as(x.k).clone().requires_grad_()
    w = x.b[:, :1].expand_as(x.v).clone().requires_grad_()
    db, dw = torch.autograd.grad(_loss(replace(x, b=b, w=w)), (b, w))
    error = off(db.mean(-1) + dw.mean(-1), db.sum(-1) + dw.sum(-1))
    return holds(error < EXACT, f"means in place of sums are {error:.2f} off", error=error)


def order() -> ClaimFinding:
    x = draw(seed=7)
    beta, S, o = x.b[:, 0], x.S0, []
    for t in range(len(x.k)):
        erased = S - beta[t] * torch.outer(x.k[t], x.k[t] @ S)
        S = x.g[t].exp()[:, None] * erased + beta[t] * torch.outer(x.k[t], x.v[t])
        o.append(S.T @ x.q[t])
    error = off(torch.stack(o), _published("kda", x, g=x.g, beta=beta))
    return holds(error < EXACT, f"erasing before a channel-wise decay gives outputs {error:.2e} off KDA's", error=error)


def contains_gla() -> ClaimFinding:
    x = draw(seed=8)
    theirs = _published("gla", x, g=x.g)
    ours = recurrence(replace(x, b=torch.zeros_like(x.b), w=torch.ones_like(x.w)))[0]
    return holds(
        off(ours, theirs) < EXACT, f"b = 0, w = 1 gives GLA to {off(ours, theirs):.1e}", error=off(ours, theirs)
    )


def kda_contains_gla() -> ClaimFinding:
    """One unit key twice: GLA stores 2 v. KDA stores v beta_1 (1 - beta_2) + v beta_2, which is 2 for no betas in [0, 2]
    but (2, 0) and the like; with the keys a third time 3 is wanted."""
    grid = torch.linspace(0, 2, 41, dtype=torch.float64)
    stored = torch.zeros(1, dtype=torch.float64)
    best = float("inf")
    wanted = (1.0, 2.0, 3.0)
    reachable = stored
    for value in wanted:
        # The multiples of v that may be stored after each step, from the one that had to be stored after the step before.
        after = reachable[:, None] * (1 - grid) + grid
        best = float((after - value).abs().min())
        reachable = torch.tensor([value], dtype=torch.float64)
    return holds(
        best < EXACT, f"one key written three times: KDA misses GLA's state by at least {best:.2f} of v", error=best
    )


def _tied(x: Tokens, beta: Tensor) -> Tokens:
    return replace(x, b=beta[:, None].expand_as(x.k), w=beta[:, None].expand_as(x.v))


def _one_channel_less(x: Tokens, beta: Tensor) -> Tokens:
    tied = _tied(x, beta)
    b = tied.b.clone()
    b[:, 0] -= 0.1
    return replace(tied, b=b)


def _published(name: str, x: Tokens, **gates: Tensor) -> Tensor:
    """Outputs [T, V] of a system's own recurrence."""
    tensors = {"q": x.q, "k": x.k, "v": x.v, **gates}
    o, _ = SYSTEMS[name].recurrence({n: y[:, None] for n, y in tensors.items()}, (x.S0[None],), 1.0)
    return o[:, 0]


def _backward(name: str, x: Tokens, gates: Callable[[Gradients], Gradients], g: Tensor) -> float:
    """Worst relative error of the gradients through tied Gated DeltaNet-2, against those of the system itself."""

    def leaves() -> Gradients:
        given = {"q": x.q, "k": x.k, "v": x.v, "g": g, "beta": x.b[:, 0]}
        return {n: y.clone().requires_grad_() for n, y in given.items()}

    do = draw(seed=99).v
    theirs, ours = leaves(), leaves()
    o = _published(name, replace(x, q=theirs["q"], k=theirs["k"], v=theirs["v"]), **gates(theirs))
    truth = torch.autograd.grad((o * do).sum(), list(theirs.values()))
    wide = ours["g"] if ours["g"].dim() == 2 else ours["g"][:, None].expand_as(x.k)
    tied = _tied(replace(x, q=ours["q"], k=ours["k"], v=ours["v"], g=wide), ours["beta"])
    found = torch.autograd.grad((op(tied)[0] * do).sum(), list(ours.values()))
    return max(off(one, other) for one, other in zip(found, truth, strict=True))


def _loss(x: Tokens) -> Tensor:
    return (recurrence(x)[0] * draw(seed=99).v).sum()


CLAIMS = (
    Claim(name="kda-forward", claim="With both gates tied to one scalar, Gated DeltaNet-2 is KDA.", source=f"{GDN2}, Eq. 47",
          expected="holds", run=kda_forward),
    Claim(name="kda-backward", claim="So are its gradients.", source=f"{GDN2}, Eq. 48", expected="holds", run=kda_backward),
    Claim(name="gdn-forward", claim="With a scalar decay as well, it is Gated DeltaNet.", source=f"{GDN2}, Eq. 47",
          expected="holds", run=gdn_forward),
    Claim(name="gdn-backward", claim="So are its gradients, Gated DeltaNet's.", source=f"{GDN2}, Eq. 48", expected="holds",
          run=gdn_backward),
    Claim(name="chunk-reduction", claim="The chunk form reduces as the recurrence does.", source=f"{GDN2}, Eq. 47, Appendix B",
          expected="holds", run=chunk_form),
    Claim(name="sum-rule", claim="A tied gate's gradient is the sum over what is tied: dbeta = sum db + sum dw.",
          source=f"{GDN2}, Eq. 48", expected="holds", run=sum_rule),
    Claim(name="decay-sum-rule", claim="The same for a decay that is tied over channels.", source=f"{GDN2}, Eq. 48",
          expected="holds", run=decay_sum_rule),
    Claim(name="contains-gla", claim="Gated linear attention is Gated DeltaNet-2 with b = 0 and w = 1.",
          source=f"{GDN2}, Eq. 8-10 with its gates at their ends", expected="holds", run=contains_gla),
    Claim(name="control-mean-rule", claim="A tied gate's gradient is the mean over what is tied.",
          source=f"{CONTROL} to Eq. 48", expected="does not hold", run=mean_rule),
    Claim(name="control-order", claim="For a channel-wise decay it does not matter whether decay or erase comes first.",
          source=f"{CONTROL} to Eq. 8-10", expected="does not hold", run=order),
    Claim(name="control-kda-gla", claim="KDA contains gated linear attention.", source=f"{CONTROL} to the nesting of models",
          expected="does not hold", run=kda_contains_gla),
)  # fmt: skip
