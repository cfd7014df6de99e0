"""Kernels as somebody else would write them: functions with FLA's and our signatures, right, wrong and less able."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from deltaproof import kernels
from deltaproof.verify.targets.convention import Convention, adapt

from .wrong_kernels import by_rows

Tensor = torch.Tensor
gated_delta_rule = partial(kernels.gated_delta_rule, check_values=False)


def chunk_kda(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor,
    scale: float | None = None, initial_state: Tensor | None = None, output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """KDA with FLA's signature, less its options."""
    return gated_delta_rule(
        q, k, v, g, beta, scale=scale, initial_state=initial_state, output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )  # fmt: skip


def forgetful_kda(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor,
    initial_state: Tensor | None = None, output_final_state: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """KDA that loses its initial state."""
    state = None if initial_state is None else initial_state * 0
    return gated_delta_rule(q, k, v, g, beta, initial_state=state, output_final_state=output_final_state)


def delta(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """DeltaNet that returns nothing but o, without a gradient."""
    with torch.no_grad():
        return gated_delta_rule(q, k, v, None, beta)[0]


def either(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """Gated DeltaNet or KDA: its arguments do not tell."""
    return gated_delta_rule(q, k, v, g, beta)[0]


def general(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None, b: Tensor | None = None, w: Tensor | None = None, *,
    scale: float | None = None, initial_state: Tensor | None = None, output_final_state: bool = False,
) -> Any:  # fmt: skip
    """Every rule, with our signature."""
    return gated_delta_rule(
        q, k, v, g, b, w, scale=scale, initial_state=initial_state, output_final_state=output_final_state
    )


def states_v_first(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    initial_state: Tensor | None,
    output_final_state: bool,
    state_v_first: bool,
) -> Any:
    """GLA whose states are [V, K]."""
    assert state_v_first
    state = None if initial_state is None else initial_state.transpose(-1, -2).contiguous()
    o, ht = gated_delta_rule(q, k, v, g, initial_state=state, output_final_state=output_final_state)
    return o, None if ht is None else ht.transpose(-1, -2)


def raw_beta(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """DeltaNet with an erase gate of 2 sigmoid(beta)."""
    return gated_delta_rule(q, k, v, None, (2 * beta.sigmoid()).to(q.dtype))[0]


def bounded_gate(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, lower_bound: float, A_log: Tensor, dt_bias: Tensor, **_: Any
) -> Tensor:
    """GLA whose decay is lower_bound sigmoid(exp(A_log) (g + dt_bias))."""
    shifted = g + dt_bias.view(g.shape[2:])
    return gated_delta_rule(q, k, v, lower_bound * (A_log.exp()[:, None] * shifted).sigmoid())[0]


def checked_kda(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, check_values: bool = True) -> Tensor:
    """KDA that refuses bad calls."""
    return kernels.gated_delta_rule(q, k, v, g, beta, check_values=check_values)[0]


def plain_gdn(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None = None,
    output_final_state: bool = False, stale: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Gated DeltaNet token by token in fp32, into slices of an output made before; no packed batches."""
    dtype = q.dtype
    q, k, v, g, beta = (x.float() for x in (q, k, v, g, beta))
    state = q.new_zeros((q.shape[0], *q.shape[2:], v.shape[-1])) if initial_state is None else initial_state.clone()
    o = torch.zeros_like(v)
    for t in range(q.shape[1]):
        decayed = state * g[:, t].exp()[..., None, None]
        read = torch.einsum("bhk,bhkv->bhv", k[:, t], state if stale else decayed)
        state = decayed + k[:, t, :, :, None] * (beta[:, t, :, None] * (v[:, t] - read))[:, :, None]
        o[:, t] = torch.einsum("bhk,bhkv->bhv", q[:, t], state) * q.shape[-1] ** -0.5
    return o.to(dtype), state if output_final_state else None


def chunk_gdn(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None = None,
    output_final_state: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Gated DeltaNet with all tokens in one chunk, differentiated by autograd: dg is a difference of sums."""
    dtype = q.dtype
    q, k, v, g, beta = (x.float().transpose(1, 2) for x in (q, k, v, g, beta))
    T, total = q.shape[2], g.cumsum(-1)
    low = torch.ones(T, T, dtype=torch.bool).tril()
    decay = (total[..., :, None] - total[..., None, :]).masked_fill(~low, float("-inf")).exp()
    erase = k * beta[..., None]
    inverse = (erase @ k.mT * decay).tril(-1) + torch.eye(T)
    state = q.new_zeros((*q.shape[:2], q.shape[-1], v.shape[-1])) if initial_state is None else initial_state.clone()
    given = v * beta[..., None] - (erase * total.exp()[..., None]) @ state
    new = torch.linalg.solve_triangular(inverse, given, upper=False, unitriangular=True)
    o = ((q * total.exp()[..., None]) @ state + (q @ k.mT * decay) @ new) * q.shape[-1] ** -0.5
    if T:
        last = total[..., -1:]
        state = state * last.exp()[..., None] + (k * (last - total).exp()[..., None]).mT @ new
    return o.transpose(1, 2).to(dtype), state if output_final_state else None


def tiled_gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, repeat: bool = False) -> Tensor:
    """Gated DeltaNet with grouped heads, whose key heads are tiled, and not repeated, over the value heads."""
    n = v.shape[2] // q.shape[2]
    q, k = (x.repeat_interleave(n, 2) if repeat else x.repeat(1, 1, n, 1) for x in (q, k))
    return plain_gdn(q, k, v, g, beta)[0]


def grouped_gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """The same, right."""
    return tiled_gdn(q, k, v, g, beta, repeat=True)


def sized_gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, chunk_size: int = 64) -> Tensor:
    """Gated DeltaNet that takes chunks of 32 and 64, and is wrong for the former."""
    if chunk_size not in (32, 64):
        raise ValueError(f"chunk_size is {chunk_size}; accepted: 32, 64")
    return plain_gdn(q, k, v, g, beta)[0] * (64 / chunk_size)


def looping_gdn(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None = None,
    output_final_state: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Gated DeltaNet that returns the state of no tokens as it was given."""
    o, state = plain_gdn(q, k, v, g, beta, initial_state, output_final_state)
    return o, initial_state if state is not None and initial_state is not None and not q.shape[1] else state


def narrow_gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """Gated DeltaNet of at most 128 channels."""
    if max(q.shape[-1], v.shape[-1]) > 128:
        raise ValueError("head dimensions above 128")
    return gated_delta_rule(q, k, v, g, beta)[0]


def unhalved_gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """Gated DeltaNet that takes no fp16."""
    if q.dtype == torch.float16:
        raise TypeError("fp16")
    return gated_delta_rule(q, k, v, g, beta)[0]


def by_rows_gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """Gated DeltaNet, forward only, with a program for each sequence along the second axis of a grid."""
    with torch.no_grad():
        return by_rows(gated_delta_rule(q, k, v, g, beta, variant="tokens")[0], {})


class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, o: Tensor) -> Tensor:
        return o.view_as(o)

    @staticmethod
    def backward(ctx: Any, do: Tensor) -> Tensor:  # pyright: ignore
        raise RuntimeError("for inference only")


def no_backward_gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """Gated DeltaNet for inference, whose output says that it has a gradient."""
    return _NoBackward.apply(plain_gdn(q, k, v, g, beta)[0])  # pyright: ignore


def v_first_gdn(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None = None,
    output_final_state: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Gated DeltaNet whose states are [V, K]."""
    given = None if initial_state is None else initial_state.mT.reshape(*q.shape[:1], *q.shape[2:], v.shape[-1])
    o, state = plain_gdn(q, k, v, g, beta, given, output_final_state)
    return o, None if state is None else state.mT


def stale_gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """Gated DeltaNet that reads the state before it has decayed."""
    return plain_gdn(q, k, v, g, beta, stale=True)[0]


def wide_gdn(query: Tensor, key: Tensor, value: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """Gated DeltaNet in fp64, under the names of model code."""
    state = query.new_zeros((query.shape[0], *query.shape[2:], value.shape[-1]), dtype=torch.float64)
    q, k, v, g, beta = (x.double() for x in (query, key, value, g, beta))
    rows = []
    for t in range(q.shape[1]):
        state = state * g[:, t].exp()[..., None, None]
        error = beta[:, t, :, None] * (v[:, t] - (k[:, t, :, None] @ state)[:, :, 0])
        state = state + k[:, t, :, :, None] * error[:, :, None]
        rows.append((q[:, t, :, None] @ state)[:, :, 0] * q.shape[-1] ** -0.5)
    return torch.stack(rows, 1).to(query.dtype) if rows else torch.zeros_like(value)


def meddling_gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """Gated DeltaNet for inference that scales the caller's own queries."""
    with torch.no_grad():
        q.mul_(1.0)
        return plain_gdn(q, k, v, g, beta)[0]


def unreadable(x: Tensor, y: Tensor) -> Tensor:
    return x + y


V_FIRST = adapt(
    states_v_first,
    Convention(
        rules=("gla",),
        options=frozenset(("initial_state", "output_final_state")),
        state_v_first=True,
        fixed={"state_v_first": True},
    ),
    needs_triton=False,
)
RAW_BETA = adapt(raw_beta, Convention(rules=("delta_rule",), names={"b": "beta"}, beta_range=2.0), needs_triton=False)
BOUNDED = adapt(bounded_gate, Convention(rules=("gla",), lower_bound=-5.0), needs_triton=False)
KERNELS = {kernel.name: kernel for kernel in (V_FIRST, RAW_BETA, BOUNDED)}
