"""A disk that is full: the run ends in one line, what was kept stays, and the same command goes on once there is room."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from deltaproof.results.evidence.journal import read_journals
from deltaproof.results.schema.table import read_table
from tests.helpers.made_up_gpu import ends_well, run, start

TABLE = Path("tables") / "h100-sxm.json"


@pytest.mark.parametrize("largest", [10_000, 60_000, 130_000])
def test_a_full_disk_stops_a_run_and_costs_nothing_that_was_kept(tmp_path: Path, largest: int):
    """No file may be larger: the journal, the study or the table is what does not fit."""
    folder, whole = tmp_path / "broken", tmp_path / "whole"
    folder.mkdir()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        try:
            run(folder, "-", 0.0)
        except OSError:
            os._exit(1)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1, "an error of the disk, and no other"
    before = len(read_journals(folder / "records" / "h100-sxm").records)
    ends_well(start(folder, seconds=0.0))
    ends_well(start(whole, seconds=0.0))
    assert len(read_journals(folder / "records" / "h100-sxm").records) >= before
    assert read_table(folder / TABLE) == read_table(whole / TABLE)
