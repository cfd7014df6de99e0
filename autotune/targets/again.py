"""The calls that a table is for, made again in a process that pretends to have the GPU: whose kernels, under which keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...results.files.one_line import told
from ...results.schema.strict import TableError
from ...results.schema.target_table import TargetEntry, TargetTable
from ...specs.gpus import Gpu
from ...verify.compile import fake_device
from ...verify.process.pool import Failure, Workers
from ...verify.targets.calls import make, of_words
from ...verify.targets.tuners import Asked, choice_of, launches_noted, tuners_ask
from .call import siblings
from .tune import as_config

MINUTES = 600.0


def in_one_process(gpu: Gpu, task: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The result of `task` for the arguments in such a process. Raises TableError for a string, which names the fault."""
    with Workers(1, partial(fake_device.install, fake_device.facts(gpu))) as workers:
        ((_, result),) = workers.run(task, [arguments], MINUTES)
    if isinstance(result, Failure):
        raise TableError(f"calling the target did not finish: {result}")
    if isinstance(result, str):
        raise TableError(result)
    return result


def make_again(table: TargetTable, run: Callable[[Asked], object]) -> str | None:
    """Make every call; `run` is told of each autotuned kernel. Why that cannot be, or None."""
    try:
        with launches_noted(lambda launch: None), tuners_ask(run):
            for call in (of_words(table.target, words) for words in table.calls):
                for one in (call, *siblings(call)):
                    make(one)
    except (Exception, SystemExit) as error:  # whatever somebody else's function may raise
        return told(error)
    return None


def entry_of(table: TargetTable, asked: Asked) -> TargetEntry | None:
    """The entry for a kernel and its key. Raises ValueError where the kernel is not the one that was tuned."""
    key = asked.key()
    entry = next((one for one in table.entries if one.kernel == asked.kernel and key in one.keys), None)
    if entry is not None and _source(asked.tuner) != entry.source:
        raise ValueError(f"{entry.kernel} is not the kernel that was tuned; tune it again")
    return entry


def chosen(entry: TargetEntry, asked: Asked) -> Any:
    """The configuration of an entry among those that the kernel offers. Raises ValueError where it is not one of these."""
    for config in asked.offered:
        if as_config(choice_of(config)) == dict(entry.config):
            return config
    raise ValueError(f"{entry.kernel} does not offer the configuration that was chosen any more; tune it again")


def _source(tuner: Any) -> str:
    function = tuner.fn
    while not hasattr(function, "cache_key"):
        function = function.fn
    return function.cache_key
