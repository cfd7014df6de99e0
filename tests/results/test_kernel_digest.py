"""The digest changes with what kernels do, and with nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deltaproof.results.digests import kernels as module
from deltaproof.results.digests.kernels import STAGES, digest_kernels, forget_digests, stage_digests, write_stored
from deltaproof.results.schema.strict import TableError

SOURCES = {
    "walk.py": '''"""A docstring."""
import triton
import triton.language as tl
from .deep import parts
from .deep.parts import LIMIT, double

TIMES = tl.constexpr(parts.MANY)
ROWS = tl.constexpr(16)


@triton.jit(do_not_specialize=["length"])
def walk_kernel(x, y, length, C: tl.constexpr):
    # why
    row = tl.arange(0, C)
    value = tl.load(x + row, mask=row < length)
    for index in range(0, LIMIT, C):
        value = value * index + parts.added(value) * TIMES
    tl.store(y + row, double(value, by=ROWS), mask=row < length)


def walk(x, y):
    walk_kernel[(1,)](x, y, 3, C=16)
''',
    "other.py": "import triton\n\n\n@triton.jit\ndef other_kernel(x):\n    pass\n",
    "deep/__init__.py": "",
    "deep/parts.py": '''import triton
import triton.language as tl

LIMIT = tl.constexpr(64)
FEW, MANY = 2, 8


@triton.jit
def double(value, by):
    """Not counted."""
    return 2 * value + by


@triton.jit
def added(value):
    return value + 1
''',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def edited(folder: Path, name: str, *edits: tuple[str, str]) -> None:
    path = folder / name
    text = path.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def moved(folder: Path) -> None:
    (folder / "rooms").mkdir()
    shutil.move(folder / "walk.py", folder / "rooms" / "steps.py")
    edited(folder, "rooms/steps.py", ("from .deep", "from ..deep"))


def helper_moved(folder: Path) -> None:
    """A helper of a helper goes to a file of its own, and what called it beside it imports it."""
    text = (folder / "deep" / "parts.py").read_text()
    start, end = (text.index(f"@triton.jit\ndef {name}") for name in ("double", "added"))
    head = "import triton\nimport triton.language as tl\n\n\n"
    (folder / "deep" / "doubling.py").write_text(head + text[start:end])
    (folder / "deep" / "parts.py").write_text("from .doubling import double\n" + text[:start] + text[end:])


NOTHING: dict[str, Callable[[Path], None]] = {
    "a local is renamed": lambda f: edited(f, "walk.py", ("value", "amount"), ("row", "place")),
    "a parameter is renamed": lambda f: edited(f, "walk.py", ("length", "count")),
    "a parameter of a helper is renamed": lambda f: (
        edited(f, "deep/parts.py", ("by", "addend")), edited(f, "walk.py", ("by=", "addend=")),
    )[0],
    "a helper is renamed": lambda f: (
        edited(f, "deep/parts.py", ("double", "twice")), edited(f, "walk.py", ("double", "twice")),
    )[0],
    "a comment, a docstring": lambda f: edited(f, "walk.py", ("# why", "# because"), ("A docstring", "Another")),
    "a helper's docstring": lambda f: edited(f, "deep/parts.py", ("Not counted.", "Nor this.")),
    "the layout": lambda f: edited(f, "walk.py", ("value * index", "(value\n            * index)")),
    "the name of a module": lambda f: edited(f, "walk.py", ("language as tl", "language as lang"), ("tl.", "lang.")),
    "a host launcher": lambda f: edited(f, "walk.py", ("(x, y, 3, C=16)", "(x, y, 5, C=32)")),
    "a constant gets a name": lambda f: edited(f, "walk.py", ("ROWS", "LINES")),
    "a file moves": moved,
    "a helper moves to another file": helper_moved,
}  # fmt: skip
SOMETHING: dict[str, Callable[[Path], None]] = {
    "an operand": lambda f: edited(f, "walk.py", ("value * index", "value + index")),
    "an operand of a helper": lambda f: edited(f, "deep/parts.py", ("2 * value", "3 * value")),
    "a function that is reached through its module": lambda f: edited(f, "deep/parts.py", ("value + 1", "value + 2")),
    "one of several constants, reached through their module": lambda f: edited(f, "deep/parts.py", ("2, 8", "2, 4")),
    "a constant elsewhere": lambda f: edited(f, "deep/parts.py", ("(64)", "(32)")),
    "a constant here": lambda f: edited(f, "walk.py", ("(16)\n", "(32)\n")),
    "two locals swapped in use": lambda f: edited(f, "walk.py", ("mask=row < length)\n    for", "mask=length < row)\n    for")),
    "a constexpr that is none any more": lambda f: edited(f, "walk.py", ("C: tl.constexpr", "C")),
    "what is not specialised": lambda f: edited(f, "walk.py", ('["length"]', '["C"]')),
    "another function of the language": lambda f: edited(f, "walk.py", ("tl.arange", "tl.zeros")),
}  # fmt: skip


@pytest.mark.parametrize("edit", NOTHING.values(), ids=NOTHING)
def test_what_changes_no_program_changes_no_digest(folder: Path, edit: Callable[[Path], None]):
    before = digest_kernels(folder)
    edit(folder)
    assert digest_kernels(folder) == before


@pytest.mark.parametrize("edit", SOMETHING.values(), ids=SOMETHING)
def test_what_changes_a_program_changes_its_digest_alone(folder: Path, edit: Callable[[Path], None]):
    before = digest_kernels(folder)
    edit(folder)
    after = digest_kernels(folder)
    assert after["walk"] != before["walk"]
    assert after["other"] == before["other"]


def test_a_source_that_cannot_be_read_is_an_error(folder: Path):
    (folder / "deep" / "parts.py").write_text("LIMIT = (\n")
    with pytest.raises(TableError, match=r"parts.py:1: not Python"):
        digest_kernels(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"import triton\n\ndef walk(:\n", "walk.py:3: not Python: invalid syntax"),
        (b"x = (\n", "walk.py:1: not Python: '(' was never closed"),
        (b"x = 1\0", "walk.py:1: not Python: source code string cannot contain null bytes"),
        (b"x = '\xff'\n", "walk.py: cannot be digested: 'utf-8' codec"),
    ],
)
def test_the_command_names_what_it_cannot_read_in_one_line(
    folder: Path, text: bytes, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (folder / "walk.py").write_bytes(text)
    monkeypatch.setattr(module, "_SOURCES", folder)
    with pytest.raises(SystemExit) as end:
        module.main()
    said = capsys.readouterr().err
    assert (end.value.code, len(said.splitlines())) == (2, 1)
    assert f"{folder}/{says}" in said


def test_no_two_kernels_share_a_name(folder: Path):
    (folder / "again.py").write_text(SOURCES["other.py"])
    with pytest.raises(TableError, match="another file has a kernel named other_kernel"):
        digest_kernels(folder)


def test_every_stage_has_a_kernel():
    digests = stage_digests()
    assert {stage for op in STAGES.values() for some in op.values() for stage in some} <= digests.keys()


def test_the_stored_digests_are_those_of_the_sources():
    stored = json.loads((Path(module.__file__).parents[1] / "kernels.json").read_text())["digests"]
    assert stored == digest_kernels(module._SOURCES), "run: python -m deltaproof.results.digests.kernels"


def test_an_edit_shows_at_once_and_the_stored_digests_serve_without_sources(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
):
    package = tmp_path_factory.mktemp("results")
    monkeypatch.setattr(module, "_SOURCES", folder)
    monkeypatch.setattr(module, "__file__", str(package / "digests" / "kernels.py"))
    monkeypatch.setattr(module, "packaged", lambda name: package / name)

    def now() -> dict[str, str]:
        forget_digests()
        return stage_digests()

    write_stored()
    first = now()
    assert first == digest_kernels(folder)
    edited(folder, "deep/parts.py", ("(64)", "(32)"))
    assert now()["walk"] != first["walk"]
    monkeypatch.setattr(module, "_SOURCES", folder / "gone")
    assert now() == first
    forget_digests()
