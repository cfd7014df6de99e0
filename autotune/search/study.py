"""Optuna's side of the search: a study whose every parameter is categorical, and that can be rebuilt from timings."""

from __future__ import annotations

import contextlib
import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution as Distribution
from optuna.trial import TrialState

from .sampler import SurrogateSampler

Config = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The timing of one configuration. samples: milliseconds, in order; none for a failure. pruned: it was stopped early."""

    samples: tuple[float, ...] = ()
    pruned: bool = False

    @property
    def milliseconds(self) -> float:
        return median(self.samples) if self.samples else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Parameters with their values, and the feasible configurations, each a value per parameter in this order."""

    parameters: Mapping[str, Sequence[object]]
    feasible: Sequence[Config]

    def neighbours(self, config: Config) -> Iterator[Config]:
        """The configurations that differ in one parameter, the nearest values first; infeasible ones included."""
        found = []
        for place, values in enumerate(self.parameters.values()):
            here = values.index(config[place])
            for there, value in enumerate(values):
                if there != here:
                    found.append((abs(there - here), place, (*config[:place], value, *config[place + 1 :])))
        yield from (config for _, _, config in sorted(found, key=lambda item: item[:2]))


class Study:
    """A study of a space in one of Optuna's storages, in memory by default; gone on with where it is there already.

    name: of the study, to which a digest of the parameters is added, since Optuna refuses a study whose values have changed.
    retry: wraps the calls of a storage that may be away for a while. sampler: of Optuna's; ours by default.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        storage: optuna.storages.BaseStorage | None = None,
        name: str | None = None,
        retry: Callable[[Callable[[], Any]], Any] = lambda do: do(),
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._retry = space, retry
        self._running: int | None = None
        self._choices = [_choices(values) for values in space.parameters.values()]
        sampler = sampler or self._sampler(seed)
        own = name and f"{name} {_digest(space)}"
        self.optuna: optuna.Study = retry(
            lambda: optuna.create_study(sampler=sampler, storage=storage, study_name=own, load_if_exists=True)
        )
        if isinstance(storage, optuna.storages.RDBStorage):
            # Trials that dead workers left running would weigh on the model as if they were bad.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                retry(lambda: optuna.storages.fail_stale_trials(self.optuna))

    def ask(self) -> tuple[optuna.Trial, Config]:
        def attempt() -> tuple[optuna.Trial, Config]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                trial = self.optuna.ask()
            self._running = trial._trial_id
            self.heartbeat()
            return trial, tuple(
                values[choices.index(trial.suggest_categorical(name, choices))] if len(values) > 1 else values[0]
                for (name, values), choices in zip(self._space.parameters.items(), self._choices, strict=True)
            )

        while True:
            # Taken for dead at once: another, then.
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                return self._retry(attempt)

    def next(self, config: Config) -> None:
        """Let the next proposal be this one."""
        self._retry(lambda: self.optuna.enqueue_trial(self._places(config)))

    def repeated(self, trial: optuna.Trial) -> None:
        """The proposal was of no use: it cannot be, was tried before, or another is at it."""
        self._end(trial, state=TrialState.FAIL)

    def tell(self, trial: optuna.Trial, timing: Timing) -> None:
        """Samples are intermediate values; a timing that was stopped early is pruned.

        Where another worker took this trial for dead and ended it, the timing goes in as a trial of its own.
        """
        try:
            for step, sample in enumerate(timing.samples):
                self._retry(lambda step=step, sample=sample: trial.report(sample, step))
            self._constrain(trial, float(not timing.samples))
        except optuna.exceptions.UpdateFinishedTrialError:
            self._running = None
            self._add(trial.params, trial.distributions, timing)
            return
        if timing.pruned and timing.samples:
            self._end(trial, state=TrialState.PRUNED)
        else:
            self._end(trial, timing.milliseconds)

    def fill(self, timings: Mapping[Config, Timing]) -> None:
        """Add the timings that are not in the study: so it is rebuilt from the records."""
        there = {tuple(sorted(trial.params.items())) for trial in self._trials()}
        distributions = {
            name: optuna.distributions.CategoricalDistribution(choices)
            for name, choices in zip(self._space.parameters, self._choices, strict=True)
            if len(choices) > 1
        }
        for config, timing in timings.items():
            params = self._places(config)
            if tuple(sorted(params.items())) in there:
                continue
            self._add(params, distributions, timing)

    def heartbeat(self) -> None:
        """A sign of life for the trial that is under way."""
        storage = self.optuna._storage
        backend = getattr(storage, "_backend", storage)
        if self._running is not None and isinstance(backend, optuna.storages.RDBStorage):
            backend.record_heartbeat(self._running)

    def _sampler(self, seed: int) -> SurrogateSampler:
        places = [{value: place for place, value in enumerate(values)} for values in self._space.parameters.values()]
        feasible = [
            tuple(of[value] for of, value in zip(places, config, strict=True)) for config in self._space.feasible
        ]
        return SurrogateSampler(dict(zip(self._space.parameters, self._choices, strict=True)), feasible, seed=seed)

    def _add(self, params: dict[str, Any], distributions: Mapping[str, Distribution], timing: Timing) -> None:
        pruned = timing.pruned and bool(timing.samples)
        trial = optuna.trial.create_trial(
            params=params, distributions=dict(distributions), value=None if pruned else timing.milliseconds,
            state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
            intermediate_values=dict(enumerate(timing.samples)),
            constraints={"feasible": float(not timing.samples)},
        )  # fmt: skip
        self._retry(lambda: self.optuna.add_trial(trial))

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._retry(lambda: self.optuna.get_trials(deepcopy=False))

    def _constrain(self, trial: optuna.Trial, value: float) -> None:
        self._retry(lambda: trial.set_constraint("feasible", value))

    def _end(self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None) -> None:
        # Asked twice, or after another worker took this one for dead: the first outcome told stands.
        self._retry(lambda: self.optuna.tell(trial, value, state=state, skip_if_finished=True))
        self._running = None

    def _places(self, config: Config) -> dict[str, Any]:
        rows = zip(self._space.parameters.items(), self._choices, config, strict=True)
        return {name: choices[values.index(value)] for (name, values), choices, value in rows if len(values) > 1}


def _digest(space: Space) -> str:
    """Names the parameters and their values, order included."""
    text = repr([(name, list(values)) for name, values in space.parameters.items()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _choices(values: Sequence[Any]) -> tuple[Any, ...]:
    """The values that Optuna stores and a dashboard shows for these: themselves, or their places if it cannot store them."""
    plain = all(isinstance(value, bool | int | float | str) for value in values)
    return tuple(values) if plain and len(set(values)) == len(values) else tuple(range(len(values)))
