"""What other repositories copy from us, hooks and the job in docs/ci.md, names commands and options that there are."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from deltaproof.verify.cli.app import app

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "ci.md").read_text()
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
    job, step, hooks = map(yaml.safe_load, blocks("yaml"))
    (run,) = (step["run"] for step in job["jobs"]["verify"]["steps"] if "verify all" in step.get("run", ""))
    assert options(run) <= known("all")
    assert options(step[0]["run"]) <= known("compile")
    assert {hook["id"] for hook in hooks["repos"][0]["hooks"]} <= {hook["id"] for hook in HOOKS}


def test_examples_in_python_parse():
    assert [ast.parse(block) for block in blocks("python")]


def test_every_exit_code_is_explained():
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", DOCS, re.MULTILINE)} == {0, 1, 2, 3, 130}
