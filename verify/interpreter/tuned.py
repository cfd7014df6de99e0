"""`@triton.autotune` where there is no GPU to time on.

A tuned kernel runs with the first of its configurations: warps and pipeline stages mean nothing here. While `tuning` lasts it
runs as it may on a GPU. Its first call runs several configurations on the very same tensors, between the hooks that are to
undo that, before the one that won; a later call runs the winner alone, and no hooks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import count
from typing import Any, Literal

How = Literal["timed", "chosen"]

_how: ContextVar[How | None] = ContextVar("how", default=None)


@contextlib.contextmanager
def tuning(how: How) -> Iterator[None]:
    """Calls of tuned kernels are first calls, which time the first and the last of the configurations that pruning leaves and
    choose the last; or later ones, for which it has been chosen."""
    token = _how.set(how)
    try:
        yield
    finally:
        _how.reset(token)


def install() -> None:
    """Have tuned kernels run without a GPU in this process. Safe to repeat."""
    from triton.runtime.autotuner import Autotuner

    if Autotuner.run.__module__ == __name__:
        return
    original = Autotuner.run

    def run(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        # With a single configuration Triton asks no benchmark.
        alone = tuner.configs[:1]
        if _how.get() == "timed" and len(tuner.configs) > 1:
            with _ends_timed(tuner):
                return original(tuner, *args, **kwargs)
        if _how.get() == "chosen":
            tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
            alone = list(tuner.prune_configs(kwargs))[-1:]
        with _having(tuner, configs=alone):
            return original(tuner, *args, **kwargs)

    Autotuner.run = run  # pyright: ignore[reportAttributeAccessIssue]


def _ends_timed(tuner: Any) -> contextlib.AbstractContextManager[None]:
    prune, calls = tuner.prune_configs, count()

    def ends(kwargs: Any) -> list[Any]:
        left = list(prune(kwargs))
        return [left[0], left[-1]]

    def bench(call: Callable[[], Any], quantiles: Any = None) -> list[float]:
        call()
        return [-float(next(calls))]

    # No choice is remembered: the next call is timed, too, whatever ran before it in this process.
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
