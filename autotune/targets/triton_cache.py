"""Triton's own files of tuning results, `*.autotune.json`, written by Triton's own code for a GPU that need not be here.

Such a file lies under a digest of Triton, its back end, the kernel's source, the environment and the configurations offered, so
that the program that is to find it must agree in all of these. A kernel reads them with `cache_results=True`, or where
TRITON_CACHE_AUTOTUNING=1 is set.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...results.schema.target_table import TargetTable
from ...specs.gpus import Gpu
from ...verify.compile import fake_device
from ...verify.targets.tuners import Asked
from .again import chosen, entry_of, in_one_process, make_again


def write(table: TargetTable, gpu: Gpu, folder: Path) -> list[str]:
    """Write the files of a table's entries into a cache folder of Triton's; names of those written, relative to it.

    Raises TableError for a target that cannot be imported any more, or whose kernels have changed.
    """
    before = _files(folder)
    in_one_process(gpu, written, (table, str(folder.resolve())))
    return sorted(_files(folder) - before) or sorted(before)


def prove(table: TargetTable, gpu: Gpu, folder: Path) -> dict[str, list[str]]:
    """The kernels of the target that Triton finds in a folder ("found"), and those that it would benchmark ("missing")."""
    return in_one_process(gpu, looked_up, (table, str(folder.resolve())))


def written(table: TargetTable, folder: str) -> dict[str, list[str]] | str:
    """Have Triton file every entry whose call is made, in a process that pretends."""

    def run(asked: Asked) -> str:
        entry = entry_of(table, asked)
        if entry is None:
            return "missing"
        tuner, key, config = asked.tuner, asked.key(), chosen(entry, asked)

        def bench() -> None:
            tuner.cache[key] = config
            tuner.configs_timings = {config: [0.0, 0.0, 0.0]}

        tuner.check_disk_cache(key, asked.offered, bench)
        return "found"

    return _sorted(table, folder, run)


def looked_up(table: TargetTable, folder: str) -> dict[str, list[str]] | str:
    """In a process that pretends: the kernels that Triton finds in the folder, and the missing ones; or an error in one line."""

    def run(asked: Asked) -> str:
        def bench() -> None:
            raise fake_device.Benchmarked

        try:
            asked.tuner.check_disk_cache(asked.key(), asked.offered, bench)
        except fake_device.Benchmarked:
            return "missing"
        return "found"

    return _sorted(table, folder, run)


def _sorted(table: TargetTable, folder: str, run: Callable[[Asked], str]) -> dict[str, list[str]] | str:
    """Kernels and keys of the calls, by the word that `run` gives for them; or why the calls cannot be made."""
    from triton import knobs

    knobs.cache.dir = folder
    found: dict[str, dict[str, None]] = {"found": {}, "missing": {}}

    def asked(one: Asked) -> None:
        found[run(one)][f"{one.kernel} {list(one.key())}"] = None

    return make_again(table, asked) or {name: list(some) for name, some in found.items()}


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.autotune.json")} if folder.is_dir() else set()
