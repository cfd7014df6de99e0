"""Writers that are killed, that meet a full disk, or that write at once: the file is the old one or the new one."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from deltaproof.results.evidence.journal import append, read_journal, read_journals
from deltaproof.results.files.atomic import replace
from deltaproof.results.schema.gpus import resolve
from deltaproof.results.schema.instructions import Instructions, Loop
from deltaproof.results.schema.record import (
    KINDS,
    Compiled,
    Measured,
    Rejected,
    Unexplored,
    record_digest,
    record_from_line,
    record_to_line,
)
from deltaproof.results.schema.strict import TableError
from deltaproof.results.schema.table import make_table, read_table, write_table

KILLING = """
import os, random, signal, sys, time
from pathlib import Path
from deltaproof.results.evidence.journal import append, read_journal
from deltaproof.results.schema.table import read_table, write_table

folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
first, second = read_table(folder / "first.json"), read_table(folder / "second.json")
record = read_journal(folder / "one.jsonl").records[0]
random.seed(0)
kept = torn = 0

def begun(path):
    return path.exists() and b"\\n" in path.read_bytes()

for turn in range(rounds):
    child = os.fork()
    if not child:
        while True:
            for table in (first, second):
                write_table(table, folder / "target.json")
                append(folder / "target.jsonl", [record] * 50)
    while turn == 0 and not (begun(folder / "target.jsonl") and (folder / "target.json").exists()):
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the writer has ended"
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if (folder / "target.json").exists():
        assert read_table(folder / "target.json") in (first, second)
    journal = read_journal(folder / "target.jsonl")
    assert len(journal.records) >= kept and set(journal.records) <= {record}
    kept, torn = len(journal.records), torn + bool(journal.torn)
append(folder / "target.jsonl", [record])
journal = read_journal(folder / "target.jsonl")
assert len(journal.records) == kept + 1 and not journal.torn
print(kept, torn)
"""


def test_killed_writers_leave_the_old_file_or_the_new_one(make, tmp_path: Path, python):
    gpu = resolve("H100")
    write_table(make_table(gpu, [make.entry(tokens=1 << power) for power in range(30)]), tmp_path / "first.json")
    write_table(make_table(gpu, [make.entry("C", tokens=1 << power) for power in range(40)]), tmp_path / "second.json")
    append(tmp_path / "one.jsonl", [make.timed("c64", *range(100))])
    result = python(KILLING, tmp_path, 60)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[0]) > 0
    # What the killed writers had begun is swept away once it is old.
    replace(tmp_path / "target.json", "")
    for part in tmp_path.glob(".target.json.*.part"):
        os.utime(part, (0, 0))
    replace(tmp_path / "target.json", "")
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


FULL = """
import resource, signal, sys
from pathlib import Path
from deltaproof.results.evidence.journal import append, read_journal
from deltaproof.results.schema.table import read_table, write_table

folder = Path(sys.argv[1])
big, record = read_table(folder / "big.json"), read_journal(folder / "records.jsonl").records[0]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write in (lambda: write_table(big, folder / "small.json"), lambda: append(folder / "records.jsonl", [record] * 50)):
    try:
        write()
    except OSError as error:
        print(error.strerror)
"""


def test_a_full_disk_costs_what_was_being_written_and_nothing_else(make, tmp_path: Path, python):
    small = make_table(resolve("H100"), [make.entry()])
    write_table(small, tmp_path / "small.json")
    write_table(make_table(resolve("H100"), [make.entry(tokens=1 << i) for i in range(30)]), tmp_path / "big.json")
    append(tmp_path / "records.jsonl", [make.timed("c64", 1.0)])
    result = python(FULL, tmp_path)
    assert result.returncode == 0 and len(result.stdout.splitlines()) == 2, result.stderr
    assert read_table(tmp_path / "small.json") == small
    journal = read_journal(tmp_path / "records.jsonl")
    assert len(journal.records) == 1 and not journal.torn
    assert not list(tmp_path.glob(".*.part"))


APPENDING = """
import os, sys
from pathlib import Path
from dataclasses import replace
from deltaproof.results.evidence.journal import append, read_journal

path, writers, each = Path(sys.argv[1]), 4, 50
record = read_journal(path).records[0]
children = []
for writer in range(writers):
    children.append(os.fork())
    if not children[-1]:
        for turn in range(each):
            append(path, [replace(record, samples=(float(writer), float(turn)))])
        os._exit(0)
assert not any(os.waitpid(child, 0)[1] for child in children)
"""


def test_many_writers_append_to_one_journal(make, tmp_path: Path, python):
    path = tmp_path / "records.jsonl"
    append(path, [make.timed("c64", 9.0, 9.0)])
    result = python(APPENDING, path)
    assert result.returncode == 0, result.stderr
    samples = [record.samples for record in read_journal(path).records[1:] if isinstance(record, Measured)]
    assert sorted(samples) == [(float(writer), float(turn)) for writer in range(4) for turn in range(50)]
    for writer in range(4):
        own = [turn for who, turn in samples if who == writer]
        assert own == sorted(own)


def some(make) -> list:
    """A record of every kind."""
    compiled = Compiled(
        key=make.key(tokens=0, heads=0),
        config="c64,states=32x4x2",
        kernel=make.KERNEL,
        stage="states",
        resources=make.guessed("c64", 1.0).resources,
        stack=16,
        tensor_core=("wgmma",),
        code="ab" * 8,
        seconds=1.25,
        instructions=Instructions(straight={"fp32": 9}, loops=(Loop(depth=0, own={"spill": 2}),)),
    )
    left = Unexplored(key=make.key(), kernel=make.KERNEL, count=3)
    refused = make.rejected("c32", "crash")
    return [
        compiled,
        refused,
        make.gated("c64", where="interpreter"),
        make.guessed("c64", 0.5, ranking="ab" * 8),
        make.ranking("ab" * 8),
        make.timed("c64", 2),
        left,
    ]


def test_compilations_from_before_instructions_were_counted_are_read(make):
    first = dataclasses.replace(some(make)[0], instructions=None)
    line = record_to_line(first)
    assert "instructions" not in line, "and have the digests that they had"
    assert record_from_line(line, "here") == first


def test_every_record_comes_back_as_it_went(make, tmp_path: Path):
    records = some(make)
    assert {type(record) for record in records} == set(KINDS.values())
    append(tmp_path / "gpu" / "op.jsonl", records[:2])
    append(tmp_path / "gpu" / "op.jsonl", [])
    append(tmp_path / "gpu" / "op.jsonl", records[2:])
    assert read_journal(tmp_path / "gpu" / "op.jsonl").records == tuple(records)
    assert read_journals(tmp_path / "gpu").records == tuple(records)
    assert len({record_digest(record) for record in records}) == len(records)


def test_a_torn_last_line_is_reported_and_all_before_it_kept(make, tmp_path: Path):
    path, records = tmp_path / "records.jsonl", some(make)
    append(path, records)
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for end in (*range(last + 1, len(whole), 40), len(whole) - 1):
        path.write_bytes(whole[:end])
        journal = read_journal(path)
        assert journal.records == tuple(records[:-1])
        assert journal.torn and "records.jsonl: the last line is torn" in journal.torn
    append(path, records[-1:])
    assert path.read_bytes() == whole and read_journal(path).torn is None
    assert read_journal(tmp_path / "nothing.jsonl").records == ()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: b"",
        lambda line: b"\xff" + line[1:],
        lambda line: line.replace(b'"schema": 1', b'"schema": 7'),
        lambda line: line.replace(b'"kind": "rejected"', b'"kind": "elected"'),
        lambda line: line.replace(b'"reason": "crash"', b'"reason": "mood"'),
        lambda line: line.replace(b'"kernel"', b'"colonel"'),
        lambda line: line.replace(b"c32", b"$(rm x)"),
    ],
)
def test_damage_anywhere_else_names_its_line(make, tmp_path: Path, damage):
    path = tmp_path / "records.jsonl"
    append(path, some(make))
    lines = path.read_bytes().split(b"\n")
    assert damage(lines[1]) != lines[1]
    path.write_bytes(b"\n".join([lines[0], damage(lines[1]), *lines[2:]]))
    with pytest.raises(TableError, match=r"records.jsonl: line 2: ") as caught:
        read_journal(path)
    assert str(caught.value).isprintable()


def test_what_could_not_be_read_back_is_not_written(make, tmp_path: Path):
    path = tmp_path / "records.jsonl"
    with pytest.raises(TableError):
        append(path, [make.timed("c64", 1.0), make.timed("not a token", 1.0)])
    assert not path.exists()
    for wrong in ({"tokens": 0}, {"K": 0}):
        with pytest.raises(ValueError, match="one size"):
            make.timed("c64", 1.0, **wrong)
    with pytest.raises(ValueError, match="samples"):
        make.timed("c64")


def test_the_text_of_an_error_becomes_one_line(make):
    record = Rejected(
        key=make.key(),
        config="c64",
        kernel=make.KERNEL,
        reason="crash",
        detail="Traceback:\n  \x1b[31mbad\x1b[0m\n" * 100,
    )
    line = record_to_line(record)
    assert record_from_line(line, "here") == record
    assert "\n" not in record.detail and len(record.detail) <= 500
