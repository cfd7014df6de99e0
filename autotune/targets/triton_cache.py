"""Triton's own files of tuning results, `*.autotune.json`, written by Triton's own code for a GPU that need not be here.

Such a file lies under a digest of Triton, its back end, the kernel's source, the environment and the configurations offered, so
that the program that is to find it must agree in all of these. A kernel reads them with `cache_results=True`, or where
TRITON_CACHE_AUTOTUNING=1 is set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ...results.files.one_line import told
from ...results.schema.strict import TableError
from ...results.schema.target_table import TargetTable
from ...specs.gpus import Gpu
from ...verify.process.pool import Failure, Workers
from ..foreign import fake_device
from ..foreign.fake_device import facts
from ..foreign.launches import launches_noted

MINUTES = 600.0


def write(table: TargetTable, gpu: Gpu, folder: Path) -> list[str]:
    """Write the files of a table's entries into a cache folder of Triton's; names of those written, relative to it.

    Raises TableError for a target that cannot be imported any more, or whose kernels have changed.
    """
    before = _files(folder)
    _in_one_process(gpu, written, (table, str(folder.resolve())))
    return sorted(_files(folder) - before) or sorted(before)


def prove(table: TargetTable, gpu: Gpu, folder: Path) -> dict[str, list[str]]:
    """The kernels of the target that Triton finds in a folder ("found"), and those that it would benchmark ("missing")."""
    return _in_one_process(gpu, looked_up, (table, str(folder.resolve())))


def written(table: TargetTable, folder: str) -> dict[str, list[str]] | str:
    """In a process that pretends: have Triton file every entry whose call is made."""

    def run(tuner: Any, key: tuple[Any, ...], offered: list[Any]) -> str:
        entry = next((e for e in table.entries if e.kernel == tuner.base_fn.__name__ and key in e.keys), None)
        if entry is None:
            return "missing"
        if _source(tuner) != entry.source:
            raise ValueError(f"{entry.kernel} is not the kernel that was tuned; tune it again")
        (chosen,) = (one for one in offered if _arguments(one) == dict(entry.config))

        def bench() -> None:
            tuner.cache[key] = chosen
            tuner.configs_timings = {chosen: [0.0, 0.0, 0.0]}

        tuner.check_disk_cache(key, offered, bench)
        return "found"

    return _calls(table, folder, run)


def looked_up(table: TargetTable, folder: str) -> dict[str, list[str]] | str:
    """In a process that pretends: the kernels that Triton finds in the folder, and the missing ones; or an error in one line."""

    def run(tuner: Any, key: tuple[Any, ...], offered: list[Any]) -> str:
        def bench() -> None:
            raise fake_device.Benchmarked

        try:
            tuner.check_disk_cache(key, offered, bench)
        except fake_device.Benchmarked:
            return "missing"
        return "found"

    return _calls(table, folder, run)


def _calls(
    table: TargetTable, folder: str, run: Callable[[Any, tuple[Any, ...], list[Any]], str]
) -> dict[str, list[str]] | str:
    """Make every call that the table is for; `run` is told of each autotuned kernel, with its key. Or why that cannot be."""
    from triton import knobs

    from .call import make, of_words, siblings
    from .tuners import key_of, tuners_ask

    knobs.cache.dir = folder
    found: dict[str, dict[str, None]] = {"found": {}, "missing": {}}

    def asked(tuner: Any, offered: list[Any], launch: Callable[[Any], tuple[Any, ...]]) -> None:
        key = key_of(launch, offered[0])
        found[run(tuner, key, offered)][f"{tuner.base_fn.__name__} {list(key)}"] = None

    try:
        with launches_noted(lambda launch: None), tuners_ask(asked):
            for call in (of_words(table.target, words) for words in table.calls):
                for one in (call, *siblings(call)):
                    make(one)
    except (Exception, SystemExit) as error:  # any error of somebody else's function
        return told(error)
    return {name: list(some) for name, some in found.items()}


def _in_one_process(gpu: Gpu, task: Any, arguments: tuple[Any, ...]) -> dict[str, list[str]]:
    with Workers(1, partial(fake_device.install, facts(gpu))) as workers:
        ((_, result),) = workers.run(task, [arguments], MINUTES)
    if isinstance(result, Failure):
        raise TableError(f"calling the target did not finish: {result.outcome}")
    if isinstance(result, str):
        raise TableError(result)
    return result


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.autotune.json")} if folder.is_dir() else set()


def _source(tuner: Any) -> str:
    function = tuner.fn
    while not hasattr(function, "cache_key"):
        function = function.fn
    return function.cache_key


def _arguments(config: Any) -> dict[str, Any]:
    from .tune import as_config
    from .tuners import choice_of

    return as_config(choice_of(config))
