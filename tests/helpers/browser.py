"""Pages as a real browser lays them out: what runs over an edge, and which columns are too narrow to read."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_LONG, _LEAST = 100, 250
"""Letters of a cell that is read as prose, and the fewest pixels in which it can be."""

_MEASURE = """
function faults(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach(one => one.open = true);
  const isProse = text => text.length > LONG && text.includes(" ");
  const words = element => `${element.tagName.toLowerCase()} ${element.textContent.trim().slice(0, 60)}`;
  const boxes = [...page.querySelectorAll("body *")].map(element => [element, element.getBoundingClientRect()]);
  const scrolls = element => element.closest(".wide, figure, pre, .md-typeset__scrollwrap, [style*=overflow-x]");
  const over = root.scrollWidth > root.clientWidth
    ? boxes.filter(([element, box]) => box.right > root.clientWidth + 1 && !scrolls(element)).map(([element]) => words(element))
    : [];
  if (root.scrollWidth > root.clientWidth && !over.length) over.push("a word");
  const narrow = boxes.filter(([element, box]) => element.tagName == "TD" && isProse(element.textContent.trim())
    && box.width < LEAST).map(([element]) => words(element));
  return [...over.map(name => `runs off the page: ${name}`), ...narrow.map(name => `is squeezed: ${name}`)];
}
onload = () => document.body.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(faults));
"""


def faults(pages: Sequence[Path], width: int, folder: Path) -> dict[Path, list[str]]:
    """What is wrong with pages in a window of so many pixels. Skips the test where there is no browser.

    folder: where the browser may write.
    """
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        pytest.skip(f"needs a browser, one of {', '.join(_NAMES)}")
    script = _MEASURE.replace("LONG", str(_LONG)).replace("LEAST", str(_LEAST))
    style = f"border: 0; height: 800px; width: {width}px"
    frames = [f'<iframe style="{style}" src="{html.escape(page.resolve().as_uri())}"></iframe>' for page in pages]
    shown = folder / "frames.html"
    shown.write_text(f"<script>{script}</script><body>{''.join(frames)}</body>")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    # What a page fetches is not there.
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", shown.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    told = re.search(r"<body>(\[.*?)</body>", done.stdout, re.S)
    assert told, done.stderr[-2000:]
    return dict(zip(pages, json.loads(html.unescape(told[1])), strict=True))
