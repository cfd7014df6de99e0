"""Decoding: a step of every sequence in flight, with states that stay where they are."""

from __future__ import annotations

import torch
from torch import Tensor

from .api import gated_delta_rule
from .arguments.axes import check_flags, dense, sort_of
from .arguments.checks import CallShape, shape_of
from .arguments.contents import check_contents, may_read, read
from .arguments.seen import SeenCalls, facts
from .configs.launch_config import Tile
from .ops import library, operator

TILE = Tile(block=32, num_warps=4)
"""One token's work on a state is a read and a write of it: narrow tiles make enough programs of few sequences."""


def decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    b: Tensor | None = None,
    w: Tensor | None = None,
    *,
    states: Tensor,
    slots: Tensor | None = None,
    state_v_first: bool = False,
    scale: float | None = None,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    use_qk_l2norm_in_kernel: bool = False,
    use_gate_in_kernel: bool = False,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    tile: Tile = TILE,
    check_values: bool | None = None,
) -> Tensor:
    """A few tokens of every sequence, by the token recurrence (GDN-2 Eq. 8-10), on states that are updated in place.

    Nothing is read back from the device and no launch depends on the contents of a tensor: a call can be captured into a
    CUDA graph, and replayed after new contents were copied into its tensors.

    Args:
        q, k, v, g, b, w, scale, cu_seqlens, cu_seqlens_cpu, use_qk_l2norm_in_kernel, use_gate_in_kernel, A_log, dt_bias,
            check_values: as `gated_delta_rule` takes them. T is the number of new tokens of each sequence, often 1. check_values
            applies to `slots`, too.
        states: [S, HV, K, V] fp32, contiguous; the states of all sequences that may come.
        slots: [N] int32 or int64, where in `states` each of the N sequences has its state; no two alike. A negative slot
            is nobody's: its outputs are 0, and no state changes. None: sequence n has state n, and S is N.
        state_v_first: `states` is [S, HV, V, K].
        tile: columns of V per program, and warps.

    Returns:
        o [B, T, HV, V] in v's dtype.

    Raises:
        ValueError, TypeError: one line that names the argument, the value found and the values accepted.
    """
    if not isinstance(tile, Tile):
        raise TypeError(f"tile is of type {type(tile).__name__}; accepted: a Tile, e.g. Tile(block=32, num_warps=4)")
    check_flags(
        state_v_first=state_v_first,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        use_gate_in_kernel=use_gate_in_kernel,
        check_values=check_values is not None and check_values,
    )
    seen = facts(q, k, v, g, b, w, cu_seqlens, cu_seqlens_cpu, A_log, dt_bias, states, slots)
    key = (
        None
        if seen is None or states is None
        else (seen, use_gate_in_kernel, state_v_first, states.is_contiguous(), _wants_gradient(states))
    )
    shape = _RIGHT.get(key)
    if shape is None:
        shape = shape_of(
            q, k, v, g, b, w, initial_state=None, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu,
            use_gate_in_kernel=use_gate_in_kernel, A_log=A_log, dt_bias=dt_bias, check_values=check_values,
        )  # fmt: skip
        sizes = (shape.HV, shape.V, shape.K) if state_v_first else (shape.HV, shape.K, shape.V)
        _check_places(states, slots, sizes, shape.N, q)
        _RIGHT.put(key, shape)
    decay = None if use_gate_in_kernel else g
    check_contents(scale, decay, cu_seqlens, cu_seqlens_cpu, shape.T, check_values=check_values)
    if slots is not None and may_read(slots, check_values):
        _check_slots(read("slots", slots.tolist, check_values), states.shape[0])
    scaling = q.shape[-1] ** -0.5 if scale is None else float(scale)
    if not operator.runs_triton(q):
        raw = {"A_log": A_log, "dt_bias": dt_bias}
        options = {"scale": scaling, "cu_seqlens": cu_seqlens, "use_qk_l2norm_in_kernel": use_qk_l2norm_in_kernel}
        options |= {"use_gate_in_kernel": use_gate_in_kernel, "check_values": False}
        return _decode_in_torch((q, k, v, g, b, w), states, slots, state_v_first, options | raw)
    return library.decode(
        q=q.contiguous(),
        k=k.contiguous(),
        v=v.contiguous(),
        g=None if g is None else g.contiguous(),
        b=None if b is None else b.contiguous(),
        w=None if w is None else w.contiguous(),
        A_log=A_log,
        dt_bias=dt_bias,
        normalise=use_qk_l2norm_in_kernel,
        states=states,
        slots=slots,
        cu_seqlens=cu_seqlens,
        sequences=shape.N,
        scale=scaling,
        v_first=state_v_first,
        block=tile.block,
        num_warps=tile.num_warps,
    )


_RIGHT: SeenCalls[CallShape] = SeenCalls()
"""By all that `decode` looks at beside values."""


def _wants_gradient(states: Tensor) -> bool:
    return states.requires_grad and torch.is_grad_enabled()


def _check_slots(slots: list[int] | None, states: int) -> None:
    """slots: their contents, None if unknown. states: how many there are."""
    live = [slot for slot in slots or () if slot >= 0]
    if live and max(live) >= states:
        raise ValueError(f"slots holds {max(live)}; accepted: below {states}, the number of states")
    if len(set(live)) != len(live):
        raise ValueError("slots holds a slot twice; accepted: different ones, since two would overwrite each other")


def _check_places(states: Tensor, slots: Tensor | None, sizes: tuple[int, ...], N: int, q: Tensor) -> None:
    """The part that looks at no values."""
    if not dense(states) or states.dtype != torch.float32:
        raise TypeError(f"states is {sort_of(states)}; accepted: a dense float32 tensor")
    accepted = f"[S, {', '.join(map(str, sizes))}]" + (f" with S = {N}, or slots" if slots is None else "")
    if states.dim() != 4 or tuple(states.shape[1:]) != sizes or (slots is None and states.shape[0] != N):
        raise ValueError(f"states has shape {list(states.shape)}; accepted: {accepted}")
    if not states.is_contiguous():
        raise ValueError(f"states has strides {states.stride()}; accepted: a contiguous tensor, since it is written to")
    if _wants_gradient(states):
        raise ValueError("states wants a gradient; accepted: states that need none, since they are overwritten")
    if states.device != q.device:
        raise ValueError(f"states is on {states.device}; accepted: {q.device}, where q is")
    if slots is None:
        return
    if not dense(slots) or slots.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"slots is {sort_of(slots)}; accepted: a dense int32 or int64 tensor, or None")
    if slots.shape != (N,):
        raise ValueError(f"slots has shape {list(slots.shape)}; accepted: [{N}], one for each sequence")
    if slots.device != q.device:
        raise ValueError(f"slots is on {slots.device}; accepted: {q.device}, where q is")


def _decode_in_torch(inputs: tuple, states: Tensor, slots: Tensor | None, v_first: bool, options: dict) -> Tensor:
    """The same on CPU tensors without Triton: states are gathered, and put back."""
    count = states.shape[0] if slots is None else slots.shape[0]
    at = torch.arange(count) if slots is None else slots.long()
    taken = states[at.clamp(min=0)]
    o, after = gated_delta_rule(
        *inputs,
        initial_state=taken.transpose(2, 3) if v_first else taken,
        output_final_state=True,
        variant="torch",
        **options,
    )
    assert after is not None
    live = at >= 0
    states[at[live]] = (after.transpose(2, 3) if v_first else after)[live]
    if bool(live.all()):
        return o
    boundaries = options["cu_seqlens"]
    if boundaries is None:
        return o * live[:, None, None, None]
    alive = torch.repeat_interleave(live, boundaries.diff().long())
    return torch.where(alive[None, :, None, None], o, 0.0)
