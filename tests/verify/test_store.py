"""The store gives back what it was given, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
    monkeypatch.setattr(store_module, "PACKAGE", tmp_path)
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


def test_nothing_is_kept_once_sources_have_changed(store: VerdictStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "source_digest", lambda: "edited meanwhile")
    store.put(store.key("a"), HELD)
    assert store.get(store.key("a")) is None
