"""Many workers on one storage, SQLite or a real PostgreSQL: each thing is done once, whoever dies, whatever restarts."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app
from deltaproof.autotune.search.study import Space, Study
from deltaproof.autotune.storage import jobs
from deltaproof.autotune.storage.database import open_storage
from deltaproof.autotune.storage.leases import LeaseGroup
from deltaproof.autotune.timing.tuning_job import ROUNDS
from deltaproof.results.evidence.journal import read_journals
from deltaproof.results.schema.record import Measured
from deltaproof.results.schema.strict import TableError
from tests.helpers import postgres
from tests.helpers.made_up_gpu import ends_well, lines, start

ROOT = Path(__file__).resolve().parents[2]
SPACE = Space(parameters={"a": range(50), "b": (1,)}, feasible=[(a, 1) for a in range(50)])


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        f"sqlite:///{tmp_path}/s.sqlite" if request.param == "sqlite" else request.getfixturevalue("server").database()
    )


def wait(until: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def measured(folder: Path) -> set[tuple[int, str]]:
    records = read_journals(folder / "records" / "h100-sxm").records
    return {(record.key.tokens, record.config) for record in records if isinstance(record, Measured)}


def begun(*folders: Path) -> Counter[tuple[str, str]]:
    """How often each timing was begun, those among the finalists left out."""
    times = Counter((words[2], words[3]) for folder in folders for words in lines(folder) if words[0] == "begin")
    return Counter({what: 1 + (count - 1) % ROUNDS for what, count in times.items()})


def test_a_task_is_done_once(url: str):
    storage = open_storage(url, heartbeat=0.1, expiry=0.5)
    one, other = (LeaseGroup(storage, "one task", owner=owner) for owner in ("one", "other"))
    assert (one.acquire("a"), other.acquire("a"), one.acquire("a")) == ("mine", "taken", "mine")
    assert other.acquire("b", limit=1) == "exhausted"
    assert other.pending() == {"a": False}
    assert one.complete("a", "[]")
    assert other.acquire("a") == "known"
    assert not other.complete("a", "[1]"), "and there is one result"
    assert other.results() == {"a": "[]"}


def ask(url: str, gate: Barrier, asked: Queue[list[int]]) -> None:
    study = Study(SPACE, seed=1, storage=open_storage(url).studies, name="queue")
    gate.wait(timeout=60)
    asked.put([study.ask()[0].number for _ in range(len(SPACE.feasible) // 2)])


def test_what_is_queued_is_given_to_one_worker(url: str):
    study = Study(SPACE, seed=1, storage=open_storage(url).studies, name="queue")
    for config in SPACE.feasible:
        study.next(config)
    context = multiprocessing.get_context("fork")
    gate, asked = context.Barrier(2), context.Queue()
    for _ in range(2):
        context.Process(target=ask, args=(url, gate, asked), daemon=True).start()
    numbers = [number for _ in range(2) for number in asked.get(timeout=60)]
    assert sorted(numbers) == list(range(len(SPACE.feasible)))


def test_a_claim_without_a_sign_of_life_expires(url: str):
    storage = open_storage(url, heartbeat=0.1, expiry=3.0)
    dead, slow, heir = (LeaseGroup(storage, "expiry", owner=owner) for owner in ("dead", "slow", "heir"))
    assert dead.acquire("a") == slow.acquire("b") == "mine"
    with slow.alive():
        wait(lambda: heir.pending()["a"])
        assert heir.pending() == {"a": True, "b": False}
        assert (heir.acquire("a"), heir.acquire("b")) == ("mine", "taken")
    assert not dead.complete("a", "late"), "it came back too late"
    assert heir.complete("a", "in time")
    assert heir.results() == {"a": "in time"}


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(tmp_path: Path):
    code = "from deltaproof.autotune.storage.leases import LeaseGroup\n"
    code += "from deltaproof.autotune.storage.database import open_storage\n"
    code += f"print(LeaseGroup(open_storage('sqlite:///{tmp_path}/s.sqlite'), 'y').acquire('a'))"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT / ".import")})
    storage = open_storage(f"sqlite:///{tmp_path}/s.sqlite")
    assert LeaseGroup(storage, "y").pending() == {"a": True}
    assert LeaseGroup(storage, "y").acquire("a") == "mine"


def test_two_tuners_share_and_neither_repeats_the_other(url: str, tmp_path: Path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for process in [start(folder, url) for folder in folders]:
        ends_well(process)
    # One that started late on a busy machine may have found nothing left to begin.
    assert set(begun(*folders).values()) == {1}
    assert measured(folders[0]) == measured(folders[1]), "and both know what either found"
    one, two = ((folder / "tables" / "h100-sxm.json").read_bytes() for folder in folders)
    assert one == two
    study = optuna.load_study(study_name=optuna.get_all_study_names(alchemy(url))[0], storage=alchemy(url))
    assert not [trial for trial in study.trials if trial.state.name == "RUNNING"]
    assert study.best_trial.intermediate_values, "samples are there for a dashboard to show"


def test_another_finishes_what_a_killed_worker_began(url: str, tmp_path: Path):
    dead, heir = tmp_path / "dead", tmp_path / "heir"
    first = start(dead, url, seconds=600)
    wait(lambda: any(words[0] == "begin" for words in lines(dead)))
    first.kill()
    first.join()
    ends_well(start(heir, url))
    dropped = next((int(words[2]), words[3]) for words in lines(dead) if words[0] == "begin")
    assert dropped in measured(heir)


def test_postgresql_restarted_in_the_middle_of_a_run(server: postgres.Server, tmp_path: Path):
    process = start(tmp_path / "one", server.database(), 0.1)
    for how in ("fast", "immediate"):
        seen = sum(words[0] == "timed" for words in lines(tmp_path / "one"))
        wait(lambda seen=seen: sum(words[0] == "timed" for words in lines(tmp_path / "one")) > seen + 2)
        assert process.is_alive()
        server.stop(how)
        time.sleep(0.5)
        server.start()
    ends_well(process)
    assert lines(tmp_path / "one")[-1] == ["done"]
    assert set(begun(tmp_path / "one").values()) == {1}


def test_a_storage_that_cannot_be_used_is_one_line_and_no_password(tmp_path: Path):
    (tmp_path / "no.sqlite").write_text("this is no database, and long enough to be seen as such. " * 40)
    wrong = ["nonsense", "mysql://a/b", "postgresql://me:secret@127.0.0.1:1/x", f"sqlite:///{tmp_path}/no.sqlite",
             f"sqlite:///{tmp_path}/nowhere/s.sqlite"]  # fmt: skip
    for url in wrong:
        with pytest.raises(TableError) as error:
            open_storage(url)
        assert "secret" not in str(error.value)
        assert "\n" not in str(error.value)


def test_a_worker_says_why_it_has_nothing_to_do(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/s.sqlite"
    empty = CliRunner().invoke(app, ["worker", "--storage", url])
    assert empty.exit_code == 2
    assert "nothing to do" in empty.stderr
    storage = open_storage(url)
    for _ in range(2):
        jobs.post(storage, "b200", 100, ops=["chunk_fwd"], rules=["gdn"], dtypes=["fp32"], dims=[64])
    assert len(jobs.jobs(storage)) == 1
    without = CliRunner().invoke(app, ["worker", "--storage", url])
    assert without.exit_code == 2
    assert "b200" in without.stderr


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"schema": 1}',
        '{"schema": 2, "gpu": 1, "trials": 1, "ops": [], "rules": [], "dtypes": [], "dims": []}',
        '{"schema": 2, "gpu": "h100", "trials": 0, "ops": ["a"], "rules": ["a"], "dtypes": ["a"], "dims": [1]}',
    ],
)
def test_a_hostile_job_is_one_line(tmp_path: Path, text: str):
    storage = open_storage(f"sqlite:///{tmp_path}/s.sqlite")
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("insert into deltaproof_jobs values ('x', ?)", (text,))
    with pytest.raises(TableError) as error:
        jobs.jobs(storage)
    assert "\n" not in str(error.value)


def alchemy(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")
