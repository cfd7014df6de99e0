"""Every property holds for a right kernel and fails, for its own reason, on a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from deltaproof.kernels import KERNELS, Kernel
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify import properties
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties import oracle
from deltaproof.verify.run.judge import judge_case
from deltaproof.verify.verdicts.outcome import Outcome
from tests.helpers.wrong_kernels import SPLIT, STAGED, TOKENS, at_token, narrow_offsets, on_gradient, on_output, spoil

GDN2 = Problem(rule=RULES["gdn2"], T=18, H=1, HV=2, K=5, V=6, seed=3)
KDA = replace(GDN2, rule=RULES["kda"])
PACKED = replace(GDN2, T=9, lengths=(0, 5, 4))


def judge(name: str, kernel: Kernel | None, problem: Problem, config: int = 0) -> Outcome:
    case = Case(problem=problem, config=None if kernel is None else kernel.configs(problem)[config])
    return judge_case(properties.load(name), case, Harness(kernel=kernel, kernels=KERNELS, tau=20.0))


def ignore(name: str) -> Callable[..., Any]:
    return lambda right, arguments: right(**{**arguments, name: None})


def tie_beside_an_erase_gate_per_head(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    one_per_head = arguments["b"].ndim == 3
    return right(**{**arguments, "w": None if one_per_head else arguments["w"]})


def double_gradient_beside_one_per_head(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    bent = on_gradient("w", lambda g: g * 2)
    return bent(right, arguments) if arguments["b"].ndim == 3 else right(**arguments)


def leave_unwritten(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    o, ht = right(**arguments)
    return torch.empty_like(o), ht


def overwrite_input(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    answer = right(**arguments)
    arguments["q"].detach().zero_()
    return answer


def read_the_future(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    return o + 1e-3 * arguments["v"].sum(1, keepdim=True)


def depend_on_length(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    return o * (1 + 1e-6 * o.shape[1])


def roll_states(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    o, ht = right(**arguments)
    return o, ht if arguments["cu_seqlens"] is None else ht.roll(1, 0)


def scale_one_configuration(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    o, ht = right(**arguments)
    return (o * 2 if arguments["config"].chunk_size == 32 else o), ht


def double_values_of_tied_calls(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return right(**({**arguments, "v": arguments["v"] * 2} if arguments["w"] is None else arguments))


def leak_between_heads(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    return o + 0 * o.sum(2, keepdim=True)


def forget_rounding(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    """Wrong in bf16 only."""
    return o if o.dtype == torch.float32 else at_token(o, 7, 1.3)


def scale_value_head(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    return torch.cat([o[:, :, :1] * 2, o[:, :, 1:]], 2)


def accept_everything(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return None, None


def complain_at_length(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    raise ValueError("q is wrong\nand so is everything else")


def complain_vaguely(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    raise ValueError("bad input")


def crash(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    raise UnboundLocalError("b_dk")


def answer_in_another_shape(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    o, ht = right(**arguments)
    return o[..., :-1], ht


def answer_in_one_buffer() -> Callable[..., Any]:
    """Reads the future, and answers every call in the same memory: what is not copied is compared with itself."""
    buffers: dict[Any, torch.Tensor] = {}

    def change(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        buffer = buffers.setdefault(tuple(o.shape), torch.empty_like(o))
        return buffer.copy_(o + 0.01 * o[:, -1:])

    return on_output(change)


class _Counter:
    """Adds a little more at every call."""

    calls = 0

    def __call__(self, o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        self.calls += 1
        return o + self.calls * 1e-3


SPECIAL = [
    ("packing", STAGED, PACKED),
    ("reduction", STAGED, KDA),
    ("oracle", None, GDN2),
    ("determinism", TOKENS, GDN2),
]
RIGHT = [(name, STAGED, GDN2) for name in properties.NAMES if name not in {name for name, *_ in SPECIAL}] + SPECIAL


@pytest.mark.parametrize(("name", "kernel", "problem"), RIGHT, ids=[name for name, *_ in RIGHT])
def test_right_kernel_holds(name: str, kernel: Kernel | None, problem: Problem):
    assert judge(name, kernel, problem) == replace(judge(name, kernel, problem), status="held", kind=None)


class _Tampered(torch.autograd.Function):
    """The identity on o, whose backward pass is told what torch knows of the call."""

    @staticmethod
    def forward(ctx: Any, o: torch.Tensor, wrong: Callable[..., Any], *inputs: Any) -> torch.Tensor:
        ctx.wrong, ctx.passes = wrong, 0
        return o.view_as(o)

    @staticmethod
    def backward(ctx: Any, do: torch.Tensor) -> Any:  # pyright: ignore
        ctx.passes += 1
        return (ctx.wrong(do, ctx.needs_input_grad[2:], ctx.passes), *[None] * (len(ctx.needs_input_grad) - 1))


def tampered(wrong: Callable[..., Any]) -> Callable[..., Any]:
    """Spoil the gradient into o: wrong(do, which inputs need a gradient, number of the backward pass)."""
    names = ("q", "k", "v", "g", "b", "w")
    return on_output(lambda o, a: _Tampered.apply(o, wrong, *[a[name] for name in names if a[name] is not None]))


def of_rows(x: torch.Tensor) -> torch.Tensor:
    """A tensor read as if its last stride were 1."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.flip(-1)


def take_rows(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return right(**{**arguments, "v": of_rows(arguments["v"])})


def remember_first(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """One buffer for the outputs of all calls of a shape."""
    o, ht = right(**arguments)
    buffer = _BUFFERS.setdefault(tuple(o.shape), torch.zeros_like(o).detach())
    return o if o.requires_grad else buffer.copy_(o), ht


def meddle_quietly(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    answer = right(**arguments)
    if arguments["initial_state"] is not None:
        arguments["initial_state"].data.copy_(answer[0].detach().mean() * torch.ones(()))
    return answer


_BUFFERS: dict[tuple[int, ...], torch.Tensor] = {}
STYLED: list[tuple[str, Kernel]] = [
    ("transposed", spoil(STAGED, take_rows)),
    ("do_transposed", spoil(STAGED, tampered(lambda do, need, passes: of_rows(do)))),
    ("do_of_a_sum", spoil(STAGED, tampered(lambda do, need, passes: do if do.stride(1) else do * 2))),
    ("frozen_g", spoil(STAGED, tampered(lambda do, need, passes: do if all(need) else do * 2))),
    ("only_v", spoil(STAGED, tampered(lambda do, need, passes: do if sum(need) > 1 else do * 2))),
    ("twice", spoil(STAGED, tampered(lambda do, need, passes: do * passes))),
    ("between", spoil(SPLIT, remember_first)),
    ("", spoil(TOKENS, meddle_quietly)),
]


@pytest.mark.parametrize(("style", "kernel"), STYLED, ids=[style or "plain" for style, _ in STYLED])
def test_a_call_style_that_matters_is_found(style: str, kernel: Kernel):
    problem = replace(GDN2, B=2, HV=1)
    case = Case(problem=problem, config=kernel.configs(problem)[0], style=style)
    outcome = judge_case(properties.load("call_styles"), case, Harness(kernel=kernel, kernels=KERNELS, tau=20.0))
    assert outcome.status == "failed", outcome
    if style:
        plain = judge_case(properties.load("call_styles"), replace(case, style=""), Harness(kernel=kernel, tau=20.0))
        assert plain.status == "held", plain


NAN = float("nan")
NAN_IN_THE_MIDDLE = on_output(lambda o, _: at_token(o, 7, NAN))
WRONG: list[tuple[str, str, Kernel, Problem, str]] = [
    ("equality", "row scaled", spoil(TOKENS, on_output(lambda o, _: at_token(o, 7, 2.0))), GDN2, "structure"),
    ("equality", "state ignored", spoil(TOKENS, ignore("initial_state")), GDN2, "structure"),
    ("equality", "dg zero", spoil(STAGED, on_gradient("g", lambda g: g * 0)), GDN2, "structure"),
    ("equality", "dk negated", spoil(STAGED, on_gradient("k", lambda g: -g)), GDN2, "structure"),
    ("equality", "crash", spoil(TOKENS, crash), GDN2, "launch"),
    ("equality", "another shape", spoil(TOKENS, answer_in_another_shape), GDN2, "contract"),
    ("adjoint", "dv doubled", spoil(STAGED, on_gradient("v", lambda g: g * 2)), GDN2, "structure"),
    ("linearity", "constant added", spoil(TOKENS, on_output(lambda o, a: o + a["q"].sum())), GDN2, "structure"),
    ("permutation", "first head scaled", spoil(TOKENS, on_output(scale_value_head)), GDN2, "structure"),
    ("reduction", "tied calls differ", spoil(TOKENS, double_values_of_tied_calls), KDA, "structure"),
    ("reduction", "write gate lost", spoil(TOKENS, tie_beside_an_erase_gate_per_head), KDA, "structure"),
    ("reduction", "its gradient off", spoil(STAGED, double_gradient_beside_one_per_head), KDA, "structure"),
    ("packing", "states of others", spoil(TOKENS, roll_states), PACKED, "structure"),
    ("hand_off", "state ignored", spoil(TOKENS, ignore("initial_state")), GDN2, "structure"),
    ("relative", "state ignored", spoil(TOKENS, ignore("initial_state")), GDN2, "instability"),
    ("hand_off", "dh0 doubled", spoil(STAGED, on_gradient("initial_state", lambda g: g * 2)), GDN2, "structure"),
    ("chunk_invariance", "one chunk size", spoil(SPLIT, scale_one_configuration), GDN2, "structure"),
    ("chunk_invariance", "not the recurrence", spoil(SPLIT, on_output(lambda o, _: o * 2)), GDN2, "structure"),
    ("call_styles", "row scaled", spoil(TOKENS, on_output(lambda o, _: at_token(o, 7, 2.0))), GDN2, "structure"),
    ("memory", "unwritten", spoil(TOKENS, leave_unwritten), GDN2, "memory"),
    ("memory", "input overwritten", spoil(TOKENS, overwrite_input), GDN2, "memory"),
    ("offsets", "in 32 bits", spoil(TOKENS, narrow_offsets), GDN2, "memory"),
    ("error", "a row off by 1e-3", spoil(TOKENS, on_output(lambda o, _: at_token(o, 7, 1.001))), GDN2, "instability"),
    ("error", "NaN in the middle", spoil(TOKENS, NAN_IN_THE_MIDDLE), GDN2, "instability"),
    ("error", "dg zero", spoil(STAGED, on_gradient("g", lambda g: g * 0)), GDN2, "instability"),
    ("error", "only bf16", spoil(TOKENS, on_output(forget_rounding)), replace(GDN2, dtype="bf16"), "precision"),
    ("causality", "reads the future", spoil(TOKENS, on_output(read_the_future)), replace(GDN2, HV=1, V=6), "causality"),
    ("causality", "one buffer", spoil(SPLIT, answer_in_one_buffer()), replace(GDN2, HV=1, V=6), "causality"),
    ("causality", "depends on length", spoil(TOKENS, on_output(depend_on_length)), GDN2, "causality"),
    ("identities", "dq off", spoil(STAGED, on_gradient("q", lambda g: g * 1.001)), GDN2, "instability"),
    ("identities", "db off", spoil(STAGED, on_gradient("b", lambda g: g * 1.001)), GDN2, "instability"),
    ("identities", "dw off", spoil(STAGED, on_gradient("w", lambda g: g * 1.001)), GDN2, "instability"),
    ("identities", "NaN in dq", spoil(STAGED, on_gradient("q", lambda g: at_token(g, 7, NAN))), GDN2, "instability"),
    ("error", "NaN in dk", spoil(STAGED, on_gradient("k", lambda g: at_token(g, 7, NAN))), GDN2, "instability"),
    ("identities", "dh0 off", spoil(STAGED, on_gradient("initial_state", lambda g: g * 1.01)), GDN2, "instability"),
    ("nan_locality", "leak", spoil(TOKENS, on_output(leak_between_heads)), replace(GDN2, H=2, seed=1), "contract"),
    ("nan_locality", "hidden", spoil(TOKENS, on_output(lambda o, _: torch.nan_to_num(o, 0, 0, 0))), GDN2, "contract"),
    ("hostile_input", "accepted", spoil(TOKENS, accept_everything), GDN2, "contract"),
    ("hostile_input", "long", spoil(TOKENS, complain_at_length), GDN2, "contract"),
    ("hostile_input", "vague", spoil(TOKENS, complain_vaguely), GDN2, "contract"),
    ("determinism", "drifts", spoil(TOKENS, on_output(_Counter())), GDN2, "nondeterminism"),
]


@pytest.mark.parametrize(("name", "what", "kernel", "problem", "kind"), WRONG, ids=[f"{n}-{w}" for n, w, *_ in WRONG])
def test_wrong_kernel_fails(name: str, what: str, kernel: Kernel, problem: Problem, kind: str):
    outcome = judge(name, kernel, problem)
    assert (outcome.status, outcome.kind) == ("failed", kind), outcome


def test_every_property_has_a_wrong_kernel():
    assert {name for name, *_ in WRONG} | {"oracle"} == set(properties.NAMES)


def test_failure_names_tensor_token_and_numbers():
    kernel = spoil(TOKENS, on_output(lambda o, _: at_token(o, 7, 1.5)))
    outcome = judge("error", kernel, replace(GDN2, regime="no_decay"))
    assert outcome.place is not None
    assert outcome.place.tensor == "o"
    assert outcome.place.token == 7
    assert outcome.expected is not None
    assert outcome.got == pytest.approx(1.5 * outcome.expected, rel=1e-3)


def test_wrong_oracle_fails(monkeypatch: pytest.MonkeyPatch):
    right = oracle.solve

    def wrong(problem: Problem, inputs: Any, *numbers: Any) -> Any:
        outputs = right(problem, inputs, *numbers)
        return {**outputs, "dk": outputs["dk"] * (1 + 1e-9)}

    monkeypatch.setattr(oracle, "solve", wrong)
    outcome = judge("oracle", None, GDN2)
    assert (outcome.status, outcome.place and outcome.place.tensor) == ("failed", "dk")


def test_wrong_reverse_sweep_fails(monkeypatch: pytest.MonkeyPatch):
    def wrong(right: Callable[..., Any]) -> Callable[..., Any]:
        def solve(problem: Problem, inputs: Any, *numbers: Any) -> Any:
            outputs = right(problem, inputs, *numbers)
            return {**outputs, "dg": outputs["dg"] * 2}

        return solve

    # Wrong alike in both arithmetics: only the finite differences can tell.
    for name in ("solve", "solve_precisely"):
        monkeypatch.setattr(oracle, name, wrong(getattr(oracle, name)))
    outcome = judge("oracle", None, GDN2)
    assert (outcome.status, outcome.place and outcome.place.tensor) == ("failed", "dg")


def test_what_breaks_in_the_harness_is_an_error_not_a_failure():
    assert judge("equality", TOKENS, replace(GDN2, regime="no such regime")).status == "error"


def test_outside_the_algebra_is_unsupported():
    kernel = spoil(TOKENS, on_output(lambda o, _: o.clamp(min=0)))
    outcome = judge("equality", kernel, GDN2)
    assert outcome.status == "unsupported"
    assert "clamp" in outcome.message
