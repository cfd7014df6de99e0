"""CARVE: an erase gate that also sees the mean of the outputs of the chunk before. Token by token, as it decodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..inputs.make import Inputs, rounded
from ..problem import Problem
from .system import Drawn, States, System, no_longer, outer, plain, stacked, start, times, value_heads


def recurrence(
    x: Mapping[str, Tensor], states: States, scale: float, *, chunk_size: int, position: int
) -> tuple[Tensor, States]:
    """`position` tokens came before; beside S, the states are the mean of the last whole chunk, and the running sum."""
    v, w = x["v"], x["w"]
    HV, V = v.shape[-2:]
    q, k, g, logits = (value_heads(x[name], HV) for name in "qkgb")
    S, o = start(states, *k.shape[1:], V), []
    mean, total = states[1:] if states else torch.zeros(2, HV, V, dtype=v.dtype).unbind()
    identity = torch.eye(k.shape[-1], dtype=k.dtype)
    for t in range(len(v)):
        content = times(times(mean, x["read"]), x["lift"])
        b = 1 / (1 + torch.exp(-(logits[t] + content)))
        decayed = torch.diag_embed(g[t].exp()) @ S
        S = (identity - outer(k[t], b * k[t])) @ decayed + w[t][:, None, None] * outer(k[t], v[t])
        o.append(scale * times(q[t], S))
        total = total + o[-1]
        if (position + t + 1) % chunk_size == 0:
            mean, total = total / chunk_size, torch.zeros_like(total)
    return stacked(o, v), (S, mean, total)


def draw(problem: Problem, inputs: Inputs) -> Drawn:
    """Chunks of 16 or 24 tokens, in turn with the seed, so that small problems have several; keys no longer than 1.5, since
    the erase gate, a sigmoid, cannot make up for longer ones."""
    rng = np.random.default_rng(problem.seed)
    HV, K, V, rank = problem.HV, problem.K, problem.V, 2
    call = plain(problem, inputs, g=inputs.g, b=rounded(4 * inputs.b - 2, problem.dtype), w=inputs.w)
    call.tensors["k"] = rounded(no_longer(inputs.k, 1.5), problem.dtype)
    size = 24 if problem.seed % 2 else 16
    started = call.states is not None

    def beside(state: np.ndarray) -> tuple[np.ndarray, ...]:
        shape = (len(problem.sequences), HV, V)
        return (state, *(rounded(0.3 * rng.standard_normal(shape), "fp32") for _ in range(2)))

    return Drawn(
        tensors=call.tensors,
        do=call.do,
        states=None if call.states is None else beside(call.states[0]),
        dstates=None if call.dstates is None else beside(call.dstates[0]),
        settings={"chunk_size": size, "position": int(rng.integers(0, 3 * size)) if started else 0},
        weights={
            "read": rounded(rng.standard_normal((HV, V, rank)) / np.sqrt(V), "fp32"),
            "lift": rounded(rng.standard_normal((HV, rank, K)), "fp32"),
        },
    )


CARVE = System(
    name="carve",
    title="CARVE",
    source="arXiv 2606.27229: Gated DeltaNet-2 with b = sigmoid(bx + U2 U1 m_c), m_c the mean output of the chunk before, and "
    "one write gate per head",
    how="one call of the rule per chunk, whose erase gate depends on the outputs of the chunk before",
    draw=draw,
    recurrence=recurrence,
    outputs=("state", "mean", "total"),
)
