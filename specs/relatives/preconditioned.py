"""Preconditioned Gated DeltaNet and KDA."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..inputs.make import Inputs, rounded
from ..problem import Problem
from .system import Drawn, States, System, outer, plain, stacked, start, times, value_heads


def recurrence(
    x: Mapping[str, Tensor], states: States, scale: float, *, bound: float, eps: float, center: float
) -> tuple[Tensor, States]:
    """g [T, HV] is the decay of preconditioned Gated DeltaNet, g [T, HV, K] that of preconditioned KDA."""
    v, beta, k = x["v"], x["beta"], x["k"]
    HV = v.shape[-2]
    decay = x["g"].exp() if x["g"].dim() == 3 else x["g"].exp()[..., None]
    q, keys = (value_heads(x[name], HV) for name in "qk")
    S = start(states, *keys.shape[1:], v.shape[-1])
    A = states[1] if states else torch.zeros_like(k[0]) if len(k) else k.new_zeros(*k.shape[1:])
    o = []
    for t in range(len(v)):
        A = x["g_atk"][t].exp()[:, None] * A + x["beta_atk"][t][:, None] * k[t] ** 2
        r = torch.log(A + eps) - center
        M = bound ** (-r / (1 + r.abs()))
        decayed = decay[t][..., None] * S
        error = beta[t][:, None] * (v[t] - times(keys[t], decayed))
        S = decayed + outer(value_heads(M, HV) * keys[t], error)
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S, A)


def draw(problem: Problem, inputs: Inputs) -> Drawn:
    """Keys no longer than 4: the energies hold their squares."""
    rng = np.random.default_rng(problem.seed)
    heads = (problem.B, problem.T, problem.H)
    call = plain(problem, inputs, g=inputs.g, beta=inputs.b)
    call.tensors["k"] = np.clip(call.tensors["k"], -4, 4)
    call.tensors["g_atk"] = rounded(-rng.uniform(0, 0.5, heads), "fp32")
    call.tensors["beta_atk"] = rounded(rng.uniform(0, 1, heads), problem.dtype)
    energy = (len(problem.sequences), problem.H, problem.K)
    call.settings.update(bound=1.5, eps=1e-6, center=-0.2)
    states = None if call.states is None else (*call.states, rounded(rng.uniform(0, 2, energy), "fp32"))
    dstates = None if call.dstates is None else (*call.dstates, rounded(rng.standard_normal(energy), "fp32"))
    return Drawn(
        tensors=call.tensors, do=call.do, states=states, dstates=dstates, settings=call.settings, weights=call.weights
    )


PRECONDITIONED_GDN = System(
    name="precond_gdn",
    title="preconditioned Gated DeltaNet",
    source="flash-linear-attention 0.6.0, precond_gated_delta_rule: write key M k, read key k, M from running energies",
    how="k := M k, b = beta / M, w = beta; the energies are the rule with one key channel",
    draw=draw,
    recurrence=recurrence,
    outputs=("state", "energy"),
)
PRECONDITIONED_KDA = System(
    name="precond_kda",
    title="preconditioned KDA",
    source="flash-linear-attention 0.6.0, precond_kda: as preconditioned Gated DeltaNet, with a decay per key channel",
    how="as precond_gdn, channel-wise g",
    draw=draw,
    recurrence=recurrence,
    outputs=("state", "energy"),
)
