"""What other repositories copy from us, hooks and the job in docs/ci.md, names commands and options that there are."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from deltaproof.verify.cli.app import app

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "ci.md").read_text()
ACTION = yaml.safe_load((ROOT / ".github" / "actions" / "verify" / "action.yml").read_text())
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


def blocks(language: str) -> list[str]:
    """The code blocks of the page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)


def options(text: str) -> set[str]:
    """Options of `verify` commands in a text."""
    return set(re.findall(r"(?<![\w-])--[a-z]+", text))


def known(command: str) -> set[str]:
    return options(CliRunner().invoke(app, [command, "--help"]).stdout)


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_hooks_run_commands_that_there_are(hook: dict[str, str]):
    program, command, *words = shlex.split(hook["entry"])
    assert program == "verify"
    assert options(" ".join(words)) <= known(command)


def test_the_job_is_well_formed_and_its_options_are_ours():
    job, action, step, hooks = map(yaml.safe_load, blocks("yaml"))
    (run,) = (step["run"] for step in job["jobs"]["verify"]["steps"] if "verify all" in step.get("run", ""))
    assert options(run) <= known("all")
    assert options(step[0]["run"]) <= known("compile")
    assert action[0]["with"].keys() <= ACTION["inputs"].keys()
    assert {hook["id"] for hook in hooks["repos"][0]["hooks"]} <= {hook["id"] for hook in HOOKS}


def test_examples_in_python_parse():
    assert [ast.parse(block) for block in blocks("python")]


def test_every_exit_code_is_explained():
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", DOCS, re.MULTILINE)} == {0, 1, 2, 3, 130}


PRETENDED = """#!/usr/bin/env bash
echo "$@" >> "$LOG"
case "$*" in
  *"import deltaproof") exit "$INSTALLED" ;;
  *"verify all"*) echo '{}' > deltaproof.json; exit "$CODE" ;;
  *"verify report"*) echo "what was found" ;;
esac
"""


@pytest.mark.parametrize("code", [0, 1, 2, 3])
@pytest.mark.parametrize("installed", [True, False])
def test_the_action_installs_itself_where_needed_shows_what_was_found_and_ends_as_verify_does(
    code: int, installed: bool, tmp_path: Path
):
    log, summary = tmp_path / "log", tmp_path / "summary"
    (tmp_path / "python").write_text(PRETENDED)
    (tmp_path / "python").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "LOG": str(log), "CODE": str(code),
        "INSTALLED": str(int(not installed)), "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_ACTION_PATH": str(ROOT / ".github" / "actions" / "verify"),
        "TARGET": "a:b", "RULES": "gdn kda", "PROFILE": "quick",
    }  # fmt: skip
    install, judge = (step["run"] for step in ACTION["runs"]["steps"] if "run" in step)

    def ran(script: str) -> int:
        return subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=False).returncode

    assert ran(install) == 0
    folders = re.findall(r"pip install (.+)", log.read_text())
    assert [Path(folder).resolve() for folder in folders] == ([] if installed else [ROOT])
    assert ran(judge) == code
    assert "verify all --target a:b --rule gdn --rule kda --profile quick" in log.read_text()
    assert summary.read_text() == "what was found\n"


def test_reports_of_two_uses_of_the_action_have_two_names():
    (upload,) = (step["with"] for step in ACTION["runs"]["steps"] if "upload-artifact" in step.get("uses", ""))
    assert upload["name"] == "${{ inputs.name }}"
