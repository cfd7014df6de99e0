"""Tables, records and paths that somebody else wrote or chose: one line and exit code 2, and nothing is written elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deltaproof.autotune import tune
from deltaproof.autotune.cli.app import app
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.timing.shared_trials import records_of
from deltaproof.results.digests.kernels import kernel_digest, record_kernel
from deltaproof.results.schema.gpus import Resources
from deltaproof.results.schema.record import Measured, record_from_line, record_to_line
from deltaproof.results.schema.strict import TableError
from deltaproof.specs.gpus import gpu
from tests.helpers.synthetic import FAMILY, ask_none, compile_all

OUTSIDE = "x/../../../outside"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run wrote."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "ask", ask_none)
        patch.setattr(tune, "compile_points", partial(compile_all, most=60))
        tune.tune(request(folder), tune.Hooks())
    return folder


def request(folder: Path) -> tune.Request:
    return tune.Request(
        gpu=gpu("h100"), ops=["chunk_fwd"], rules=["gdn"], dtypes=["fp32"], dims=[64], jobs=1, out=folder,
        cache=folder / "cache",
    )  # fmt: skip


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of that, in a folder inside the one that the test may write to."""
    return Path(shutil.copytree(whole, tmp_path / "deep" / "down" / "out"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(result: Result) -> str:
    assert (result.exit_code, type(result.exception)) == (2, SystemExit), result.exception
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def edit_table(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "tables" / "h100-sxm.json"
    table = json.loads(path.read_text())
    edit(table)
    path.write_text(json.dumps(table))


@pytest.mark.parametrize("to", ["t4", "python"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda table: table.update(gpu=OUTSIDE),
        lambda table: table.update(gpu=".."),
        lambda table: table.update(gpu="h200-sxm"),
        lambda table: table.update(entries=[table["entries"][0] | {"op": OUTSIDE}]),
        lambda table: table.update(entries=[table["entries"][0] | {"rule": OUTSIDE}]),
        lambda table: table["entries"][0].update(config=table["entries"][0]["config"] + ",nonsense=1"),
    ],
)
def test_a_table_names_no_file_outside_the_folder(folder: Path, tmp_path: Path, to: str, edit):
    edit_table(folder, edit)
    before = files(tmp_path)
    assert "h100-sxm.json" in refused(invoke("export", "--to", to, "--gpu", "H100", "--from", folder, "--out", folder))
    assert files(tmp_path) == before


def test_the_table_of_another_gpu_is_not_checked_as_this_one_s(folder: Path):
    edit_table(folder, lambda table: table.update(gpu="h200-sxm"))
    assert "'h200-sxm', but the file is named for 'h100-sxm'" in refused(
        invoke("check", "--gpu", "H100", "--out", folder)
    )


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "records" / "h100-sxm" / "chunk_fwd.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def measured() -> dict[str, Any]:
    one = Measured(
        key=FAMILY.key(2048, 16), config="c64", kernel=kernel_digest(FAMILY.key(), "c64"), samples=(0.0,), device="made up",
        protocol="events-2", resources=Resources(shared=0, registers=0, threads=32),
    )  # fmt: skip
    return json.loads(record_to_line(one))


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("estimated", {"config": "c64,nonsense=1"}, "nonsense"),
        ("estimated", {"config": "64"}, "it begins with the chunk size"),
        ("estimated", {"config": "c64,states=32x8x1"}, "is written 'c64'"),
        ("estimated", {"config": "-"}, "not the token of a launch configuration"),
        ("estimated", {"rule": "made_up"}, "'made_up'"),
        ("estimated", {"milliseconds": 0}, "0 ms"),
        ("gated", {"config": "c64,scores=1x1x1"}, "at least 16"),
        ("compiled", {"stage": ""}, "stage ''"),
        ("compiled", {"stage": "input_grads"}, "input_grads"),
        ("compiled", {"resources": {"shared": 0, "registers": 0, "threads": 0}}, "threads"),
        ("compiled", {"K": 0}, "dimensions"),
        ("measured", {}, "0 ms"),
    ],
)
def test_a_record_that_nobody_could_have_made_is_named_with_its_line(folder: Path, kind: str, fields: dict, said: str):
    path = folder / "records" / "h100-sxm" / "chunk_fwd.jsonl"
    record = (measured() if kind == "measured" else records(folder, kind)[0]) | fields
    # It claims to be of the kernels that there are, as far as its fields name any.
    record["kernel"] = record_kernel(record_from_line(json.dumps(record), "record")) or record["kernel"]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps(record), *lines[1:]]) + "\n")
    for command in ("report", "check"):
        message = refused(invoke(command, "--gpu", "H100", "--out", folder))
        assert "chunk_fwd.jsonl: line 2: " in message and said in message
    with pytest.raises(TableError, match=r"chunk_fwd.jsonl: line 2: "):
        tune.tune(request(folder), tune.Hooks())


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("compiled", {"kernel": "00" * 8, "stage": "gone", "config": "c64,gone=1x2x3"}),
        ("compiled", {"stage": "no_such_stage"}),
        ("rejected", {"stage": "no_such_stage"}),
    ],
)
def test_what_older_kernels_had_is_nobody_s_business(folder: Path, kind: str, fields: dict):
    path = folder / "records" / "h100-sxm" / "chunk_fwd.jsonl"
    old = records(folder, kind)[0] | fields
    path.write_text(json.dumps(old) + "\n" + path.read_text())
    assert invoke("check", "--gpu", "H100", "--out", folder).exit_code == 0
    assert invoke("report", "--gpu", "H100", "--out", folder).exit_code == 0


@pytest.mark.parametrize("fields", [{"op": OUTSIDE}, {"config": "c64,nonsense=1"}, {"rule": "made_up"}])
def test_a_record_in_a_storage_is_read_as_strictly(folder: Path, fields: dict):
    line = json.dumps(records(folder, "gated")[0] | fields)
    with pytest.raises(TableError, match="a record in the storage"):
        records_of(json.dumps([line]))


def test_a_link_stays_a_link_and_a_pipe_a_pipe(folder: Path, tmp_path: Path):
    real, link, pipe = tmp_path / "real.html", tmp_path / "link.html", tmp_path / "pipe.html"
    real.write_text("old")
    link.symlink_to(real)
    os.mkfifo(pipe)
    assert invoke("report", "--gpu", "H100", "--out", folder, "--html", link).exit_code == 0
    assert link.is_symlink()
    assert "Coverage" in real.read_text()
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert invoke("report", "--gpu", "H100", "--out", folder, "--html", pipe).exit_code == 0
    reader.join(timeout=30)
    assert pipe.is_fifo()
    assert read == [real.read_text()]


def test_standard_output_is_printed_to(folder: Path, tmp_path: Path):
    """Also where the shell made a file for it: what was printed before and after stays."""
    command = [sys.executable, "-m", "deltaproof.autotune", "report", "--gpu", "H100", "--html", "/dev/stdout", "--out"]
    with (tmp_path / "printed").open("w") as printed:
        subprocess.run([*command, str(folder)], stdout=printed, check=True, timeout=120)
    text = (tmp_path / "printed").read_text()
    assert text.index("default loses") < text.index("<!doctype html>") < text.index("page: /dev/stdout")
