"""What a device cannot watch shows all the same: stray reads, stray writes and what is never written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deltaproof.kernels import KERNELS
from deltaproof.specs.inputs.make import generate
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.execution import execute
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.execution.red_zones import Strays, strays
from deltaproof.verify.properties import load

NOTHING = Strays(unwritten={}, damaged=(), changed=())


def beside(x: torch.Tensor, places: int) -> torch.Tensor:
    """The element so many places behind the end of a contiguous tensor, or before its beginning."""
    at = x.storage_offset() + (x.numel() - 1 + places if places > 0 else places)
    return x.as_strided([1], [1], at)


def nowhere() -> dict[str, torch.Tensor]:
    """Where NaN belongs, asked for where there is none."""
    raise AssertionError("no output holds NaN")


def doubled(made, *, reads: int = 0, writes: int = 0, skips: int = 0, clobbers: bool = False):
    x = made["x"]
    o = torch.empty_like(x)
    o[skips:] = 2 * x[skips:]
    if reads and x.untyped_storage().nbytes() > x.nbytes:
        o[-1] += beside(x, reads)[0]
    if writes and x.untyped_storage().nbytes() > x.nbytes:
        beside(x, writes).fill_(1.0)
    if clobbers:
        x[3] = 7.0
    return {"o": o}


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ({}, NOTHING),
        ({"reads": 1}, Strays(unwritten={}, damaged=(), changed=("o",))),
        ({"reads": -3}, Strays(unwritten={}, damaged=(), changed=("o",))),
        ({"writes": 1}, Strays(unwritten={}, damaged=("x",), changed=())),
        ({"clobbers": True}, Strays(unwritten={}, damaged=("x",), changed=())),
        ({"writes": -40}, Strays(unwritten={}, damaged=("x",), changed=())),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_strays_is_found(fault, found, dtype):
    x = torch.arange(1, 49, dtype=dtype)
    assert strays(lambda made: doubled(made, **fault), {"x": x}, nowhere) == found


def test_what_is_never_written_is_counted():
    """Whatever earlier calls have left in the memory that is handed out again."""
    for _ in range(20):
        left = [torch.full([8, 64], float("nan")) for _ in range(50)]
        del left
        found = strays(lambda made: doubled(made, skips=1), {"x": torch.ones(8, 64)}, dict)
        assert found == Strays(unwritten={"o": 64}, damaged=(), changed=())


def test_nan_is_right_where_the_reference_has_it():
    x = torch.tensor([1.0, float("nan"), 2.0, 3.0])
    assert strays(doubled, {"x": x}, lambda: {"o": x.isnan()}) == NOTHING
    assert strays(doubled, {"x": x}, lambda: {"o": torch.zeros(4, dtype=torch.bool)}).unwritten == {"o": 1}


def test_a_device_gets_the_gaps_of_a_view():
    harness = Harness(kernel=None)
    x = torch.full([4, 6], float("nan"))
    view = x[:, 1:4].copy_(torch.ones(4, 3)).t()
    placed = harness._placed(view)
    assert torch.equal(placed, view) and placed.stride() == view.stride() and placed.storage_offset() == 1
    assert int(placed.as_strided([24], [1], 0).isnan().sum()) == 12
    assert replace(harness, device="meta")._placed(view).stride() == view.stride()


def test_views_keep_their_strides_and_torch_its_settings():
    x = torch.arange(24.0).view(4, 6).t()[1:]
    seen = []
    strays(
        lambda made: (seen.append(made["x"]), {"o": made["x"].clone()})[1],
        {"x": x, "empty": torch.empty(0, 3)},
        nowhere,
    )
    assert {tensor.stride() for tensor in seen} == {x.stride()} and all(torch.equal(tensor, x) for tensor in seen)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name", ["chunk_train/staged", "recurrent/tokens"])
def test_our_kernels_stray_nowhere(name: str):
    problem = Problem(rule=RULES["gdn2"], H=1, HV=2, K=20, V=24, T=21, lengths=(0, 1, 20))
    kernel = KERNELS[name]
    case = Case(problem=problem, config=kernel.configs(problem)[0])
    made = execute.tensors(problem, generate(problem))
    assert (
        strays(lambda some: execute.run(kernel, case, some, gradients=kernel.differentiable), made, nowhere) == NOTHING
    )


def test_the_reference_says_where_nan_belongs():
    problem = Problem(rule=RULES["gdn"], T=4)
    kernel = KERNELS["recurrent/tokens"]

    def forgetful(**arguments):
        o, ht = kernel.run(**arguments)
        written = torch.empty_like(o)
        written[:, 1:] = o[:, 1:]
        return written, ht

    case, inputs = Case(problem=problem), generate(problem)
    for _ in range(2):
        found = Harness(kernel=replace(kernel, run=forgetful))._strays(case, inputs)
        assert found.unwritten == {"o": problem.B * problem.HV * problem.V} and not found.damaged and not found.changed


def test_the_memory_property_says_so_on_a_device(monkeypatch: pytest.MonkeyPatch):
    found = Strays(unwritten={}, damaged=(), changed=("o",))
    monkeypatch.setattr("deltaproof.verify.execution.red_zones.strays", lambda call, made, nan_belongs: found)
    problem = Problem(rule=RULES["gdn"], T=4)
    harness = Harness(kernel=KERNELS["recurrent/tokens"], kernels=KERNELS, device="meta")
    outcome = load("memory").check(Case(problem=problem), harness)
    assert (outcome.status, outcome.kind, outcome.message) == (
        "failed",
        "memory",
        "o: changed by what lies beside the inputs",
    )
