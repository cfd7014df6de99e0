"""`autotune check`: a table against its records, the kernels, and the installed Triton and driver."""

from __future__ import annotations

from collections.abc import Callable

from ...specs.gpus import Gpu
from ...verify.compile.programs import triton_version
from ..records.ledger import Ledger
from ..timing.canaries import canaries, compile_here, recompile, retime
from ..timing.device import Device
from ..timing.measure import bench_of
from .rekey import stale_entries


def check_table(
    ledger: Ledger, gpu: Gpu, device_of: Callable[[Gpu], Device | None], *, forced: bool, jobs: int
) -> tuple[list[str], bool]:
    """(findings as lines, whether the table holds). Raises TableError for a table or records that cannot be read."""
    table, derived = ledger.written(), ledger.table()
    stale = stale_entries(table)
    if stale:
        made = f"{len(stale)} of {len(table.entries)} entries were made for other kernel sources"
        mend = f"run `{ledger.command('rekey')}`, then `{ledger.command()}` for what that leaves"
        return [f"{made}, and are never served: {mend}"], False
    if table != derived:
        return [f"{ledger.table_name} does not match its records: run `{ledger.command()}`"], False
    if not table.entries:
        return [f"{ledger.table_name} has no entries: run `{ledger.command()}`"], False
    lines = [f"{len(table.entries)} entries match their records and the current kernels"]
    if left := sum(row.count for row in table.left):
        lines.append(f"partial: a budget left {left} points uncompiled; `{ledger.command()}` goes on")
    device = device_of(gpu)
    other = [
        entry for entry in table.entries
        if entry.triton != triton_version() or (device and entry.driver and entry.driver != device.driver)
    ]  # fmt: skip
    if not (other or forced):
        return lines, True
    some = canaries(table)
    made = ", ".join(sorted({entry.triton for entry in other or table.entries}))
    lines.append(f"made with Triton {made}; here is {triton_version()}: {len(some)} of them are re-tested")
    if device:
        with bench_of(gpu, device, lambda record: ledger.add([record])) as bench:
            verdict = retime(some, ledger.records, bench)
        ledger.write_table()
        ledger.write_portfolio()
    else:
        verdict = recompile(some, ledger.records, gpu, compile_here(gpu.arch, jobs))
    lines += verdict.lines
    if verdict.dead:
        lines.append(f"{verdict.dead} of {len(some)} re-tested entries no longer run: run `{ledger.command()}`")
    elif verdict.changed:
        lines.append(
            f"{verdict.changed} of {len(some)} re-tested entries changed: `{ledger.command()}` tunes anew"
            + ("" if device else "; what they cost now only the GPU can tell")
        )
    else:
        lines.append(f"{verdict.same} of {len(some)} re-tested entries unchanged")
    return lines, not verdict.dead
