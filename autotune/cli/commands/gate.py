"""`autotune gate`: search the compiled code of ranked configurations for known hazards, and run it."""

from __future__ import annotations

import typer

from ....verify.cli.options import CORES, FAILED, JobsOption, stderr, stdout
from ..options import GpuOption, OutOption, errors, gpu_of, ledger_of, needs_table, progress, writable


def gate(
    gpu: GpuOption,
    out: OutOption = None,
    jobs: JobsOption = CORES,
) -> None:
    """Compile the configurations that a GPU's records rank, run them on the CPU, reject faults, and write the table again.

    Programs for sm_80 to sm_90 are run; those for other architectures are only searched for known hazards. With another Triton
    on PYTHONPATH, that Triton's programs are judged, and the verdicts are added to those of other versions.
    """
    from collections import Counter

    from ....verify.compile.programs import triton_version
    from ...tables.gate import gate_table

    target = gpu_of(gpu)
    with errors(goes_on=True), progress() as hooks:
        ledger = ledger_of(target, out)
        needs_table(ledger)
        writable(ledger.table_path.parent)
        outcome = gate_table(ledger, target, jobs=jobs, progress=hooks.progress)
    for line in (*outcome.failed, *outcome.broken):
        stderr.print(f"autotune: {line}", soft_wrap=True, markup=False)
    under = Counter(version for entry in outcome.table.entries for version in entry.passed_under)
    stdout.print(
        f"compiled by Triton {triton_version()}: {outcome.asked - len(outcome.failed)} of {outcome.asked} configurations have no "
        f"known fault, "
        f"{len(outcome.failed)} are refused; {outcome.ran} were run"
        + (f" ({outcome.known} by an earlier gate)" if outcome.known else "")
        + (f", {outcome.seconds:.0f} s of processes" if outcome.seconds else "")
        + f"; {len(outcome.table.entries)} entries in {ledger.table_path}"
        + "".join(f", {count} passed under {version}" for version, count in sorted(under.items())),
        soft_wrap=True,
        markup=False,
    )
    raise typer.Exit(FAILED if outcome.broken else 0)
