"""Files for a public home, which cannot run here: they are well formed, and name commands and options that there are."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deltaproof import __version__  # pyright: ignore[reportAttributeAccessIssue]
from deltaproof.specs.rule import NAMED
from deltaproof.verify.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = {
    "vendor.github-workflows": ".github/workflows/*.yml",
    "vendor.github-actions": ".github/actions/*/action.yml",
    "vendor.github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "vendor.github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "vendor.citation-file-format": "CITATION.cff",
}
FILES = [path for pattern in SCHEMAS.values() for path in sorted(ROOT.glob(pattern))]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.skipif(not find_spec("check_jsonschema"), reason="needs check-jsonschema, which `make forge` installs")
def test_files_follow_the_schemas_of_the_forge(schema: str):
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        schema,
        *map(str, ROOT.glob(SCHEMAS[schema])),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


ZIZMOR = Path(sys.executable).with_name("zizmor")
needs_zizmor = pytest.mark.skipif(not ZIZMOR.exists(), reason="needs zizmor, which `make forge` installs")
WORKFLOWS = [path for path in FILES if path.name == "action.yml" or path.parent.name == "workflows"]


def holes(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ZIZMOR, "--offline", *files], capture_output=True, text=True, check=False)


@needs_zizmor
def test_workflows_have_no_known_hole():
    done = holes(*WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_zizmor
def test_a_workflow_with_a_hole_is_found(tmp_path: Path):
    copied = tmp_path / ".github" / "workflows" / "ci.yml"
    copied.parent.mkdir(parents=True)
    copied.write_text(
        re.sub(r"(actions/\w+)@\w{40}", r"\1@v4", (ROOT / ".github" / "workflows" / "ci.yml").read_text())
    )
    assert "unpinned-uses" in holes(copied).stdout


def test_actions_are_pinned_and_no_checkout_leaves_a_credential():
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        content: Any = yaml.safe_load(path.read_text())
        for job in [content["runs"]] if "runs" in content else content["jobs"].values():
            for step in job["steps"]:
                action, _, pin = step.get("uses", "").partition("@")
                if action:
                    pins.setdefault(action, set()).add(pin)
                if action == "actions/checkout":
                    assert step["with"]["persist-credentials"] is False, path.name
    assert pins and all(len(found) == 1 for found in pins.values()), pins
    assert all(re.fullmatch(r"[0-9a-f]{40}", pin) for found in pins.values() for pin in found), pins


def test_no_test_that_needs_a_peer_is_left_out_of_those_that_are_run_with_them():
    (listed,) = re.findall(r"^PEER_TESTS := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    needs = re.compile(r"comes with deltaproof\[peers\]|pip install 'deltaproof\[peers\]'|targets\.load\(\"fla\"\)")
    found = {
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if needs.search(path.read_text()) and path != Path(__file__)
    }
    assert {str(path.relative_to(ROOT)) for path in found} == set(listed.split())


def test_every_rule_is_judged_by_the_nightly_profile_every_night():
    asked = [text for name, text in runs() if name == "nightly.yml" and "--profile nightly" in text]
    assert sorted(rule for text in asked for rule in re.findall(r"--rule (\w+)", text)) == sorted(NAMED)


def runs() -> list[tuple[str, str]]:
    """Every shell command of a workflow or action, by its file."""
    found = []
    for path in FILES:
        content: Any = yaml.safe_load(path.read_text())
        jobs = [content["runs"]] if "runs" in content else list(content.get("jobs", {}).values())
        for job in jobs if isinstance(content, dict) else ():
            commands = job.get("strategy", {}).get("matrix", {}).get("command", [])
            found += [(path.name, text) for text in [*commands, *(step.get("run", "") for step in job["steps"])]]
    return found


def test_jobs_call_what_there_is():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert runs()
    for name, text in runs():
        assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets, name
        for command, rest in re.findall(
            r"\bverify (all|mutants|compile|report)((?:.|\\\n)*?)(?:$|\|\||>>)", text, re.M
        ):
            known = CliRunner().invoke(app, [command, "--help"]).stdout
            assert all(option in known for option in re.findall(r"--[a-z-]+", rest)), (name, command, rest)


def test_the_matrix_is_what_the_package_says_it_runs_on():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = {line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)}
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]
    matrix = job["strategy"]["matrix"]
    assert set(matrix["python"]) == versions
    tritons = {*matrix["triton"], *(one["triton"] for one in matrix["include"])}
    assert {triton.rpartition(".")[0] for triton in tritons} == {"3.6", "3.7", "3.8", "3.9"}


def test_the_citation_is_of_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


def test_hooks_of_our_own_are_commands_of_make_lint():
    lint = (ROOT / "Makefile").read_text()
    for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]:
        assert hook["entry"].removeprefix(".venv/bin/") in lint.replace("ruff format --check .", "ruff format --check")
