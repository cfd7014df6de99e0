"""Mamba-3, with one input and output per token (SISO) or R of them (MIMO): a state that really rotates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from ..inputs.make import Inputs, rounded
from ..problem import Problem
from .system import Drawn, States, System, another, plain, stacked, value_heads


def mimo(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    """h_t = alpha_t R_t (h_{t-1} + (1 - lam_t) dt_t B_{t-1} x_{t-1}^T) + lam_t dt_t B_t x_t^T, y_t = C_t^T h_t.

    R_t turns channels (i, i + K // 2) by theta_t. q, k [T, R, H, K], v [T, R, HV, V].
    """
    v, dt, lam, alpha = x["v"], x["dt"], x["lam"], x["g"].exp()
    R, HV, V = v.shape[1:]
    H, K = x["k"].shape[-2:]
    if states:
        h, B, X = states
    else:
        h, B, X = (torch.zeros(shape, dtype=v.dtype) for shape in ((HV, K, V), (R, H, K), (R, HV, V)))
    y = []
    for t in range(len(v)):
        turn = value_heads(rotation(x["theta"][t], K), HV, 0)
        carried = h + ((1 - lam[t]) * dt[t])[:, None, None] * writes(B, X)
        B, X = x["k"][t], v[t]
        h = alpha[t][:, None, None] * (turn @ carried) + (lam[t] * dt[t])[:, None, None] * writes(B, X)
        y.append(scale * torch.einsum("rhk,hkv->rhv", value_heads(x["q"][t], HV), h))
    return stacked(y, v), (h, B, X)


def siso(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    """The same with R = 1 and no axis for it, written out."""
    v, dt, lam, alpha = x["v"], x["dt"], x["lam"], x["g"].exp()
    HV, V = v.shape[1:]
    H, K = x["k"].shape[-2:]
    if states:
        h, B, X = states
    else:
        h, B, X = (torch.zeros(shape, dtype=v.dtype) for shape in ((HV, K, V), (H, K), (HV, V)))
    y = []
    for t in range(len(v)):
        turn = value_heads(rotation(x["theta"][t], K), HV, 0)
        alpha_t, beta_t, gamma_t = alpha[t], (1 - lam[t]) * dt[t] * alpha[t], lam[t] * dt[t]
        before = torch.einsum("hk,hv->hkv", value_heads(B, HV), X)
        B, X = x["k"][t], v[t]
        now = torch.einsum("hk,hv->hkv", value_heads(B, HV), X)
        h = turn @ (alpha_t[:, None, None] * h + beta_t[:, None, None] * before) + gamma_t[:, None, None] * now
        y.append(scale * torch.einsum("hk,hkv->hv", value_heads(x["q"][t], HV), h))
    return stacked(y, v), (h, B, X)


def rotation(theta: Tensor, K: int) -> Tensor:
    """Matrices [H, K, K] that turn channel pairs (i, i + K // 2) by theta [H, K // 2]."""
    half = theta.shape[-1]
    cos, sin = torch.diag_embed(theta.cos()), torch.diag_embed(theta.sin())
    turned = torch.cat([torch.cat([cos, -sin], -1), torch.cat([sin, cos], -1)], -2)
    rest = torch.eye(K - 2 * half, dtype=theta.dtype)
    return torch.stack([torch.block_diag(one, rest) for one in turned])


def writes(B: Tensor, X: Tensor) -> Tensor:
    """sum_r B_r X_r^T, [HV, K, V]."""
    return torch.einsum("rhk,rhv->hkv", value_heads(B, X.shape[1]), X)


def draw_siso(problem: Problem, inputs: Inputs) -> Drawn:
    return _draw(problem, [inputs], lambda arrays, axis: arrays[0])


def draw_mimo(problem: Problem, inputs: Inputs) -> Drawn:
    """Two or three inputs and outputs per token, in turn with the seed."""
    turns = [inputs, *(another(problem, turn) for turn in range(1, 2 + problem.seed % 2))]
    return _draw(problem, turns, lambda arrays, axis: np.stack(arrays, axis))


def _draw(problem: Problem, turns: list[Inputs], join: Callable[[list[np.ndarray], int], np.ndarray]) -> Drawn:
    rng = np.random.default_rng(problem.seed)
    call = plain(problem, turns[0], g=turns[0].g, dt=turns[0].w)
    tokens = (problem.B, problem.T)
    call.tensors.update({name: join([getattr(one, name) for one in turns], 2) for name in "qkv"})
    call.tensors["lam"] = rounded(rng.uniform(0, 1, (*tokens, problem.HV)), "fp32")
    call.tensors["theta"] = rounded(rng.standard_normal((*tokens, problem.H, problem.K // 2)), "fp32")
    do = join([one.do for one in turns], 2)

    def beside(state: np.ndarray) -> tuple[np.ndarray, ...]:
        N = len(problem.sequences)
        more = [(problem.H, problem.K), (problem.HV, problem.V)]
        drawn = [join([rounded(rng.standard_normal((N, *shape)), problem.dtype) for _ in turns], 1) for shape in more]
        return (state, *drawn)

    return Drawn(
        tensors=call.tensors, do=do,
        states=None if call.states is None else beside(call.states[0]),
        dstates=None if call.dstates is None else beside(call.dstates[0]),
    )  # fmt: skip


_HOW = "keys and queries turned back by the angles so far; w also writes ahead what the next token writes again"
MAMBA3 = System(
    name="mamba3",
    title="Mamba-3, SISO",
    source="arXiv 2603.15569, exponential-trapezoidal recurrence: h_t = alpha h_{t-1} + beta B_{t-1} x_{t-1} + gamma B_t x_t, "
    "with a rotating (complex) state",
    how=_HOW,
    draw=draw_siso,
    recurrence=siso,
    outputs=("state", "keys", "values"),
)
MAMBA3_MIMO = System(
    name="mamba3_mimo",
    title="Mamba-3, MIMO",
    source="arXiv 2603.15569, the same with R inputs and outputs per token",
    how=f"R steps of the rule per token; {_HOW}",
    draw=draw_mimo,
    recurrence=mimo,
    outputs=("state", "keys", "values"),
)
