"""Anybody's autotuned kernels: what is written is the best that passes, and the programs that are to read it do."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app
from deltaproof.autotune.foreign.cache_keys import CacheKeyGroup
from deltaproof.autotune.foreign.compile import CompileTask
from deltaproof.autotune.foreign.questions import CallAnswer, CallQuestion
from deltaproof.autotune.foreign.select import Refusal, select
from deltaproof.autotune.targets import summary
from deltaproof.autotune.targets.again import in_one_process
from deltaproof.autotune.targets.triton_cache import prove
from deltaproof.autotune.targets.tune import TargetOutcome, read_target_table
from deltaproof.results.schema.strict import TableError
from deltaproof.results.schema.target_table import Offer, TargetEntry, TargetTable, dumps, loads
from deltaproof.specs.gpus import gpu
from deltaproof.verify.targets.calls import TargetCall, calls
from deltaproof.verify.targets.tuners import LaunchChoice
from tests.helpers.megatron_reader import choices

H100 = gpu("h100")

MINE = """
import torch
import triton
import triton.language as tl

# From the best by its resources to the worst: one is wrong, one has a race between its warps, one is right.
CONFIGS = [
    triton.Config({"BLOCK_V": 16, "SCALED": 2, "TURNED": 0}, num_warps=4),
    triton.Config({"BLOCK_V": 16, "SCALED": 1, "TURNED": 1}, num_warps=2),
    triton.Config({"BLOCK_V": 16, "SCALED": 1, "TURNED": 0}, num_warps=1),
]


@triton.autotune(CONFIGS, key=["K", "V"])
@triton.jit
def walk_kernel(
    q, k, v, o, scratch, scale, T, H, K: tl.constexpr, V: tl.constexpr,
    BLOCK_V: tl.constexpr, SCALED: tl.constexpr, TURNED: tl.constexpr,
):
    batch, head = tl.program_id(1) // H, tl.program_id(1) % H
    i, j = tl.arange(0, K), tl.program_id(0) * BLOCK_V + tl.arange(0, BLOCK_V)
    state = tl.zeros([K, BLOCK_V], tl.float32)
    for t in range(T):
        row = (batch * T + t) * H + head
        key = tl.load(k + row * K + i).to(tl.float32)
        if TURNED:  # through global memory, without a barrier
            own = scratch + (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) * K
            tl.store(own + i, key)
            key = tl.load(own + K - 1 - i)
            tl.store(own + i, key)
            key = tl.load(own + K - 1 - i)
        query = tl.load(q + row * K + i).to(tl.float32)
        value = tl.load(v + row * V + j, j < V, 0).to(tl.float32)
        state += key[:, None] * value[None, :] * SCALED
        tl.store(o + row * V + j, (tl.sum(state * query[:, None], 0) * scale).to(o.dtype.element_ty), j < V)


def linear(q, k, v, scale=None):
    q, k, v = (x.contiguous() for x in (q, k, v))
    (B, T, H, K), V, o = q.shape, v.shape[-1], torch.empty_like(v)
    scratch = torch.empty(B * H * 64 * K, device=q.device)
    grid = lambda meta: (triton.cdiv(V, meta["BLOCK_V"]), B * H)
    walk_kernel[grid](q, k, v, o, scratch, K**-0.5 if scale is None else scale, T, H, K, V)
    return o


def call():
    x = torch.ones(1, 5, 1, 32)
    linear(x, x, x)


def wrong(q, k, v, scale=None):
    return linear(q, k, v, scale) * 2


def plain(q, k, v, scale=None):
    return v


def broken(q, k, v, scale=None):
    raise RuntimeError("not today")
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mine_to_tune.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return "mine_to_tune"


def autotune(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def tune(target: str, *words: object) -> tuple[int, str, str]:
    return autotune("--gpu", "h100", "--target", target, "--dim", 32, "--out", "out", "--jobs", 1, *words)


def test_what_is_wrong_and_what_races_is_refused_and_others_read_what_is_right(mine: str):
    target = f"{mine}:linear"
    code, told, _ = tune(target, "--rule", "linear", "--json", "report.json")
    assert code == 0, told
    assert "refused 1 configuration of walk_kernel: o is " in told
    assert "byte" in told and "of scratch" in told, "the race between warps has its line"
    report = json.loads(Path("report.json").read_text())
    assert [row["config"]["num_warps"] for row in report["refused"]] == [4, 2]
    table = read_target_table(Path("out"), H100, target)
    (entry,) = table.entries
    assert (entry.gate, entry.config["num_warps"]) == ("compiled", 1)
    assert [one.outcome for one in entry.offered] == ["refused", "refused", "chosen"]

    code, told, _ = autotune("report", "--gpu", "h100", "--target", target, "--out", "out")
    assert (code, f"{target} on h100-sxm" in told) == (0, True), told
    assert "walk_kernel: BLOCK_V=16 SCALED=1 TURNED=0, 1 warp" in told
    assert "passed the gate as compiled" in told and "of 3 configurations: 2 refused, 1 chosen" in told

    for name in ("python", "t4", "fla", "triton", "megatron"):
        exported = autotune("export", "--to", name, "--gpu", "h100", "--target", target, "--from", "out", "--out", name)
        assert exported[0] == 0, exported
    module = runpy.run_path("python/h100_sxm.py")
    assert all(module["lookup"]("walk_kernel", key) == entry.config for key in entry.keys)
    assert module["lookup"]("walk_kernel", (1, 2)) is None
    (landscape,) = (json.loads(path.read_text()) for path in Path("t4").iterdir())
    assert [row["invalidity"] for row in landscape["results"]] == ["correctness", "correctness", "correct"]
    assert autotune("import", next(Path("t4").iterdir()))[0] == 0
    rows = json.loads(Path("fla/walk_kernel.json").read_text())["autotune_entries"]
    assert [tuple(row["autotune_key"]) for row in rows.values()] == list(entry.keys)
    found = prove(table, H100, Path("triton"))
    assert len(found["found"]) == len(entry.keys) and not found["missing"], "Triton's own loader finds them"
    assert not prove(table, H100, Path("empty"))["found"]
    read = in_one_process(H100, choices, (target, table.calls, "megatron"))
    assert {key for _, key, _ in read} == set(entry.keys)
    assert all(config == {**entry.config, "maxnreg": None, "ir_override": None} for _, _, config in read)

    source = Path(f"{mine}.py").read_text()
    for name, old, new, says in (
        ("triton", "num_warps=1", "num_warps=8", "does not offer the configuration that was chosen any more"),
        ("megatron", "* SCALED", "* 2", "is not the kernel that was tuned"),
    ):
        Path(f"{mine}.py").write_text(source.replace(old, new))
        words = ("export", "--to", name, "--gpu", "h100", "--target", target, "--from", "out", "--out", "changed")
        code, _, told = autotune(*words)
        assert code == 2 and says in told, told
    assert not Path("changed").exists() or not list(Path("changed").iterdir())


def test_a_function_without_arguments_is_held_to_the_rules_of_compiled_code_alone(mine: str):
    code, told, _ = tune(f"{mine}:call")
    assert code == 0, told
    (entry,) = read_target_table(Path("out"), H100, f"{mine}:call").entries
    assert entry.config["kwargs"]["SCALED"] == 2, "nobody said what it computes"
    assert "no rule was asked for" in entry.detail


def test_a_function_that_is_wrong_in_every_configuration_gets_no_table(mine: str):
    code, told, _ = tune(f"{mine}:wrong", "--rule", "linear")
    assert code == 1 and "no configuration: walk_kernel" in told
    assert not list(Path("out").rglob("*.json"))


@pytest.mark.parametrize(
    ("target", "says"),
    [("plain", "launches no kernel with @triton.autotune"), ("broken", "cannot be noted: RuntimeError: not today")],
)
def test_what_launches_nothing_is_refused_in_a_line(mine: str, target: str, says: str):
    code, _, told = tune(f"{mine}:{target}", "--rule", "linear")
    assert code == 2 and says in told, told
    assert len(told.splitlines()) == 1, "nothing is announced before it is known to be there"


@pytest.mark.parametrize(
    ("target", "rules", "says"),
    [
        ("linear", ["gdn"], "does not compute rule gdn"),
        ("nothing", [], "cannot be imported"),
        ("CONFIGS", [], "is of type list; accepted: a function"),
    ],
)
def test_what_is_no_target_is_refused_in_a_line(mine: str, target: str, rules: list[str], says: str):
    with pytest.raises(ValueError, match=says):
        calls(f"{mine}:{target}", rules, ["bf16"], [32])


KERNELS = ("a", "b", "c")
CALLS = [TargetCall(target="m:f", rule="gla", size=64, full=full) for full in (False, True)]
FEW = 4


def tasks_of(kernels: Sequence[str]) -> tuple[list[CacheKeyGroup], list[CompileTask]]:
    """Every kernel is launched by both calls under one key, in four configurations, the best first."""
    choices = [LaunchChoice(kwargs=(), num_warps=2**n, num_stages=2, num_ctas=1) for n in range(FEW)]
    tasks = [
        CompileTask(call=call, kernel=kernel, order=0, place=place, choice=choice, name=f"{kernel}{place}", programs=1)
        for call in CALLS for kernel in kernels for place, choice in enumerate(choices)
    ]  # fmt: skip
    groups = [
        CacheKeyGroup(
            places=tuple((call, kernel, 0) for call in CALLS), keys=((kernel,),),
            ranked=tuple(task for task in tasks if task.kernel == kernel and task.call is CALLS[0]),
        )
        for kernel in kernels
    ]  # fmt: skip
    return groups, tasks


@given(
    bad=st.sets(st.tuples(st.sampled_from(CALLS), st.sampled_from(KERNELS), st.sampled_from([1, 2, 4, 8]))),
    named=st.booleans(),
    order=st.permutations(range(FEW)),
)
def test_nothing_is_chosen_that_fails_and_the_best_of_what_does_not_is(bad, named: bool, order: list[int]):
    """named: whether a failure names its kernel, as a broken rule does and an error does not."""
    groups, tasks = tasks_of(KERNELS)
    groups = [
        CacheKeyGroup(places=one.places, keys=one.keys, ranked=tuple(one.ranked[place] for place in order))
        for one in groups
    ]

    def judge(some: Sequence[CallQuestion]) -> Mapping[CallQuestion, CallAnswer]:
        answers = {}
        for question in some:
            wrong = [site for site, choice in question.choices if (question.call, site[0], choice.num_warps) in bad]
            site = wrong[0] if wrong and named else None
            answers[question] = CallAnswer(question=question, held=not wrong, detail="", site=site)
        return answers

    found = select(groups, tasks, judge)
    assert all(answer.held for answer in found.answers.values())
    for number, kernel in enumerate(KERNELS):
        right = [
            t for t in groups[number].ranked if not any((call, kernel, t.choice.num_warps) in bad for call in CALLS)
        ]
        if number in found.chosen:
            assert found.chosen[number] in right
        if named and all(_some_right(kernel, bad) for kernel in KERNELS):
            assert found.chosen[number] == right[0]


def _some_right(kernel: str, bad: set[tuple[TargetCall, str, int]]) -> bool:
    return any(all((call, kernel, warps) not in bad for call in CALLS) for warps in (1, 2, 4, 8))


PAIRS = st.frozensets(st.tuples(st.sampled_from(KERNELS), st.sampled_from([1, 2, 4, 8])), min_size=2, max_size=2)


@given(st.sets(PAIRS))
@example({frozenset({(one, 1), (other, 1)}) for one, other in combinations(KERNELS, 2)})
def test_what_only_fails_together_is_not_chosen_together_and_no_kernel_is_given_up(pairs):
    """Unless even what is offered first, and what is offered last, fails."""
    groups, tasks = tasks_of(KERNELS)

    def wrong(choices: Mapping[str, int]) -> bool:
        return any(pair <= choices.items() for pair in pairs)

    def judge(some: Sequence[CallQuestion]) -> Mapping[CallQuestion, CallAnswer]:
        chosen = {one: {site[0]: choice.num_warps for site, choice in one.choices} for one in some}
        return {one: CallAnswer(question=one, held=not wrong(chosen[one]), detail="") for one in some}

    found = select(groups, tasks, judge)
    assert all(answer.held for answer in found.answers.values())
    if not (wrong(dict.fromkeys(KERNELS, 1)) and wrong(dict.fromkeys(KERNELS, 8))):
        assert not any(one.everything for one in found.refused)


def test_what_cannot_be_told_is_chosen_as_it_is_ranked():
    groups, tasks = tasks_of(KERNELS)
    found = select(groups, tasks, lambda some: {q: CallAnswer(question=q, held=None, detail="") for q in some})
    assert [task.place for task in found.chosen.values()] == [0, 0, 0] and not found.refused


def test_configurations_that_break_one_rule_are_told_together_wherever_it_is_broken():
    refused = [
        Refusal(
            kernel="one", group=0, choice=LaunchChoice(kwargs=(), num_warps=warps, num_stages=2, num_ctas=1), call=CALLS[0],
            rule=rule, detail=f"{rule or 'o'} is broken at line {warps}",
        )
        for rule, warps in (("race", 1), ("race", 2), ("", 4), ("", 8))
    ]  # fmt: skip
    table = TargetTable(target="m:f", package="m 1.0", gpu="h100-sxm", triton="3.7.1", calls=(), entries=())
    outcome = TargetOutcome(
        path=Path("it"), table=table, kernels=1, ran=0, cached=0, left=0, refused=refused, without=["one"]
    )
    told = [line for line in summary.lines(outcome) if line.startswith("refused")]
    assert told == [
        "refused 2 configurations of one: race is broken at line 1",
        "refused 1 configuration of one: o is broken at line 4",
        "refused 1 configuration of one: o is broken at line 8",
    ]
    assert [row["reason"] for row in summary.document(outcome)["refused"]] == [one.detail for one in refused]


PLAIN = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text("abc.[]", max_size=9)
CONFIGURATION = st.builds(
    lambda blocks, warps, stages, registers: {
        "kwargs": blocks, "num_warps": warps, "num_stages": stages, "num_ctas": 1,
        **({"maxnreg": registers} if registers else {}),
    },
    st.dictionaries(st.sampled_from(["BK", "BV", "FLAG"]), st.integers(1, 256) | st.booleans()),
    st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 3]), st.sampled_from([0, 64]),
)  # fmt: skip
ENTRIES = st.builds(
    TargetEntry, kernel=st.sampled_from(["one", "two"]), source=st.just("ab" * 32), config=CONFIGURATION,
    keys=st.lists(st.lists(PLAIN).map(tuple), min_size=1, max_size=3).map(tuple), gate=st.sampled_from(["compiled", "none"]),
    detail=st.text("abc :;", max_size=40),
    offered=st.lists(
        st.builds(Offer, config=CONFIGURATION, outcome=st.sampled_from(["chosen", "spill"]), score=st.none() | st.just(0.5))
    ).map(tuple),
)  # fmt: skip
TABLES = st.builds(
    TargetTable, target=st.just("m.n:f"), package=st.just("m 1.0"), gpu=st.just("h100-sxm"), triton=st.just("3.7.1"),
    calls=st.lists(st.sampled_from(["gla bf16 64", "gla bf16 64 full", "its own"])).map(tuple),
    entries=st.lists(ENTRIES, max_size=3).map(tuple),
)  # fmt: skip


@given(TABLES)
def test_one_of_a_thing_is_told_in_the_singular(table: TargetTable):
    outcome = TargetOutcome(path=Path("it"), table=table, kernels=1, ran=1, cached=1, left=1, refused=[], without=[])
    assert not re.findall(
        r"\b1 (?:kernels|configurations|warps|stages|keys|entries)\b", " ".join(summary.lines(outcome))
    )


@given(TABLES)
def test_a_table_is_read_as_it_was_written(table: TargetTable):
    assert loads(dumps(table), "it") == table


@given(TABLES, st.data())
def test_a_damaged_table_is_refused_in_a_line(table: TargetTable, data: st.DataObject):
    document = json.loads(dumps(table))
    name = data.draw(st.sampled_from(sorted(document)))
    document[name] = data.draw(st.sampled_from([-1, None, {"a": 1}, [[1]], "\n", True]))
    with pytest.raises(TableError, match=r"^it: [^\n]+$"):
        loads(json.dumps(document), "it")
