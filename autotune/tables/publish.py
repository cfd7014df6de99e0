"""`autotune publish`: a table and its records, once checked, become those that ship, which nothing else writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...results.digests.kernels import kernel_digest
from ...results.evidence.archive import DEVICE, SUFFIX, compress, current, decompress, is_of_device, shipped_records
from ...results.evidence.derive import derive
from ...results.evidence.journal import read_journals
from ...results.evidence.portfolio import portfolio
from ...results.files.atomic import replace
from ...results.schema.gpus import known_gpus
from ...results.schema.record import Record, record_to_line
from ...results.schema.strict import TableError
from ...results.schema.table import EVERYWHERE, Table, dumps
from ...specs.gpus import Gpu
from ...verify.verdicts.plural import counted
from ..records.ledger import Ledger
from ..timing.device import Device
from .check import check_table


def publish(
    ledger: Ledger, gpu: Gpu, results: Path, device_of: Callable[[Gpu], Device | None], *, jobs: int
) -> tuple[list[str], bool]:
    """(lines for the user, whether the table was published into the folder `results` of a checkout).

    A table that `autotune check` refuses is not published. Records of other kernels than there are stay behind. Once all is
    written, the user's journals and table of this GPU are removed, as they ship now.

    Raises TableError where there is nothing to publish or something cannot be read, OSError.
    """
    if not ledger.own:
        raise TableError(f"nothing to publish in {ledger.folder}: run `{ledger.command()}` first")
    lines, holds = check_table(ledger, gpu, device_of, forced=False, jobs=jobs)
    if not holds:
        return [*lines, "nothing was published"], False
    records = current(ledger.records)
    device = [record for record in records if is_of_device(record)]
    archived = [record for record in records if not is_of_device(record)]
    table = derive([*device, *archived], ledger.gpu, kernel_digest)
    assert table == ledger.written(), (
        "a table depends on records of other kernels, or on the order of those of a device"
    )
    others = {slug: shipped_records(slug) for slug in known_gpus() if slug != gpu.slug}
    everywhere = portfolio(
        {gpu.slug: [*device, *archived]} | {slug: found for slug, found in others.items() if found}, kernel_digest
    )
    write_shipped(results, gpu.slug, device, archived, table, everywhere)
    count = counted(len(table.entries), "entry")
    lines.append(f"published: {count} of {counted(len(records), 'record')} in {results}")
    if len(read_journals(ledger.folder).records) == ledger.own:
        for path in (
            *ledger.folder.glob("*.jsonl"),
            ledger.table_path,
            ledger.table_path.with_name(f"{EVERYWHERE}.json"),
        ):
            path.unlink(missing_ok=True)
    else:
        lines.append(f"kept: {ledger.folder}, as another run added records meanwhile")
    return lines, True


def write_shipped(
    results: Path, slug: str, device: Sequence[Record], archived: Sequence[Record], table: Table, everywhere: Table
) -> None:
    """Replace the files of a GPU and the portfolio, each whole or not at all. Raises OSError.

    The records come first: if this is killed on the way, the test of the shipped files says so, and publishing again mends it.
    """
    data = compress(archived)
    assert decompress(data, "archive") == tuple(archived)
    replace(results / "records" / f"{slug}{SUFFIX}", data)
    plain = results / "records" / slug / DEVICE
    if device:
        replace(plain, "".join(f"{record_to_line(record)}\n" for record in device))
    else:
        plain.unlink(missing_ok=True)
    replace(results / "tables" / f"{slug}.json", dumps(table))
    replace(results / "tables" / f"{EVERYWHERE}.json", dumps(everywhere))
