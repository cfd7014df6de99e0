"""The store gives back what it was given, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deltaproof.results.digests import code
from deltaproof.verify.run import cache as store_module
from deltaproof.verify.run.cache import VerdictStore
from tests.helpers.verdicts import ERROR, FAILED, HELD, UNSUPPORTED


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> VerdictStore:
    return VerdictStore(folder=tmp_path / "verdicts", warn=warnings.append)


def entry(store: VerdictStore, key: str) -> Path:
    return next(store.folder.rglob(f"{key}.json"))


@pytest.mark.parametrize("verdict", [HELD, FAILED])
def test_verdicts_come_back_marked(store: VerdictStore, verdict):
    key = store.key("a", "b")
    assert store.get(key) is None
    store.put(key, verdict)
    found = store.get(key)
    assert found is not None
    assert found.cached
    assert found.to_json() == {**verdict.to_json(), "cached": True}


@pytest.mark.parametrize("verdict", [ERROR, UNSUPPORTED])
def test_what_was_not_judged_is_not_kept(store: VerdictStore, verdict):
    store.put(store.key("a"), verdict)
    assert store.get(store.key("a")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "\x00\xff", "null"])
def test_corrupt_entries_are_run_again_with_one_warning(store: VerdictStore, warnings: list[str], text: str):
    key = store.key("a")
    store.put(key, HELD)
    entry(store, key).write_text(text)
    assert store.get(key) is None
    assert len(warnings) == 1
    assert "\n" not in warnings[0]
    store.put(key, HELD)
    assert store.get(key) is not None


def test_an_entry_under_another_key_is_refused(store: VerdictStore):
    store.put(store.key("a"), HELD)
    text = entry(store, store.key("a")).read_text()
    store.put(store.key("b"), HELD)
    entry(store, store.key("b")).write_text(text)
    assert store.get(store.key("b")) is None


def test_a_write_that_dies_leaves_nothing(store: VerdictStore, monkeypatch: pytest.MonkeyPatch):
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        store.put(store.key("a"), HELD)
    assert not [path for path in store.folder.rglob("*") if path.is_file()]


def test_keys_depend_on_sources_versions_and_cell(store: VerdictStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keys = {store.key("a"), store.key("b"), VerdictStore(folder=tmp_path, digest="other sources").key("a")}
    monkeypatch.setattr(store_module, "installed_version", lambda name: f"{name} of tomorrow")
    assert len(keys | {store.key("a")}) == 4


JUDGE = """from .harness import run

def judge(case, kernel):
    # why
    outcome = run(case, kernel)
    return outcome.ratio < 1
"""


@pytest.mark.parametrize(
    ("name", "old", "new", "same"),
    [
        ("verify/run/judge.py", "# why", "# because", True),
        ("verify/run/judge.py", "outcome", "found", True),
        ("verify/report/html.py", "page", "sheet", True),
        ("results/serve/choose.py", "1", "2", True),
        ("results/schema/token.py", "split", "packed", False),
        ("verify/run/judge.py", "< 1", "< 2", False),
        ("verify/run/harness.py", "1", "2", False),
    ],
)
def test_what_a_verdict_depends_on_is_in_its_digest_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str, same: bool
):
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    sources = {
        "verify/run/judge.py": JUDGE,
        "verify/run/harness.py": "from ...results.serve.choose import ONE\nfrom ...results.schema.token import DEFAULT\n\n"
        "def run(case, kernel):\n    return 1\n",
        "verify/report/html.py": "page = 1\n", "results/serve/choose.py": "ONE = 1\n",
        "results/schema/token.py": "DEFAULT = 'split'\n", "kernels/some.py": "", "specs/some.py": "",
    }  # fmt: skip
    for path, text in sources.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    before = store_module.source_digest()
    (tmp_path / name).write_text(sources[name].replace(old, new))
    assert (store_module.source_digest() == before) == same


TWINS = {
    "verify/run/judge.py": "from .near import ratio\nfrom .far import limit\n\ndef judge(x):\n    return ratio(x) < limit()\n",
    "verify/run/near.py": "def ratio(x):\n    return x\n\ndef limit():\n    return 1\n",
    "verify/run/far.py": "from .near import limit as nearest\n\ndef ratio(x):\n    return 2 * x\n\n"
    "def limit():\n    return nearest() + 1\n",
}  # fmt: skip
"""Two modules that define the same names differently, and one that imports from both."""


def test_where_judged_files_lie_and_how_they_are_called_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def digest(folder: str, **renamed: str) -> str:
        for place, text in TWINS.items():
            stem = Path(place).stem
            path = tmp_path / folder / place.replace(stem, renamed.get(stem, stem))
            for old, new in renamed.items():
                text = text.replace(f"from .{old} import", f"from .{new} import")
            imports, rest = text.count("from ."), text.splitlines()
            text = "\n".join([*sorted(rest[:imports]), *rest[imports:]]) + "\n"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(code, "PACKAGE", tmp_path / folder)
        return store_module.source_digest()

    assert digest("before") == digest("after", near="close", far="deep")


@pytest.mark.parametrize("swapped", ["ratio", "limit"])
def test_of_which_file_an_imported_function_is_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str):
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    for place, text in TWINS.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    before = store_module.source_digest()
    judge, was = TWINS["verify/run/judge.py"], {"ratio": "near", "limit": "far"}[swapped]
    other = {"near": "far", "far": "near"}[was]
    (tmp_path / "verify/run/judge.py").write_text(
        judge.replace(f"from .{was} import {swapped}", f"from .{other} import {swapped}")
    )
    assert store_module.source_digest() != before


def test_nothing_is_kept_once_sources_have_changed(store: VerdictStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "source_digest", lambda: "edited meanwhile")
    store.put(store.key("a"), HELD)
    assert store.get(store.key("a")) is None
