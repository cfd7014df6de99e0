"""Call a relative around the kernel that is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.arguments.precision import exact_dtype
from ...kernels.relatives import RELATIVES
from ...specs.problem import Problem
from ...specs.relatives import SYSTEMS, Drawn, drawn, solve

Outputs = dict[str, Tensor]


@lru_cache(maxsize=4)
def posed(problem: Problem) -> tuple[Drawn, dict[str, np.ndarray]]:
    """The inputs of a problem's system, and the right results: outputs and gradients of its own recurrence."""
    system = SYSTEMS[problem.rule.name]
    call = drawn(system, problem)
    return call, solve(system, problem, call)


def run(
    problem: Problem, call: Drawn, op: Callable[..., Any], dtype: torch.dtype, *, gradients: bool, device: str = "cpu"
) -> Outputs:
    """Outputs, and gradients by name as in `specs.relatives.solve`, of our system around `op`.

    Tensors are of `dtype` where it holds their values and fp32 where not; states are never narrower than fp32.
    """
    system = SYSTEMS[problem.rule.name]
    state_dtype = exact_dtype(dtype)

    def leaf(x: np.ndarray, kind: torch.dtype) -> Tensor:
        exact = torch.from_numpy(np.ascontiguousarray(x))
        narrow = exact.to(kind)
        held = narrow if torch.equal(narrow.to(torch.float64), exact) else exact.to(state_dtype)
        return held.to(device).requires_grad_(gradients)

    leaves = {name: leaf(x, dtype) for name, x in (call.tensors | call.weights).items()}
    starts = None if call.states is None else tuple(leaf(x, state_dtype) for x in call.states)
    boundaries = None
    if problem.lengths is not None:
        boundaries = torch.tensor([0, *np.cumsum(problem.lengths, dtype=np.int64).tolist()], device=device)
    with torch.set_grad_enabled(gradients):
        o, lasts = RELATIVES[system.name].run(
            **leaves, **call.settings, states=starts, cu_seqlens=boundaries, scale=problem.scale, op=op
        )
        wanted = call.dstates is not None
        found = {"o": o} | (dict(zip(system.outputs, lasts, strict=True)) if wanted else {})
        if gradients:
            pulled = {"o": call.do} | (dict(zip(system.outputs, call.dstates, strict=True)) if call.dstates else {})
            inputs = {f"d{name}": x for name, x in leaves.items()}
            inputs |= dict(zip([f"d{name}" for name in system.outputs], starts or (), strict=False))
            flows = [name for name in found if found[name].requires_grad]
            grads = torch.autograd.grad(
                [found[name] for name in flows],
                list(inputs.values()),
                [torch.from_numpy(pulled[name]).to(found[name]) for name in flows],
                allow_unused=True,
                materialize_grads=True,
            ) if flows else [torch.zeros_like(x) for x in inputs.values()]  # fmt: skip
            found |= dict(zip(inputs, grads, strict=True))
    # Copies: a kernel may answer the next call in the same buffer.
    return {name: x.detach().clone() for name, x in found.items()}


def run_in_parts(problem: Problem, call: Drawn, op: Callable[..., Any], dtype: torch.dtype, cuts: list[int]) -> Outputs:
    """Outputs and final states where a plain batch is cut after these tokens, and the states are handed on."""
    system = SYSTEMS[problem.rule.name]
    bounds = [0, *cuts, problem.T]
    states, outputs, position = call.states, [], call.settings.get("position")
    result: Outputs = {}
    for first, last in pairwise(bounds):
        tokens = {name: x[:, first:last] for name, x in call.tensors.items()}
        settings = call.settings if position is None else {**call.settings, "position": position + first}
        part = replace(
            call, tensors=tokens, states=states, settings=settings,
            dstates=tuple(np.zeros(0) for _ in system.outputs),
        )  # fmt: skip
        result = run(replace(problem, T=last - first), part, op, dtype, gradients=False)
        outputs.append(result["o"])
        states = tuple(result[name].to("cpu", torch.float64).numpy() for name in system.outputs)
    kept = {name: result[name] for name in system.outputs} if call.dstates is not None else {}
    return {"o": torch.cat(outputs, 1)} | kept
