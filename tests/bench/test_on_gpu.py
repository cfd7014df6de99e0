"""A GPU session without a GPU: what each part writes, that it goes on where it stopped, and that nothing found is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from deltaproof.results.schema.default import default_config

HERE = Path(__file__).parent


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Import a script of this folder by name."""
    monkeypatch.syspath_prepend(str(HERE))

    def imported(name: str) -> ModuleType:
        return __import__(name)

    return imported


def run(script: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    around = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    around |= {"PYTHONPATH": str(HERE.parents[1] / ".import"), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=around)


def test_a_row_is_on_disk_at_once_and_one_that_was_cut_off_is_passed_over(tmp_path: Path, load):
    rows, path = load("rows"), tmp_path / "rows.jsonl"
    rows.add(path, name="a", value=1.5)
    assert rows.read(path) == [{"name": "a", "value": 1.5}]
    with path.open("a") as stream:
        stream.write('{"name": "b", "val')
    assert rows.read(path) == [{"name": "a", "value": 1.5}]
    assert rows.read(tmp_path / "none.jsonl") == []


def test_the_most_wanted_calls_come_first(load):
    found = [work.token for work in load("problems").problems(("forward", "train", "decode"))]
    assert found[0] == "forward-gdn2-bf16-b1t8192h8d128"
    assert len(found) == len(set(found)) == 2 * 2 * 3 * 2 + 4 * 3
    places = [found.index(f"{op}-gdn2-bf16-b1t{T}h32d128") for T in (8192, 32768) for op in ("forward", "train")]
    assert places == sorted(places)
    assert all("decode" in token for token in found[-12:])


def test_what_the_tables_serve_is_timed_after_the_defaults(tmp_path: Path, load, monkeypatch: pytest.MonkeyPatch):
    entry = {"op": "chunk_fwd", "rule": "gdn2", "dtype": "bf16", "K": 128, "V": 128, "config": "c32,solver=tf32x3"}
    others = [entry | {"config": "c16"}, entry, entry | {"rule": "kda", "config": "c128"}]
    (tmp_path / "mine.json").write_text(json.dumps({"entries": [*others, entry]}))
    monkeypatch.setenv("DELTAPROOF_TABLES", str(tmp_path))
    found = load("configurations").configurations("forward", "gdn2", "bf16", 128, "mine")
    assert found[:3] == [default_config("chunk_fwd", "bf16", 128), "c32,solver=tf32x3", "c16"]
    assert "c128" not in found


def test_samples_are_rows_and_are_not_taken_again(tmp_path: Path, load):
    arguments = ("--device", "cpu", "--small", "--rule", "gdn", "--rounds", "2", "--out", tmp_path)
    first = run("times.py", "--who", "ours", *arguments)
    assert first.returncode == 0, first.stderr
    read = load("rows").read
    found = read(tmp_path / "times.jsonl")
    assert [row["kind"] for row in found] == ["copy", "call", "sample", "sample", "call", "sample", "sample"]
    assert {row["work"] for row in found[1:]} == {"forward-gdn-fp32-b1t64h2d32", "train-gdn-fp32-b1t64h2d32"}
    assert all(row["error"] < 1e-5 for row in found if row["kind"] == "call")
    assert run("times.py", "--who", "ours", *arguments).returncode == 0
    assert read(tmp_path / "times.jsonl") == found
    late = run("times.py", "--who", "peer", *arguments, "--budget", "0.001")
    assert late.returncode == 75
    assert "are left" in late.stdout


def test_ours_are_checked_against_fp64(tmp_path: Path, load):
    done = run("device_check.py", "--device", "cpu", "--repeats", "2", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    found = load("rows").read(tmp_path / "checks.jsonl")
    assert [(row["op"], row["rule"]) for row in found][:3] == [("forward", rule) for rule in ("gdn2", "kda", "gdn")]
    assert all(row["equal"] == row["repeats"] == 2 and max(row["worst"].values()) < 1e-5 for row in found)
    assert set(found[3]["worst"]) == {"o", "dq", "dk", "dv", "dg", "db", "dw"}


COMPILES = """
import sys
from pathlib import Path
import absent_gpu, torch, triton, triton.language as tl
from compile_only import NotCompiled, compiled_only, compiling_only, forget_unfinished

absent_gpu.pretend()

@triton.jit
def first(x, N: tl.constexpr):
    tl.store(x + tl.arange(0, N), 1.0)

@triton.autotune(configs=[triton.Config({"M": 2}, num_warps=w) for w in (1, 2)], key=["N"])
@triton.jit
def second(x, N: tl.constexpr, M: tl.constexpr):
    tl.store(x + tl.arange(0, N), M)

@triton.jit
def wrong(x, N: tl.constexpr):
    tl.store(x + tl.arange(0, N + 1), 1.0)

def call():
    for kernel in (first, second, wrong):
        kernel[(1,)](torch.empty(16), N=16)

claims = Path(sys.argv[1])
claims.mkdir()
told = []
for _ in range(2):
    with compiling_only(claims, lambda name, seconds, failure: told.append((name.split()[0], failure is not None))):
        call()
print(told)
with compiled_only(claims):
    first.warmup(torch.empty(16), N=16, grid=(1,))
(claims / "begun").touch()
forget_unfinished(claims)
print(len(list(claims.iterdir())))
try:
    with compiled_only(claims):
        first.warmup(torch.empty(16), N=32, grid=(1,))
except NotCompiled as error:
    print("absent")
"""


def test_each_kernel_is_compiled_by_one_process_and_none_is_launched(tmp_path: Path):
    (tmp_path / "compiles.py").write_text(COMPILES)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "compiles.py"), str(tmp_path / "claims")],
        capture_output=True, text=True, check=False,
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path / "cache"),
             "PYTHONPATH": f"{HERE.parents[1] / '.import'}{os.pathsep}{HERE}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = [("first", False), ("second", False), ("second", False), ("wrong", True)]
    assert done.stdout.splitlines() == [str(told), "4", "absent"]


def test_archives_bring_everything_back_to_another_place(tmp_path: Path, load, monkeypatch: pytest.MonkeyPatch):
    archive = load("archive")
    monkeypatch.setattr(archive, "PART_BYTES", 1 << 20)
    code = os.urandom(3 << 20)
    folder, cache, claims, tar = (tmp_path / name for name in ("folder", "cache", "claims", "tar"))
    for path, text in {
        folder / "times.jsonl": "{}\n", folder / "deep" / "table.json": "[]", claims / "a": "done",
        cache / "x" / "k.cubin": code, cache / "w" / "k.cubin": code[::-1], cache / "x" / "k.ptx": "text",
        cache / "y" / "__grp__k.json": json.dumps({"child_paths": {"k.cubin": str(cache / "x" / "k.cubin")}}),
    }.items():  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    packed = set[str]()
    archive.pack_results(folder, tar)
    archive.pack_compiled(cache, claims, tar, packed)
    before = {path.name: path.stat().st_mtime_ns for path in tar.iterdir()}
    assert len(before) > 2, "parts of limited size"
    archive.pack_compiled(cache, claims, tar, packed)
    assert {path.name: path.stat().st_mtime_ns for path in tar.iterdir()} == before
    there = [tmp_path / "there" / name for name in ("folder", "cache", "claims")]
    archive.unpack(tar, *there)
    assert (there[0] / "deep" / "table.json").read_text() == "[]"
    assert (there[2] / "a").read_text() == "done"
    assert not (there[1] / "x" / "k.ptx").exists()
    group = json.loads((there[1] / "y" / "__grp__k.json").read_text())
    assert Path(group["child_paths"]["k.cubin"]).read_bytes() == code
    assert archive.names_in(tar) == packed
    (cache / "z.cubin").write_text("more")
    archive.pack_compiled(cache, claims, tmp_path / "next", packed, 9)
    assert [path.name for path in (tmp_path / "next").iterdir()] == ["compiled-9.tar.xz"]
    assert archive.names_in(tmp_path / "next") == {"cache/z.cubin"}


def test_every_point_of_the_space_is_in_a_recorded_configuration(load):
    landscape = load("landscape")
    from deltaproof.autotune.space.points import Family, enumerate_points, points_of
    from deltaproof.kernels.configs.launch_config import LaunchConfig
    from deltaproof.specs.gpus import gpu

    work = landscape.works(False)[2]
    family = Family(op="chunk_fwd", rule=work.rule, dtype="bf16", K=128, V=128)
    tokens = landscape.covering(work)
    held = {point for token in tokens for point in points_of(family, LaunchConfig.parse(token))}
    assert tokens[0] == family.default.token
    absent = set(enumerate_points(family, gpu("h200-sxm").arch)[0]) - held
    assert not absent
    first = [work.token for work, _ in islice(landscape.candidates(None, False), 100)]
    assert first == [landscape.works(False)[0].token] * 60 + [landscape.works(False)[1].token] * 40


def test_a_recorded_call_tells_its_launches_apart(tmp_path: Path, load, monkeypatch: pytest.MonkeyPatch):
    landscape, events = load("landscape"), load("launch_events")
    from triton.runtime.jit import JITFunction

    compiled = SimpleNamespace(n_regs=40, n_spills=0, metadata=SimpleNamespace(shared=1024, num_warps=4))
    ticks = iter(range(1000))

    class Event:
        def __init__(self, **_: Any) -> None: ...

        def record(self) -> None:
            self.at = next(ticks)

        def elapsed_time(self, other: Any) -> float:
            return float(other.at - self.at)

    monkeypatch.setattr(events.torch.cuda, "Event", Event)
    monkeypatch.setattr(events.torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(JITFunction, "run", lambda self, *args, grid, warmup, **kwargs: compiled)
    kernel = SimpleNamespace(__name__="walk_kernel")

    def call() -> None:
        for _ in range(2):
            JITFunction.run(kernel, grid=(3, 2), warmup=False)  # pyright: ignore[reportArgumentType]

    def sample(timed: Any) -> Any:
        for _ in range(2):
            timed()
        return SimpleNamespace(milliseconds=2.0, megahertz=1980.0, queued=True)

    watch = SimpleNamespace(sample=sample, warm=lambda timed: timed())
    row = landscape.record(call, watch, tmp_path, False)
    assert row["stages"] == {"walk_kernel": 2.0}
    assert row["kernels"]["walk_kernel"] == {"registers": 40, "spills": 0, "shared": 1024, "warps": 4, "grid": [3, 2]}
    assert row["milliseconds"] == [2.0] * landscape.SAMPLES


def test_the_report_compares_with_what_was_timed_beside(tmp_path: Path, load):
    rows, folder = load("rows"), tmp_path
    path, work = folder / "times.jsonl", "forward-gdn-bf16-b1t8192h8d128"
    rows.add(path, kind="copy", bytes=2 * 10**9, milliseconds=[1.0])
    slow = {
        "fla/chunk": 6.0,
        "deltaproof/split c64": 4.0,
        "deltaproof/split c64 beside": 3.0,
        "fla/nan": 0.1,
        "deltaproof/fused c64": 0.2,
    }
    errors = {"fla/nan": None, "deltaproof/fused c64": 0.7}
    for name, milliseconds in slow.items():
        rows.add(path, kind="call", work=work, name=name, unable=None, error=errors.get(name, 2e-3))
        rows.add(path, kind="sample", work=work, name=name, milliseconds=milliseconds)
    rows.add(path, kind="call", work=work, name="fla/other", unable="no such function", error=None)
    rows.add(folder / "compiled.jsonl", kernel="a", seconds=1.0, failure="refused")
    row = {
        "op": "train",
        "rule": "gdn",
        "config": "c64",
        "worst": {"o": 2e-3},
        "equal": 19,
        "repeats": 20,
        "unable": None,
    }
    rows.add(folder / "checks.jsonl", **row)
    text = load("session_summary").summary(folder, {"device": "D"}, {"times": {"state": "done", "seconds": 3.0}})
    assert f"Shapes run: {work}." in text
    assert f"| {work} | 4.000 | 3.000 | split c64 beside | 2.0e-03 | 6.000 | chunk | 2.0e-03 | 2.00 |" in text
    assert f"wrong on {work}: deltaproof/fused c64, error 0.7" in text
    assert "no such function" in text and "1 refused" in text and "19/20" in text and "2000 GB/s" in text


class GpuRun:
    """`on_gpu` with steps of our own, in a folder of its own."""

    def __init__(self, module: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module, self.folder, self._patch = module, folder, monkeypatch
        for name in ("TRITON_CACHE_DIR", "TRITON_CACHE_AUTOTUNING", "PYTHONPATH", "PYTHONUNBUFFERED"):
            monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.setattr(module, "machine", lambda: {"device": None})
        for name in ("CACHE", "CLAIMS"):
            monkeypatch.setattr(module, name, folder / name)

    def __call__(self, steps: list[Any], *arguments: str) -> int:
        self._patch.setattr(self.module, "steps", lambda *_: steps)
        self._patch.setattr(sys, "argv", ["gpu", "--pretend", "--out", str(self.folder / "out"), *arguments])
        return self.module.main()

    def state(self, name: str) -> str:
        return json.loads((self.folder / "out" / "progress.json").read_text())["steps"][name]["state"]


@pytest.fixture
def session(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuRun:
    return GpuRun(load("on_gpu"), tmp_path, monkeypatch)


def command(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_step_with_work_left_is_not_done(session: GpuRun, tmp_path: Path):
    times = tmp_path / "times"
    count = (
        f"open({str(times)!r}, 'a').write('x'); import sys; sys.exit(75 if len(open({str(times)!r}).read()) < 2 else 0)"
    )
    steps = [session.module.Step(name="times", commands=[command(count), command("")], most=20)]
    assert session(steps, "--tar", str(tmp_path / "tar")) == 0
    assert session.state("times") == "some is left; goes on"
    assert (tmp_path / "tar" / "results.tar.xz").exists()
    for _ in range(2):
        assert session(steps) == 0
        assert session.state("times") == "done"
    assert times.read_text() == "xx"
    tune = session.module.Step(name="tune", commands=[command("print('9 left: the same command goes on')")], most=20)
    assert session([tune]) == 0
    assert session.state("tune") == "some is left; goes on"


def test_a_session_goes_on_from_archives_elsewhere(session: GpuRun, tmp_path: Path, load):
    steps = [session.module.Step(name="times", commands=[command("")], most=20)]
    assert session(steps, "--tar", str(tmp_path / "tar")) == 0
    session.folder = tmp_path / "elsewhere"
    failing = [session.module.Step(name="times", commands=[command("raise SystemExit(3)")], most=20)]
    assert session(failing, "--from", str(tmp_path / "tar")) == 0
    assert session.state("times") == "done"


def test_rows_of_other_kernels_are_set_aside(session: GpuRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    write = f"open({str(out / 'times.jsonl')!r}, 'a').write('x')"
    steps = [session.module.Step(name="times", commands=[command(write)], most=20)]
    assert session(steps) == session(steps) == 0
    assert (out / "times.jsonl").read_text() == "x"
    monkeypatch.setattr(session.module, "kernels", lambda: {"chunk_fwd": "changed"})
    assert session(steps) == 0
    assert (out / "times.jsonl").read_text() == (out / "before-1" / "times.jsonl").read_text() == "x"


def test_what_hangs_is_stopped_and_what_fails_is_told(session: GpuRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session.module, "LEAST", 0.0)
    step = session.module.Step
    steps = [
        step(name="times", commands=[command("import time; time.sleep(60)"), command("")], most=1.0),
        step(name="check", commands=[command("raise SystemExit(3)")], most=20),
    ]
    assert session(steps) == 1
    assert session.state("times") == "stopped for time; goes on"
    assert session.state("check") == "failed, exit code 3; see check.log"
    assert session(steps, "--only", "check,nothing") == 2


def test_what_was_timed_before_tuning_went_on_is_timed_again(session: GpuRun, tmp_path: Path):
    times = tmp_path / "times"
    step = session.module.Step
    timing = step(name="times", commands=[command(f"open({str(times)!r}, 'a').write('x')")], most=20)
    tune = step(name="tune", commands=[command("")], most=20)
    assert session([timing, tune]) == 0
    assert session.state("times") == "to do"
    assert session([timing, tune]) == 0
    assert (times.read_text(), session.state("times")) == ("xx", "done")


def test_without_a_gpu_it_says_so(tmp_path: Path):
    done = run("on_gpu.py", "--out", tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "torch sees no CUDA device" in done.stderr
