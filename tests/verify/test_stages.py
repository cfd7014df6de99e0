"""A single kernel with a reference of its own is judged like an op: what is right holds, and each kind of fault is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deltaproof.verify.cli.app import app
from deltaproof.verify.targets.stage import Stage

THEIRS = """
import torch
import triton
import triton.language as tl

from deltaproof.verify.targets.stage import Stage


@triton.jit
def sums_kernel(g, total, T, CHUNK: tl.constexpr, MASKED: tl.constexpr, SCALE: tl.constexpr, NARROW: tl.constexpr):
    i = tl.arange(0, CHUNK)
    t = tl.program_id(0) * CHUNK + i
    if MASKED:
        x = tl.load(g + t, mask=t < T, other=0.0)
    else:
        x = tl.load(g + t)
    if NARROW:
        x = x.to(tl.bfloat16).to(tl.float32)
    tl.store(total + t, tl.cumsum(x, 0) * SCALE, mask=t < T)


@triton.jit
def inverse_kernel(a, out, N: tl.constexpr, TRIPS: tl.constexpr):
    # (1 + a)^-1 of a strictly lower triangular a, by doubling: (1 - a)(1 + a^2)(1 + a^4)...
    i = tl.arange(0, N)
    at = tl.program_id(0) * N * N + i[:, None] * N + i[None, :]
    power = -tl.load(a + at).to(tl.float32)
    one = tl.where(i[:, None] == i[None, :], 1.0, 0.0)
    total = one + power
    for _ in range(TRIPS):
        power = tl.dot(power, power, input_precision="ieee")
        total = tl.dot(total, one + power, input_precision="ieee")
    tl.store(out + at, total.to(out.dtype.element_ty))


@triton.jit
def decay_kernel(g, x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, i < n) * tl.exp(tl.load(g + i, i < n)), i < n)


@triton.jit
def neighbours_kernel(x, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(x + i, i < n) + tl.load(x + i + 1, i + 1 < n, 0.0), i < n)


def sums(g, masked=True, scale=1, narrow=False, chunk=16):
    total = torch.empty_like(g)
    sums_kernel[(triton.cdiv(len(g), chunk),)](g, total, len(g), chunk, masked, scale, narrow)
    return total


def sums_in_torch(g):
    return torch.cat([part.cumsum(0) for part in g.split(16)])


def draw_sums(random):
    return {"g": torch.from_numpy(random.standard_normal(int(random.integers(1, 60)), dtype="float32"))}


def inverse(a, trips=4):
    out = torch.empty_like(a)
    inverse_kernel[(len(a),)](a, out, a.shape[-1], trips)
    return {"inverse": out}


def inverse_in_torch(a):
    one = torch.eye(a.shape[-1], dtype=a.dtype).expand_as(a)
    total, power = one - a, -a
    for _ in range(4):
        power = power @ power
        total = total @ (one + power)
    return {"inverse": total}


def draw_triangles(random):
    a = torch.from_numpy(random.uniform(-0.3, 0.3, (int(random.integers(1, 4)), 16, 16))).tril(-1)
    return {"a": a.to(random.choice([torch.float32, torch.bfloat16]))}


def decayed(g, x):
    out = torch.empty_like(x)
    decay_kernel[(triton.cdiv(len(x), 16),)](g, x, out, len(x), 16)
    return (out,)


def draw_decay(random):
    n = int(random.integers(1, 40))
    g, x = (torch.from_numpy(random.standard_normal(n, dtype="float32")) for _ in range(2))
    return {"g": -g.abs(), "x": x}


def in_place(x):
    x = x.clone()
    neighbours_kernel[(triton.cdiv(len(x), 16),)](x, len(x), 16)
    return x


def overwrites(g):
    g.mul_(1)
    return sums(g)


def too_short(g):
    return sums(g)[:-1]


def raises(g):
    raise RuntimeError("not today")


def unwritten(g):
    return torch.cat([sums(g), torch.empty(1)])


def of_sums(run, reference=sums_in_torch):
    return Stage(run=run, reference=reference, draw=draw_sums)


right = of_sums(sums)
inverse_stage = Stage(run=inverse, reference=inverse_in_torch, draw=draw_triangles)
decay_stage = Stage(run=decayed, reference=lambda g, x: (x * g.exp(),), draw=draw_decay)
wrong_scale = of_sums(lambda g: sums(g, scale=2))
wrong_chunk = of_sums(lambda g: sums(g, chunk=32))
short_inverse = Stage(run=lambda a: inverse(a, trips=2), reference=inverse_in_torch, draw=draw_triangles)
unmasked = of_sums(lambda g: sums(g, masked=False))
narrow = of_sums(lambda g: sums(g, narrow=True))
overwriting = of_sums(overwrites)
short = of_sums(too_short)
raising = of_sums(raises)
incomplete = of_sums(unwritten, lambda g: torch.cat([sums_in_torch(g), g[:1]]))
with_next = lambda x: x + torch.cat([x[1:], x.new_zeros(1)])
racing = Stage(run=in_place, reference=with_next, draw=lambda random: {"x": torch.ones(50)})
torch_alone = of_sums(sums_in_torch)
broken_reference = of_sums(sums, lambda g: raises(g))
more_than_asked = of_sums(lambda g: (sums(g), sums(g)), lambda g: (sums_in_torch(g),))
references = {
    "that raises": broken_reference,
    "of nothing": of_sums(sums, lambda g: {}),
    "of None": of_sums(sums, lambda g: None),
    "of nothing, as its kernel": of_sums(lambda g: {}, lambda g: {}),
}


def half_in_place(x):
    # Whoever runs it twice on one tensor gets another answer.
    return x.mul_(0.5)


def of_calls(draw, run=lambda x: sums(x), reference=lambda x: sums_in_torch(x)):
    return Stage(run=run, reference=reference, draw=draw)


wide_wrong = of_calls(lambda r: {"x": torch.rand(9, dtype=torch.float64)}, lambda x: sums(x, chunk=16), half_in_place)
whole = of_calls(lambda r: {"x": torch.rand(9)}, lambda x: sums(x).sum(), lambda x: sums_in_torch(x).sum())
empty = of_calls(lambda r: {"x": torch.rand(0)})
seldom_empty = of_calls(lambda r: {"x": torch.rand(int(r.integers(0, 2)))})
beyond_empty = of_calls(lambda r: {"x": torch.rand(0)}, lambda x: (sums_kernel[(1,)](x, x, 9, 16, True, 1, False), x)[1])
flags = of_calls(
    lambda r: {"x": torch.rand(9), "on": torch.ones(9, dtype=torch.bool), "n": torch.ones(3, dtype=torch.int8)},
    lambda x, on, n: sums(x),
    lambda x, on, n: sums_in_torch(x),
)
two = {"decay": decay_stage, "whole": whole, "flags": flags}
wrong = {
    name: globals()[name]
    for name in ("wrong_scale", "wrong_chunk", "short_inverse", "narrow", "unmasked", "racing", "overwriting", "incomplete",
                 "short", "more_than_asked", "wide_wrong", "raising")
}
draws = {
    "raises": of_calls(raises),
    "a list": of_calls(lambda r: [1]),
    "a number as a name": of_calls(lambda r: {1: torch.rand(9)}),
    "a tensor in a list": of_calls(lambda r: {"x": [torch.rand(9)]}),
    "complex": of_calls(lambda r: {"x": torch.rand(9).to(torch.complex64)}),
    "of 8 bits": of_calls(lambda r: {"x": torch.rand(9).to(torch.float8_e4m3fn)}),
    "without contents": of_calls(lambda r: {"x": torch.rand(9, device="meta")}),
    "sparse": of_calls(lambda r: {"x": torch.rand(9).to_sparse()}),
}
"""


@pytest.fixture(autouse=True)
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "their_stages.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("their_stages", None)


def judged(stage: str, *words: str) -> tuple[int, str, dict[str, dict[str, Any]]]:
    command = ["all", "--target", f"their_stages:{stage}", "--profile", "quick", "--jobs", "1", *words]
    done = CliRunner().invoke(app, [*command, "--json", "report.json"])
    path = Path("report.json")
    verdicts = json.loads(path.read_text())["verdicts"] if path.exists() else []
    return done.exit_code, done.output, {one["property"]: one for one in verdicts}


@pytest.mark.parametrize("stage", ["right", "inverse_stage", "decay_stage", "two"])
def test_a_right_stage_holds_in_every_arithmetic(stage: str):
    code, told, verdicts = judged(stage)
    assert code == 0, told
    assert {name: one["status"] for name, one in verdicts.items()} == dict.fromkeys(
        ("equality", "error", "memory"), "held"
    )
    assert verdicts["error"]["worst_ratio"] < 1
    assert "covered: a second program or trip of" in told


@pytest.mark.parametrize(
    ("stage", "prop", "kind", "says"),
    [
        ("wrong_scale", "equality", "structure", "not its reference"),
        ("wrong_chunk", "equality", "structure", "not its reference"),
        ("short_inverse", "equality", "structure", "inverse differs"),
        ("wrong_scale", "error", "precision", "times its budget"),
        ("narrow", "error", "precision", "times its budget"),
        ("unmasked", "memory", "memory", "out of bounds"),
        ("racing", "memory", "memory", "neighbours_kernel"),
        ("overwriting", "memory", "memory", "modif"),
        ("overwriting", "equality", "memory", "modifies its input g"),
        ("incomplete", "memory", "memory", "never written"),
        ("short", "equality", "contract", "expected"),
        ("more_than_asked", "equality", "contract", "its reference does not return"),
        ("wide_wrong", "error", "precision", "times its budget"),
        ("raising", "error", "contract", "not today"),
    ],
)
def test_a_wrong_stage_fails_by_its_kind_and_its_replay_fails_alike(
    stage: str, prop: str, kind: str, says: str, judged_and_replayed: tuple[str, ...]
):
    told, *reports = judged_and_replayed
    assert "configuration" not in told, "a stage has none"
    for report in reports:
        verdicts = json.loads(report)["verdicts"]
        (found,) = (one for one in verdicts if (one["kernel"], one["property"]) == (stage, prop))
        assert (found["status"], found["kind"]) == ("failed", kind), found
        assert says in found["counterexample"]["message"]


@pytest.fixture(scope="module")
def judged_and_replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """What a run over all wrong stages prints, its report, and that of a replay of its counterexamples."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "their_stages.py").write_text(THEIRS)
    found, again = folder / "found.json", folder / "again.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        words = ["all", "--target", "their_stages:wrong", "--profile", "quick", "--jobs", "1", "--json", str(found)]
        done = CliRunner().invoke(app, words)
        replayed = CliRunner().invoke(app, ["replay", str(found), "--json", str(again)])
        assert (done.exit_code, replayed.exit_code) == (1, 1), done.output + replayed.output
        yield done.output, found.read_text(), again.read_text()
    sys.modules.pop("their_stages", None)


def test_as_compiled_the_order_of_programs_decides_what_a_race_leaves():
    code, told, verdicts = judged("racing", "--device", "sm_90", "--property", "determinism")
    assert code == 1, told
    assert verdicts["determinism"]["kind"] in ("nondeterminism", "memory")
    code, told, verdicts = judged("decay_stage", "--device", "sm_90")
    assert (code, set(verdicts)) == (0, {"error", "memory", "determinism"}), told


@pytest.mark.parametrize("device", ["interpreter", "sm_90"])
def test_what_holds_no_element_was_not_judged(device: str):
    code, told, verdicts = judged("empty", "--device", device)
    assert (code, len(verdicts)) == (3, 3), told
    assert {(one["status"], one["problems"], *one["notes"]) for one in verdicts.values()} == {
        ("unsupported", 0, "no output of the calls that `draw` made holds an element")
    }, told
    code, told, verdicts = judged("seldom_empty", "--device", device)
    assert (code, {(one["status"], *one["notes"]) for one in verdicts.values()}) == (0, {("held",)}), told
    code, told, _ = judged("beyond_empty", "--device", device, "--property", "memory")
    assert code == 1, told


def test_a_stage_without_a_kernel_has_no_memory_to_judge():
    code, told, verdicts = judged("torch_alone")
    assert (code, verdicts["memory"]["status"]) == (0, "inapplicable"), told


def test_a_reference_that_breaks_or_returns_nothing_judges_nothing():
    command = [
        "all",
        "--target",
        "their_stages:references",
        "--profile",
        "quick",
        "--jobs",
        "1",
        "--json",
        "report.json",
    ]
    done = CliRunner().invoke(app, [*command, "--property", "equality", "--property", "error"])
    verdicts = json.loads(Path("report.json").read_text())["verdicts"]
    assert (done.exit_code, len(verdicts)) == (1, 2 * 4), done.output
    for one in verdicts:
        says = "RuntimeError: not today" if one["kernel"] == "that raises" else "TypeError: it returned no tensor"
        assert (one["status"], one["notes"][0].startswith(f"its reference raised {says}")) == ("error", True), (
            done.output
        )


def test_a_draw_that_nothing_can_be_judged_by_is_named_with_its_reason():
    command = ["all", "--target", "their_stages:draws", "--profile", "quick", "--jobs", "1", "--json", "report.json"]
    done = CliRunner().invoke(app, command)
    verdicts = json.loads(Path("report.json").read_text())["verdicts"]
    assert (done.exit_code, len(verdicts)) == (1, 3 * 8), done.output
    assert {one["status"] for one in verdicts} == {"error"}, done.output
    assert all(one["notes"][0].startswith(("draw raised", "draw returned")) for one in verdicts), done.output


@pytest.mark.parametrize("part", ["run", "reference", "draw"])
def test_a_stage_of_anything_but_functions_cannot_be_made(part: str):
    parts: Any = {**dict.fromkeys(("run", "reference", "draw"), print), part: 3}
    with pytest.raises(TypeError, match=f"^Stage: {part} is 3; accepted: a function$"):
        Stage(**parts)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["all", "--rule", "gdn", "--profile", "quick"], "a stage has a reference of its own, and no rule"),
        (["explain", "gdn2:bf16:b1:t2:h1x1:k1:v1:ordinary:s0"], "<property>@<stage>@s<seed>"),
        (["replay", "memory@right[c64]@gdn2:fp32:b1:t1:h1x1:k1:v1:ordinary:s0"], "<property>@<stage>@s<seed>"),
        (["replay", "memory@right@s"], "of a stage <property>@<stage>@s<seed>"),
        (["mutants", "--profile", "quick"], "has stages"),
        (["alarms"], "has stages"),
        (["calibrate"], "has stages"),
    ],
)
def test_what_asks_for_a_rule_refuses_a_stage_in_one_line(words: list[str], says: str):
    done = CliRunner().invoke(app, [*words, "--target", "their_stages:right"])
    assert (done.exit_code, len(done.stderr.splitlines()), done.stdout) == (2, 1, ""), done.output
    assert says in done.stderr


@pytest.mark.parametrize(
    "token", ["equality@nobody@s0", "causality@right@s0", "determinism@right@s0", "equality@right@s", "equality@right"]
)
def test_a_token_that_names_no_call_of_the_stage_is_bad_usage(token: str):
    done = CliRunner().invoke(app, ["replay", "--target", "their_stages:right", token])
    assert (done.exit_code, len(done.output.strip().splitlines())) == (2, 1), done.output
