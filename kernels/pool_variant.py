"""Decoding from a pool of states as a variant of the op, so that it is judged as every other is."""

from __future__ import annotations

import torch
from torch import Tensor

from .arguments.checks import check
from .configs.launch_config import LaunchConfig
from .decoding import TILE, decode


def decode_from(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    b: Tensor | None = None,
    w: Tensor | None = None,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    use_gate_in_kernel: bool = False,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    check_values: bool | None = None,
    config: LaunchConfig | None = None,
    state_v_first: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """`decode` with the signature and the answer of `gated_delta_rule`.

    Given states lie in a pool of its own, in reverse order, behind one that is nobody's. A call on nobody's slots with the first
    two tokens of every row must answer zero and leave the pool alone, or the answer here is wrong. Without an initial state the
    pool has one for each sequence, and no slots are passed.
    """
    if config is not None and not isinstance(config, LaunchConfig):
        raise TypeError(f"config is of type {type(config).__name__}; accepted: a LaunchConfig, or None")
    gate = {"use_gate_in_kernel": use_gate_in_kernel, "A_log": A_log, "dt_bias": dt_bias}
    packing = {"cu_seqlens": cu_seqlens, "cu_seqlens_cpu": cu_seqlens_cpu, "check_values": check_values}
    shape = check(q, k, v, g, b, w, scale=scale, initial_state=initial_state, **gate, **packing)
    before = initial_state
    if before is None:
        before = q.new_zeros(shape.N, shape.HV, shape.K, shape.V, dtype=torch.float32)
    before = before.transpose(2, 3) if state_v_first else before
    slots = None if initial_state is None else torch.arange(shape.N, 0, -1, device=q.device)
    pool = (before if slots is None else torch.cat([torch.zeros_like(before[:1]), before.flip(0)])).contiguous()
    options = {"state_v_first": state_v_first, "use_qk_l2norm_in_kernel": use_qk_l2norm_in_kernel}
    tile = TILE if config is None else config.states
    setting = {"states": pool, "scale": scale, "tile": tile, "check_values": check_values, **options, **gate}
    o = decode(q, k, v, g, b, w, slots=slots, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu, **setting)
    if q.shape[1] and slots is not None:
        gates = [None if x is None else x[:, :2] for x in (g, b, w)]
        idle = slots.new_full(q.shape[:1], -1)
        o[:, :2] += decode(q[:, :2], k[:, :2], v[:, :2], *gates, slots=idle, **setting)
    after = pool if slots is None else pool[1:].flip(0)
    after = after.transpose(2, 3).contiguous() if state_v_first else after
    return o, after if output_final_state else None
