"""The gate: what it asks about a configuration, and that it finds what is wrong with it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deltaproof import kernels
from deltaproof.autotune import tune
from deltaproof.autotune.compile import compiler
from deltaproof.autotune.compile.stage import compile_points
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.gates.interpreter import GateAnswer, GateQuestion, judge, questions
from deltaproof.autotune.space.points import Family, enumerate_points
from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile import programs
from deltaproof.verify.compile.compilation import Cache
from deltaproof.verify.process.pool import Failure, Workers
from tests.helpers.synthetic import ask_none, compilation, compile_all

SMALL = Family(op="chunk_fwd", rule="gdn", dtype="fp32", K=32, V=32)
LARGE = replace(SMALL, K=64, V=64)
PLAIN, TILED = LaunchConfig.parse("c16"), LaunchConfig.parse("c16,states=16x4x2")


def test_shared_arithmetic_is_asked_about_once_and_every_configuration_by_itself():
    asked = questions([(SMALL, PLAIN), (LARGE, PLAIN), (LARGE, TILED), (LARGE, LaunchConfig.parse("c32"))])
    assert [(question.K, question.token, len(question.configs)) for question in asked] == [
        (0, "c16", 2), (0, "c32", 1), (32, "c16", 1), (64, "c16", 1), (64, "c16,states=16x4x2", 1), (64, "c32", 1),
    ]  # fmt: skip


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch):
    """Makes one configuration wrong for one head dimension, as a tile that is not masked would."""

    def plant(K: int, config: LaunchConfig) -> None:
        kernel = kernels.KERNELS["chunk_fwd/split"]

        def run(*args, **options):
            o, state = kernel.run(*args, **options)
            if options["q"].shape[-1] == K and options["config"] == config:
                o = o.clone()
                o[..., -1] = o[..., 0]
            return o, state

        monkeypatch.setitem(kernels.KERNELS, kernel.name, replace(kernel, run=run))

    return plant


def test_a_tile_that_is_wrong_at_the_served_size_alone_is_found(wrong):
    wrong(64, TILED)
    arithmetic, *placements = questions([(SMALL, TILED), (LARGE, PLAIN), (LARGE, TILED)])
    assert judge(arithmetic).held
    answers = {(question.K, question.token): judge(question) for question in placements}
    assert [place for place, answer in answers.items() if not answer.held] == [(64, TILED.token)]
    answer = answers[64, TILED.token]
    assert answer.final and answer.detail.startswith("failed: not the token recurrence")
    assert "equality@chunk_fwd/split[c16,states=16x4x2]@gdn:fp32" in answer.detail


def nothing() -> None:
    """Prepare nothing."""


def hang(question: GateQuestion) -> GateAnswer:
    time.sleep(600)
    raise AssertionError


def crash(question: GateQuestion) -> GateAnswer:
    os._exit(3)


@pytest.mark.parametrize(("how", "word"), [(hang, "timeout"), (crash, "crash")])
def test_what_hangs_or_crashes_is_a_failure_for_now(monkeypatch: pytest.MonkeyPatch, how, word: str):
    monkeypatch.setattr(gate, "judge", how)
    (answer,) = gate.ask(questions([(SMALL, PLAIN)])[:1], 1, timeout=5)
    assert (answer.held, answer.final) == (False, False) and answer.detail == f"{word} in the interpreter"


def test_a_failure_for_now_is_asked_about_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def run(answer) -> tune.Report:
        asked.clear()
        monkeypatch.setattr(gate, "ask", lambda some, jobs: asked.extend(some) or map(answer, some))
        monkeypatch.setattr(tune, "compile_points", compile_all)
        request = tune.Request(
            gpu=gpu("h100"), ops=["chunk_fwd"], rules=["gdn"], dtypes=["fp32"], dims=[64], jobs=1, out=tmp_path,
            cache=tmp_path / "cache",
        )  # fmt: skip
        return tune.tune(request, tune.Hooks())

    def hung(question: GateQuestion) -> GateAnswer:
        return GateAnswer(question=question, held=False, detail="timeout in the interpreter", final=False)

    def fine(question: GateQuestion) -> GateAnswer:
        (answer,) = ask_none([question], 1)
        return answer

    asked: list[GateQuestion] = []
    first = run(hung)
    assert first.failed and not first.table.entries
    everything = list(asked)
    second = run(fine)
    assert asked == everything and not second.failed and second.table.entries
    assert run(hung).table == second.table and not asked, "what is known is not asked again"


POINTS = enumerate_points(SMALL, gpu("h100").arch)[0][:3]


@pytest.mark.parametrize("failure", ["timeout", "crash"])
def test_a_compilation_that_hung_or_crashed_is_tried_again(tmp_path: Path, failure):
    class Stub(Workers):
        def run(self, task, arguments, *_, **__):
            if task is compiler.name_points:
                yield 0, [[point.config.token + point.stage] for point in arguments[0][0]]
                return
            for index, _ in enumerate(arguments):
                tried.append(index)
                yield index, Failure(outcome=failure) if index == 1 and fails else compilation(str(index))

    def outcomes() -> list[str]:
        tried.clear()
        found = compile_points(POINTS, gpu("h100").arch, Stub(1, nothing), Cache(folder=tmp_path)).found
        return [found[point].outcome for point in POINTS]

    tried: list[int] = []
    fails = True
    assert sorted(outcomes()) == sorted(["compiled", failure, "compiled"])
    fails = False
    assert outcomes() == ["compiled"] * 3 and len(tried) == 1


def starve(error: Exception) -> None:
    def compile_clean(*_):
        raise error

    programs.compile_clean = compile_clean
    programs.compiled(None, ("cuda", 90, 32))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("`ptxas` failed with error code -9")])
def test_without_memory_the_process_fails_and_not_the_launch(error: Exception):
    with Workers(1, nothing) as workers:
        ((_, ended),) = workers.run(starve, [(error,)], timeout=60)
    assert ended == Failure(outcome="crash", code=programs.OUT_OF_MEMORY)


def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_a_deadline_lets_what_has_begun_end():
    with Workers(1, nothing) as workers:
        list(workers.run(slow, [(0.0,)], timeout=60))
        ended = list(workers.run(slow, [(3.0,), (1.0,)], timeout=60, deadline=time.monotonic() + 1.0))
    assert ended == [(0, 3.0)]


def test_what_the_interpreter_said_for_one_gpu_it_says_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[GateQuestion] = []
    monkeypatch.setattr(gate, "ask", lambda some, jobs: asked.extend(some) or ask_none(some, jobs))
    monkeypatch.setattr(tune, "compile_points", compile_all)
    for name in ("h100", "h200"):
        asked.clear()
        request = tune.Request(
            gpu=gpu(name), ops=["chunk_fwd"], rules=["gdn"], dtypes=["fp32"], dims=[64], jobs=1, out=tmp_path,
            cache=tmp_path / "cache",
        )  # fmt: skip
        report = tune.tune(request, tune.Hooks())
        assert {entry.gate for entry in report.table.entries} == {"interpreter"}
        assert len(asked) < len(report.answers) or name == "h100"
