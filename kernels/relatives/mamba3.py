"""Mamba-3 (arXiv 2603.15569): trapezoidal writes and a rotating state, with one or R inputs and outputs per token.

Per value head, with R_t the rotation by the angles theta_t, pair by pair of key channels:

    S_t = exp(g_t) R_t (S_{t-1} + (1 - lam_t) dt_t k_{t-1} v_{t-1}^T) + lam_t dt_t k_t v_t^T        o_t = scale * S_t^T q_t

(MIMO: every k v^T is a sum over R pairs, and R queries read). Two things bring it into the family. Rotating keys and queries back
by the angles so far leaves a state that does not rotate. And token t can already make the write of k_t v_t that belongs to the
next token: its write gate becomes lam_t dt_t + ahead_t, ahead_t = (1 - lam_{t+1}) dt_{t+1}, and ahead_t (q_t . k_t) v_t is taken
off its own output. The last token of a sequence writes nothing ahead: the state keeps its k and v instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..api import OPTIONS, gated_delta_rule, with_options
from ..arguments.axes import check_axes, check_flags, check_number, check_state
from ..arguments.checks import check_boundaries
from ..arguments.door import Takes
from ..arguments.precision import exact_dtype
from .substeps import first_of, spread


class Mamba3State(NamedTuple):
    """state [N, HV, K, V], rotated as its sequence has been; keys [N, R, H, K] and values [N, R, HV, V] of the last token
    (without the axis R for `mamba3`). fp32, or fp64 for fp64 calls."""

    state: Tensor
    keys: Tensor
    values: Tensor


@Takes(OPTIONS | {"op"})
def mamba3(
    q: Tensor,  # [B, T, H, K]
    k: Tensor,  # [B, T, H, K]
    v: Tensor,  # [B, T, HV, V]
    g: Tensor,  # [B, T, HV]
    dt: Tensor,  # [B, T, HV]
    lam: Tensor,  # [B, T, HV]
    theta: Tensor | None = None,  # [B, T, H, K // 2]
    *,
    initial_state: Mamba3State | None = None,
    **options: Any,
) -> tuple[Tensor, Mamba3State | None]:
    """The system with one input and output per token: `mamba3_mimo` with R = 1."""
    _check_gates(q=(q, "B T H K"), k=(k, "B T H K"), v=(v, "B T HV V"), g=g, dt=dt, lam=lam, theta=theta)
    check_state("initial_state", initial_state, Mamba3State)
    before = None
    if initial_state is not None:
        before = Mamba3State(initial_state.state, initial_state.keys[:, None], initial_state.values[:, None])
    o, last = mamba3_mimo(
        q[:, :, None], k[:, :, None], v[:, :, None], g, dt, lam, theta, initial_state=before, **options
    )
    return o[:, :, 0], None if last is None else Mamba3State(last.state, last.keys[:, 0], last.values[:, 0])


@with_options
def mamba3_mimo(
    q: Tensor,  # [B, T, R, H, K]
    k: Tensor,  # [B, T, R, H, K]
    v: Tensor,  # [B, T, R, HV, V]
    g: Tensor,  # [B, T, HV], A dt
    dt: Tensor,  # [B, T, HV]
    lam: Tensor,  # [B, T, HV], in [0, 1]
    theta: Tensor | None = None,  # [B, T, H, K // 2]
    *,
    scale: float | None = None,
    initial_state: Mamba3State | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    op: Callable[..., Any] = gated_delta_rule,
    **options: Any,
) -> tuple[Tensor, Mamba3State | None]:
    """Outputs [B, T, R, HV, V] and the state after the last token; see the module's formula.

    dt weighs the writes, lam splits them between a token and the next, theta holds the angles of each token's step (None:
    nothing rotates; an odd last channel never does). q and k are normalised and biased by the caller, D x is added by it.
    R = 1 costs one step of the rule per token, R costs R. Options as `gated_delta_rule`.
    """
    _check_gates(q=(q, "B T R H K"), k=(k, "B T R H K"), v=(v, "B T R HV V"), g=g, dt=dt, lam=lam, theta=theta)
    check_state("initial_state", initial_state, Mamba3State)
    check_boundaries(cu_seqlens, cu_seqlens_cpu, q.shape[0], q.device)
    check_flags(output_final_state=output_final_state)
    if scale is not None:
        check_number("scale", scale, -math.inf)
    B, T, R, H, K = q.shape
    exact = exact_dtype(q.dtype)
    scaling = K**-0.5 if scale is None else float(scale)
    first, last = _ends(B, T, cu_seqlens, q.device)
    g, dt, lam = (x.to(exact) for x in (g, dt, lam))

    # Angles add up over the whole sequence, so they are fp64 until their sines are taken.
    angle = None if theta is None else _since_start(theta.double(), first, last)
    queries, keys = (x if angle is None else rotate(x, -angle[:, :, None]) for x in (q, k))
    carried = ((1 - lam) * dt).flatten(0, 1)
    following = torch.cat([carried[1:], carried.new_zeros(1, carried.shape[1])])[: B * T]
    ends = torch.zeros(B * T + 1, dtype=torch.bool, device=q.device).index_fill(0, last + 1, True)[1:]
    ahead = torch.where(ends[:, None], 0.0, following).view_as(lam)
    write = lam * dt + ahead

    before = None
    if initial_state is not None:
        before = initial_state.state
        if T:
            # The write that the token before these left over; an empty sequence writes nothing.
            share = torch.where((first <= last)[:, None], carried[first.clamp(max=B * T - 1)], 0.0)
            before = before + _outer(initial_state.keys, share[:, None, :, None] * initial_state.values)
    o, state = op(
        q=queries.flatten(1, 2), k=keys.flatten(1, 2), v=v.flatten(1, 2), g=first_of(g, R), b=None,
        w=write.repeat_interleave(R, 1),
        scale=scaling, initial_state=before, output_final_state=output_final_state, **spread(cu_seqlens, cu_seqlens_cpu, R),
        **options,
    )  # fmt: skip
    # Step i of a token has not seen the writes of later steps yet, and has seen all writes that its steps made ahead.
    groups = v.shape[3] // H
    products = torch.einsum("btihk,btjhk->btijh", queries.to(exact), keys.to(exact)).repeat_interleave(groups, -1)
    later = torch.ones(R, R, dtype=exact, device=q.device).triu(1)[..., None]
    missing = products * (later * write[:, :, None, None] - ahead[:, :, None, None])
    o = o.unflatten(1, (T, R)).to(exact) + scaling * torch.einsum("btijh,btjhv->btihv", missing, v.to(exact))
    o = o.to(v.dtype)
    if not output_final_state:
        return o, None
    return o, _final(state, k, v, angle, initial_state, first, last)


def _check_gates(*, g: Any, dt: Any, lam: Any, theta: Any, **data: tuple[Any, str]) -> None:
    gates = {"g": (g, "B T HV"), "dt": (dt, "B T HV"), "lam": (lam, "B T HV"), "theta": (theta, "B T H K/2 or None")}
    check_axes(**data, **gates)


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """x [..., K] turned by angle [..., K // 2]: channel pairs (i, i + K // 2); an odd last channel stays. In x's dtype."""
    half = angle.shape[-1]
    exact = exact_dtype(x.dtype)
    one, two, rest = x.to(exact).split([half, half, x.shape[-1] - 2 * half], -1)
    cos, sin = angle.cos().to(exact), angle.sin().to(exact)
    return torch.cat([one * cos - two * sin, one * sin + two * cos, rest], -1).to(x.dtype)


def _ends(B: int, T: int, cu_seqlens: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """First and last token of each sequence in the flat batch; of an empty one, last = first - 1."""
    if cu_seqlens is None:
        first = torch.arange(B, device=device) * T
        return first, first + T - 1
    return cu_seqlens[:-1].long(), cu_seqlens[1:].long() - 1


def _since_start(theta: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Sums of angles [B, T, H, D] since the start of each sequence, that of the token included."""
    flat = theta.flatten(0, 1)
    sums = torch.cat([flat.new_zeros(1, *flat.shape[1:]), flat.cumsum(0)])
    before = sums.index_select(0, first).repeat_interleave(last + 1 - first, 0, output_size=flat.shape[0])
    return (sums[1:] - before).view_as(theta)


def _outer(keys: Tensor, values: Tensor) -> Tensor:
    """sum_r k_r v_r^T: [N, R, H, K], [N, R, HV, V] -> [N, HV, K, V]."""
    keys = keys.repeat_interleave(values.shape[2] // keys.shape[2], 2)
    return torch.einsum("nrhk,nrhv->nhkv", keys.to(values.dtype), values)


def _final(
    state: Tensor, k: Tensor, v: Tensor, angle: Tensor | None, before: Mamba3State | None, first: Tensor, last: Tensor
) -> Mamba3State:
    """The state turned to where its sequence has got to, and the k and v that its last token has yet to write again."""
    N, HV = state.shape[:2]
    keys, values = k.flatten(0, 1).to(state.dtype), v.flatten(0, 1).to(state.dtype)
    if before is None:
        before = Mamba3State(state, keys.new_zeros(N, *keys.shape[1:]), values.new_zeros(N, *values.shape[1:]))
    if not len(keys):
        return Mamba3State(state, before.keys, before.values)
    empty, place = (first > last), last.clamp(min=0)
    if angle is not None:
        turn = torch.where(empty[:, None, None], 0.0, angle.flatten(0, 1)[place])
        turn = turn.repeat_interleave(HV // turn.shape[1], 1)
        state = rotate(state.mT, turn.unsqueeze(-2)).mT
    hold = empty[:, None, None, None]
    return Mamba3State(
        state, torch.where(hold, before.keys, keys[place]), torch.where(hold, before.values, values[place])
    )
