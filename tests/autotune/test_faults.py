"""Kills, hangs and crashes: a point is lost at most, and never a record."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from pebble.pool.base_pool import PoolStatus

from deltaproof.autotune.compile.stage import compile_points
from deltaproof.autotune.space.points import Family, Point
from deltaproof.kernels.configs.launch_config import Tile
from deltaproof.results.evidence.journal import read_journal
from deltaproof.results.schema.record import record_digest
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile import process, programs
from deltaproof.verify.compile.compilation import Cache
from deltaproof.verify.compile.process import COMPILE_SECONDS
from deltaproof.verify.process.pool import Failure, Workers

ROOT = Path(__file__).resolve().parents[2]


def nothing() -> None:
    """Prepare nothing."""


def eat() -> None:
    """Take all the memory there is, and end as a compiler does that gets no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (128 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    hoard: list[bytearray] = []
    while len(hoard) < 1000:
        try:
            hoard.append(bytearray(8 << 20))
        except MemoryError:
            os.abort()


def misbehave(how: str) -> str:
    if how == "hang":
        time.sleep(600)
    if how == "die":
        os._exit(3)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)  # as a machine does that has no memory left
    if how == "eats":
        eat()
    if how == "hungry":
        raise MemoryError
    return how


def test_a_hang_or_a_crash_costs_one_task():
    tasks = ["fine", "hang", "die", "well", "segfault", "killed", "eats", "good"]
    with Workers(2, nothing) as workers:
        ended = dict(workers.run(misbehave, [(task,) for task in tasks], timeout=5.0))
    assert [ended[index] for index in range(len(tasks))] == [
        "fine",
        Failure(outcome="timeout"),
        Failure(outcome="crash", code=3),
        "well",
        Failure(outcome="crash", code=-signal.SIGSEGV),
        Failure(outcome="crash", code=-signal.SIGKILL),
        Failure(outcome="crash", code=-signal.SIGABRT),
        "good",
    ]


def touch(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


def test_there_are_never_more_processes_than_tasks(tmp_path: Path):
    with Workers(40, partial(touch, tmp_path)) as workers:
        for tasks, processes in ((0, 0), (1, 1), (1, 1), (2, 3), (1, 3)):
            ended = list(workers.run(misbehave, [("fine",)] * tasks, timeout=60))
            assert len(ended) == tasks
            assert len(list(tmp_path.iterdir())) <= processes


def stumble(folder: Path, starts: int) -> None:
    """Die the first few times."""
    number = len(list(folder.iterdir()))
    (folder / str(number)).touch()
    if number < starts:
        os._exit(1)


def test_processes_that_cannot_start_are_started_again_a_few_times(tmp_path: Path):
    with Workers(1, partial(stumble, tmp_path, 2)) as workers:
        assert sorted(workers.run(misbehave, [("fine",), ("well",)], timeout=30)) == [(0, "fine"), (1, "well")]


def refuse(flag: Path) -> None:
    """Die as long as the file is there."""
    if flag.exists():
        os._exit(1)


def test_processes_that_never_start_are_started_again_for_the_next_run(tmp_path: Path):
    flag = tmp_path / "refuse"
    flag.touch()
    with Workers(1, partial(refuse, flag)) as workers:
        with pytest.raises(BrokenProcessPool):
            list(workers.run(misbehave, [("fine",)], timeout=30))
        flag.unlink()
        assert list(workers.run(misbehave, [("fine",)], timeout=30)) == [(0, "fine")]


def test_a_pool_that_broke_between_two_runs_is_started_again():
    with Workers(1, nothing) as workers:
        list(workers.run(misbehave, [("fine",)], timeout=30))
        assert workers._pool is not None
        workers._pool._context.status = PoolStatus.ERROR
        assert sorted(workers.run(misbehave, [("fine",), ("well",)], timeout=30)) == [(0, "fine"), (1, "well")]


def test_what_a_task_raises_passes_through():
    with Workers(1, nothing) as workers, pytest.raises(MemoryError):
        list(workers.run(misbehave, [("hungry",)], timeout=30))


def test_a_deadline_leaves_what_has_not_begun():
    with Workers(1, nothing) as workers:
        ended = list(workers.run(misbehave, [("fine",)] * 5, timeout=30, deadline=time.monotonic() - 1))
    assert len(ended) < 5


def compile_badly() -> None:
    """Prepare a process whose compiler never ends with one warp, takes all memory with two, and is quick with more."""
    from deltaproof.kernels.launches.record import record as launches  # noqa: F401  so that no task has to

    def badly(launch, target):
        warps = launch.options["num_warps"]
        if warps == 1:
            time.sleep(600)
        if warps == 2:
            eat()
        return SimpleNamespace(shared=0, registers=warps, stack=0, tensor_core={}, code=b"", assembly="")

    process.start()
    programs.compile_clean = badly
    # There is no machine code.
    programs.misassembled = lambda *_: ""
    programs.read_instructions = lambda *_: None


def test_a_compiler_that_hangs_or_takes_all_memory_costs_its_point(tmp_path: Path):
    arch = gpu("a100").arch
    family = Family(op="chunk_train", rule="gdn", dtype="bf16", K=32, V=32)
    points = [
        Point(family=family, stage="score_grads", chunk_size=16, tile=Tile(block=32, num_warps=warps))
        for warps in (1, 2, 4)
    ]
    with Workers(1, compile_badly) as workers:
        done = compile_points(points, arch, workers, Cache(folder=tmp_path), timeout=10.0)
    assert [done.found[point].outcome for point in points] == ["timeout", "crash", "compiled"]
    assert COMPILE_SECONDS <= 600, "a hang costs minutes, not a run"


WRITER = """
import sys, time
from pathlib import Path
from deltaproof.verify.compile.compilation import Cache, Compilation
from deltaproof.results.schema.gpus import Resources
from deltaproof.results.evidence.journal import append, read_journal
from deltaproof.results.schema.key import Key
from deltaproof.results.schema.record import Compiled
folder = Path(sys.argv[1])
cache, path = Cache(folder=folder / "cache"), folder / "op.jsonl"
key = Key(op="chunk_fwd", rule="gdn", dtype="fp32", K=64, V=64)
known = {record.code for record in read_journal(path).records}
for number in range(250):
    name = f"{number:032x}"
    if cache.get(name * 2) is None:
        cache.put(name * 2, Compilation(outcome="compiled", seconds=0.1, threads=32, code=name))
    if name not in known:
        append(path, [Compiled(key=key, config="c64", kernel="ab" * 8, stage="scores", code=name, stack=0, seconds=0.1,
                               resources=Resources(shared=0, registers=0, threads=0))])
        print(number, flush=True)
print("done", flush=True)
"""


def run(*arguments: str | Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".import"), "TRITON_INTERPRET": "0"}
    return subprocess.Popen([sys.executable, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True)


def test_kill_at_random_moments_loses_nothing_that_was_written(tmp_path: Path):
    rng, promised, ended, kills = random.Random(0), -1, False, 0
    while not ended:
        process = run("-c", WRITER, tmp_path)
        assert process.stdout is not None
        most = rng.randrange(1, 30)
        for _ in range(most):
            line = process.stdout.readline().strip()
            ended = line == "done"
            promised = int(line) if line.isdigit() else promised
            if ended or not line:
                break
        time.sleep(rng.random() * 0.003)
        process.kill()
        process.wait()
        kills += 1
        records = read_journal(tmp_path / "op.jsonl").records
        assert len(records) > promised, "told to be safe, and lost"
        assert len({record_digest(record) for record in records}) == len(records), "done twice"
    assert kills > 5
    assert len(records) == 250
    warnings: list[str] = []
    cache = Cache(folder=tmp_path / "cache", warn=warnings.append)
    assert all(cache.get(f"{number:032x}" * 2) for number in range(250))
    assert not warnings


COMPILER = """
import json, sys
from pathlib import Path
from deltaproof.verify.compile.compilation import Cache
from deltaproof.autotune.compile.stage import compile_points
from deltaproof.autotune.space.points import Family, enumerate_points
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile import process
from deltaproof.verify.process.pool import Workers
if __name__ == "__main__":
    arch = gpu("a100").arch
    family = Family(op="chunk_train", rule="gdn", dtype="bf16", K=32, V=32)
    cheap = [p for p in enumerate_points(family, arch)[0] if p.stage == "score_grads" and p.chunk_size == 16]
    with Workers(1, process.start) as workers:
        done = compile_points(cheap, arch, workers, Cache(folder=Path(sys.argv[1])),
                              on_point=lambda point, found: print(found.outcome, flush=True))
    print(json.dumps({"ran": done.ran, "cached": done.cached, "points": len(cheap), "left": sum(done.left.values()),
                      "registers": [found.registers for found in done.found.values()],
                      "codes": len({found.code for found in done.found.values()})}))
"""


def test_a_killed_compile_stage_goes_on_where_it_stopped_and_its_children_end(tmp_path: Path):
    script = tmp_path / "compile.py"
    script.write_text(COMPILER)
    first = run(script, tmp_path / "cache")
    assert first.stdout is not None
    assert first.stdout.readline().strip() == "compiled"
    children = [int(pid) for pid in Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()]
    first.kill()
    first.wait()
    second = json.loads(run(script, tmp_path / "cache").communicate(timeout=120)[0].splitlines()[-1])
    assert second["cached"] >= 1
    assert second["ran"] == second["points"] - second["cached"]
    assert second["left"] == 0
    assert min(second["registers"]) > 0
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
