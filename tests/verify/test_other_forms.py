"""Right functions that write a root, a logarithm or a sigmoid in another way are held, or left to `error`; never failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deltaproof.specs.arithmetic import field
from deltaproof.specs.problem import Problem
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties import load
from deltaproof.verify.run.judge import judge_case
from deltaproof.verify.targets.function import of_function

Tensor = torch.Tensor
PROBLEM = Problem.parse("kda:fp32:b1:t5:h1x1:k5:v3:ordinary:s3+l2norm+raw_gate")


class _Gate(torch.autograd.Function):
    """-rate softplus(x), and a gradient of it by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: Tensor, sigmoid: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x, rate)
        ctx.sigmoid = sigmoid
        return -F.softplus(x) * rate

    @staticmethod
    def backward(ctx: Any, dg: Tensor) -> Any:  # pyright: ignore
        x, rate = ctx.saved_tensors
        dx = -dg * rate * ctx.sigmoid(x)
        return dx, (-dg * F.softplus(x)).sum((0, 1, 3), keepdim=True)[0, 0], None


def written(
    *,
    normalise: Callable[[Tensor], Tensor] = lambda x: x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt(),
    gate: Callable[[Tensor, Tensor], Tensor] = lambda x, rate: -rate * F.softplus(x),
    scale: Callable[[Tensor], Any] = lambda q: q.shape[-1] ** -0.5,
    limit: Callable[[Tensor], Tensor] = lambda g: g,
) -> Callable[..., Any]:
    """KDA token by token, with these parts."""

    def chunk_kda(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None = None,
        output_final_state: bool = False, use_qk_l2norm_in_kernel: bool = False, use_gate_in_kernel: bool = False,
        A_log: Tensor | None = None, dt_bias: Tensor | None = None,
    ) -> Any:  # fmt: skip
        dtype = q.dtype
        q, k, v, g, beta = (x.float() for x in (q, k, v, g, beta))
        if use_qk_l2norm_in_kernel:
            q, k = normalise(q), normalise(k)
        if use_gate_in_kernel:
            assert A_log is not None
            assert dt_bias is not None
            g = gate(g + dt_bias.view(g.shape[2:]), A_log.exp()[:, None])
        g, q = limit(g), q * scale(q)
        state = q.new_zeros((q.shape[0], *q.shape[2:], v.shape[-1])) if initial_state is None else initial_state.clone()
        rows = []
        for t in range(q.shape[1]):
            state = state * g[:, t].exp()[..., None]
            error = beta[:, t, :, None] * (v[:, t] - (k[:, t, :, None] @ state)[:, :, 0])
            state = state + k[:, t, :, :, None] * error[:, :, None]
            rows.append((q[:, t, :, None] @ state)[:, :, 0])
        return torch.stack(rows, 1).to(dtype), state if output_final_state else None

    return chunk_kda


def _mirrored(x: Tensor) -> Tensor:
    return x + torch.log1p(torch.exp(-x))


EQUAL = {
    "the form of the reference": {},
    "a root of a tensor": {"scale": lambda q: torch.tensor(float(q.shape[-1])).rsqrt()},
    "one over a root": {"scale": lambda q: 1 / torch.tensor(float(q.shape[-1])).sqrt()},
    "a quotient": {"normalise": lambda x: x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()},
    "a power": {"normalise": lambda x: x * ((x * x).sum(-1, keepdim=True) + 1e-6) ** -0.5},
    "log1p": {"gate": lambda x, rate: -rate * torch.log1p(x.exp())},
    "sigmoid, 1 / (1 + exp(-x))": {"gate": lambda x, rate: _Gate.apply(x, rate, lambda x: 1 / (1 + torch.exp(-x)))},
    "sigmoid, exp(x) / (1 + exp(x))": {"gate": lambda x, rate: _Gate.apply(x, rate, lambda x: x.exp() / (1 + x.exp()))},
    "sigmoid by name": {"gate": lambda x, rate: _Gate.apply(x, rate, torch.sigmoid)},
}  # fmt: skip
OTHER = {
    "softplus of -x": {"gate": lambda x, rate: -rate * _mirrored(x.double()).float()},
    "a mean": {
        "normalise": lambda x: x * (x.square().mean(-1, keepdim=True) + 2e-7).rsqrt() * x.shape[-1] ** -0.5,
    },
    "a clamp": {"limit": lambda g: g.clamp(min=-1e4)},
}  # fmt: skip
WRONG = {
    "no epsilon's worth": {"normalise": lambda x: x * (x.square().sum(-1, keepdim=True) + 1e-1).rsqrt()},
    "twice the gate": {"gate": lambda x, rate: -2 * rate * F.softplus(x)},
    "a wrong sigmoid": {"gate": lambda x, rate: _Gate.apply(x, rate, lambda x: 1 / (1 + torch.exp(x)))},
}


def judged(parts: dict[str, Any], name: str) -> Any:
    target = of_function("test:written", written(**parts))
    kernel = next(iter(target.kernels.values()))
    case = Case(problem=PROBLEM, config=kernel.configs(PROBLEM)[0])
    return judge_case(load(name), case, Harness(kernel=kernel, tau=20.0))


@pytest.mark.parametrize("parts", EQUAL.values(), ids=list(EQUAL))
def test_forms_that_the_algebra_knows_are_equal(parts: dict[str, Any]):
    assert judged(parts, "equality").status == "held"


@pytest.mark.parametrize("parts", OTHER.values(), ids=list(OTHER))
def test_other_forms_are_left_to_error(parts: dict[str, Any]):
    found = judged(parts, "equality")
    assert found.status == "unsupported", found
    assert judged(parts, "error").status == "held"


@pytest.mark.parametrize("parts", WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_fails_in_whatever_form(parts: dict[str, Any]):
    assert "failed" in {judged(parts, name).status for name in ("equality", "error")}


def test_the_wrong_value_of_a_form_that_is_known_is_a_failure():
    assert judged({"gate": WRONG["twice the gate"]["gate"]}, "equality").status == "failed"


def test_roots_and_logarithms_of_what_is_known_are_computed():
    n = field.integers(np.arange(1, 300))
    roots = field.rsqrt(n)
    for size in (16, 20, 100, 128):
        assert field.same(roots[size - 1], field.constant(size**-0.5))
        assert field.same(1 / field.sqrt(n[size - 1]), field.constant(size**-0.5))
    assert field.same(field.log2(field.constant(0.125)), field.constant(-3.0))
