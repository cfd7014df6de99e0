"""Preconditioned Gated DeltaNet and KDA, as in flash-linear-attention 0.6.0: writes at a key that is flattened.

    A_t = exp(g_atk) A_{t-1} + beta_atk k^2              running energy of each key channel, elementwise
    M_t = bound^(-r / (1 + |r|)),   r = log(A_t + eps) - center         in (1/bound, bound): channels used often write less
    S_t = D S_{t-1} + (M k) (beta (v - (D S_{t-1})^T k))^T           o = scale * S^T q

The energies are themselves the rule, with one key channel: S [1, K], key 1, value k^2, write gate beta_atk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..api import gated_delta_rule, with_options
from ..arguments.axes import check_axes, check_flags, check_number, check_state
from ..arguments.precision import exact_dtype


class PreconditionedState(NamedTuple):
    """state [N, HV, K, V]; energy [N, H, K], of each key channel. fp32, or fp64 for fp64 calls."""

    state: Tensor
    energy: Tensor


@with_options
def preconditioned_delta_rule(
    q: Tensor,  # [B, T, H, K]
    k: Tensor,  # [B, T, H, K]
    v: Tensor,  # [B, T, HV, V]
    g: Tensor,  # [B, T, HV]: preconditioned Gated DeltaNet; [B, T, HV, K]: preconditioned KDA
    beta: Tensor,  # [B, T, HV]
    g_atk: Tensor,  # [B, T, H], at most 0
    beta_atk: Tensor,  # [B, T, H], at least 0
    *,
    bound: float = 1.5,
    eps: float = 1e-6,
    center: float | Tensor = -0.2,
    initial_state: PreconditionedState | None = None,
    output_final_state: bool = False,
    op: Callable[..., Any] = gated_delta_rule,
    **options: Any,
) -> tuple[Tensor, PreconditionedState | None]:
    """Outputs [B, T, HV, V] and the final state; q and k are normalised by the caller. Options as `gated_delta_rule`.

    bound, eps, center (a number, or one per key head): as in the module's formula.
    """
    check_axes(
        q=(q, "B T H K"), k=(k, "B T H K"), v=(v, "B T HV V"), g=(g, "B T HV or B T HV K"), beta=(beta, "B T HV"),
        g_atk=(g_atk, "B T H"), beta_atk=(beta_atk, "B T H"),
        **({"center": (center, "H")} if isinstance(center, Tensor) else {}),
    )  # fmt: skip
    check_number("bound", bound, 1.0)
    check_number("eps", eps, 0.0)
    if not isinstance(center, Tensor):
        check_number("center", center, -math.inf)
    check_flags(output_final_state=output_final_state)
    check_state("initial_state", initial_state, PreconditionedState)
    exact = exact_dtype(q.dtype)
    keys = k.to(exact)
    one = torch.ones_like(keys[..., :1])
    before = None if initial_state is None else initial_state.energy.unsqueeze(-2)
    energy, last = op(
        q=one, k=one, v=keys.square(), g=g_atk.to(exact), b=None, w=beta_atk.to(exact),
        **{**options, "scale": 1.0}, initial_state=before, output_final_state=output_final_state,
    )  # fmt: skip
    middle = center if isinstance(center, int | float) else center.to(exact)[:, None]
    r = torch.log(energy + eps) - middle
    M = torch.exp(-math.log(bound) * r / (1 + r.abs()))
    written = (M * keys).to(k.dtype)
    groups = v.shape[2] // k.shape[2]
    erase = beta.to(exact)[..., None] / M.repeat_interleave(groups, 2)
    o, state = op(
        q=q, k=written, v=v, g=g, b=erase, w=beta,
        initial_state=None if initial_state is None else initial_state.state, output_final_state=output_final_state,
        **options,
    )  # fmt: skip
    return o, PreconditionedState(state, last.squeeze(-2)) if output_final_state else None
