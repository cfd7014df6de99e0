"""Input checks of the public ops: a refusal is one line that names the argument, the value found and the values accepted.

Types, shapes, dtypes and devices are checked here, once for calls that are alike (`seen`); `contents` checks the contents of
tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn, TypeVar

import torch
from torch import Tensor

from .axes import dense, sort_of
from .contents import check_bounds, check_contents
from .seen import SeenCalls, facts

MAX_HEAD_DIM = 256
"""Largest K and V: the kernels hold whole rows at once."""

T = TypeVar("T")
Tie = Literal["none", "scalar", "channel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallShape:
    """The description of a checked call, in the words of `specs.rule.Rule` and `specs.problem.Problem`.

    decay, erase: how g and b are tied. write: how w is, "tied" (to b, or 1 without b) where it is left out.
    N: sequences. decay_heads, erase_heads: heads of g and b, H or HV; HV where the gate is absent.
    """

    decay: Tie
    erase: Tie
    write: Literal["tied", "scalar", "channel"]
    B: int
    T: int
    H: int
    HV: int
    K: int
    V: int
    N: int
    decay_heads: int
    erase_heads: int


def check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    b: Tensor | None,
    w: Tensor | None,
    *,
    scale: float | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    cu_seqlens_cpu: Tensor | None,
    use_gate_in_kernel: bool,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    check_values: bool | None,
    allow_fp64: bool = False,
) -> CallShape:
    """The shape of a call of `gated_delta_rule`, whose arguments these are; `allow_fp64` is for the torch path.

    Raises TypeError for anything but a tensor and for a wrong dtype, ValueError for wrong shapes, devices and values.
    """
    seen = facts(q, k, v, g, b, w, initial_state, cu_seqlens, cu_seqlens_cpu, A_log, dt_bias)
    key = None if seen is None else (seen, use_gate_in_kernel, allow_fp64)
    shape = _RIGHT.get(key)
    if shape is None:
        shape = shape_of(
            q, k, v, g, b, w, initial_state=initial_state, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu,
            use_gate_in_kernel=use_gate_in_kernel, A_log=A_log, dt_bias=dt_bias, check_values=check_values, allow_fp64=allow_fp64,
        )  # fmt: skip
        _RIGHT.put(key, shape)
    raw = use_gate_in_kernel
    check_contents(scale, None if raw else g, cu_seqlens, cu_seqlens_cpu, shape.T, check_values=check_values)
    return shape


_RIGHT: SeenCalls[CallShape] = SeenCalls()
"""By all that `shape_of` looks at."""


def shape_of(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    b: Tensor | None,
    w: Tensor | None,
    *,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    cu_seqlens_cpu: Tensor | None,
    use_gate_in_kernel: bool,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    check_values: bool | None,
    allow_fp64: bool = False,
) -> CallShape:
    """The part of `check` that looks at no values but those of boundaries, which other arguments are held against."""
    _check_tensors(q=q, k=k, v=v, g=g, b=b, w=w, initial_state=initial_state, A_log=A_log, dt_bias=dt_bias)
    _check_dtypes(q, allow_fp64, k=k, v=v, g=g, b=b, w=w, initial_state=initial_state, A_log=A_log, dt_bias=dt_bias)
    B, T, H, K, HV, V = _check_data(q, k, v)

    heads = f"heads {H} or {HV}" if H != HV else f"{H} heads"
    decay = _check_gate("g", g, [(B, T, G) for G in (H, HV)], K, f"[{B}, {T}, G] or [{B}, {T}, G, {K}] with {heads}")
    erase = _check_gate("b", b, [(B, T, G) for G in (H, HV)], K, f"[{B}, {T}, G] or [{B}, {T}, G, {K}] with {heads}")
    write = _check_gate("w", w, [(B, T, HV)], V, f"[{B}, {T}, {HV}] or [{B}, {T}, {HV}, {V}]")
    if w is None and erase == "channel":
        raise ValueError("w is None, which ties it to b, but b is channel-wise; pass w, or b with one number per head")

    N = check_boundaries(cu_seqlens, cu_seqlens_cpu, B, q.device)
    if cu_seqlens is not None:
        check_bounds(cu_seqlens, cu_seqlens_cpu, T, check_values)
    if initial_state is not None and initial_state.shape != (N, HV, K, V):
        _refuse("initial_state", initial_state, f"[{N}, {HV}, {K}, {V}]: sequences, value heads, K, V")
    _check_raw_gate(use_gate_in_kernel, g, A_log, dt_bias)
    return CallShape(
        decay=decay,
        erase=erase,
        write="tied" if write == "none" else write,
        B=B,
        T=T,
        H=H,
        HV=HV,
        K=K,
        V=V,
        N=N,
        decay_heads=HV if g is None else g.shape[2],
        erase_heads=HV if b is None else b.shape[2],
    )


def _refuse(name: str, x: Tensor, accepted: str) -> NoReturn:
    raise ValueError(f"{name} has shape {list(x.shape)}; accepted: {accepted}")


def _check_tensors(**tensors: Tensor | None) -> None:
    for name, x in tensors.items():
        required = name in ("q", "k", "v")
        if not isinstance(x, Tensor) and (required or x is not None):
            raise TypeError(
                f"{name} is of type {type(x).__name__}; accepted: a torch.Tensor{'' if required else ' or None'}"
            )
        if x is not None and not dense(x):
            raise TypeError(f"{name} is {sort_of(x)}; accepted: dense tensors")


def _check_dtypes(q: Tensor, allow_fp64: bool, **tensors: Tensor | None) -> None:
    """k and v have q's dtype, states are fp32, and gates are either."""
    data = (torch.float32, torch.bfloat16, torch.float16) + ((torch.float64,) if allow_fp64 else ())
    if q.dtype not in data:
        raise TypeError(f"q has dtype {_short(q.dtype)}; accepted: {', '.join(map(_short, data))}")
    exact = (torch.float32, torch.float64) if q.dtype == torch.float64 else (torch.float32,)
    accepted = {"k": (q.dtype,), "v": (q.dtype,), "initial_state": exact}
    for name, x in tensors.items():
        choices = accepted.get(name, tuple(dict.fromkeys((torch.float32, q.dtype))))
        if x is not None and x.dtype not in choices:
            raise TypeError(
                f"{name} has dtype {_short(x.dtype)}; accepted beside q in {_short(q.dtype)}: "
                + " or ".join(map(_short, choices))
            )
        if x is not None and x.device != q.device:
            raise ValueError(f"{name} is on {x.device}; accepted: {q.device}, where q is")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_data(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, int, int, int, int, int]:
    """B, T, H, K, HV, V."""
    for name, x, shape in (("q", q, "[B, T, H, K]"), ("k", k, "[B, T, H, K]"), ("v", v, "[B, T, HV, V]")):
        if x.dim() != 4:
            _refuse(name, x, shape)
        if 0 in (x.shape[0], x.shape[2], x.shape[3]):
            _refuse(name, x, f"{shape}, of which only T may be 0")
        if x.shape[3] > MAX_HEAD_DIM:
            _refuse(name, x, f"{shape} with {shape[-2]} at most {MAX_HEAD_DIM}")
    B, T, H, K = q.shape
    if k.shape != q.shape:
        _refuse("k", k, f"{list(q.shape)}, the shape of q")
    if v.shape[:2] != q.shape[:2]:
        _refuse("v", v, f"[{B}, {T}, HV, V], for q of shape {list(q.shape)}")
    if v.shape[2] % H:
        raise ValueError(f"v has {v.shape[2]} heads; accepted: a multiple of the {H} heads of q and k")
    return B, T, H, K, v.shape[2], v.shape[3]


def _check_gate(name: str, x: Tensor | None, bases: list[tuple[int, int, int]], channels: int, accepted: str) -> Tie:
    if x is None:
        return "none"
    # Element by element: a compiler that traces a symbolic T does not find equal tuples by `in`.
    fits = any(tuple(x.shape[:3]) == base for base in bases)
    if x.dim() not in (3, 4) or not fits or (x.dim() == 4 and x.shape[3] != channels):
        _refuse(name, x, accepted)
    return "scalar" if x.dim() == 3 else "channel"


def check_boundaries(
    cu_seqlens: Tensor | None,
    cu_seqlens_cpu: Tensor | None,
    B: int,
    device: torch.device,
) -> int:
    """The number of sequences. Raises TypeError and ValueError for a tensor that cannot be the boundaries of packed sequences."""
    if cu_seqlens is None:
        if cu_seqlens_cpu is not None:
            raise ValueError("cu_seqlens_cpu is given without cu_seqlens; accepted: a CPU copy of cu_seqlens")
        return B
    for name, x, place in (
        ("cu_seqlens", cu_seqlens, device),
        ("cu_seqlens_cpu", cu_seqlens_cpu, torch.device("cpu")),
    ):
        if name == "cu_seqlens_cpu" and x is None:
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} is of type {type(x).__name__}; accepted: an int32 or int64 tensor, or None")
        if x.dtype not in (torch.int32, torch.int64) or not dense(x):
            raise TypeError(f"{name} is {sort_of(x)}; accepted: a dense int32 or int64 tensor")
        if x.dim() != 1 or x.shape[0] < 2:
            _refuse(name, x, "[N + 1], for N >= 1 sequences")
        if x.device != place:
            raise ValueError(f"{name} is on {x.device}; accepted: {place}")
    if B != 1:
        raise ValueError(f"cu_seqlens is given for a batch of {B} rows; accepted: all sequences packed into one row")
    if cu_seqlens_cpu is not None and cu_seqlens_cpu.shape != cu_seqlens.shape:
        _refuse("cu_seqlens_cpu", cu_seqlens_cpu, f"{list(cu_seqlens.shape)}, the shape of cu_seqlens")
    return cu_seqlens.shape[0] - 1


def _check_raw_gate(use_gate_in_kernel: bool, g: Tensor | None, A_log: Tensor | None, dt_bias: Tensor | None) -> None:
    if use_gate_in_kernel and g is None:
        raise ValueError("use_gate_in_kernel is True, but g is None; accepted: raw gate values in g")
    for name, x in (("A_log", A_log), ("dt_bias", dt_bias)):
        if x is None and use_gate_in_kernel:
            raise ValueError(f"{name} is None; with use_gate_in_kernel=True, accepted: a tensor")
        if x is not None and not use_gate_in_kernel:
            raise ValueError(f"{name} is given, but use_gate_in_kernel is False; accepted: None")
    if g is None or A_log is None or dt_bias is None:
        return
    G = g.shape[2]
    if A_log.shape != (G,):
        _refuse("A_log", A_log, f"[{G}], one number per head of g")
    biases = G if g.dim() == 3 else G * g.shape[3]
    if dt_bias.shape != (biases,):
        _refuse("dt_bias", dt_bias, f"[{biases}], one number per head {'' if g.dim() == 3 else 'and channel '}of g")
