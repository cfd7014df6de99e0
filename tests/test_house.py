"""The repository's frame: what ships, who may import whom, and that no file depends on one machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("specs", "results", "kernels", "verify", "autotune")
RAW = {"results/peers", "results/bench"}

ONE_MACHINE = re.compile(
    r"(?<![\w.}:/])/(?:home|root|opt|mnt|srv|Users|work|farm)/"  # an absolute path of somebody's machine
    r"|\.\./shared"
    r"|(?:pypi|pythonhosted|registry\.npmjs|download\.pytorch)\.org",
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the root of the repository, with its import package on the path, installed or not."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".import")}
    words = list(map(str, command))
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def tracked() -> list[Path]:
    """Files that git tracks or would track. Skips the test outside a checkout."""
    listing = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from it, which is what a package index would serve."""
    out = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("*.whl")))


@pytest.fixture(scope="module")
def sdist(built: Path) -> list[str]:
    """Names in it, below its one folder."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        return [name.partition("/")[2] for name in archive.getnames()]


def test_wheel_adds_one_import_package(wheel: zipfile.ZipFile):
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"deltaproof"}


def test_wheel_holds_every_file_of_the_folders(wheel: zipfile.ZipFile):
    shipped = set(wheel.namelist())
    expected = {"deltaproof/__init__.py", "deltaproof/py.typed"}
    for path in tracked():
        relative = path.relative_to(ROOT)
        evidence = relative.match("results/mutants/*.json")
        if relative.parts[0] in FOLDERS and "/".join(relative.parts[:2]) not in RAW and not evidence:
            expected.add(f"deltaproof/{relative.as_posix()}")
    assert shipped >= expected, expected - shipped
    assert not [name for name in shipped if any(name.startswith(f"deltaproof/{raw}/") for raw in RAW)]


def test_the_tables_of_the_wheel_are_checked_reported_and_exported_where_it_is_installed(
    wheel: zipfile.ZipFile, tmp_path: Path
):
    wheel.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "XDG_DATA_HOME": str(tmp_path / "data")}

    def autotune(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deltaproof.autotune", *words, "--gpu", "h100"]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
        )

    checked = autotune("check")
    assert checked.returncode == 0, checked.stderr
    exported = autotune("export", "--to", "python", "--out", "there")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "there" / "h100_sxm.py").is_file()
    results = autotune("export", "--to", "t4", "--out", "there")
    assert results.returncode == 0, results.stderr
    documents = [json.loads(path.read_text()) for path in (tmp_path / "there").glob("*.json")]
    assert documents and all(document["results"] for document in documents)
    reported = autotune("report", "--html", "page.html")
    assert reported.returncode == 0, reported.stderr
    assert "chunk_fwd" in (tmp_path / "page.html").read_text()
    refused = autotune("publish")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


def test_wheel_declares_its_commands(wheel: zipfile.ZipFile):
    (entries,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "verify = deltaproof.verify.__main__:main" in wheel.read(entries).decode()


@pytest.mark.parametrize("command", ["verify", "autotune"])
def test_a_command_without_what_it_needs_says_so(wheel: zipfile.ZipFile, command: str, tmp_path: Path):
    """Where a wheel was installed without its dependencies, for look-ups."""
    wheel.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-S", "-m", f"deltaproof.{command}", "--help"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"{command}: needs typer, which is not installed here; .*\n", done.stderr)


def test_folders_import_downwards_only():
    if not (ROOT / ".import" / "deltaproof" / "specs").is_dir():
        pytest.skip("import-linter needs the links in .import, which an sdist and a clone without symbolic links lack")
    result = run(Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache")
    assert result.returncode == 0, result.stdout


MOST = 16
"""Python files of a folder that one takes in at a glance."""
OF_ONE_KIND = {"specs/relatives", "verify/properties"}
"""Registries: a file for each member, and a newcomer needs to know one of them."""


def test_no_folder_is_a_corridor():
    found = Counter(path.parent.relative_to(ROOT).as_posix() for path in tracked() if path.suffix == ".py")
    wide = {folder for folder, count in found.items() if count > MOST and not folder.startswith("tests")}
    assert wide == OF_ONE_KIND


def test_a_clone_without_symbolic_links_imports_the_files_that_one_edits(tmp_path: Path):
    """Tracebacks and breakpoints name the files themselves, not links to them."""
    cloned = run("git", "-c", "core.symlinks=false", "clone", "--quiet", ROOT, tmp_path / "clone")
    if cloned.returncode:
        pytest.skip("not a git checkout")
    (tmp_path / "clone" / ".import" / "deltaproof" / "__init__.py").write_text(
        (ROOT / ".import" / "deltaproof" / "__init__.py").read_text()
    )
    program = "import deltaproof.specs.problem as module; print(module.__file__)"
    for root in (ROOT, tmp_path / "clone"):
        environment = {**os.environ, "PYTHONPATH": str(root / ".import")}
        asked = [sys.executable, "-c", program]
        done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == str(root / "specs" / "problem.py"), done.stderr


def test_an_import_package_without_its_folders_says_so(tmp_path: Path):
    (tmp_path / ".import" / "deltaproof").mkdir(parents=True)
    source = ROOT / ".import" / "deltaproof" / "__init__.py"
    (tmp_path / ".import" / "deltaproof" / "__init__.py").write_text(source.read_text())
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / ".import")}
    asked = [sys.executable, "-c", "import deltaproof"]
    done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "has no folder specs" in done.stderr.splitlines()[-1]


def test_the_sdist_is_the_repository_without_the_links(sdist: list[str]):
    """So that the tests in it have all that they read."""
    links = {f".import/deltaproof/{folder}" for folder in FOLDERS}
    repository = {path.relative_to(ROOT).as_posix() for path in tracked()} - links
    assert set(sdist) == repository | {"PKG-INFO"}


def test_every_folder_is_linked_into_the_import_package():
    listing = run("git", "ls-files", "--stage", ".import/deltaproof")
    if listing.returncode:
        pytest.skip("not a git checkout")
    links = [ROOT / line.partition("\t")[2] for line in listing.stdout.splitlines() if line.startswith("120000 ")]
    assert sorted(link.name for link in links) == sorted(FOLDERS)
    for link in links:
        # A clone without symbolic links has files with the same text.
        assert (os.readlink(link) if link.is_symlink() else link.read_text()) == f"../../{link.name}"


def test_no_file_depends_on_one_machine():
    found = []
    for path in tracked():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in ONE_MACHINE.finditer(text)]
    assert not found


def test_no_message_has_an_article_before_the_name_of_a_type():
    """It would be the wrong one before every other name: "is a int"."""
    sources = [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in FOLDERS]
    found = [str(path) for path in sources if re.search(r"\ban? \{type\(", path.read_text())]
    assert not found


def test_constraints_pin_every_dependency():
    def name(requirement: str) -> str:
        return re.split(r"[\[<>=;, ]", requirement)[0].lower().replace("_", "-")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {name(line) for line in lines if not line.startswith("#")}
    assert {name(requirement) for requirement in wanted} <= pinned


def test_the_example_of_the_readme_runs():
    (example,) = re.findall(r"```python\n(import torch.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    result = run(sys.executable, "-c", example)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("torch.Size([1, 256, 4, 128]) torch.Size([1, 4, 128, 128])")


MINE = """
from deltaproof.kernels import registry

def my_op(*tensors, **options):
    return registry.gated_delta_rule(*tensors, **options | {{"variant": "split", "check_values": False}})

added = eval({snippet!r}, {{**vars(registry), "my_op": my_op}})
KERNELS = {{added.name: added}}
"""


def test_the_kernel_that_the_readme_adds_is_judged(tmp_path: Path):
    (snippet,) = re.findall(r"```python\n(Kernel\(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "mine.py").write_text(MINE.format(snippet=snippet))
    command = [
        sys.executable,
        "-m",
        "deltaproof.verify",
        "all",
        "--target",
        "mine:KERNELS",
        "--kernel",
        "chunk_fwd/mine",
    ]
    narrow = [
        "--rule",
        "linear",
        "--property",
        "equality",
        "--profile",
        "quick",
        "--jobs",
        "1",
        "--json",
        "report.json",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / '.import'}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [*command, *narrow], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (verdict,) = (
        one for one in json.loads((tmp_path / "report.json").read_text())["verdicts"] if one["property"] == "equality"
    )
    assert (verdict["kernel"], verdict["status"]) == ("chunk_fwd/mine", "held")
    assert verdict["problems"] > 0
