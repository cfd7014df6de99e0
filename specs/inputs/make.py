"""The arrays of a problem, generated from its regime and seed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from ..dtypes import TORCH_DTYPES
from ..problem import DType, Problem
from .draws import Draw, Generator, normal, scaled
from .regimes import REGIMES

STRONGEST_RAW_GATE = 1e8
"""Raw gate values are finite: a decay stronger than this is generated as this one."""

WEAKEST_RAW_GATE = -200.0
"""The raw value for no decay at all: softplus of it is 0 in fp32."""

# Smaller in fp16, because the gradients of values that are nearly normalised away are large.
_GRADIENT_OF_OUTPUT = scaled(normal, 1, 0.125)
_GRADIENT_OF_STATE = scaled(normal, 0.5, 0.0625)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that goes into a call and its backward pass, in the layout of the call.

    q, k [B, T, H, K]; v [B, T, HV, V]; g [B, T, G] or [B, T, G, K] (raw, where the op activates it); b the same;
    w [B, T, HV] or [B, T, HV, V]; h0 [N, HV, K, V]; A_log [G]; dt_bias [G] or [G * K]; do [B, T, HV, V];
    dht [N, HV, K, V]; None where the rule or the problem has none. N sequences, G = `Problem.gate_rows`.
    `generate` makes float64 arrays that hold rounded values: q, k, v, b, w, do in the problem's dtype, the others fp32.
    """

    q: Any
    k: Any
    v: Any
    g: Any = None
    b: Any = None
    w: Any = None
    h0: Any = None
    A_log: Any = None
    dt_bias: Any = None
    do: Any
    dht: Any = None

    def arrays(self) -> dict[str, Any]:
        """Name -> array, of those that are there."""
        return {field.name: x for field in fields(self) if (x := getattr(self, field.name)) is not None}


def generate(problem: Problem) -> Inputs:
    """The inputs of a problem, always the same. Raises ValueError for a regime that is unknown or not for its rule."""
    if problem.regime not in REGIMES:
        raise ValueError(f"unknown regime {problem.regime!r}; known: {', '.join(REGIMES)}")
    regime, rule = REGIMES[problem.regime], problem.rule
    if not regime.applies(rule):
        raise ValueError(
            f"regime {regime.name} needs {' and '.join(regime.needs)}, which rule {rule.name} does not have"
        )
    B, T, H, HV, K, V = problem.B, problem.T, problem.H, problem.HV, problem.K, problem.V
    G, N = problem.gate_rows, len(problem.sequences)
    width = {"scalar": 1, "channel": K}

    def tokens(name: str, generator: Generator, heads: int, channels: int) -> np.ndarray:
        x = generator(Draw(rng=_stream(problem, name), shape=(T, B, heads, channels), problem=problem))
        return np.ascontiguousarray(x.swapaxes(0, 1))

    def states(name: str, generator: Generator) -> np.ndarray:
        return generator(Draw(rng=_stream(problem, name), shape=(N, HV, K, V), problem=problem))

    arrays = {
        "q": tokens("q", regime.queries, H, K),
        "k": tokens("k", regime.keys, H, K),
        "v": tokens("v", regime.values, HV, V),
        "do": tokens("do", _GRADIENT_OF_OUTPUT, HV, V),
    }
    if problem.qk_l2norm:
        # Lengths that differ from token to token, or normalising would be invisible.
        for name in ("q", "k"):
            arrays[name] *= np.exp(0.5 * tokens(f"{name} length", normal, H, 1))
    if rule.decay != "none":
        arrays["g"] = tokens("g", regime.decay, G, width[rule.decay])
    if problem.gate_in_kernel:
        arrays["g"], arrays["A_log"], arrays["dt_bias"] = _raw_gate(problem, arrays["g"])
    if rule.erase != "none":
        arrays["b"] = tokens("b", regime.erase, G, width[rule.erase])
    if rule.write != "tied":
        arrays["w"] = tokens("w", regime.write, HV, V if rule.write == "channel" else 1)
    if problem.initial_state:
        arrays["h0"] = states("h0", regime.states)
    if problem.final_state:
        arrays["dht"] = states("dht", _GRADIENT_OF_STATE)
    for name, tied in (("g", rule.decay), ("b", rule.erase), ("w", rule.write)):
        if tied == "scalar":
            arrays[name] = arrays[name][..., 0]
    in_fp32 = {"g", "h0", "dht", "A_log", "dt_bias"}
    return Inputs(**{name: rounded(x, "fp32" if name in in_fp32 else problem.dtype) for name, x in arrays.items()})


def rounded(x: np.ndarray, dtype: DType) -> np.ndarray:
    """float64 values rounded to nearest in `dtype`, as float64."""
    return torch.from_numpy(np.ascontiguousarray(x)).to(TORCH_DTYPES[dtype]).to(torch.float64).numpy()


def _stream(problem: Problem, tensor: str) -> np.random.Generator:
    """A random stream of its own for each tensor, so that changing the shape of one leaves the others alone."""
    return np.random.default_rng([problem.seed, zlib.crc32(tensor.encode())])


def _raw_gate(problem: Problem, g: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw values, A_log and dt_bias of which g [B, T, G, C] = -exp(A_log) softplus(raw + dt_bias)."""
    rng = _stream(problem, "raw gate")
    A_log = np.log(rng.uniform(1, 16, g.shape[2]))
    dt = np.exp(rng.uniform(np.log(1e-3), np.log(0.1), g.shape[2:]))
    dt_bias = dt + np.log(-np.expm1(-dt))
    target = np.minimum(-g, STRONGEST_RAW_GATE) / np.exp(A_log)[:, None]
    with np.errstate(divide="ignore"):
        inverse = target + np.log(-np.expm1(-target))
    return np.maximum(inverse, WEAKEST_RAW_GATE) - dt_bias, A_log, dt_bias.reshape(-1)
