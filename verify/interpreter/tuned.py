"""`@triton.autotune` where there is no GPU to time on.

A tuned kernel runs with the first of the configurations that pruning leaves: warps and pipeline stages mean nothing here. While
`tuning` lasts it runs as it may on a GPU. Its first call runs several configurations on the very same tensors, between the hooks
that are to undo that, before the one that won; a later call runs the winner alone, and no hooks. Any of those that are left may
win; configurations that differ in warps and stages alone are one here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

How = Literal["usual", "timed", "chosen", "remembered"]


@dataclass(slots=True, kw_only=True)
class Tuning:
    """How tuned kernels run. place: of the configuration that was chosen, among those of each kernel, in turn. most: of the
    kernels that ran meanwhile, how many configurations the one has that has most. kept: the choices so far, by tuner and key."""

    how: How
    place: int = -1
    most: int = 0
    kept: dict[Any, Any] = field(default_factory=dict)


_now: ContextVar[Tuning | None] = ContextVar("tuning", default=None)


@contextlib.contextmanager
def tuning(how: How, place: int = -1) -> Iterator[Tuning]:
    """Calls of tuned kernels are usual ones; or first calls, which time the first and the last of the configurations that pruning
    leaves and choose the last; or later ones, for which the one at `place` has been chosen, by themselves or by the first call
    that has the same key."""
    now, around = Tuning(how=how, place=place), _now.get()
    token = _now.set(now)
    try:
        yield now
    finally:
        _now.reset(token)
        if around is not None:
            around.most = max(around.most, now.most)


def install() -> None:
    """Have tuned kernels run without a GPU in this process. Safe to repeat."""
    from triton.runtime.autotuner import Autotuner

    if Autotuner.run.__module__ == __name__:
        return
    original = Autotuner.run

    def run(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        now = _now.get() or Tuning(how="usual")
        some = _different(left(tuner, args, kwargs))
        now.most = max(now.most, len(some))
        if now.how == "timed" and len(tuner.configs) > 1:
            with _ends_timed(tuner):
                return original(tuner, *args, **kwargs)
        chosen = some[0] if now.how in ("usual", "timed") else some[now.place % len(some)]
        if now.how == "remembered":
            chosen = now.kept.setdefault((id(tuner), _key(tuner, args, kwargs)), chosen)
        # With a single configuration Triton asks no benchmark.
        with _having(tuner, configs=[chosen]):
            return original(tuner, *args, **kwargs)

    Autotuner.run = run  # pyright: ignore[reportAttributeAccessIssue]


def left(tuner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The configurations that pruning leaves; all of them where it asks for a GPU that is not there."""
    tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
    return _pruned(tuner.configs, tuner.prune_configs, kwargs) if len(tuner.configs) > 1 else tuner.configs


def _key(tuner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The values by which the tuner tells calls apart: arguments of its key, and types."""
    given = {**dict(zip(tuner.arg_names, args, strict=False)), **kwargs}
    known = [given[name] for name in tuner.keys if name in given]
    return *known, *(str(x.dtype) for name, x in given.items() if name in tuner.arg_names and hasattr(x, "dtype"))


def _pruned(configs: list[Any], prune: Callable[[Any], Any], kwargs: dict[str, Any]) -> list[Any]:
    try:
        return list(prune(kwargs))
    except (RuntimeError, AssertionError):  # torch and Triton, of a driver
        return configs


def _different(configs: list[Any]) -> list[Any]:
    """Configurations that are different programs here: of those that are not, the first."""
    found: dict[Any, Any] = {}
    for one in configs:
        found.setdefault(tuple(sorted(one.kwargs.items())), one)
    return list(found.values())


def _ends_timed(tuner: Any) -> contextlib.AbstractContextManager[None]:
    prune, calls = tuner.prune_configs, count()

    def ends(kwargs: Any) -> list[Any]:
        left = _pruned(tuner.configs, prune, kwargs)
        return [left[0], left[-1]]

    def bench(call: Callable[[], Any], quantiles: Any = None) -> list[float]:
        call()
        return [-float(next(calls))]

    # No choice is remembered: the next call is timed, too, even if another ran before it in this process.
    return _having(tuner, prune_configs=ends, do_bench=bench, cache={})


@contextlib.contextmanager
def _having(tuner: Any, **values: Any) -> Iterator[None]:
    """The tuner with other attributes for a while."""
    own = vars(tuner)
    before = {name: own[name] for name in values if name in own}
    own.update(values)
    try:
        yield
    finally:
        for name in values:
            del own[name]
        own.update(before)
