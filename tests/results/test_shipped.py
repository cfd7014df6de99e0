"""The tables that ship: derived from the records beside them, and for the kernels beside them."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deltaproof import results
from deltaproof.results import forget, lookup
from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.evidence.archive import SUFFIX, decompress, is_of_device, shipped_records
from deltaproof.results.evidence.derive import derive
from deltaproof.results.evidence.portfolio import portfolio
from deltaproof.results.schema.gpus import known_gpus
from deltaproof.results.schema.key import OPTIONS, Key
from deltaproof.results.schema.table import EVERYWHERE, dumps, read_table
from deltaproof.results.serve.choose import Answer

FOLDER = Path(results.__file__).parent
TABLES = sorted((FOLDER / "tables").glob("*.json"))
ARCHIVES = sorted((FOLDER / "records").glob(f"*{SUFFIX}"))

MISSES = 1_000
FOUND = {"nearest": 286, "architecture": 162, "portfolio": 51, "default": 501}
DIGEST = "a19f887320d51cc5"
"""Of the answers to the misses: where they were found, and a digest of them all. Nothing but new tables changes these."""


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


@pytest.fixture
def shipped_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("DELTAPROOF_TABLES", raising=False)
    forget()
    yield
    forget()


def ask(key: Key, gpu: str, triton: str) -> Answer:
    return lookup(
        key.op,
        rule=key.rule,
        dtype=key.dtype,
        K=key.K,
        V=key.V,
        tokens=key.tokens,
        heads=key.heads,
        gpu=gpu,
        triton=triton,
        varlen="varlen" in key.options,
        state="state" in key.options,
        l2norm="l2norm" in key.options,
        gate_in_kernel="gate" in key.options,
    )


@pytest.mark.usefixtures("shipped_only")
def test_every_entry_is_served_exactly_under_every_triton_that_it_passed_under():
    for path in TABLES:
        for entry in read_table(path).entries if path.stem != EVERYWHERE else ():
            assert entry.passed_under, entry.key
            for triton in entry.passed_under:
                answer = ask(entry.key, path.stem, triton)
                assert (answer.source, answer.entry) == ("exact", entry), answer.reason


def misses() -> Iterator[tuple[Key, str, str]]:
    """(key, GPU, Triton) near entries that ship: their rule, dtype and dimensions, with other sizes or options."""
    draw = random.Random(0)
    entries = {path.stem: read_table(path).entries for path in TABLES if path.stem != EVERYWHERE}
    there = {(entry.key, slug) for slug, found in entries.items() for entry in found}
    tritons = sorted({triton for found in entries.values() for entry in found for triton in entry.passed_under})
    left = MISSES
    while left:
        key = draw.choice(draw.choice(list(entries.values()))).key
        key = replace(
            key,
            options=tuple(name for name in OPTIONS if draw.random() < 0.15),
            tokens=key.tokens << draw.randrange(4) >> draw.randrange(4),
            heads=key.heads << draw.randrange(4) >> draw.randrange(4) or 1,
        )
        gpu = draw.choice([*entries, "h100-pcie", "l40s"])
        if (key, gpu) not in there:
            left -= 1
            yield key, gpu, draw.choice([*tritons, "3.5.1"])


@pytest.mark.usefixtures("shipped_only")
def test_what_has_no_entry_is_answered_as_it_was():
    found: Counter[str] = Counter()
    digest = hashlib.sha256()
    for key, gpu, triton in misses():
        answer = ask(key, gpu, triton)
        assert answer.source != "exact" and (answer.entry is None or triton in answer.entry.passed_under)
        found[answer.source] += 1
        digest.update(f"{key} {gpu} {triton} {answer.source} {answer.tier} {answer.config}\n".encode())
    assert (found, digest.hexdigest()[:16]) == (FOUND, DIGEST)
