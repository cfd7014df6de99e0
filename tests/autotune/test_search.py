"""The search: its promises on spaces small enough to know."""

from __future__ import annotations

import math
import random
from itertools import product
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaproof.autotune.bench.contestants import OURS as METHODS
from deltaproof.autotune.bench.contestants import timed
from deltaproof.autotune.search.propose import Trials, search
from deltaproof.autotune.search.study import Config, Space, Study, Timing

PARAMETERS = {
    "block": (16, 32, 64, 128),
    "warps": (1, 2, 4, 8),
    "depth": (1, 2, 3),
    "chunk": (16, 32, 64, 128),
    "one": (1,),
}
EVERY = [config for config in product(*PARAMETERS.values()) if config[0] * config[1] <= 256]
SPACE = Space(parameters=PARAMETERS, feasible=EVERY)


def milliseconds(config: Config) -> float:
    """Smooth in each parameter with one interaction, and with a corner that fails."""
    block, warps, depth, chunk, _ = config
    if block == 128 and chunk == 128:  # pyright: ignore[reportOperatorIssue]
        return math.inf
    far = [abs(math.log2(value / best)) for value, best in ((block, 64), (warps, 4), (depth, 2), (chunk, 64))]  # pyright: ignore[reportOperatorIssue]
    return 1 + sum(far) + far[0] * far[1]


def tried(budget: int, times=milliseconds, **known) -> Trials:
    return Trials(measure=lambda config: timed(times(config)), budget=budget, **known)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [20, 40])
def test_no_method_spends_more_than_its_budget_or_tries_what_cannot_be(method: str, budget: int):
    asked: list[Config] = []

    def measure(config: Config) -> float:
        asked.append(config)
        return milliseconds(config)

    trials = METHODS[method](SPACE, tried(budget, measure), seed=1)
    assert len(asked) == len(set(asked)) == len(trials.timings) == budget
    assert set(asked) <= set(EVERY)
    assert trials.milliseconds(trials.best) == min(map(milliseconds, asked))


def test_a_small_space_is_tried_whole():
    assert set(search(SPACE, tried(len(EVERY)), seed=0).timings) == set(EVERY)


def test_equal_seeds_try_the_same():
    one, other = (search(SPACE, tried(40), seed=3) for _ in range(2))
    assert one.timings == other.timings


def test_the_best_is_found_with_a_third_of_the_space():
    for seed in range(3):
        trials = search(SPACE, tried(48), seed=seed)
        assert trials.milliseconds(trials.best) == 1.0


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99), data=st.data(),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_study_proposes_what_is_feasible_and_each_once(sizes: list[int], seed: int, data: st.DataObject):
    space = list(product(*(range(size) for size in sizes)))
    feasible = data.draw(st.lists(st.sampled_from(space), unique=True, min_size=1, max_size=40))
    times = data.draw(
        st.lists(st.sampled_from((1.0, 2.0, 3.5, math.inf)), min_size=len(feasible), max_size=len(feasible))
    )
    study = Study(
        Space(parameters={f"p{at}": range(size) for at, size in enumerate(sizes)}, feasible=feasible), seed=seed
    )
    proposed = []
    for time in times:
        trial, config = study.ask()
        proposed.append(config)
        study.tell(trial, timed(time))
    assert sorted(proposed) == sorted(feasible)


def test_workers_that_share_a_study_propose_different_configurations(tmp_path: Path):
    one, other = (open_study(tmp_path / "study.sqlite") for _ in range(2))
    proposed = [study.ask()[1] for _ in range(10) for study in (one, other)]
    assert len(set(proposed)) == 20


def test_the_model_learns_from_what_was_timed_beforehand():
    known = {config: timed(milliseconds(config)) for config in EVERY[:12]}
    trials = search(SPACE, tried(len(known) + 25, timings=dict(known)), seed=0)
    assert len(trials.timings) == len(known) + 25
    assert trials.milliseconds(trials.best) == 1.0


def test_a_space_that_is_too_large_for_the_model_is_thinned_out():
    axis = range(32)
    space = Space(parameters={"a": axis, "b": axis, "c": axis}, feasible=list(product(axis, axis, axis)))
    times = {config: 1.0 + sum(abs(value - 20) for value in config) for config in space.feasible}  # pyright: ignore[reportOperatorIssue]
    trials = search(space, tried(60, times.__getitem__), seed=0)
    assert trials.milliseconds(trials.best) <= sorted(times.values())[33]


def test_everything_may_fail():
    assert len(search(SPACE, tried(25, lambda config: math.inf), seed=0).timings) == 25


def test_what_others_are_at_is_left_to_them():
    busy = set(random.Random(0).sample(EVERY, 60))
    trials = search(SPACE, tried(120, running=busy), seed=0)
    assert not busy & set(trials.timings)
    assert len(trials.timings) == 60


def open_study(path: Path) -> Study:
    return Study(SPACE, seed=0, storage=optuna.storages.RDBStorage(f"sqlite:///{path}"), name="gdn")


def test_a_study_that_is_there_is_gone_on_with(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'study.sqlite'}"
    first = search(SPACE, tried(14), seed=0, study=lambda: open_study(tmp_path / "study.sqlite"))
    known = dict(first.timings)
    second = search(SPACE, tried(20, timings=dict(known)), seed=0, study=lambda: open_study(tmp_path / "study.sqlite"))
    assert set(known) < set(second.timings)
    (study,) = (optuna.load_study(study_name=name, storage=url) for name in optuna.get_all_study_names(url))
    assert not any(trial.state.name == "RUNNING" for trial in study.trials)
    assert any(trial.constraints for trial in study.trials)


def test_another_space_is_another_study(tmp_path: Path):
    wider = Space(parameters=PARAMETERS | {"block": (*PARAMETERS["block"], 256)}, feasible=EVERY)
    for space in (SPACE, wider):
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.sqlite'}")
        study = Study(space, seed=0, storage=storage, name="gdn")
        study.tell(study.ask()[0], timed(1.0))
        assert len(study.optuna.trials) == 1


def test_a_study_can_be_rebuilt_from_what_was_timed():
    timings = {config: timed(milliseconds(config)) for config in EVERY[:30]}
    timings[EVERY[30]] = Timing(samples=(9.0, 9.5), pruned=True)
    study = Study(SPACE, seed=0)
    for _ in range(2):
        study.fill(timings)
    assert len(study.optuna.trials) == 31, "and not filled twice"
    assert study.optuna.best_value == min(timing.milliseconds for timing in timings.values())
    assert [trial.state.name for trial in study.optuna.trials].count("PRUNED") == 1


def test_a_timing_whose_trial_another_worker_ended_is_kept():
    study = Study(SPACE, seed=1)
    for end in (study.repeated, lambda trial: study.tell(trial, timed(2.0))):
        trial, _ = study.ask()
        study.optuna.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        end(trial)
    assert study.optuna.best_trial.intermediate_values
    assert study.optuna.best_value == 2.0


def test_what_is_stopped_early_is_pruned_and_keeps_its_samples():
    study = Study(SPACE, seed=0)
    trial, _ = study.ask()
    study.tell(trial, Timing(samples=(3.0, 3.1), pruned=True))
    (kept,) = study.optuna.trials
    assert kept.state.name == "PRUNED"
    assert kept.intermediate_values == {0: 3.0, 1: 3.1}
