"""The tables that ship: derived from the records beside them, and for the kernels beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltaproof import results
from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.evidence.derive import derive
from deltaproof.results.evidence.journal import read_journals
from deltaproof.results.evidence.portfolio import portfolio
from deltaproof.results.schema.gpus import known_gpus
from deltaproof.results.schema.table import EVERYWHERE, dumps, read_table

FOLDER = Path(results.__file__).parent
TABLES = sorted((FOLDER / "tables").glob("*.json"))
RECORDS = sorted(path.name for path in (FOLDER / "records").glob("*") if path.is_dir())


@pytest.mark.skipif(not TABLES, reason="no table ships yet")
def test_every_table_is_what_its_records_say():
    """Editing a table by hand, or records without their table, shows here."""
    records = {slug: read_journals(FOLDER / "records" / slug).records for slug in RECORDS}
    if not records:
        pytest.skip("records do not come with an installed package")
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
