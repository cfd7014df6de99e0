"""The tables that ship: derived from the records beside them, and for the kernels beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltaproof import results
from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.evidence.archive import SUFFIX, decompress, is_of_device, shipped_records
from deltaproof.results.evidence.derive import derive
from deltaproof.results.evidence.portfolio import portfolio
from deltaproof.results.schema.gpus import known_gpus
from deltaproof.results.schema.table import EVERYWHERE, dumps, read_table

FOLDER = Path(results.__file__).parent
TABLES = sorted((FOLDER / "tables").glob("*.json"))
ARCHIVES = sorted((FOLDER / "records").glob(f"*{SUFFIX}"))


@pytest.mark.skipif(not TABLES, reason="no table ships yet")
def test_every_table_is_what_its_records_say():
    """Editing a table by hand, or records without their table, shows here."""
    records = {slug: found for slug in known_gpus() if (found := shipped_records(slug))}
    for path in TABLES:
        if path.stem == EVERYWHERE:
            expected = portfolio(records, kernel_digest)
        else:
            expected = derive(records[path.stem], known_gpus()[path.stem], kernel_digest)
        assert path.read_text(encoding="utf-8") == dumps(expected), path.name


@pytest.mark.skipif(not TABLES, reason="no table ships yet")
def test_every_entry_is_for_the_kernels_that_ship():
    for path in TABLES:
        table = read_table(path)
        assert table.entries
        stale = [entry for entry in table.entries if entry.kernel != kernel_digest(entry.key, entry.config)]
        assert not stale, path.name


def test_an_archive_holds_only_records_that_any_machine_can_make_again():
    assert [path.name.removesuffix(SUFFIX) for path in ARCHIVES] == [
        path.stem for path in TABLES if path.stem != EVERYWHERE
    ]
    for path in ARCHIVES:
        assert not any(map(is_of_device, decompress(path.read_bytes(), path.name)))


def test_what_ships_is_small():
    assert sum(path.stat().st_size for path in ARCHIVES) < 1_000_000
    files = (path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert sum(path.stat().st_size for path in files) < 5_000_000
