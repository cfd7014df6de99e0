"""Megatron-LM's tuning table of a target. Its keys name arguments, which those of a table do not: the calls are made again."""

from __future__ import annotations

from pathlib import Path

from ...results.export.megatron import Kernels, megatron_config, megatron_key, to_megatron
from ...results.schema.strict import TableError
from ...results.schema.target_table import TargetTable
from ...results.schema.text_files import read_text
from ...specs.gpus import Gpu
from ...verify.targets.tuners import Asked
from ...verify.verdicts.plural import counted
from .again import chosen, entry_of, in_one_process, make_again


def exported(table: TargetTable, gpu: Gpu, folder: Path) -> tuple[Path, str, list[str]]:
    """(the file, its text, the modules of the kernels); entries of others that the file already holds stay.

    Raises TableError for a target that cannot be imported any more, or whose kernels have changed.
    """
    arch = gpu.arch.name.replace("_", "")
    path = folder / f"{arch}.json"
    kernels, modules = in_one_process(gpu, named, (table,))
    if not kernels:
        raise TableError(f"{table.target}: its calls launch no kernel of the table; tune it again")
    package, _, version = table.package.rpartition(" ")
    untold = sum(entry.gate != "compiled" for entry in table.entries)
    owed = f", {counted(untold, 'entry')} of {len(table.entries)} not run as compiled" if untold else ""
    text = to_megatron(
        kernels, arch=arch, triton=table.triton, packages={package: version} if package else {},
        source=f"deltaproof: {table.target} for {gpu.slug}, compiled and ranked by resources, not timed{owed}",
        before=read_text(path) if path.exists() else None, where=str(path),
    )  # fmt: skip
    return path, text, modules


def named(table: TargetTable) -> tuple[Kernels, list[str]] | str:
    """Name entries by the keys that Megatron-LM makes of their calls, and the kernels' modules, in a process that pretends."""
    kernels: Kernels = {}
    modules: dict[str, None] = {}

    def run(asked: Asked) -> None:
        if entry := entry_of(table, asked):
            modules[asked.tuner.base_fn.__module__] = None
            key = megatron_key(asked.tuner.keys, asked.arguments)
            kernels.setdefault(asked.kernel, {})[key] = megatron_config(chosen(entry, asked))

    return make_again(table, run) or (kernels, sorted(modules))
