"""CARVE (arXiv 2606.27229): Gated DeltaNet-2 whose erase gate also sees the layer's latest outputs.

Per value head and chunk c of `chunk_size` tokens, with m_c the mean of the outputs of chunk c - 1 (m_0 = 0):

    b_t = erase_max * sigmoid(logits_t + m_c read lift)      content gate, on the key axis
    S   = (I - k (b * k)^T) Diag(exp g) S + w k v^T          w one number per token and head
    o   = scale * S^T q

One of `read` and `lift` is zero when training starts (not both: then neither would ever get a gradient), so that CARVE
starts as Gated DeltaNet-2 with a scalar write gate. Chunks depend on one another, so the walk over them is serial, and
the chunk size is part of the function: it is an argument, never a launch parameter, and no tuner may vary it. A
`config` still varies how each chunk is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

from ..api import OPTIONS, gated_delta_rule
from ..arguments.axes import check_axes, check_flags, check_number, check_state
from ..arguments.checks import check_boundaries
from ..arguments.contents import check_contents
from ..arguments.door import Takes
from ..arguments.precision import exact_dtype

CHUNK_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CarveCache:
    """The state of decoding after the N sequences so far; their memory alone would not do.

    state: [N, HV, K, V]. mean: [N, HV, V], of the outputs of the last whole chunk, which gates the present one.
    total: [N, HV, V], the sum of the outputs of the present chunk so far. position: tokens seen, per sequence.
    fp32, or fp64 for fp64 calls.
    """

    state: Tensor
    mean: Tensor
    total: Tensor
    position: tuple[int, ...]


@Takes(OPTIONS - {"initial_state", "output_final_state", "chunk_indices"})
def carve(
    q: Tensor,  # [B, T, H, K]
    k: Tensor,  # [B, T, H, K]
    v: Tensor,  # [B, T, HV, V]
    g: Tensor | None,  # [B, T, G] or [B, T, G, K], G either H or HV
    b: Tensor,  # [B, T, G, K]
    w: Tensor,  # [B, T, HV]
    read: Tensor,  # [V, r] or [HV, V, r]
    lift: Tensor,  # [r, K] or [HV, r, K]
    *,
    chunk_size: int = CHUNK_SIZE,
    cache: CarveCache | None = None,
    output_cache: bool = False,
    scale: float | None = None,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    erase_max: float = 1.0,
    stop_gradient: bool = False,
    query: Literal["updated", "previous"] = "updated",
    content: Literal["scaled", "unscaled"] | Callable[[Tensor], Tensor] = "scaled",
    op: Callable[..., Any] = gated_delta_rule,
    **options: Any,
) -> tuple[Tensor, CarveCache | None]:
    """Outputs [B, T, HV, V], and the cache after the last tokens if `output_cache`.

    Args:
        q, k, v, g, scale: as `gated_delta_rule`; options: `variant`, `config`, `disable_recompute` and
            `use_qk_l2norm_in_kernel` are passed on.
        b: logits of the erase gate before the content is added: a bias of the content map belongs in here.
        w: write gate, in [0, 1].
        read, lift: the low-rank content map, shared or per value head; their shapes say which, and the rank r.
        chunk_size: tokens per chunk of the *model*.
        cache: of the tokens before these; without one, sequences start from nothing and with m = 0.
        cu_seqlens, cu_seqlens_cpu: as `gated_delta_rule`; their contents are read, which waits for the device where
            only the former is given.

    Choices that the paper leaves open, with the default here:
        erase_max: 1 puts b in [0, 1]; 2 allows negative eigenvalues.
        stop_gradient: whether m is a constant to the backward pass; by default gradients flow through it.
        query: whether o reads the state with the token's own write ("updated") or before its step ("previous").
        content: m is its mean: the outputs with `scale` ("scaled"), without it, or any function of the outputs [n, HV, V] that
            keeps their shape (such as the layer's output norm).

    A chunk that a call leaves unfinished is completed by the next call on its cache. Raises ValueError and TypeError as
    `gated_delta_rule`, and for a chunk size below 1, gates and maps of another shape, and a cache of other sequences.
    """
    N, lengths = _check(q, k, v, g, b, w, read, lift, chunk_size, cache, cu_seqlens, cu_seqlens_cpu)
    check_flags(output_cache=output_cache, stop_gradient=stop_gradient)
    check_number("erase_max", erase_max, 0.0)
    if scale is not None:
        check_number("scale", scale, -math.inf)
    if query not in ("updated", "previous"):
        raise ValueError(f"query={query!a:.60}; accepted: updated, previous")
    if not callable(content) and content not in ("scaled", "unscaled"):
        raise ValueError(f"content={content!a:.60}; accepted: scaled, unscaled, or a function")
    (HV, V), K = v.shape[2:], q.shape[-1]
    exact = exact_dtype(q.dtype)
    scaling = K**-0.5 if scale is None else float(scale)
    if cache is None:
        state = v.new_zeros(N, HV, K, V, dtype=exact)
        mean, total = v.new_zeros(2, N, HV, V, dtype=exact).unbind()
        position = [0] * N
    else:
        state, mean, total, position = cache.state, cache.mean, cache.total, list(cache.position)

    tensors = {"q": q, "k": k, "v": v, "g": g, "b": b.repeat_interleave(HV // b.shape[2], 2), "w": w}
    flat = {name: None if x is None else x.flatten(0, 1) for name, x in tensors.items()}
    outputs, places = [v.new_zeros(0, HV, V)], [torch.zeros(0, dtype=torch.int64)]
    for active, counts, tokens in _steps(lengths, [place % chunk_size for place in position], chunk_size):
        rows, index = torch.tensor(active, device=q.device), tokens.to(q.device)
        part: dict[str, Any] = {name: None if x is None else x.index_select(0, index) for name, x in flat.items()}
        spread = torch.tensor(counts, device=q.device)
        seen = (mean[rows].detach() if stop_gradient else mean[rows]).unsqueeze(-2)
        gate = (seen @ read.to(exact) @ lift.to(exact)).squeeze(-2)
        logits = part["b"].to(exact) + gate.repeat_interleave(spread, 0, output_size=len(tokens))
        part["b"] = erase_max * torch.sigmoid(logits)
        shared = {"scale": scaling, "op": op, "options": options, "counts": counts}
        o, after = _chunk(part, state[rows], **shared)
        if query == "previous":
            o = _previous(part, state[rows], o, **shared)
        state = state.index_copy(0, rows, after)
        watched = content(o) if callable(content) else o / scaling if content == "unscaled" else o
        added = total[rows] + torch.stack([piece.sum(0) for piece in watched.to(exact).split(counts)])
        full = [(position[i] + n) % chunk_size == 0 for i, n in zip(active, counts, strict=True)]
        whole = torch.tensor(full, device=q.device)[:, None, None]
        mean = mean.index_copy(0, rows, torch.where(whole, added / chunk_size, mean[rows]))
        total = total.index_copy(0, rows, torch.where(whole, 0.0, added))
        for i, n in zip(active, counts, strict=True):
            position[i] += n
        outputs.append(o)
        places.append(tokens)
    order = torch.cat(places).argsort().to(q.device)
    o = torch.cat(outputs).index_select(0, order).unflatten(0, v.shape[:2])
    last = CarveCache(state=state, mean=mean, total=total, position=tuple(position)) if output_cache else None
    return o, last


def _steps(
    lengths: Sequence[int], offsets: Sequence[int], chunk_size: int
) -> list[tuple[list[int], list[int], Tensor]]:
    """(sequences, tokens of each, their places in the flat batch), up to the next boundary of every sequence in turn."""
    starts, offsets, left = [0, *accumulate(lengths)], list(offsets), list(lengths)
    steps = []
    while active := [i for i, n in enumerate(left) if n]:
        counts = [min(left[i], chunk_size - offsets[i]) for i in active]
        first = [starts[i] + lengths[i] - left[i] for i in active]
        spans = [torch.arange(start, start + n) for start, n in zip(first, counts, strict=True)]
        steps.append((active, counts, torch.cat(spans)))
        for i, n in zip(active, counts, strict=True):
            left[i], offsets[i] = left[i] - n, 0
    return steps


def _chunk(
    part: dict[str, Any],
    state: Tensor,
    *,
    counts: list[int],
    scale: float,
    op: Callable[..., Any],
    options: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """One chunk of every active sequence: outputs [tokens, HV, V] and the states after it."""
    equal = len(set(counts)) == 1
    batch = (len(counts), counts[0]) if equal else (1, sum(counts))
    boundaries = None if equal else torch.tensor([0, *accumulate(counts)], device=state.device)
    call = {name: None if x is None else x.unflatten(0, batch) for name, x in part.items()}
    o, after = op(**call, scale=scale, initial_state=state, output_final_state=True, cu_seqlens=boundaries, **options)
    return o.flatten(0, 1), after


def _previous(
    part: dict[str, Any], state: Tensor, o: Tensor, *, counts: list[int], scale: float, **shared: Any
) -> Tensor:
    """scale * S_{t-1}^T q_t: the queries move one token back, and the first of each chunk reads the state before it."""
    moved = torch.cat([torch.cat([q[1:], torch.zeros_like(q[:1])]) for q in part["q"].split(counts)])
    later, _ = _chunk({**part, "q": moved}, state, counts=counts, scale=scale, **shared)
    groups = state.shape[1] // part["q"].shape[1]
    first = [q[:1].repeat_interleave(groups, 1).to(state.dtype) for q in part["q"].split(counts)]
    heads = [(q.unsqueeze(-2) @ S).squeeze(-2) * scale for q, S in zip(first, state, strict=True)]
    return torch.cat(
        [x for head, rest in zip(heads, later.split(counts), strict=True) for x in (head.to(o.dtype), rest[:-1])]
    )


def _check(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, b: Tensor, w: Tensor, read: Tensor, lift: Tensor, chunk_size: int,
    cache: CarveCache | None, cu_seqlens: Tensor | None, cu_seqlens_cpu: Tensor | None,
) -> tuple[int, list[int]]:  # fmt: skip
    """Number of sequences, and the tokens of each. The op checks the rest."""
    if type(chunk_size) is not int or not 1 <= chunk_size < 2**31:
        raise ValueError(f"chunk_size={chunk_size!a:.60}; accepted: at least 1")
    check_axes(
        q=(q, "B T H K"), k=(k, "B T H K"), v=(v, "B T HV V"), g=(g, "B T HV K or B T H K or B T HV or B T H or None"),
        b=(b, "B T HV K or B T H K"), w=(w, "B T HV"), read=(read, "V r or HV V r"), lift=(lift, "r K or HV r K"),
    )  # fmt: skip
    check_state("cache", cache, CarveCache)
    if not isinstance(q.shape[1], int):
        raise ValueError(
            "T is a symbol here; accepted: a fixed number of tokens, as carve walks its chunks on the host"
        )
    check_boundaries(cu_seqlens, cu_seqlens_cpu, q.shape[0], q.device)
    check_contents(None, None, cu_seqlens, cu_seqlens_cpu, q.shape[1], check_values=None)
    if cu_seqlens is None:
        lengths = [q.shape[1]] * q.shape[0]
    else:
        lengths = (cu_seqlens if cu_seqlens_cpu is None else cu_seqlens_cpu).diff().tolist()
    if cache is not None and len(cache.position) != len(lengths):
        raise ValueError(f"cache holds {len(cache.position)} sequences; accepted: {len(lengths)}, as in this call")
    return len(lengths), lengths
