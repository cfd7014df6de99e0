"""The gated delta rule in plain torch, a chunk of tokens at a time: for CPUs, for debugging, and in fp64.

Within a chunk of C tokens (WY form; GDN-2, arXiv 2605.22791), with S0 the state before it, e = b * k and z = w * v:

    T[i, j] = sum_c e[i, c] k[j, c] exp(g[j+1, c] + ... + g[i, c])    i > j
    P[i, j] = the same with scale * q for e, and i >= j
    A       = (I + T)^-1
    R       = A (Z - Ebar S0)                the write of each token
    O       = Qbar S0 + P R
    S       = Diag(total) S0 + Ktail^T R
    Ebar, Qbar = e, scale * q, decayed since the start of the chunk;   Ktail = k, decayed until its end

Every exponent is a sum of gates, never a difference of two sums, so no gate overflows or loses digits, -inf included,
and the gradients, which autograd derives, stay finite. All but the walk over the states is batched over every chunk of
every sequence.

Notation: M chunks, C tokens per chunk, H key heads, R value heads per key head, K and V channels. Inside, tensors are
[M, H, R, C, channels], with 1 for R or for channels where a tensor is shared: a tied gate is never broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments.precision import exact_dtype
from .chunks import ChunkPlan, make_plan, to_chunks, to_tokens


def gated_delta_rule_torch(
    q: Tensor,  # [B, T, H, K]
    k: Tensor,  # [B, T, H, K]
    v: Tensor,  # [B, T, HV, V]
    g: Tensor | None,  # [B, T, G] or [B, T, G, K], where G is H or HV
    b: Tensor | None,  # [B, T, G] or [B, T, G, K]
    w: Tensor | None,  # [B, T, HV] or [B, T, HV, V]; None: tied to b, and 1 where b is None too
    *,
    scale: float,
    initial_state: Tensor | None,  # [N, HV, K, V]
    output_final_state: bool,
    cu_seqlens: Tensor | None,  # [N + 1]
    chunk_size: int = 64,
) -> tuple[Tensor, Tensor | None]:
    """Outputs [B, T, HV, V] in v's dtype, and final states [N, HV, K, V] or None. Differentiable by autograd.

    Computes in fp64 where q is fp64, else in fp32, which is the dtype of the states. NaN and inf in a token reach its chunk and
    later ones, in its own sequence and heads only. Arguments are taken as checked (`checks.check`); raises ValueError for a
    `chunk_size` that is not a power of two.
    """
    if chunk_size < 1 or chunk_size & (chunk_size - 1):
        raise ValueError(f"chunk_size={chunk_size} is not a power of two")
    batch, tokens, heads, K = q.shape
    value_heads, V = v.shape[2:]
    dtype = exact_dtype(q.dtype)
    plan = make_plan([tokens] * batch if cu_seqlens is None else cu_seqlens.diff().tolist(), chunk_size, q.device)

    def load(x: Tensor) -> Tensor:
        """[B, T, H or HV] or [B, T, H or HV, D] -> [M, H, 1 or R, C, 1 or D]."""
        rows = x.to(dtype).reshape(batch * tokens, heads, x.shape[2] // heads, x.shape[3] if x.dim() == 4 else 1)
        return to_chunks(plan, rows)

    q_, k_, z = load(q) * scale, load(k), load(v)
    decay = None if g is None else load(g)
    erase = None if b is None else load(b)
    write = erase if w is None else load(w)
    z = z if write is None else write * z

    if decay is None or decay.shape[-1] == 1:
        within = _decay_by_token(q_, k_, erase, decay)
    else:
        within = _decay_by_channel(q_, k_, erase, decay)

    state = z.new_zeros(len(plan.lengths), heads, value_heads // heads, K, V)
    if initial_state is not None:
        state = state + initial_state.to(dtype).view_as(state)
    o, final = _walk(plan, state, z, within)
    o = to_tokens(plan, o).reshape(batch, tokens, value_heads, V).to(v.dtype)
    return o, final.flatten(1, 2) if output_final_state else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Within:
    """The matrices of a chunk that do not depend on the state before it, as in the module's docstring.

    scores: P [M, H, R, C, C]. inverse: A, or None without an erase gate. qbar, ebar (or None), ktail: [M, H, R, C, K].
    total: [M, H, R, 1 or K, 1], or None without a decay gate.
    """

    scores: Tensor
    inverse: Tensor | None
    qbar: Tensor
    ebar: Tensor | None
    ktail: Tensor
    total: Tensor | None


def _decay_by_token(q: Tensor, k: Tensor, erase: Tensor | None, decay: Tensor | None) -> _Within:
    """One decay per token, or none: it scales the products q k^T, by exp(sum of the gates after j up to i)."""
    scores = (q @ k.mT).tril()
    products = None if erase is None else erase * (k @ k.mT) if erase.shape[-1] == 1 else (erase * k) @ k.mT
    gamma = tail = total = None
    if decay is not None:
        below = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).tril(-1)
        sums = torch.where(below, decay, 0.0).cumsum(-2)  # [.., i, j]: only gates after j are added
        between = sums.exp()
        scores = scores * between
        products = None if products is None else products * between
        gamma, tail = decay.cumsum(-2).exp(), between[..., -1, :, None]
        total = gamma[..., -1:, :]
    return _Within(
        scores=scores,
        inverse=None if products is None else _inverse(products.tril(-1)),
        qbar=q if gamma is None else q * gamma,
        ebar=None if erase is None else (erase if gamma is None else erase * gamma) * k,
        ktail=k if tail is None else k * tail,
        total=total,
    )


def _decay_by_channel(q: Tensor, k: Tensor, erase: Tensor | None, decay: Tensor) -> _Within:
    """One decay per channel, so the decay lies inside the product, and is split in two factors that cannot overflow.

    At each level neighbouring blocks of h tokens meet: a pair (i, j) with i in the later and j in the earlier one
    decays by the gates from their boundary up to i, times those after j up to the boundary.
    """
    e = None if erase is None else erase * k
    # Sums of gates since the start of a token's block, and after the token up to the end of its block.
    prefix, suffix = decay, torch.zeros_like(decay)
    scores = (q * k).sum(-1)[..., None, None]  # [.., C / h blocks, h, h]
    products = torch.zeros_like(scores)
    h = 1
    while h < q.shape[-2]:
        early_prefix, late_prefix = _halves(prefix, h)
        early_suffix, late_suffix = _halves(suffix, h)
        since, until = late_prefix.exp(), early_suffix.exp()
        key = (_halves(k, h)[0] * until).mT
        scores = _join(scores, (_halves(q, h)[1] * since) @ key)
        if e is not None:
            products = _join(products, (_halves(e, h)[1] * since) @ key)
        prefix = _merge(early_prefix, late_prefix + early_prefix[..., -1:, :])
        suffix = _merge(early_suffix + late_prefix[..., -1:, :], late_suffix)
        h *= 2
    gamma = prefix.exp()
    return _Within(
        scores=scores.squeeze(-3),
        inverse=None if e is None else _inverse(products.squeeze(-3)),
        qbar=q * gamma,
        ebar=None if e is None else e * gamma,
        ktail=k * suffix.exp(),
        total=gamma[..., -1, :, None],
    )


def _halves(x: Tensor, h: int) -> tuple[Tensor, Tensor]:
    """[.., C, D] -> earlier and later blocks of each pair, [.., C / 2h, h, D]."""
    early, late = x.unflatten(-2, (-1, 2, h)).unbind(-3)
    return early, late


def _merge(early: Tensor, late: Tensor) -> Tensor:
    """The inverse of `_halves`."""
    return torch.stack([early, late], -3).flatten(-4, -2)


def _join(blocks: Tensor, corner: Tensor) -> Tensor:
    """Lower triangular blocks [.., 2n, h, h], and the corner below each pair [.., n, h, h] -> [.., n, 2h, 2h]."""
    early, late = (block.expand_as(corner) for block in blocks.unflatten(-3, (-1, 2)).unbind(-3))
    return torch.cat([F.pad(early, (0, early.shape[-1])), torch.cat([corner, late], -1)], -2)


def _inverse(strict: Tensor) -> Tensor:
    """(I + T)^-1 for strictly lower triangular T [.., C, C]."""
    identity = torch.eye(strict.shape[-1], dtype=strict.dtype, device=strict.device).expand_as(strict)
    return torch.linalg.solve_triangular(strict, identity, upper=False, unitriangular=True)


def _walk(plan: ChunkPlan, state: Tensor, z: Tensor, within: _Within) -> tuple[Tensor, Tensor]:
    """Carry the states [N, H, R, K, V] through the chunks: outputs [M, H, R, C, V], and the final states."""
    state = state.index_select(0, plan.order)
    outputs, finished = [], []
    inverse, ebar, total = (
        None if x is None else x.split(plan.active) for x in (within.inverse, within.ebar, within.total)
    )
    queries, scores = within.qbar.split(plan.active), within.scores.split(plan.active)
    values, keys = z.split(plan.active), within.ktail.mT.split(plan.active)
    for step, n in enumerate(plan.active):
        state, done = state.split([n, state.shape[0] - n])
        finished.append(done)
        write = values[step] if inverse is None or ebar is None else inverse[step] @ (values[step] - ebar[step] @ state)
        outputs.append(queries[step] @ state + scores[step] @ write)
        state = (state if total is None else total[step] * state) + keys[step] @ write
    final = torch.cat([state, *reversed(finished)]).index_select(0, plan.order.argsort())
    return torch.cat(outputs), final
