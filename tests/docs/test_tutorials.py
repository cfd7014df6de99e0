"""The code of the tutorials runs, in order and in one folder, and prints what the pages say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(
    r'(?:<!-- (?P<note>[^>]*) -->\n)?^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.M | re.S,
)
SHELL = """
verify() {{ "{python}" -m deltaproof.verify "$@"; }}
autotune() {{ "{python}" -m deltaproof.autotune "$@"; }}
"""


@dataclass(kw_only=True)
class Block:
    """A block that is run. expected: what it prints, None where the page does not say; `[...]` stands for anything."""

    language: str
    text: str
    title: str | None
    code: int
    expected: str | None = None


def blocks(page: Path) -> list[Block]:
    """Of a page, in order, without those that the page says are not run."""
    found: list[Block] = []
    for match in BLOCK.finditer(page.read_text()):
        note = match["note"] or ""
        if match["language"] == "text":
            found[-1].expected = match["text"]
        elif not note.startswith("not run"):
            code = int(note.removeprefix("exit ")) if note.startswith("exit ") else 0
            found.append(Block(language=match["language"], text=match["text"], title=match["title"], code=code))
    return found


def script(blocks: list[Block], python: str) -> str:
    """One shell script of all of them; each prints its number and exit code when it is done, on a line of its own."""
    parts = [SHELL.format(python=python)]
    numbered = list(enumerate(blocks))
    for (language, title), group in groupby(numbered, key=lambda pair: (pair[1].language, pair[1].title)):
        members = list(group)
        if title:
            parts.append(f"cat > {title} <<'__END__'\n{members[0][1].text}__END__\necho; echo @@{members[0][0]} $?\n")
        elif language == "python":
            program = "".join(f"{block.text}\nprint('\\n@@{number} 0', flush=True)\n" for number, block in members)
            parts.append(f"\"{python}\" - <<'__END__'\n{program}__END__\n")
        else:
            parts += [f"{block.text}\ncode=$?; echo; echo @@{number} $code\n" for number, block in members]
    return "".join(parts)


def matches(expected: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part.strip("\n")) for part in expected.strip().split("[...]"))
    lines = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern.replace(r"\n.*", r"(?:\n.*)?").replace(r".*\n", r"(?:.*\n)?"), lines, re.S) is not None


@pytest.mark.timeout(900)  # seconds of one core, on a machine that may have ten other things to do
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page: Path, tmp_path: Path):
    asked = blocks(page)
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / ".import"), "XDG_DATA_HOME": str(tmp_path / "data"), "COLUMNS": "120",
    }  # fmt: skip
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        ["bash", "-c", script(asked, sys.executable)], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=840, check=False,
    )  # fmt: skip
    printed = re.split(r"^@@(\d+) (\d+)\n", done.stdout, flags=re.M)
    results = {int(number): (text, int(code)) for text, number, code in zip(*[iter(printed[:-1])] * 3, strict=True)}
    for number, block in enumerate(asked):
        assert number in results, f"not reached:\n{block.text}\n{done.stderr[-3000:]}"
        text, code = results[number]
        assert code == block.code, f"exit code {code}:\n{block.text}\n{text}\n{done.stderr[-3000:]}"
        if block.expected is not None:
            assert matches(block.expected, text), f"{block.text}\nprinted:\n{text}\nthe page says:\n{block.expected}"


def test_every_kind_of_user_has_a_tutorial_with_code():
    assert [page.stem for page in TUTORIALS] == [
        "import-a-table", "layers-and-ops", "tune-for-a-gpu", "verify-my-kernel",
    ]  # fmt: skip
    assert all(len(blocks(page)) >= 3 for page in TUTORIALS)
