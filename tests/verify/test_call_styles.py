"""The lattice of call styles: every two words that go together meet, tokens are read back, and failures shrink to one word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch

from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.call_styles import (
    ALONE,
    AXES,
    FORWARD_ONLY,
    OF_GATES,
    _parts,
    meaning,
    shared,
    styles,
    words,
)
from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.cases.replay import Case, Replay
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.interpreter import tuned as tuning
from deltaproof.verify.properties import load
from deltaproof.verify.run.judge import judge, judge_case
from deltaproof.verify.run.known_cases import known_cases
from tests.helpers.wrong_kernels import (
    MIDDLE,
    PRUNED,
    SPLIT,
    STAGED,
    TOKENS,
    TORCH,
    UNPRUNED,
    by_channels,
    on_gradient,
    on_output,
    second_configuration,
    spoil,
    tuned,
)


@pytest.mark.parametrize("keeps", [False, True])
def test_every_two_words_of_different_sorts_meet(keeps: bool):
    rows = [set(words(style)) for style in styles(keeps=keeps)]
    of_gradients = {word for axis in ("pulled", "gradients asked", "backward", "kept") for word in AXES[axis]}
    crossed = [axis for axis in AXES if axis not in ALONE and (keeps or axis != "kept")]
    assert keeps == any("kept" in row for row in rows)
    for one, other in combinations(crossed, 2):
        for x in ("", *AXES[one]):
            for y in ("", *AXES[other]):
                if len(_parts([x, y])) == 1 and not (FORWARD_ONLY & {x, y} and {x, y} & of_gradients):
                    absent = (set(AXES[one]) if not x else set()) | (set(AXES[other]) if not y else set())
                    wanted = {x, y} - {""}
                    assert any(wanted <= row and not row & absent for row in rows), (x, y)
    assert len(rows) < 60


def test_without_gradients_nothing_is_asked_of_them():
    asked = {word for style in styles(False, keeps=True) for word in words(style)}
    assert not asked & {word for axis in ("pulled", "gradients asked", "backward", "kept") for word in AXES[axis]}
    assert asked >= FORWARD_ONLY


@pytest.mark.parametrize("style", ["fast", "no_grad+inference", "twice+twice", "+twice"])
def test_words_that_do_not_go_together_are_refused(style: str):
    with pytest.raises(ValueError, match="call style"):
        words(style)


def test_a_replay_token_names_the_style():
    token = "call_styles@recurrent/tokens[c64]@gdn:fp32:b2:t3:h1x1:k4:v4:ordinary:s0@transposed+between"
    replay = Replay.parse(token)
    assert replay.token == token
    assert "last stride" in meaning(replay.case.style)


def test_the_rules_of_a_kernel_share_the_lattice():
    prop, among = load("call_styles"), tuple(RULES)
    cells = [
        Cell(target="deltaproof", kernel=STAGED.name, rule=rule, property=prop.name, among=among) for rule in among
    ]
    met = [case.style for cell in cells for case in known_cases(cell, prop, STAGED, PROFILES["merge"], 0)]
    assert sorted(met) == sorted(styles(keeps=True))


@pytest.mark.parametrize("among", [tuple(RULES), ("linear", "gdn"), ("gla", "delta_rule", "linear"), ("gdn2",)])
def test_what_is_said_of_a_gate_is_met_by_a_rule_that_has_it(among: tuple[str, ...]):
    for style, rule in shared(among).items():
        for word in set(words(style)) & set(OF_GATES):
            able = [name for name in among if set(OF_GATES[word]) & set(RULES[name].gates)]
            assert rule in able or not able, (style, rule)


def test_a_failure_shrinks_to_the_word_that_it_needs():
    passes: list[int] = []

    def second(gradient):
        passes.append(1)
        return gradient * (2 if len(passes) % 2 == 0 else 1)

    def wrong(right, arguments):
        passes.clear()
        return on_gradient("v", second)(right, arguments)

    kernel = spoil(TORCH, wrong)
    profile = replace(PROFILES["quick"], styles=25)
    cell = Cell(target="deltaproof", kernel=kernel.name, rule="gdn", property="call_styles")
    verdict = judge(cell, load("call_styles"), Harness(kernel=kernel, tau=20.0), profile)
    assert verdict.counterexample is not None
    assert Replay.parse(verdict.counterexample.replay).case.style == "twice"


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (tuned(), {"timed"}),
        (tuned(reset_to_zero=["o"]), set()),
        (tuned(restore_value=["o"]), set()),
        (on_output(second_configuration), {"chosen"}),
        (MIDDLE, {"chosen"}),
        (PRUNED[0], set()),
        (PRUNED[1], set()),
        (UNPRUNED, set()),
    ],
    ids=[
        "adds once more",
        "reset",
        "restored",
        "second configuration",
        "one between",
        "first pruned",
        "one pruned",
        "no driver",
    ],
)
def test_an_autotuned_kernel_is_run_as_its_first_and_later_calls_run_it(change, wrong: set[str]):
    tuning.install()
    kernel = spoil(SPLIT, change)
    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v4:ordinary:s0")
    case = Case(problem=problem, config=kernel.configs(problem)[0])
    harness = Harness(kernel=kernel)
    for style in ("", "timed", "chosen", "timed"):  # whatever ran before it in this process
        outcome = judge_case(load("call_styles"), replace(case, style=style), harness)
        assert outcome.status == ("failed" if style in wrong else "held"), style


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (by_channels(key=["V"]), set()),
        (by_channels(key=[]), {"varied"}),
        # Timed, the configuration for many channels has run on the same tensors before.
        (by_channels(key=["V"], pruned=False), {"chosen", "varied"}),
    ],
    ids=["right", "key without a size that matters", "configuration for few channels"],
)
def test_a_configuration_is_chosen_for_calls_that_it_fits(change: Callable[..., Any], wrong: set[str]):
    tuning.install()
    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v3:ordinary:s0")
    kernel = replace(spoil(TORCH, change), op="chunk_fwd", differentiable=False)
    for style in ("timed", "chosen", "varied"):
        case = Case(problem=problem, config=kernel.configs(problem)[0], style=style)
        outcome = judge_case(load("call_styles"), case, Harness(kernel=kernel, tau=20.0))
        assert outcome.status == ("failed" if style in wrong else "held"), (style, outcome)


class _Asked(torch.autograd.Function):
    """The identity of several tensors, whose gradients are those of `change(gradients, which of them are asked for)`."""

    @staticmethod
    def forward(ctx: Any, change: Callable[..., Any], *tensors: torch.Tensor) -> Any:
        ctx.change = change
        return tuple(x.view_as(x) for x in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:  # pyright: ignore
        return (None, *ctx.change(gradients, ctx.needs_input_grad[1:]))


def _asked(change: Callable[..., Any]) -> Callable[..., Any]:
    def run(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        names = [name for name in ("v", "b", "A_log") if arguments[name] is not None]
        through = _Asked.apply(change, *(arguments[name] for name in names))
        return right(**{**arguments, **dict(zip(names, through, strict=True))})

    return run


@pytest.mark.parametrize("place", range(3), ids=["v", "b", "A_log"])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "alone"])
def test_every_input_is_frozen_alone_and_asked_alone(place: int, frozen: bool):
    def change(gradients: Any, asked: Any) -> Any:
        others = [other for index, other in enumerate(asked) if index != place]
        seen = all(others) and not asked[place] if frozen else asked[place] and not any(others)
        return tuple(2 * x for x in gradients) if seen else gradients

    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v3:ordinary:s0")
    for kernel, expected in ((spoil(TORCH, _asked(change)), "failed"), (TORCH, "held")):
        case = Case(problem=problem, config=kernel.configs(problem)[0], style="each_alone")
        assert judge_case(load("call_styles"), case, Harness(kernel=kernel, tau=20.0)).status == expected


def _of_this_thread() -> Callable[..., Any]:
    known = threading.local()
    known.ready = True
    return on_output(lambda o, _: o if getattr(known, "ready", False) else 2 * o)


def _backward_elsewhere() -> Callable[..., Any]:
    """A gradient that is right in the thread of the forward pass only."""
    known = threading.local()

    def run(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        known.ready = True
        return on_gradient("v", lambda d: d if getattr(known, "ready", False) else 2 * d)(right, arguments)

    return run


_FIRST: dict[Any, torch.Tensor] = {}


def _made_in_the_first_mode(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Keeps a tensor of its first call, which no later one can save for a backward pass if gradients were off altogether."""
    one = _FIRST.setdefault(arguments["q"].shape, torch.ones(()))
    return right(**{**arguments, "q": arguments["q"] * one})


def _dtype_of_the_first() -> Callable[..., Any]:
    """o in the precision of the first call of its shape."""
    known: dict[Any, torch.dtype] = {}
    return on_output(lambda o, _: o.to(known.setdefault((o.shape, torch.is_grad_enabled()), o.dtype)).to(o.dtype))


@pytest.mark.parametrize(
    ("style", "change"),
    [
        ("threads", _of_this_thread()),
        ("threads", _backward_elsewhere()),
        ("autocast", on_output(lambda o, _: 2 * o if torch.is_autocast_enabled("cpu") else o)),
        ("fp64_default", on_output(lambda o, _: o + torch.zeros(o.shape))),
        ("compiled", on_output(lambda o, _: 2 * o if torch.compiler.is_compiling() else o)),
        ("second", on_gradient("v", lambda d: 2 * d - d.detach())),
        ("varied", _made_in_the_first_mode),
        ("varied", _dtype_of_the_first()),
        ("again", on_gradient("v", lambda d: d * (1 + 1e-6 * torch.randn(d.shape)))),
        ("again", on_output(lambda o, _: o * (1 + 1e-6 * torch.randn(o.shape)))),
    ],
    ids=[
        "threads",
        "backward in a thread",
        "autocast",
        "default dtype",
        "compiled",
        "second derivative",
        "inference first",
        "dtype of the first",
        "noise in a gradient",
        "noise in the output",
    ],
)
def test_what_stands_around_a_call_changes_nothing(style: str, change: Callable[..., Any]):
    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v3:ordinary:s0")
    for kernel, expected in ((spoil(TORCH, change), "failed"), (TORCH, "held")):
        case = Case(problem=problem, config=kernel.configs(problem)[0], style=style)
        assert judge_case(load("call_styles"), case, Harness(kernel=kernel, tau=20.0)).status == expected


def _slowly(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    """So slow by the token that many of them would take minutes."""

    def slow(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        began = time.process_time()
        while time.process_time() - began < 1e-3 * o.shape[1]:
            pass
        return change(o)

    return on_output(slow)


def _squared(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Right, with a number for every two tokens: more than a machine has for many."""
    T = arguments["q"].shape[1]
    torch.empty(T, T).fill_diagonal_(0)
    return right(**arguments)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda right, arguments: right(**arguments), "held"),
        (on_output(lambda o, _: torch.cat([o[:, :65536], 0 * o[:, 65536:]], 1)), "failed"),
        (_squared, "inapplicable"),
        (_slowly(lambda o: o), "held"),
        (_slowly(lambda o: torch.cat([o[:, :2048], 0 * o[:, 2048:]], 1)), "failed"),
    ],
    ids=["right", "a limit", "too large", "slow", "a limit, and slow"],
)
def test_functions_without_kernels_are_asked_for_many_tokens(change: Callable[..., Any], expected: str):
    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v3:ordinary:s0")
    kernel = spoil(TORCH, change)
    case = Case(problem=problem, config=kernel.configs(problem)[0], style="endless")
    outcome = judge_case(load("call_styles"), case, Harness(kernel=kernel, tau=20.0))
    assert outcome.status == expected, outcome


def test_who_can_be_derived_once_refuses_a_second_derivative():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, d: torch.Tensor) -> torch.Tensor:  # pyright: ignore
            return d.clone()

    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v3:ordinary:s0")
    kernel = spoil(TORCH, lambda right, arguments: right(**{**arguments, "v": Once.apply(arguments["v"])}))
    case = Case(problem=problem, config=kernel.configs(problem)[0], style="second")
    outcome = judge_case(load("call_styles"), case, Harness(kernel=kernel, tau=20.0))
    assert outcome.status == "inapplicable", outcome


@pytest.mark.parametrize("style", ["autocast", "fp64_default"])
def test_what_a_function_refuses_is_no_failure(style: str):
    def refuses(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        if torch.is_autocast_enabled("cpu") or torch.get_default_dtype() != torch.float32:
            raise RuntimeError("expected scalar type Float")
        return right(**arguments)

    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v3:ordinary:s0")
    kernel = spoil(TORCH, refuses)
    case = Case(problem=problem, config=kernel.configs(problem)[0], style=style)
    outcome = judge_case(load("call_styles"), case, Harness(kernel=kernel, tau=20.0))
    assert outcome.status == "inapplicable"
    assert "refuses" in outcome.message


def _boundaries(arguments: dict[str, Any]) -> Any:
    """Kept by how many there are, and by where the last one is."""
    found = arguments["cu_seqlens"]
    return "cu_seqlens", None if found is None else (len(found), int(found[-1]))


def _scale(arguments: dict[str, Any]) -> Any:
    """Kept by the head dimension."""
    return "scale", arguments["q"].shape[-1]


def _rates(arguments: dict[str, Any]) -> Any:
    """Kept by how many there are."""
    return "A_log", None if arguments["A_log"] is None else arguments["A_log"].shape


@pytest.mark.parametrize("of", [_boundaries, _scale, _rates])
def test_what_is_kept_of_one_call_is_not_taken_for_another(of: Callable[[dict[str, Any]], Any]):
    kept: dict[Any, Any] = {}

    def stale(right, arguments):
        name, key = of(arguments)
        taken = arguments[name] if key is None else kept.setdefault(key, arguments[name])
        return right(**{**arguments, name: taken})

    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v3:ordinary:s0")
    for kernel, expected in ((spoil(TORCH, stale), "failed"), (TORCH, "held")):
        case = Case(problem=problem, config=kernel.configs(problem)[0], style="varied")
        assert judge_case(load("call_styles"), case, Harness(kernel=kernel, tau=20.0)).status == expected


def _state_as_given(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Right numbers, but the state of no tokens is the very tensor that was given."""
    o, ht = right(**arguments)
    state = arguments["initial_state"]
    return o, state if state is not None and ht is not None and not arguments["q"].shape[1] else ht


def _output_in_place(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Right numbers, written over the values."""
    o, ht = right(**arguments)
    with torch.no_grad():
        arguments["v"].copy_(o)
    return arguments["v"], ht


@pytest.mark.parametrize(
    ("change", "tokens", "expected"),
    [
        (_state_as_given, 0, "failed"),
        (_state_as_given, 3, "held"),
        (_output_in_place, 3, "failed"),
        (on_output(lambda o, _: o.clone()), 0, "held"),
    ],
    ids=["state of no tokens", "state of tokens", "output over values", "right"],
)
@pytest.mark.parametrize("name", ["equality", "error", "memory", "call_styles"])
def test_no_output_is_an_input(change: Callable[..., Any], tokens: int, expected: str, name: str):
    kernel = spoil(TOKENS, change)
    problem = Problem.parse(f"gdn:fp32:b1:t{tokens}:h1x1:k4:v4:ordinary:s0")
    case = Case(problem=problem, config=kernel.configs(problem)[0])
    found = judge_case(load(name), case, Harness(kernel=kernel, tau=20.0))
    assert found.status == expected, found
