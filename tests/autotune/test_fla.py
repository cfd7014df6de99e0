"""FLA's own kernels: what is written for them is what FLA itself reads, in its strict mode, and it benchmarks nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app
from deltaproof.autotune.fla import installed, summary
from deltaproof.autotune.fla import tune as target
from deltaproof.autotune.fla.calls import FlaCall
from deltaproof.autotune.fla.gate_cache import AnswerCache
from deltaproof.autotune.foreign.cache_keys import CacheKeyGroup, cache_key_groups
from deltaproof.autotune.foreign.compile import CompileTask
from deltaproof.autotune.foreign.questions import CallAnswer, CallQuestion
from deltaproof.autotune.foreign.select import SelectionOutcome, select
from deltaproof.autotune.tune import Hooks
from deltaproof.results.schema.strict import TableError
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile.compilation import Cache, Compilation
from deltaproof.verify.compile.fake_device import facts
from deltaproof.verify.process.progress import Progress
from deltaproof.verify.targets.tuners import LaunchChoice

H100 = gpu("h100")
CALL = FlaCall(rule="gdn", dtype="bf16", size=64)


PACKED = FlaCall(rule="gdn", dtype="bf16", size=64, packed=True)
KEYS = [(16, "torch.bfloat16"), (8, "torch.bfloat16")]


def task(place: int, warps: int = 4, *, kernel: str = "one", programs: int = 1000, call: FlaCall = CALL) -> CompileTask:
    choice = LaunchChoice(kwargs=(("BK", 32 * (1 + place % 2)),), num_warps=warps, num_stages=2, num_ctas=1)
    name = f"{kernel} {place}{' packed' if call.packed else ''}"
    return CompileTask(call=call, kernel=kernel, order=0, place=place, choice=choice, name=name, programs=programs)


def binary(code: str, *, registers: int = 64, stack: int = 0, shared: int = 1024, warps: int = 4) -> Compilation:
    return Compilation(
        outcome="compiled", seconds=0.1, registers=registers, stack=stack, shared=shared, threads=32 * warps,
        tensor_core={"wgmma" if warps >= 4 else "mma": 1}, code=code * 16,
    )  # fmt: skip


def choose(
    found: dict[str, Compilation], tasks: list[CompileTask], slug: str = "h100"
) -> tuple[list[CacheKeyGroup], dict[str, int]]:
    keys = {(one.call, one.kernel, 0): KEYS for one in tasks}
    made, rejected, _ = cache_key_groups(gpu(slug), tasks, keys, found)
    return made, {reason: count for reason, count in rejected.items() if count}


def test_what_does_not_fit_spills_or_repeats_another_is_not_chosen():
    tasks = [task(0, 4), task(1, 4), task(2, 4), task(3, 2)]
    found = {"one 0": binary("a", shared=10**6), "one 1": binary("b", stack=4096), "one 2": binary("c"),
             "one 3": binary("c", warps=2)}  # fmt: skip
    [slot], rejected = choose(found, tasks)
    assert [one.place for one in slot.ranked] == [2]
    assert set(slot.keys) == set(KEYS), "under the keys of its siblings too"
    assert rejected == {"resources": 1, "duplicate": 1, "spill": 1}


def test_fast_tensor_cores_win_and_a_budget_leaves_kernels_without():
    [slot], _ = choose({"one 0": binary("a", warps=2), "one 1": binary("b")}, [task(0, 2), task(1, 4)])
    assert [one.choice.num_warps for one in slot.ranked] == [4, 2]
    tasks = [task(0), task(0, kernel="other")]
    made, _, left = cache_key_groups(
        H100, tasks, {(CALL, one.kernel, 0): KEYS for one in tasks}, {"one 0": binary("a")}
    )
    assert {slot.kernel for slot in made if slot.ranked} == {"one"}
    assert left == 1


def test_what_is_known_to_be_bad_is_not_chosen():
    kernel = "chunk_gdn2_bwd_kernel_wy_dqkg_fused"
    tasks = [task(0, 4, kernel=kernel), task(1, 4, kernel=kernel)]
    found = {one.name: binary(code) for one, code in zip(tasks, "ab", strict=True)}
    [slot], rejected = choose(found, tasks, "b200")
    assert rejected == {"known bad": 1}
    assert [dict(one.choice.kwargs)["BK"] for one in slot.ranked] == [64]


def test_calls_that_fla_cannot_tell_apart_get_what_fits_both():
    tasks = [task(place, call=call) for call in (CALL, PACKED) for place in (0, 1)]
    found = {one.name: binary("abcd"[number]) for number, one in enumerate(tasks)}
    [slot], _ = choose(found | {"one 0 packed": binary("c", shared=10**6)}, tasks)
    assert slot.places == ((CALL, "one", 0), (PACKED, "one", 0))
    assert [one.place for one in slot.ranked] == [1]


class Judge:
    """Answers as if the given block sizes of the given kernels were wrong; `together`: only when all of them are there."""

    def __init__(self, *wrong: tuple[str, int], together: bool = False) -> None:
        self.wrong, self.asked, self.quantify = wrong, list[CallQuestion](), all if together else any

    def __call__(self, questions: Sequence[CallQuestion]) -> Mapping[CallQuestion, CallAnswer]:
        self.asked += questions
        return {question: self.answer(question) for question in questions}

    def answer(self, question: CallQuestion) -> CallAnswer:
        chosen = {kernel: dict(kwargs)["BK"] for (kernel, _), kwargs in question.choices}
        wrong = self.wrong and self.quantify(chosen.get(kernel) == size for kernel, size in self.wrong)
        return CallAnswer(question=question, held=not wrong, detail="wrong" if wrong else "right")


def selection(
    judge: Judge, kernels: str = "ab", some: Sequence[FlaCall] = (CALL,)
) -> tuple[SelectionOutcome, dict[str, int]]:
    """With BK = 32 first among what is offered, and 64 best; kernels of several calls share their keys."""
    tasks = [task(place, kernel=kernel, call=call) for call in some for kernel in kernels for place in (0, 1)]
    made = [
        CacheKeyGroup(
            places=tuple((call, kernel, 0) for call in some), keys=((1,),),
            ranked=(task(1, kernel=kernel), task(0, kernel=kernel)),
        )
        for kernel in kernels
    ]  # fmt: skip
    outcome = select(made, tasks, judge, lambda choice: choice.kwargs)
    return outcome, {made[number].kernel: dict(one.choice.kwargs)["BK"] for number, one in outcome.chosen.items()}


def test_what_holds_is_asked_once_for_all_kernels_of_a_call():
    judge = Judge()
    outcome, chosen = selection(judge, some=(CALL, PACKED))
    assert chosen == {"a": 64, "b": 64}
    assert [question.call for question in judge.asked] == [CALL, PACKED]
    assert (len(outcome.tried), outcome.refused) == (2, [])
    assert outcome.answers.keys() == {CALL, PACKED}


@pytest.mark.parametrize("kernels", ["ab", "abc"])
def test_a_wrong_block_size_is_refused_with_its_reason_and_the_next_one_is_taken(kernels: str):
    outcome, chosen = selection(Judge(("b", 64)), kernels)
    assert chosen == dict.fromkeys(kernels, 64) | {"b": 32}
    assert [(one.kernel, one.choice, one.detail) for one in outcome.refused] == [("b", (("BK", 64),), "wrong")]
    assert len(outcome.tried) == len(kernels) + 1
    assert all(answer.held for answer in outcome.answers.values())


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ([("a", 32), ("b", 32), ("c", 64)], {"a": 64, "b": 64, "c": 32, "d": 64}),
        ([("a", 64), ("b", 64)], {"a": 32, "b": 32, "c": 64, "d": 64}),
    ],
)
def test_a_fault_is_not_blamed_on_others(wrong: list[tuple[str, int]], right: dict[str, int]):
    outcome, chosen = selection(Judge(*wrong), "abcd")
    assert chosen == right
    assert {one.kernel for one in outcome.refused} == {kernel for kernel, size in wrong if size == 64}


def test_a_call_that_fails_whatever_is_chosen_leaves_its_kernels_without():
    outcome, chosen = selection(Judge(("b", 32), ("b", 64)))
    assert not chosen
    assert all(one.everything and one.detail == "wrong" for one in outcome.refused)


def test_choices_that_only_fail_together_are_not_written_together():
    outcome, chosen = selection(Judge(("a", 64), ("b", 64), together=True))
    assert chosen == {"a": 32, "b": 64}
    (one,) = outcome.refused
    assert target.refusal(one)["reason"] == "wrong; right with {'BK': 32}"


def test_answers_are_kept_by_everything_that_they_depend_on_and_read_with_suspicion(tmp_path: Path):
    package, warned = tmp_path / "package", list[str]()
    package.mkdir()
    (package / "kernel.py").write_text("x = 1\n")
    store = AnswerCache(folder=tmp_path / "kept", facts=facts(H100), package=package, warn=warned.append)
    question = CallQuestion(call=CALL, choices=((("a", 0), (("BK", 64),)),))
    for final in (False, True):
        answer = CallAnswer(question=question, held=False, detail="wrong", final=final)
        store.keep(store.key(question), answer)
        assert store.recall(store.key(question), question) == (answer if final else None), (
            "what crashed or hung is tried again"
        )
    assert store.get(store.key(question.but(("a", 0), (("BK", 32),)))) is None
    [path] = (tmp_path / "kept").rglob("*.json")
    entry = json.loads(path.read_text())
    wrong = [
        {**entry, "key": "other"},
        *({**entry, "answer": {**entry["answer"], name: None}} for name in entry["answer"]),
    ]
    for damaged in ("", "{}", "[]", *map(json.dumps, wrong)):
        path.write_text(damaged)
        assert store.get(store.key(question)) is None
        assert "judging again" in warned.pop() and not warned
    (package / "kernel.py").write_text("x = 2 \n")
    assert store.get(store.key(question)) is None
    assert not warned, "another source is another name"


def test_export_falls_back_on_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mine, shipped = tmp_path / "mine", tmp_path / "shipped"
    monkeypatch.setattr(target, "default_out", lambda: mine)
    monkeypatch.setattr(target, "packaged", lambda name: shipped / name)
    row = {"kernel": "k", "key": [1], "kwargs": {}, "num_stages": 1, "num_ctas": 1, "gates": target.GATES,
           "evidence": ["0123456789abcdef"]}  # fmt: skip

    def put(out: Path, warps: int) -> None:
        document = {"schema": 2, "gpu": "h100-sxm", "triton": "3.7.1", "entries": [row | {"num_warps": warps}]}
        (out / "fla").mkdir(parents=True)
        (out / "fla" / "h100-sxm.json").write_text(json.dumps(document))

    def exported(*arguments: str) -> int | None:
        command = ["export", "--to", "fla", "--gpu", "H100", "--out", str(tmp_path / "out"), *arguments]
        if code := CliRunner().invoke(app, command).exit_code:
            assert code == 2
            return None
        return json.loads((tmp_path / "out" / "k.json").read_text())["default_config"]["num_warps"]

    assert exported() is None
    put(shipped, 2)
    assert exported() == 2
    assert exported("--from", str(mine)) is None, "a folder that was named is the only one that is looked into"
    put(mine, 4)
    assert exported() == 4


def test_export_says_what_to_run_first_and_refuses_what_no_run_wrote(tmp_path: Path):
    result = CliRunner().invoke(
        app, ["export", "--to", "fla", "--gpu", "H100", "--out", str(tmp_path / "d"), "--from", str(tmp_path)]
    )
    assert result.exit_code == 2
    assert "--target fla" in result.stderr
    (tmp_path / "fla").mkdir()
    path = tmp_path / "fla" / "h100-sxm.json"
    good = {"schema": 2, "gpu": "h100-sxm", "triton": "3.7.1", "entries": []}
    row = {"kernel": "k", "key": [1], "kwargs": {}, "num_warps": 1, "num_stages": 1, "num_ctas": 1,
           "gates": target.GATES, "evidence": ["0123456789abcdef"]}  # fmt: skip
    path.write_text(json.dumps(good | {"entries": [row]}))
    assert json.loads(target.export(tmp_path, H100)["k.json"])["default_config"]["num_warps"] == 1
    unchecked = {name: value for name, value in row.items() if name != "gates"}
    for damaged in ("", "[]", "{}", json.dumps(good | {"schema": 1}),
                    *(json.dumps(good | {"entries": [wrong]}) for wrong in (
                        row | {"kernel": "../../evil"}, row | {"kwargs": {"BK": "x"}}, row | {"evidence": []},
                        row | {"gates": "none"}, unchecked,
                    ))):  # fmt: skip
        path.write_text(damaged)
        with pytest.raises(TableError) as error:
            target.export(tmp_path, H100)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(installed.where() is not None, reason="flash-linear-attention is installed")
def test_without_fla_it_is_one_line():
    result = CliRunner().invoke(app, ["--gpu", "H100", "--target", "fla"])
    assert result.exit_code == 2
    assert "deltaproof[peers]" in result.stderr


needs_fla = pytest.mark.skipif(
    installed.where() is None, reason="flash-linear-attention is not installed; it comes with deltaproof[peers]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run over FLA's kernels: where it wrote, what it came to, and how many questions its gate asked."""

    folder: Path
    outcome: target.FlaOutcome
    asked: int


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run over a copy of FLA whose output kernel is wrong where K is taken in blocks of 128, the best otherwise."""
    original = installed.where()
    assert original is not None
    folder = tmp_path_factory.mktemp("planted")
    package = folder / "site" / "fla"
    shutil.copytree(original, package, ignore=shutil.ignore_patterns("__pycache__"))
    for about in original.parent.glob("f*la*-*.dist-info"):
        shutil.copytree(about, package.parent / about.name)
    source = package / "ops" / "common" / "chunk_o.py"
    here = "    if USE_G:\n        g += bos * HV + i_h\n"
    assert here in source.read_text()
    fault = "    if BK == 128:\n        b_o = b_o * 0.5\n"
    source.write_text(source.read_text().replace(here, fault + here, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(package.parent))
        patch.setattr(installed, "where", lambda: package)
        yield tuned(folder)


def tuned(folder: Path) -> Run:
    """With compilations that are made up, each another program: nothing about them is under test here."""
    asked: list[int] = []
    progress = Progress(begin=lambda title, total: asked.append(total if title == "verifying" else 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cache, "get", lambda cache, key: made_up(key))
        outcome = target.tune_fla(
            H100, ["gdn"], ["bf16"], [64], jobs=1, out=folder, cache=folder / "cache", budget=0.0,
            hooks=Hooks(progress=progress),
        )  # fmt: skip
    return Run(folder=folder, outcome=outcome, asked=sum(asked))


def made_up(name: str) -> Compilation:
    return Compilation(outcome="compiled", seconds=0.0, registers=64, threads=128, code=name[:32])


@needs_fla
@pytest.mark.timeout(900)
def test_a_fault_planted_in_one_block_size_is_refused_and_the_next_one_is_written(planted: Run):
    outcome = planted.outcome
    assert not outcome.failed
    assert [(one.kernel, dict(one.choice)["BK"]) for one in outcome.refused] == [("chunk_fwd_kernel_o", 128)] * len(
        outcome.refused
    )
    assert "times its budget" in outcome.refused[0].detail
    sizes = {entry.kwargs["BK"] for entry in outcome.entries if entry.kernel == "chunk_fwd_kernel_o"}
    assert sizes
    assert 128 not in sizes
    assert json.loads(outcome.path.read_text())["refused"][0]["kernel"] == "chunk_fwd_kernel_o"
    gate = summary.document("h100-sxm", outcome)["gate"]
    assert gate["failed"] == len(outcome.refused) > 0
    assert gate["checked"] == gate["owed"] + gate["failed"]
    assert any(f"{gate['failed']} failed" in line for line in summary.lines(outcome))


@needs_fla
@pytest.mark.timeout(900)
def test_what_was_judged_is_not_judged_again(planted: Run):
    assert planted.asked
    written = planted.outcome.path.read_text()
    assert tuned(planted.folder).asked == 0
    assert planted.outcome.path.read_text() == written


@needs_fla
@pytest.mark.timeout(900)
def test_fla_itself_finds_every_kernel_in_strict_mode_and_benchmarks_none(planted: Run, tmp_path: Path):
    for name, text in target.export(planted.folder, H100).items():
        (tmp_path / name).write_text(text)
        assert all(entry["checked"] == target.GATES for entry in json.loads(text)["autotune_entries"].values())
    found = target.prove(H100, tmp_path, ["gdn"], ["bf16"], [64])
    assert found["found"]
    assert not found["missing"]
    next(tmp_path.glob("*kkt_solve*")).unlink()
    assert target.prove(H100, tmp_path, ["gdn"], ["bf16"], [64])["missing"]
