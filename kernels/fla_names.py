"""The op and its relatives under the names of flash-linear-attention 0.6.0, with its argument names and layouts.

A model that imports `chunk_kda` and the like from there can import them from here. Arguments that FLA offers and this module does
not are refused in one line: `cp_context`, `return_intermediate_states`, `reverse`, `gv`. Arguments that change how FLA computes
but not its results (`safe_gate`, `use_graph`, `max_num_seqs`) may be passed and change nothing: no gate needs care here. Nor do
those that FLA does not use in the same call: `A_log`, `dt_bias` and `lower_bound` without `use_gate_in_kernel`. `chunk_size` is a
launch parameter and becomes the `config`. `disable_recompute` is that of `gated_delta_rule`, in every function. `chunk_indices`
may be the tables of `deltaproof.kernels.chunk_indices`, which `gated_delta_rule` then uses; FLA's own tensor of that name changes
nothing.
`state_v_first=True` gives and takes states as [N, HV, V, K].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .api import OPTIONS, gated_delta_rule
from .arguments.axes import check_axes, check_number
from .arguments.checks import check_boundaries
from .arguments.chunk_tables import ChunkIndices
from .arguments.contents import any_is
from .arguments.door import Door
from .configs.launch_config import LaunchConfig
from .eager.first_stage import l2norm
from .relatives import comba, gated_delta_product, preconditioned_delta_rule, retention, rwkv7
from .relatives.delta_product import dividing_steps
from .relatives.preconditioned import PreconditionedState

Result = tuple[Tensor, Tensor | None]

_HOW = ("safe_gate", "use_graph", "max_num_seqs", "transpose_state_layout")
"""Keywords about FLA's own kernels. The last is its older name for `state_v_first` and is read as that."""
_NOT_OFFERED = ("cp_context", "return_intermediate_states", "reverse", "gv")

_COMMON = frozenset({*OPTIONS, *_HOW, *_NOT_OFFERED, "chunk_size", "state_v_first"})
_plain = Door(_COMMON)
_bounded = Door(_COMMON | {"lower_bound"})
_with_logits = Door(_COMMON | {"lower_bound", "use_beta_sigmoid_in_kernel", "allow_neg_eigval"})
_preconditioned = Door(_COMMON | {"initial_A_state", "x", "eps", "log_atk_scale"})


def _options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Keywords of `gated_delta_rule` from those of FLA. Raises TypeError for an argument that cannot be honoured."""
    options = dict(arguments)
    if (chunk_size := options.pop("chunk_size", None)) is not None:
        options["config"] = LaunchConfig(chunk_size=chunk_size)
    for name in _HOW:
        options.pop(name, None)
    if not isinstance(options.get("chunk_indices"), ChunkIndices):
        options.pop("chunk_indices", None)
    for name in _NOT_OFFERED:
        if (value := options.pop(name, None)) is not None and value is not False:
            raise TypeError(f"{name}={value!a:.60} is not offered here; accepted: None or False")
    return options


def _call(function: Callable[..., Any], *tensors: Any, v_first: bool, **arguments: Any) -> Result:
    """Call with states turned to [N, HV, K, V] on the way in, and back on the way out."""
    options = _options(arguments)
    state = options.pop("initial_state", None)
    if state is not None and v_first:
        state = state.mT
    o, last = function(*tensors, initial_state=state, **options)
    return o, last.mT if last is not None and v_first else last


def _v_first(arguments: dict[str, Any]) -> bool:
    return bool(arguments.pop("state_v_first", False) or arguments.get("transpose_state_layout", False))


def _bounded_decay(g: Tensor, A_log: Tensor | None, dt_bias: Tensor | None, lower_bound: float) -> Tensor:
    """The decay of a gate with a lower bound, lower_bound * sigmoid(exp(A_log) (g + dt_bias))."""
    check_number("lower_bound", lower_bound, -math.inf, 0.0)
    check_axes(g=(g, "B T G or B T G K"), A_log=(A_log, "None or G"))
    raw = g.float()
    if dt_bias is not None:
        flat, split = g.shape[2:].numel(), " ".join(map(str, g.shape[2:]))
        check_axes(g=(g, "B T G or B T G K"), dt_bias=(dt_bias, f"{flat} or {split}"))
        raw = raw + dt_bias.float().view(g.shape[2:])
    if A_log is not None:
        raw = A_log.float().exp().view(-1, *[1] * (g.dim() - 3)) * raw
    return lower_bound * torch.sigmoid(raw)


def _gate(g: Tensor, arguments: dict[str, Any]) -> Tensor:
    """The gate tensor to pass on: a bounded gate is activated here, any other is left to the op."""
    bound = arguments.pop("lower_bound", None)
    if not arguments.get("use_gate_in_kernel"):
        for name in ("A_log", "dt_bias"):
            arguments.pop(name, None)
        return g
    if bound is not None:
        A_log, dt_bias, _ = (arguments.pop(name, None) for name in ("A_log", "dt_bias", "use_gate_in_kernel"))
        return _bounded_decay(g, A_log, dt_bias, bound)
    if arguments.get("dt_bias") is None and arguments.get("A_log") is not None:
        arguments["dt_bias"] = torch.zeros(g.shape[2:].numel(), device=g.device)
    return g


def _beta(beta: Tensor, arguments: dict[str, Any]) -> Tensor:
    """beta, from logits where the caller asks for that. Raises ValueError for [0, 2] without them, as FLA does."""
    logits, negative = (arguments.pop(name, False) for name in ("use_beta_sigmoid_in_kernel", "allow_neg_eigval"))
    if negative and not logits:
        raise ValueError(
            "allow_neg_eigval is True, which needs use_beta_sigmoid_in_kernel=True; else double beta yourself"
        )
    check_axes(beta=(beta, "B T HV"))
    return (2.0 if negative else 1.0) * torch.sigmoid(beta.float()) if logits else beta


def _all_ones(v: Tensor) -> Tensor:
    """The beta of a call that has none."""
    check_axes(v=(v, "B T HV V"))
    return torch.ones_like(v[..., 0])


def _with_beta(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, arguments: dict[str, Any]) -> Result:
    """The rules whose erase and write gate are one number per head; `arguments` are the other keywords of FLA's function."""
    g, beta = _gate(g, arguments), _beta(beta, arguments)
    return _call(gated_delta_rule, q, k, v, g, beta, v_first=_v_first(arguments), **arguments)


@_bounded
def chunk_gdn2(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, scale: float | None = None,
    initial_state: Tensor | None = None, output_final_state: bool = False, **kwargs: Any,
) -> Result:  # fmt: skip
    """Gated DeltaNet-2: q, k, g, b [B, T, H, K], v, w [B, T, HV, V]; b is in [0, 1], or [0, 2] for negative eigenvalues."""
    g = _gate(g, kwargs)
    return _call(
        gated_delta_rule, q, k, v, g, b, w, v_first=_v_first(kwargs), scale=scale, initial_state=initial_state,
        output_final_state=output_final_state, **kwargs,
    )  # fmt: skip


@_bounded
def fused_recurrent_gdn2(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, A_log: Tensor | None = None,
    dt_bias: Tensor | None = None, scale: float | None = None, **kwargs: Any,
) -> Result:  # fmt: skip
    """The same as `chunk_gdn2`, with FLA's order of arguments."""
    return chunk_gdn2(q, k, v, g, b, w, scale, A_log=A_log, dt_bias=dt_bias, **kwargs)


@_with_logits
def chunk_kda(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None = None,
    initial_state: Tensor | None = None, output_final_state: bool = False, **kwargs: Any,
) -> Result:  # fmt: skip
    """Kimi Delta Attention: g [B, T, HV, K], beta [B, T, HV]."""
    kwargs |= {"scale": scale, "initial_state": initial_state, "output_final_state": output_final_state}
    return _with_beta(q, k, v, g, beta, kwargs)


@_with_logits
def fused_recurrent_kda(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, A_log: Tensor | None = None,
    dt_bias: Tensor | None = None, scale: float | None = None, **kwargs: Any,
) -> Result:  # fmt: skip
    """The same as `chunk_kda`, with FLA's order of arguments."""
    return chunk_kda(q, k, v, g, beta, scale, A_log=A_log, dt_bias=dt_bias, **kwargs)


@_with_logits
def chunk_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None = None,
    initial_state: Tensor | None = None, output_final_state: bool = False, **kwargs: Any,
) -> Result:  # fmt: skip
    """Gated DeltaNet: g, beta [B, T, HV]."""
    kwargs |= {"scale": scale, "initial_state": initial_state, "output_final_state": output_final_state}
    return _with_beta(q, k, v, g, beta, kwargs)


@_with_logits
def fused_recurrent_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None, gk: Tensor | None = None, gv: Tensor | None = None,
    beta: Tensor | None = None, scale: float | None = None, **kwargs: Any,
) -> Result:  # fmt: skip
    """Gated DeltaNet or KDA: g [B, T, HV] and gk [B, T, HV, K] are decays, of which either or both may be given."""
    check_axes(v=(v, "B T HV V"), g=(g, "None or B T HV"), gk=(gk, "None or B T HV K"))
    decay = gk if g is None else g if gk is None else g[..., None] + gk
    beta = _all_ones(v) if beta is None else _beta(beta, kwargs)
    decay = None if decay is None else _gate(decay, kwargs)
    return _call(gated_delta_rule, q, k, v, decay, beta, v_first=_v_first(kwargs), scale=scale, gv=gv, **kwargs)


@_plain
def chunk_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor | None = None, scale: float | None = None,
    initial_state: Tensor | None = None, output_final_state: bool = False, **kwargs: Any,
) -> Result:  # fmt: skip
    """DeltaNet: beta [B, T, HV], 1 if left out."""
    beta = _all_ones(v) if beta is None else beta
    return _call(
        gated_delta_rule, q, k, v, None, beta, v_first=_v_first(kwargs), scale=scale, initial_state=initial_state,
        output_final_state=output_final_state, **kwargs,
    )  # fmt: skip


@_plain
def chunk_gla(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float | None = None, initial_state: Tensor | None = None,
    output_final_state: bool = False, **kwargs: Any,
) -> Result:  # fmt: skip
    """Gated linear attention: g [B, T, H, K]."""
    return _call(
        gated_delta_rule, q, k, v, g, v_first=_v_first(kwargs), scale=scale, initial_state=initial_state,
        output_final_state=output_final_state, **kwargs,
    )  # fmt: skip


@_plain
def fused_recurrent_gla(
    q: Tensor, k: Tensor, v: Tensor, gk: Tensor | None = None, gv: Tensor | None = None, scale: float | None = None,
    initial_state: Tensor | None = None, output_final_state: bool = False, **kwargs: Any,
) -> Result:  # fmt: skip
    """The same as `chunk_gla`, with FLA's name for the gate."""
    check_axes(q=(q, "B T H K"), v=(v, "B T HV V"), gk=(gk, "None or B T H K or B T HV K"))
    return chunk_gla(q, k, v, gk, scale, initial_state, output_final_state, gv=gv, **kwargs)  # pyright: ignore


@_plain
def chunk_simple_gla(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None, g_gamma: Tensor | None = None, scale: float | None = None,
    initial_state: Tensor | None = None, output_final_state: bool = False, **kwargs: Any,
) -> Result:  # fmt: skip
    """Linear attention with a decay per head: g [B, T, H], or g_gamma [H], the same for every token, or both."""
    if g_gamma is not None:
        check_axes(v=(v, "B T HV V"), g=(g, "None or B T HV"), g_gamma=(g_gamma, "HV"))
        fixed = g_gamma.float().expand(*v.shape[:2], -1)
        g = fixed if g is None else g.float() + fixed
    return _call(
        gated_delta_rule, q, k, v, g, v_first=_v_first(kwargs), scale=scale, initial_state=initial_state,
        output_final_state=output_final_state, **kwargs,
    )  # fmt: skip


@_plain
def chunk_retention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, **kwargs: Any) -> Result:
    """RetNet: one fixed decay per head."""
    return _call(retention, q, k, v, v_first=_v_first(kwargs), scale=scale, **kwargs)


@_plain
def chunk_linear_attn(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, initial_state: Tensor | None = None,
    output_final_state: bool = False, normalize: bool = True, **kwargs: Any,
) -> Result:  # fmt: skip
    """Linear attention. Without its normaliser only: pass normalize=False. Raises ValueError for normalize=True."""
    if normalize:
        raise ValueError("normalize=True divides by a running sum of keys, which is not the rule; accepted: False")
    return _call(
        gated_delta_rule, q, k, v, v_first=_v_first(kwargs), scale=scale, initial_state=initial_state,
        output_final_state=output_final_state, **kwargs,
    )  # fmt: skip


@_plain
def chunk_gated_delta_product(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor, num_householder: int, scale: float | None = None,
    initial_state: Tensor | None = None, output_final_state: bool = False, **kwargs: Any,
) -> Result:  # fmt: skip
    """Gated DeltaProduct: k, v, beta hold `num_householder` rows per token, [B, T * n, ...]; q and g one."""
    steps = dividing_steps(k, v, beta, num_householder)
    return _call(
        lambda *tensors, **options: gated_delta_product(q, tensors[0], tensors[1], g, tensors[2], **options),
        *steps, v_first=_v_first(kwargs), scale=scale, initial_state=initial_state,
        output_final_state=output_final_state, **kwargs,
    )  # fmt: skip


@_plain
def chunk_comba(
    q: Tensor, k: Tensor, v: Tensor, p: Tensor, g: Tensor, beta: Tensor | None = None, scale: float | None = None,
    initial_state: Tensor | None = None, output_final_state: bool = False, use_qk_l2norm_in_kernel: bool = False,
    **kwargs: Any,
) -> Result:  # fmt: skip
    """Comba, which reads before it decays. p must be a multiple of k per token and head, as Comba's p = d k is.

    With use_qk_l2norm_in_kernel FLA normalises p too, so that any positive multiple becomes k itself. Raises ValueError,
    where values are checked, for p that is no multiple of k.
    """
    beta = _all_ones(v) if beta is None else beta
    check_axes(q=(q, "B T H K"), k=(k, "B T H K"), p=(p, "B T H K"), v=(v, "B T HV V"))
    if use_qk_l2norm_in_kernel:
        q, k, p = (l2norm(x) for x in (q, k, p))
    keys, reads = k.float(), p.float()
    d = (keys * reads).sum(-1) / keys.square().sum(-1).clamp(min=torch.finfo(torch.float32).tiny)
    wrong = lambda p: (p - d[..., None] * keys).norm(dim=-1) > 1e-2 * p.norm(dim=-1) + 1e-6  # noqa: E731
    if any_is("p", reads, wrong, kwargs.get("check_values")):
        raise ValueError("p is no multiple of k; accepted: p = d k with one d per token and head")
    d = d.repeat_interleave(v.shape[2] // k.shape[2], 2)
    return _call(
        comba, q, k, v, g, beta, d, v_first=_v_first(kwargs), scale=scale, initial_state=initial_state,
        output_final_state=output_final_state, **kwargs,
    )  # fmt: skip


@_bounded
def chunk_rwkv7(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, scale: float = 1.0,
    initial_state: Tensor | None = None, output_final_state: bool = False, **kwargs: Any,
) -> Result:  # fmt: skip
    """RWKV-7 as FLA takes it: a = -kk reads, b = kk * (the gate) writes. kk must not be 0 where b is not."""
    check_axes(**{name: (x, "B T H K") for name, x in (("r", r), ("w", w), ("k", k), ("a", a), ("b", b))})
    kk = -a
    gate = torch.where(kk == 0, 1.0, b / torch.where(kk == 0, 1.0, kk))
    kwargs.pop("lower_bound", None)
    return _call(
        rwkv7, r, w, k, v, kk, gate, v_first=_v_first(kwargs), scale=scale, initial_state=initial_state,
        output_final_state=output_final_state, **kwargs,
    )  # fmt: skip


@_plain
def fused_mul_recurrent_rwkv7(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor, scale: float = 1.0, **kwargs: Any
) -> Result:
    """RWKV-7 with kk and the gate a given apart."""
    return _call(rwkv7, r, w, k, v, kk, a, v_first=_v_first(kwargs), scale=scale, **kwargs)


@_plain
def chunk_precond_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g_atk: Tensor, g: Tensor, beta_atk: Tensor, beta: Tensor, scale: float | None = None,
    initial_state: Tensor | None = None, initial_A_state: Tensor | None = None, output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = True, x: float = 1.5, eps: float = 1e-6,
    log_atk_scale: Tensor | float | None = None, **kwargs: Any,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Preconditioned Gated DeltaNet, or KDA with g [B, T, HV, K]: outputs, the final state, the final energies."""
    of_heads = {"log_atk_scale": (log_atk_scale, "H")} if isinstance(log_atk_scale, Tensor) else {}
    check_axes(q=(q, "B T H K"), k=(k, "B T H K"), v=(v, "B T HV V"), **of_heads)
    check_number("x", x, 1.0)
    if not of_heads and log_atk_scale is not None:
        check_number("log_atk_scale", log_atk_scale, -math.inf)
    if use_qk_l2norm_in_kernel:
        q, k = l2norm(q), l2norm(k)
    turned, options = _v_first(kwargs), _options(kwargs)
    before = None
    if initial_state is not None or initial_A_state is not None:
        N = check_boundaries(kwargs.get("cu_seqlens"), kwargs.get("cu_seqlens_cpu"), q.shape[0], q.device)
        state = initial_state.mT if initial_state is not None and turned else initial_state
        before = PreconditionedState(
            _zeros_or("initial_state", state, (N, v.shape[2], k.shape[3], v.shape[3]), q.device),
            _zeros_or("initial_A_state", initial_A_state, (N, k.shape[2], k.shape[3]), q.device),
        )
    o, last = preconditioned_delta_rule(
        q, k, v, g, beta, g_atk, beta_atk, bound=x, eps=eps, center=-0.2 if log_atk_scale is None else log_atk_scale,
        scale=scale, initial_state=before, output_final_state=output_final_state, **options,
    )  # fmt: skip
    return (o, None, None) if last is None else (o, last.state.mT if turned else last.state, last.energy)


def _zeros_or(name: str, given: Tensor | None, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A state that was given, or that of no tokens. Raises ValueError for another shape."""
    if given is None:
        return torch.zeros(shape, device=device)
    if given.shape != shape:
        raise ValueError(f"{name} has shape {list(given.shape)}; accepted: {list(shape)}")
    return given


@_preconditioned
def chunk_precond_kda(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, g_atk: Tensor, beta_atk: Tensor, beta: Tensor, scale: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Preconditioned KDA, which takes q and k as they are."""
    kwargs.setdefault("use_qk_l2norm_in_kernel", False)
    return chunk_precond_gated_delta_rule(q, k, v, g_atk, g, beta_atk, beta, scale, **kwargs)


fused_recurrent_delta_rule = _plain(chunk_delta_rule, "fused_recurrent_delta_rule")
"""As `chunk_delta_rule`."""
fused_recurrent_simple_gla = _plain(chunk_simple_gla, "fused_recurrent_simple_gla")
"""As `chunk_simple_gla`."""
fused_recurrent_retention = _plain(chunk_retention, "fused_recurrent_retention")
"""As `chunk_retention`."""
fused_recurrent_linear_attn = _plain(chunk_linear_attn, "fused_recurrent_linear_attn")
"""As `chunk_linear_attn`."""
