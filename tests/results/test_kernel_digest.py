"""The digest changes with what kernels do, and with nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deltaproof.results import kernel_digest
from deltaproof.results.kernel_digest import (
    ENTRY_POINTS,
    digest_sources,
    kernel_digests,
    source_trees,
    write_stored,
)
from deltaproof.results.strict import TableError

SOURCES = {
    "start.py": '"""A docstring."""\nfrom . import tiles\nfrom .stages.walk import step\n\n'
    "def run():\n    return step() + 1\n",
    "tiles.py": "BLOCK = 16\n",
    "stages/__init__.py": "",
    "stages/walk.py": "from ..deep import LIMIT\n\ndef step():\n    return LIMIT\n",
    "deep.py": "LIMIT = 3\n",
    "unrelated.py": "X = 1\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_everything_that_is_imported_counts(folder: Path):
    assert set(source_trees(folder, ["start.py"])) == set(SOURCES) - {"unrelated.py"}
    before = digest_sources(folder, ["start.py"])
    for name, edit in (("deep.py", "LIMIT = 4\n"), ("tiles.py", "BLOCK = 32\n"), ("unrelated.py", "X = 2\n")):
        (folder / name).write_text(edit)
        assert (digest_sources(folder, ["start.py"]) == before) == (name == "unrelated.py")
        (folder / name).write_text(SOURCES[name])


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        (lambda text: text.replace("A docstring", "Another"), True),
        (lambda text: text.replace("    return", "    # why\n    return"), True),
        (lambda text: text.replace("step() + 1", "(step()\n        + 1)"), True),
        (lambda text: text.replace("step() + 1", "step() + 1.0"), False),
        (lambda text: text.replace("step() + 1", "step() - 1"), False),
        (lambda text: text.replace("step() + 1", "None"), False),
        (lambda text: text.replace("def run", "@jit\ndef run"), False),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(folder: Path, edit, same: bool):
    before = digest_sources(folder, ["start.py"])
    (folder / "start.py").write_text(edit(SOURCES["start.py"]))
    assert (digest_sources(folder, ["start.py"]) == before) == same


def test_a_source_that_cannot_be_read_is_an_error(folder: Path):
    (folder / "deep.py").write_text("LIMIT = (\n")
    for names in (["start.py"], ["missing.py"]):
        with pytest.raises(TableError, match="cannot be digested"):
            digest_sources(folder, names)


def test_every_kernel_counts_for_some_op():
    sources = kernel_digest._SOURCES
    reached = {name for names in ENTRY_POINTS.values() for name in source_trees(sources, names)}
    kernels = {
        path.relative_to(sources).as_posix() for path in sources.rglob("*.py") if "triton.jit" in path.read_text()
    }
    assert kernels and kernels <= reached
    assert not {name for name in reached if name.startswith(("api", "checks", "rules", "torch_"))}


def test_the_stored_digests_are_those_of_the_sources():
    stored = json.loads(Path(kernel_digest.__file__).with_name("kernels.json").read_text())["digests"]
    for op, names in ENTRY_POINTS.items():
        hint = "run: python -m deltaproof.results.kernel_digest"
        assert stored[op] == digest_sources(kernel_digest._SOURCES, names), hint


def test_an_edit_shows_at_once_and_the_stored_digests_serve_without_sources(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
):
    package = tmp_path_factory.mktemp("results")
    monkeypatch.setattr(kernel_digest, "_SOURCES", folder)
    monkeypatch.setattr(kernel_digest, "ENTRY_POINTS", {"op": ("start.py",)})
    monkeypatch.setattr(kernel_digest, "__file__", str(package / "kernel_digest.py"))
    monkeypatch.setattr(kernel_digest, "packaged", lambda name: package / name)

    def now() -> str:
        kernel_digests.cache_clear()
        return kernel_digests()["op"]

    write_stored()
    first = now()
    assert first == digest_sources(folder, ["start.py"])
    (folder / "deep.py").write_text("LIMIT = 4\n")
    assert now() != first
    monkeypatch.setattr(kernel_digest, "_SOURCES", folder / "gone")
    assert now() == first
    kernel_digests.cache_clear()
