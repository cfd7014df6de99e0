"""Gradients of gradients of a function, compared with torch's for the token recurrence in fp64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ....kernels.registry import Kernel
from ....results.files.one_line import folded
from ....specs.arithmetic.numbers import Site
from ....specs.inputs.make import Inputs
from ....specs.oracle.recurrence import respond
from ....specs.problem import Problem
from ...cases.case import Case
from ...verdicts.outcome import Inapplicable
from ..execute import GRADIENTS, Tensors, arguments, tensors

_STRUCTURE = 1e-3
"""Of a gradient's norm: far above the error of fp32 on a few tokens, and far below a term that is missing."""


def small(problem: Problem) -> Problem:
    """The problem on which it is asked."""
    return Problem(
        rule=problem.rule, T=5, HV=problem.HV // problem.H, K=16, V=16,
        initial_state=problem.initial_state, final_state=problem.final_state,
    )  # fmt: skip


def wrong(kernel: Kernel, case: Case, inputs: Inputs) -> str | None:
    """The name of an input whose second derivative is wrong, or None. Raises Inapplicable for a function that has none."""
    made = tensors(case.problem, inputs)
    try:
        found = _second(lambda leaves: kernel.run(**arguments(case, leaves)), made)
    except Exception as error:
        raise Inapplicable(f"refuses a second derivative: {folded(error)[:120]}") from None
    known = _second(lambda leaves: _recurrence(case.problem, leaves), {name: x.double() for name, x in made.items()})
    for name, truth in known.items():
        if not (found[name].double() - truth).norm() <= _STRUCTURE * truth.norm():
            return name
    return None


def _second(run: Callable[[Tensors], Any], made: Tensors) -> Tensors:
    """Gradients of sum(dx * u), u = cos(x), by input; those of the gradients that came in, too."""
    leaves = {name: x.detach().requires_grad_() for name, x in made.items()}
    o, ht = run(leaves)
    flowing = [(o, leaves["do"])] + ([] if ht is None else [(ht, leaves["dht"])])
    names = [name for name in GRADIENTS if name in leaves]
    try:
        first = torch.autograd.grad(
            [y for y, _ in flowing], [leaves[name] for name in names], [dy for _, dy in flowing],
            create_graph=True, allow_unused=True,
        )  # fmt: skip
    except Exception as error:
        raise Inapplicable(f"has no first derivative to derive: {folded(error)[:120]}") from None
    pairs = [(dx, leaves[name]) for dx, name in zip(first, names, strict=True) if dx is not None]
    total = torch.stack([(dx * x.detach().cos()).sum() for dx, x in pairs]).sum()
    # Through all of the graph: one that is marked as differentiable once raises only where it is walked.
    total.backward()
    return {name: torch.zeros_like(x) if x.grad is None else x.grad for name, x in leaves.items()}


class _Differentiable:
    """fp64 in torch, so that the results can be differentiated."""

    def array(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def constant(self, value: float) -> float:
        return value

    def zeros(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.float64)

    def concatenate(self, arrays: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
        return torch.cat(list(arrays), axis)

    def exp(self, x: torch.Tensor) -> torch.Tensor:
        return x.exp()

    def rsqrt(self, x: torch.Tensor) -> torch.Tensor:
        return x.rsqrt()

    def softplus(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(x)

    def sigmoid(self, x: torch.Tensor) -> torch.Tensor:
        return x.sigmoid()

    def at(self, site: Site, x: torch.Tensor) -> torch.Tensor:
        return x


def _recurrence(problem: Problem, x: Tensors) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The rule, token by token."""
    outputs = respond(problem, Inputs(**x), _Differentiable())
    return outputs["o"], outputs.get("ht")
