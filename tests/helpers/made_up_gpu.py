"""Runs on a GPU that is made up, in processes that a test may kill.

They are forked from the test: importing everything anew would cost each of them seconds. A run keeps its records in a folder,
with a log of what it was at: compile, gate, begin (a timing), timed (its end), done.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
import time
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from deltaproof.autotune import tune
from deltaproof.autotune.compile.stage import CompiledPoints
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.gates.interpreter import GateAnswer
from deltaproof.autotune.model.cost import parameters
from deltaproof.autotune.space.points import breadth_first
from deltaproof.autotune.timing import measure, tuning_job
from deltaproof.autotune.timing.device import SAMPLES, Device, Timed
from deltaproof.autotune.timing.shared_trials import Bench
from deltaproof.results.digests.kernels import stage_digests
from deltaproof.results.schema.gpus import resolve
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile.compilation import Cache
from deltaproof.verify.compile.programs import triton_version
from deltaproof.verify.run.cache import source_digest
from tests.helpers.synthetic import FAMILY, compile_one

H100 = gpu("h100")
DEVICE = Device(name="made up", arch="sm_90", sm_count=132, memory_gib=79.1, driver="13.0")


def log(folder: Path, *words: object) -> None:
    with (folder / "log").open("a") as file:
        print(*words, file=file, flush=True)


FASTEST = "c64,variant=packed,scores=64x4x1,states=16x4x1"
"""What the cost model likes is the best of all, so that every search ends with it, whatever it tried besides."""


def milliseconds(config) -> float:
    if config.token == FASTEST:
        return 0.1
    return config.chunk_size / 64 + abs(math.log2(config.states.block / 64)) + 0.1 * config.scores.num_warps


def compile_slowly(points, arch, workers, cache: Cache, *, folder: Path, on_point, **_) -> CompiledPoints:
    found, ran = {}, 0
    for point in breadth_first(points):
        name = hashlib.sha256(str(point).encode()).hexdigest()
        known = cache.get(name)
        if known is None:
            log(folder, "compile", point.config.token)
            time.sleep(0.002)
            known, ran = compile_one(point), ran + 1
            cache.put(name, known)
        found[point] = known
        on_point(point, known)
    return CompiledPoints(found=found, left={}, ran=ran, cached=len(found) - ran)


def ask_slowly(questions, jobs, *, folder: Path):
    for question in questions:
        log(folder, "gate", question.token)
        time.sleep(0.03)
        yield GateAnswer(question=question, held=True, detail="made up")


@contextmanager
def slow_bench(target, present, record, step, warn, *, folder: Path, seconds: float):
    def timer(family, size, config, best):
        log(folder, "begin", os.getpid(), size.tokens, config.token)
        time.sleep(seconds)
        log(folder, "timed", os.getpid(), size.tokens, config.token)
        return Timed(samples=(milliseconds(config),) * SAMPLES)

    def judge(question):
        return GateAnswer(question=question, held=True, detail="made up")

    yield Bench(gpu=target, device=present, timer=timer, judge=judge, record=record, step=step)


def run(folder: Path, url: str, seconds: float) -> None:
    measure.sizes = lambda: [(2048, 16), (4096, 16)]
    tuning_job.TILES = {"chunk_fwd": 2}
    tune.compile_points = partial(compile_slowly, folder=folder)
    gate.ask = partial(ask_slowly, folder=folder)
    tune.bench_of = partial(slow_bench, folder=folder, seconds=seconds)
    request = tune.Request(
        gpu=H100, ops=[FAMILY.op], rules=[FAMILY.rule], dtypes=[FAMILY.dtype], dims=[FAMILY.K], jobs=1, out=folder,
        cache=folder / "cache", device=DEVICE, trials=14, storage=None if url == "-" else url,
    )  # fmt: skip
    tune.tune(request, tune.Hooks())
    log(folder, "done")


def start(folder: Path, url: str = "-", seconds: float = 0.01) -> BaseProcess:
    """A run in a process of its own; seconds: of one timing; url "-" is the default storage."""
    folder.mkdir(exist_ok=True)
    # What a process finds out once, its children need not find out again.
    for find_out in (stage_digests, source_digest, triton_version, parameters, lambda: resolve("h100")):
        find_out()
    process = multiprocessing.get_context("fork").Process(target=run, args=(folder, url, seconds), daemon=True)
    process.start()
    return process


def ends_well(process: BaseProcess) -> None:
    process.join(timeout=240)
    assert process.exitcode == 0


def lines(folder: Path) -> list[list[str]]:
    path = folder / "log"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [line.split() for line in whole.splitlines()]
