"""Processes that are late, killed or too large: what becomes of them says nothing about a kernel, and is not kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.process.pool import Failure, Workers, one_thread
from deltaproof.verify.run import runner
from deltaproof.verify.run.cache import VerdictStore
from deltaproof.verify.verdicts.judgement import Verdict

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = runner.Settings(profile="quick", device="interpreter", seed=0, tau=20.0, jobs=1)


def spin(seconds: float) -> str:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return "done"


def grow(size: int) -> str:
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(3)
    return "done"


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


def siblings(folder: str) -> list[str]:
    """The processes that have begun a task, when this one and all that may run beside it have had the time to."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(1)
    return [path.name for path in Path(folder).iterdir()]


def ends(task: object, argument: float, *, busy: float = 60.0, memory: int | None = None) -> object:
    with Workers(1, one_thread, memory=memory) as workers:
        ((_, found),) = workers.run(task, [(argument,)], None, tries=1, busy=busy)  # pyright: ignore
    return found


def test_there_are_no_more_processes_than_tasks(tmp_path: Path):
    with Workers(16, one_thread) as workers:
        found = list(workers.run(siblings, [(str(tmp_path),)] * 2, None))
        beside = subprocess.run(
            ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=True
        )
    assert len(found) == 2 and all(isinstance(names, list) and len(names) <= 2 for _, names in found)
    assert beside.stdout.count("spawn_main") <= 2


def test_seconds_are_those_of_the_processor():
    assert ends(spin, 30.0, busy=0.5) == Failure(outcome="timeout")
    assert ends(sleep, 1.0, busy=0.5) == "done"


def test_a_process_that_takes_too_much_memory_is_ended():
    assert ends(grow, 600 << 20, memory=500 << 20) == Failure(outcome="memory")
    assert ends(grow, 10 << 20, memory=500 << 20) == "done"


def judged(target: str, folder: Path) -> tuple[Verdict, VerdictStore]:
    store = VerdictStore(folder=folder / "verdicts")
    cell = Cell(target=f"tests.helpers.wrong_kernels:{target}", kernel="test/killed", rule="gdn", property="linearity")
    (verdict,) = runner.run([], [cell], SETTINGS, store, lambda verdict: None)
    kept = list((folder / "verdicts").rglob("*.json"))
    assert bool(kept) == (verdict.status == "held")
    return verdict, store


def test_who_was_killed_once_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DELTAPROOF_TEST_FOLDER", str(tmp_path))
    verdict, _ = judged("KILLED_ONCE", tmp_path)
    assert verdict.status == "held"


def test_who_is_killed_twice_is_not_judged_and_not_kept(tmp_path: Path):
    verdict, _ = judged("KILLED", tmp_path)
    assert verdict.status == "unsupported"
    assert "SIGKILL, twice" in verdict.notes[0]


def importing(process: int) -> bool:
    """Whether a process has begun to import torch."""
    return "libtorch" in Path(f"/proc/{process}/maps").read_text()


def starting(process: int) -> bool:
    """Whether a process has started others."""
    return bool(Path(f"/proc/{process}/task/{process}/children").read_text().split())


def working(process: int) -> bool:
    """Whether the processes that it started have begun to import torch."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return any(importing(int(child)) for child in children)


@pytest.mark.parametrize("moment", [importing, starting, working])
def test_ctrl_c_ends_a_loaded_run_in_a_line(moment: Callable[[int], bool]):
    arguments = ["all", "--fresh", "--kernel", "recurrent/*", "--jobs", "3", "--property", "equality"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".import"), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        [sys.executable, "-m", "deltaproof.verify", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # What a shell starts in the background ignores Ctrl-C, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not moment(run.pid):
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("held")]
    assert len(lines) == 1, err
    assert "interrupted" in lines[0]
