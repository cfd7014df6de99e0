"""Archives of records: they come back in their order, damage is told in one line, and device records stay apart."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.evidence.archive import (
    DEVICE,
    SUFFIX,
    compress,
    current,
    decompress,
    is_of_device,
    shipped_records,
)
from deltaproof.results.evidence.journal import append
from deltaproof.results.schema.strict import TableError


def some(make) -> list:
    return [make.guessed("c64", 1.0, ranking="ab" * 8), make.ranking("ab" * 8), make.gated("c64", where="interpreter")]


def test_records_come_back_in_their_order(make):
    records = [*some(make), *some(make)]
    assert decompress(compress(records), "here") == tuple(records)
    assert compress(records) == compress(list(records)) != compress(records[::-1])
    assert decompress(compress([]), "here") == ()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "cut off"),
        (lambda data: data[:-1], "cut off"),
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: data + b"x", "its end is not the end of the file"),
        (lambda data: b"no archive at all", "damaged"),
        (lambda data: data[:40] + bytes([data[40] ^ 255]) + data[41:], "damaged"),
        (lambda data: lzma.compress(lzma.decompress(data)[:-1]), "damaged"),
        (lambda data: lzma.compress(lzma.decompress(data) + b"{}\n"), "line 4: "),
        (lambda data: lzma.compress(lzma.decompress(data) + b"\xff\n"), "line 4: not UTF-8"),
    ],
)
def test_a_damaged_archive_is_told_in_one_line(make, damage: Callable[[bytes], bytes], said: str):
    with pytest.raises(TableError, match=r"^packaged records/x") as caught:
        decompress(damage(compress(some(make))), "packaged records/x")
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "of_device"),
    [
        (lambda make: make.timed("c64", 1.0), True),
        (lambda make: make.gated("c64", where="device"), True),
        (lambda make: make.rejected("c64", "crash"), True),
        (lambda make: make.rejected("c64", "spill", stage="scores"), False),
        (lambda make: make.gated("c64", where="interpreter"), False),
        (lambda make: make.gated("c64", where="compiled"), False),
        (lambda make: make.guessed("c64", 1.0), False),
        (lambda make: make.ranking("ab" * 8), False),
    ],
)
def test_records_of_a_device_stay_apart(make, record: Callable, of_device: bool):
    assert is_of_device(record(make)) == of_device


def test_records_of_other_kernels_are_left_out_and_so_are_rankings_of_nothing_else(make):
    new, old, empty = "ab" * 8, "cd" * 8, "ef" * 8
    here = kernel_digest(make.key(), "c64")
    kept = [make.guessed("c64", 1.0, kernel=here, ranking=new), make.ranking(new), make.ranking(empty)]
    left = [make.guessed("c64", 1.0, ranking=old), make.ranking(old), make.timed("c64", 1.0)]
    assert current([*left, *kept]) == kept


def test_what_ships_is_the_archive_after_the_records_of_the_device(make, places, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("deltaproof.results.evidence.archive.packaged", lambda name: tmp_path / "shipped" / name)
    assert shipped_records("h100-sxm") == []
    folder = tmp_path / "shipped" / "records"
    append(folder / "h100-sxm" / DEVICE, [make.timed("c64", 1.0)])
    (folder / f"h100-sxm{SUFFIX}").write_bytes(compress(some(make)))
    assert shipped_records("h100-sxm") == [make.timed("c64", 1.0), *some(make)]
    (folder / f"h100-sxm{SUFFIX}").write_bytes(b"")
    with pytest.raises(TableError, match=r"packaged records/h100-sxm.jsonl.xz: the archive is damaged"):
        shipped_records("h100-sxm")
