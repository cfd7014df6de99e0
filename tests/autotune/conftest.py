"""Tests of the tuner need no compiler: compilations are made up. They see a package that ships no table, and no user's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaproof import results


@pytest.fixture(scope="module", autouse=True)
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Stands for `results/` of a checkout with the tests' user: nothing is tuned, and nobody has records."""
    root = tmp_path_factory.mktemp("checkout")
    folder = root / "results"
    folder.mkdir()
    (root / "pyproject.toml").touch()
    for name in ("gpus.json", "kernels.json"):
        shutil.copy(Path(results.__file__).with_name(name), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deltaproof.results.files.packaged.files", lambda package: folder)
        patch.setattr("deltaproof.results.files.checkout.checkout", lambda: root)
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield folder
