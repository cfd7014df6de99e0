"""A budget on a GPU that is made up: what each part of a run may take of it, and what is there when it ends early."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from deltaproof.autotune import join as worker
from deltaproof.autotune import tune
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.gates.interpreter import GateAnswer
from deltaproof.autotune.storage import jobs
from deltaproof.autotune.storage.database import open_storage
from deltaproof.autotune.timing import measure, tuning_job
from deltaproof.autotune.timing.device import SAMPLES, Timed
from deltaproof.autotune.timing.shared_trials import Bench
from deltaproof.results.schema.table import read_table
from tests.helpers.made_up_gpu import DEVICE, H100
from tests.helpers.synthetic import FAMILY, ask_none, compile_all


def request(folder: Path, **rest) -> tune.Request:
    return tune.Request(
        gpu=H100, ops=[FAMILY.op], rules=[FAMILY.rule], dtypes=[FAMILY.dtype], dims=[FAMILY.K], jobs=1, out=folder,
        cache=folder / "cache", device=DEVICE, trials=10, **rest,
    )  # fmt: skip


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch):
    """A run whose GPU takes `most` timings, and then the process is ended; told the deadline of compiling."""
    deadlines: list[float] = []

    def compile_points(*arguments, deadline: float, **rest):
        deadlines.append(deadline - time.monotonic())
        return compile_all(*arguments, **rest)

    def made_up(most: int) -> list[float]:
        @contextmanager
        def bench_of(target, present, record, step, warn):
            times = iter([1.0] * most)

            def timer(family, size, config, best):
                if (milliseconds := next(times, None)) is None:
                    raise KeyboardInterrupt
                return Timed(samples=(milliseconds,) * SAMPLES)

            yield Bench(gpu=target, device=present, timer=timer, record=record,
                        judge=lambda question: GateAnswer(question=question, held=True, detail="made up"))  # fmt: skip

        monkeypatch.setattr(tune, "bench_of", bench_of)
        return deadlines

    monkeypatch.setattr(tune, "compile_points", compile_points)
    monkeypatch.setattr(gate, "ask", ask_none)
    monkeypatch.setattr(tuning_job, "TILES", {"chunk_fwd": 2})
    monkeypatch.setattr(measure, "sizes", lambda: [(2048, 16), (4096, 16)])
    return made_up


def test_compiling_leaves_most_of_a_budget_to_the_gpu(made_up, tmp_path: Path):
    deadlines = made_up(10**6)
    tune.tune(request(tmp_path, budget=1000.0), tune.Hooks())
    assert deadlines == [pytest.approx(1000 * tune.COMPILING, abs=30)]


def test_judging_in_the_interpreter_ends_with_its_share(made_up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_up(10**6)
    asked: list[str] = []

    def ask_slowly(questions, jobs):
        for question in questions:
            asked.append(question.token)
            time.sleep(2.0)
            yield GateAnswer(question=question, held=True, detail="late")

    monkeypatch.setattr(gate, "ask", ask_slowly)
    tune.tune(request(tmp_path, budget=1.0), tune.Hooks())
    assert len(asked) == 1


def test_a_run_that_is_ended_while_it_measures_leaves_a_table_of_what_it_measured(made_up, tmp_path: Path):
    made_up(25)
    with pytest.raises(KeyboardInterrupt):
        tune.tune(request(tmp_path), tune.Hooks())
    entries = read_table(tmp_path / "tables" / "h100-sxm.json").entries
    assert {entry.tier for entry in entries if (entry.key.tokens, entry.key.heads) == (4096, 16)} == {"A"}


def test_the_budget_of_a_worker_is_for_all_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    url = f"sqlite:///{tmp_path}/s.sqlite"
    for rule in ("gdn", "kda", "gla"):
        jobs.post(open_storage(url), "h100", 7, ops=["chunk_fwd"], rules=[rule], dtypes=["fp32"], dims=[64])
    budgets: list[tuple[float, int]] = []

    def tune_slowly(request: tune.Request, hooks: tune.Hooks):
        budgets.append((request.budget or 0.0, request.trials))
        time.sleep(0.6)

    said: list[str] = []
    monkeypatch.setattr(worker, "tune", tune_slowly)
    reports = worker.join(
        url, device_of=lambda gpu: DEVICE, jobs=1, out=tmp_path, budget=1.0, hooks=tune.Hooks(say=said.append)
    )
    assert len(reports) == 2
    assert budgets == [(pytest.approx(1.0, abs=0.2), 7), (pytest.approx(0.4, abs=0.3), 7)]
    assert "left" in said[-1]
