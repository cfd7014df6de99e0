"""The public op: any rule of the gated delta family, by one call."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from ..results.schema.token import chunk_size_of, variant_of
from .arguments.axes import check_flags
from .arguments.checks import CallShape, check
from .arguments.chunk_tables import ChunkIndices, check_chunk_indices
from .arguments.contents import may_read
from .arguments.door import Takes
from .configs.launch_config import LaunchConfig
from .eager import first_stage as plain
from .eager.chunkwise import gated_delta_rule_torch
from .eager.exported import chunkwise_torch
from .ops import library
from .ops.dispatch import choose_config
from .ops.traced import marked
from .ops.variants import LAUNCHED

Tensor = torch.Tensor

VARIANTS = (*LAUNCHED, "torch")

SHORT = 64
"""Sequences up to this long are walked token by token where no gradient is needed."""


def gated_delta_rule(
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
    chunk_indices: ChunkIndices | None = None,
    use_qk_l2norm_in_kernel: bool = False,
    use_gate_in_kernel: bool = False,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    disable_recompute: bool = False,
    variant: str | None = None,
    config: LaunchConfig | None = None,
    check_values: bool | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The gated delta rule (Gated DeltaNet-2, arXiv 2605.22791, Eq. 8-10), per value head with a state S [K, V]:

        S <- (I - k (b * k)^T) Diag(exp g) S + k (w * v)^T          o = scale * S^T q

    The rank of a gate says how it is tied: Gated DeltaNet-2 passes all three channel-wise; KDA a channel-wise g and a
    scalar b; Gated DeltaNet scalar g and b; DeltaNet only a scalar b; GLA only g; linear attention none.

    Args:
        q, k: [B, T, H, K] in fp32, bf16 or fp16; K at most 256.
        v: [B, T, HV, V]; HV a multiple of H, value head j reads key head j // (HV // H); V at most 256.
        g: log decay, at most 0 (-inf forgets): [B, T, G] or [B, T, G, K] with G either H or HV. None: no decay.
        b: erase gate, [B, T, G] or [B, T, G, K]. None: nothing is erased.
        w: write gate, [B, T, HV] or [B, T, HV, V]. None: b, which is then one per head, or 1 without b.
        scale: of the outputs; K ** -0.5 by default.
        initial_state: [N, HV, K, V] fp32, N the number of sequences.
        output_final_state: return the states after the last tokens too.
        cu_seqlens: [N + 1] boundaries of packed sequences, for B = 1; empty sequences keep their state.
        cu_seqlens_cpu: a copy of cu_seqlens on the CPU, whose contents can be checked without a synchronisation. The torch
            variant, which walks sequences on the host, reads it; without it, it has to wait for cu_seqlens.
        chunk_indices: of the same sequences, from `deltaproof.kernels.chunk_indices`; then no call computes them again.
        use_qk_l2norm_in_kernel: divide q and k by sqrt(sum x^2 + 1e-6) first.
        use_gate_in_kernel: g is raw; the decay is -exp(A_log) * softplus(g + dt_bias), A_log [G], dt_bias [G] or [G * K].
        disable_recompute: keep what the backward pass of "staged" would else compute again, as FLA's flag of this name does: it
            then moves fewer bytes, in two launches fewer. Results and gradients are the same bits; the other variants ignore it.
            Kept are, per value head and in the dtype of q: Qbar, Ebar (of rules that erase) and Kt [T, K], R [T, V], and the
            state before each of M chunks [M, K, V]; in fp32 the decay of each chunk [M, K] or [M]. In bf16 with K = V = 128 and
            chunks of 32 that is 2,064 bytes per token (gdn2), beside 1,921 of inputs and scores, which every call keeps.
        variant: "staged" (differentiable); "split", "packed" or "fused" (inference, with ever less memory traffic and ever
            fewer programs); "tokens" (inference, short sequences) or "torch"; by default chosen by device, length and
            whether a gradient is needed, and among those of inference by the configuration.
        config: the launch configuration; by default that of the tuned table of this GPU, or one that is safe everywhere.
        check_values: check the contents of g and cu_seqlens; by default only where they can be read without a synchronisation,
            so not under `torch.vmap`, for fake tensors or while a graph is traced.

    Returns:
        o [B, T, HV, V] in v's dtype, and the final states [N, HV, K, V] fp32, or None.

    A NaN or an infinity in a token's data reaches that token's outputs and, through the state, later ones of the same
    sequence and head; in the chunkwise variants also earlier outputs of its chunk may become NaN. The gradient of a decay
    of -inf is 0.

    Raises:
        ValueError, TypeError: one line that names the argument, the value found and the values accepted.
    """
    if variant is not None and not (isinstance(variant, str) and variant in VARIANTS):
        raise ValueError(f"variant={variant!a:.60}; accepted: {', '.join(VARIANTS)}")
    check_flags(
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        use_gate_in_kernel=use_gate_in_kernel,
        disable_recompute=disable_recompute,
        check_values=check_values is not None and check_values,
    )
    if config is not None and not isinstance(config, LaunchConfig):
        raise TypeError(
            f"config is of type {type(config).__name__}; accepted: a LaunchConfig, e.g. LaunchConfig.parse('c64')"
        )
    shape = check(
        q,
        k,
        v,
        g,
        b,
        w,
        scale=scale,
        initial_state=initial_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
        use_gate_in_kernel=use_gate_in_kernel,
        A_log=A_log,
        dt_bias=dt_bias,
        check_values=check_values,
        allow_fp64=variant in (None, "torch"),
    )
    if chunk_indices is not None:
        readable = may_read(q, check_values)
        check_chunk_indices(chunk_indices, cu_seqlens, shape.T, q.device, readable=readable)
    scaling = q.shape[-1] ** -0.5 if scale is None else float(scale)
    named, variant = variant, variant or _choose(q, k, v, g, b, w, initial_state, A_log, dt_bias)
    if variant == "torch":
        if use_qk_l2norm_in_kernel:
            q, k = plain.l2norm(q), plain.l2norm(k)
        if use_gate_in_kernel:
            assert g is not None and A_log is not None and dt_bias is not None  # `check` saw to it
            g = plain.decay_gate(g, A_log, dt_bias)
        return _in_torch(
            (q, k, v, g, b, w, initial_state, cu_seqlens if cu_seqlens_cpu is None else cu_seqlens_cpu),
            scaling,
            64 if config is None else config.chunk_size,
            output_final_state,
            q.device.type,
        )
    if variant != "staged" and _needs_grad(q, k, v, g, b, w, initial_state, A_log, dt_bias):
        raise ValueError(f"variant={variant!r} has no backward; use variant='staged', or torch.no_grad()")
    if config is None:
        options = {"l2norm": use_qk_l2norm_in_kernel, "gate": use_gate_in_kernel}
        options["states"] = initial_state is not None or output_final_state
        token = _served(LAUNCHED[variant].op, shape, q, named, cu_seqlens is not None, options)
    else:
        token = config.token
    # A call of inference that names no variant runs that of its configuration.
    launched = LAUNCHED[variant_of(token) if named is None and variant == "split" else variant]
    chunks = first_chunk = None
    if chunk_indices is not None and launched.reads_chunk_tables:
        layout = chunk_indices.of(chunk_size_of(token))
        chunks, first_chunk = layout.chunks, layout.first_chunk
    q, k, v = pack(q), pack(k), pack(v)
    g, b, w = (None if gate is None else pack(gate) for gate in (g, b, w))
    more: dict[str, Any] = {"disable_recompute": disable_recompute} if variant == "staged" else {}
    if launched.prepares_inputs:
        more = {"A_log": A_log, "dt_bias": dt_bias, "normalise": use_qk_l2norm_in_kernel}
    else:
        if use_qk_l2norm_in_kernel:
            q, k = library.l2norm(x=q), library.l2norm(x=k)
        if use_gate_in_kernel:
            g = library.decay_gate(f=g, A_log=A_log, dt_bias=dt_bias)
    o, ht, *_ = launched.operator(
        q=q,
        k=k,
        v=v,
        g=g,
        b=b,
        w=w,
        h0=None if initial_state is None else initial_state.contiguous(),
        cu_seqlens=cu_seqlens,
        chunks=chunks,
        first_chunk=first_chunk,
        sequences=shape.N,
        scale=scaling,
        config=token,
        final=output_final_state,
        **more,
    )
    return o.view(shape.B, shape.T, *o.shape[1:]), ht if output_final_state else None


OPTIONS = frozenset(
    name
    for name, parameter in inspect.signature(gated_delta_rule).parameters.items()
    if parameter.kind == inspect.Parameter.KEYWORD_ONLY
)
"""Keywords that functions around the op hand on to it."""

with_options = Takes(OPTIONS)


def _served(op: str, shape: CallShape, q: Tensor, variant: str | None, packed: bool, options: dict[str, bool]) -> str:
    """The token of the configuration that is served; a traced call looks it up again when it runs."""
    token = choose_config(op, shape, q, variant=variant, packed=packed, **options)
    if torch.compiler.is_compiling() and (op == "chunk_train" or variant_of(token) == "packed"):
        return marked(token, **options)
    return token


def _in_torch(
    tensors: tuple[Tensor | None, ...], scale: float, chunk_size: int, final: bool, device: str
) -> tuple[Tensor, Tensor | None]:
    """The plain path, in its own precision also under autocast; exported, as one operator, since T is a symbol there."""
    if device != "meta" and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return _in_torch(tensors, scale, chunk_size, final, device)
    if torch.compiler.is_exporting():
        o, state = chunkwise_torch(*tensors, scale, chunk_size)
        return o, state if final else None
    *data, initial_state, cu_seqlens = tensors
    return gated_delta_rule_torch(
        *data,  # pyright: ignore[reportArgumentType]
        scale=scale,
        initial_state=initial_state,
        output_final_state=final,
        cu_seqlens=cu_seqlens,
        chunk_size=chunk_size,
    )


def _choose(q: Tensor, *others: Tensor | None) -> str:
    """The variant for a call that names none."""
    if not q.is_cuda or q.dtype == torch.float64:
        return "torch"
    if _needs_grad(q, *others):
        return "staged"
    return "tokens" if q.shape[1] <= SHORT else "split"


def _needs_grad(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def pack(x: Tensor) -> Tensor:
    """[B, T, ...] -> [B * T, ...], contiguous."""
    x = x.flatten(0, 1)
    return x if x.is_contiguous() else x.contiguous()
