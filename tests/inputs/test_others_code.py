"""Code of somebody else, and what is declared of it, wrong in every way that we know of: one line that names it, exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.bad_documents import bad_texts
from tests.helpers.limits import answer, limited

RIGHT = "def f(q, k, v, g):\n    return v\n"
NO_MODULE = {
    "raises": b"raise ValueError('two\\nlines')",
    "leaves": b"import sys\nsys.exit(0)",
    "is_no_python": b"def f(:",
    "is_no_text": b"\xff\xfe",
    "needs_another": b"import no_such_module",
    "lacks_it": b"",
    "has_a_number": b"f = 3",
}
NO_TARGET = {
    "has_no_kernel": b"f = {}",
    "maps_to_numbers": b"f = {'mine': 1}",
    "maps_numbers": b"f = {1: 1}",
    "has_a_coroutine": b"async def f(q, k, v, g):\n    return v",
    "has_a_generator": b"def f(q, k, v, g):\n    yield v",
    "takes_no_tensors": b"def f(**all):\n    return all",
}
NO_CALL = {
    "takes_arguments": b"def f(a):\n    pass",
    "fails": b"def f():\n    raise RuntimeError('two\\nlines')",
    "ends": b"import sys\ndef f():\n    sys.exit(0)",
    "launches_nothing": b"def f():\n    pass",
}

LINES = [
    *((name, line) for name in (*NO_MODULE, *NO_TARGET) for line in (["all", "--rule", "gla", "--target"], ["list", "--target"])),
    *((name, ["launch"]) for name in (*NO_MODULE, *NO_CALL)),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where commands are typed; modules of it are forgotten afterwards."""
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(("name", "line"), LINES, ids=[f"{name} {line[0]}" for name, line in LINES])
def test_a_bad_module_is_refused(name: str, line: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / f"{name}.py").write_bytes((NO_MODULE | NO_TARGET | NO_CALL)[name])
    for named in [f"{name}:f", *([f"{name}.py:f"] if line == ["launch"] else [])]:
        with limited(monkeypatch):
            found = answer("verify", [*line, named])
        assert found.fault([name]) is None


def bad_projects() -> Iterator[tuple[str, bytes]]:
    right = '[tool.deltaproof.targets.mine]\ntarget = "mine_ops:f"\nforward_only = true\nmin_channels = 16\ndtypes = ["bf16"]\n'
    yield from bad_texts(right)
    for line in right.strip().splitlines()[1:]:
        for value in ("-1", "nan", "9" * 6000, "1979-05-27", '""', '"x]["', "[[1]]", "{a = 1}"):
            yield f"{line} is {value:.20}", right.replace(line, f"{line.partition('=')[0]}= {value}").encode()
    for table in ("tool", "tool.deltaproof", "tool.deltaproof.targets", "tool.deltaproof.targets.mine"):
        for value in ("1", "[]", '"x"'):
            yield f"{table} is {value}", f"{table} = {value}".encode()


def test_a_bad_declaration_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "mine_ops.py").write_text(RIGHT)
    faults = {}
    for what, text in bad_projects():
        (folder / "pyproject.toml").write_bytes(text)
        with limited(monkeypatch):
            found = answer("verify", ["list", "--target", "mine"])
        wrong = None if found.code == 0 and not found.traceback else found.fault(["pyproject.toml", "mine"])
        faults |= {what: wrong} if wrong else {}
    assert not faults, "\n".join(f"{what}: {wrong}" for what, wrong in faults.items())


@pytest.mark.parametrize("file", ["/dev/zero", "/dev/tty0", "."])
@pytest.mark.parametrize("line", [["report"], ["launch"]])
def test_what_has_no_end_is_not_read(line: list[str], file: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    name = "endless.ptx" if line == ["launch"] else "endless.json"
    (folder / name).symlink_to(file)
    with limited(monkeypatch):
        found = answer("verify", [*line, name])
    assert found.fault([name]) is None
