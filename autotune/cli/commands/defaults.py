"""`autotune defaults`: the safe default of every op, as compiled for the architectures whose programs can be run here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ....specs.problem import DTYPES
from ....verify.cli.options import CORES, FAILED, INTERRUPTED, JobsOption, stderr, stdout
from ..options import (
    TUNED_RULES,
    DimOption,
    RuleOption,
    errors,
    possible,
    progress,
    selection,
    usage,
    writable,
)


def defaults(
    rule: RuleOption = None,
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="bf16, fp16 and fp32 by default; may be repeated.")
    ] = None,
    dim: DimOption = None,
    arch: Annotated[
        list[str] | None, typer.Option("--arch", help="sm_80, sm_86, sm_89, sm_90 by default; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder whose triton-VERSION.json and README.md are updated.",
            file_okay=False,
            callback=possible,
        ),
    ] = None,
    jobs: JobsOption = CORES,
) -> None:
    """Judge the safe default, which is launched where nothing better is known: every rule, element type and head dimension.

    Every program is compiled, and its machine code is searched for faults of the assembler. Programs for bf16, K = 128, sm_80 and
    sm_90 are run. With another Triton on PYTHONPATH, that Triton's programs are judged.
    """
    from ....verify.compile.compilation import Cache, compiled_folder
    from ....verify.ptx.architectures import ARCHITECTURES, architecture
    from ...tables.defaults import families_of, judge_defaults
    from ...tables.defaults_report import write_defaults

    try:
        archs = [architecture(name) for name in arch] if arch else list(ARCHITECTURES)
    except ValueError as error:
        usage(str(error))
    _, rules, dtypes, dims = selection(None, rule or TUNED_RULES, dtype or sorted(DTYPES), dim)
    if out is not None:
        writable(out)
    store = Cache(folder=compiled_folder(), warn=lambda text: stderr.print(f"warning: {text}", soft_wrap=True))
    with errors(goes_on=True), progress() as hooks:
        found = judge_defaults(families_of(rules, dtypes, dims), archs, store, jobs=jobs, progress=hooks.progress)
        if out is not None and not found.left:
            write_defaults(out, found.to_json())
    for line in found.faults:
        stderr.print(f"autotune: {line}", soft_wrap=True, markup=False)
    wrong, ran = sum(bool(cell.faults) for cell in found.cells), sum(cell.ran is not None for cell in found.cells)
    stdout.print(
        f"{len(found.cells) - wrong} of {len(found.cells)} defaults are right as compiled, {wrong} are not; "
        f"{sum(cell.programs for cell in found.cells)} programs, {ran} cells were run",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    if found.left:
        stderr.print("interrupted: what was compiled is kept, and the same command goes on from here", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(FAILED if wrong else 0)
