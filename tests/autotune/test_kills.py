"""A run killed at random moments of everything it does: what was kept stays kept, and the run goes on to a whole table."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaproof.autotune.model.ranking import MOST
from deltaproof.autotune.timing.tuning_job import FINALISTS
from deltaproof.results.evidence.journal import read_journals
from deltaproof.results.schema.record import Measured
from deltaproof.results.schema.table import read_table
from tests.helpers.made_up_gpu import FASTEST, ends_well, lines, start

KILLS = {"compile": (16, 0.03), "gate": (6, 0.02), "begin": (24, 0.04), "done": (8, 0.0)}
"""How often each part is struck, and within how many seconds of its beginning; "done": anywhere, most likely while writing."""
TABLE = Path("tables") / "h100-sxm.json"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: waiting for a disk would take the time."""
    shared = Path("/dev/shm")
    place = shared / f"deltaproof-{random.randrange(10**12)}" if shared.is_dir() else tmp_path / "broken"
    yield place
    shutil.rmtree(place, ignore_errors=True)


def promised(folder: Path) -> set[tuple[str, str]]:
    """What was timed, and the process went on to other things: (tokens, configuration)."""
    found, last = set[tuple[str, str]](), dict[str, tuple[str, str]]()
    for word, *rest in lines(folder):
        if word in ("begin", "timed"):
            process, *what = rest
            found |= {last.pop(process)} if process in last else set()
            if word == "timed":
                last[process] = (what[0], what[1])
    return found


def recorded(folder: Path) -> set[tuple[str, str]]:
    records = read_journals(folder / "records" / "h100-sxm").records
    return {(str(one.key.tokens), one.config) for one in records if isinstance(one, Measured)}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for name in ("records", "tables") for path in (folder / name).rglob("*.json*")}


def repeated(folder: Path) -> tuple[Counter[tuple[str, str]], set[tuple[str, str]]]:
    """What was begun more than once: how often before it had been timed, and what again after that."""
    begun, safe, compared = Counter[tuple[str, str]](), set[tuple[str, str]](), set[tuple[str, str]]()
    for word, *rest in lines(folder):
        what = (rest[-2], rest[-1]) if word in ("begin", "timed") else ("", "")
        if word == "timed":
            safe.add(what)
        elif word == "begin" and what in safe:
            compared.add(what)
        elif word == "begin":
            begun[what] += 1
    return begun - Counter(set(begun)), compared


def strike(folder: Path, part: str, delay: float) -> None:
    """Start a run, and kill it so long after it begins a part; or after it began at all, for "done"."""
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("a+") as written:
        process = start(folder)
        while part != "done" and process.is_alive() and not any(line.startswith(part) for line in written):
            time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()


@pytest.mark.timeout(900)  # more than fifty runs, one after the other
def test_kills_at_random_moments(folder: Path, tmp_path: Path):
    ends_well(start(tmp_path / "whole", seconds=0.0))
    records, began = contents(tmp_path / "whole"), time.monotonic()
    ends_well(start(tmp_path / "whole", seconds=0.0))
    again = time.monotonic() - began
    assert contents(tmp_path / "whole") == records, "a run that is repeated finds nothing new"
    rng, struck = random.Random(0), Counter[str]()
    for part, (times, within) in KILLS.items():
        for _ in range(times):
            strike(folder, part, rng.random() * (within or 1.5 * again))
            struck[lines(folder)[-1][0]] += 1
            assert promised(folder) <= recorded(folder), "timed, and lost"
            assert not (folder / TABLE).exists() or read_table(folder / TABLE).entries, "whole or not there"
    assert struck.total() > 50
    assert {"compile", "gate", "begin"} <= set(struck), struck
    ends_well(start(folder, seconds=0.0))
    table = read_table(folder / TABLE)
    assert {entry.config for entry in table.entries if entry.tier == "A"} == {FASTEST}
    assert table == read_table(tmp_path / "whole" / TABLE), "to the last digest, as if it had never been killed"
    lost, compared = repeated(folder)
    assert lost.total() <= struck.total(), "at most what was under way is timed again"
    finals = FINALISTS + MOST + 1
    assert Counter(tokens for tokens, _ in compared) <= Counter({"2048": finals, "4096": finals}), "and finalists"
