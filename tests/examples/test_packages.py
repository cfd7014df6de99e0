"""The packages in examples/, built as wheels beside our own, pass their tests in an environment that has only wheels of them.

The environment shares torch, Triton and pytest with this one, but not the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gla-walk", "launch-advice")


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TRITON_INTERPRET")}
    return subprocess.run(
        [str(word) for word in command], cwd=folder, env=inherited | environment, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment into which the wheels are unpacked, which is all that installing them does."""
    root = tmp_path_factory.mktemp("packages")
    made = run([sys.executable, "-m", "venv", "--without-pip", root / "env"], root)
    assert made.returncode == 0, made.stderr
    interpreter = root / "env" / "bin" / "python"
    found = run([interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], root)
    site = Path(found.stdout.strip())
    # A line of a .pth file is a folder to import from; .pth files in that folder, such as an editable install's, are not read.
    (site / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    for source in (ROOT, *(ROOT / "examples" / name for name in PACKAGES)):
        built = run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", root, source], root)
        assert built.returncode == 0, built.stderr
    for wheel in root.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(site)
    return interpreter


@pytest.mark.timeout(600)  # seconds of one core, on a machine that may have ten other things to do
@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_passes_its_tests_from_wheels(package: str, python: Path, tmp_path: Path):
    tests = tmp_path / "tests"
    tests.mkdir()
    for file in (ROOT / "examples" / package / "tests").iterdir():
        (tests / file.name).write_text(file.read_text())
    done = run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests], tmp_path, XDG_DATA_HOME=str(tmp_path / "data")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "skipped" not in done.stdout
    where = run([python, "-c", "import deltaproof; print(deltaproof.__file__)"], tmp_path)
    assert str(python.parent.parent) in where.stdout, "the wheel is tested, not the checkout"
