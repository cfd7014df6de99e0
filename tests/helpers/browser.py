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
async function measure(url, width) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `border: 0; height: 800px; width: ${width}px`;
  frame.src = url;
  document.body.append(frame);
  await new Promise(loaded => frame.onload = loaded);
  const page = frame.contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach(one => one.open = true);
  const isProse = text => text.length > LONG && text.includes(" ");
  const words = element => `${element.tagName.toLowerCase()} ${element.textContent.trim().slice(0, 60)}`;
  const boxes = [...page.querySelectorAll("body *")].map(element => [element, element.getBoundingClientRect()]);
  const over = root.scrollWidth > root.clientWidth
    ? boxes.filter(([_, box]) => box.right > root.clientWidth + 1).map(([element]) => words(element)) : [];
  const narrow = boxes.filter(([element, box]) => element.tagName == "TD" && isProse(element.textContent.trim())
    && box.width < LEAST).map(([element]) => words(element));
  frame.remove();
  return [...over.map(name => `runs off the page: ${name}`), ...narrow.map(name => `is squeezed: ${name}`)];
}
(async () => {
  const found = {};
  for (const url of PAGES) found[url] = await measure(url, WIDTH);
  document.body.textContent = JSON.stringify(found);
})();
"""


def faults(pages: Sequence[Path], width: int, folder: Path) -> dict[str, list[str]]:
    """What is wrong with pages in a window of so many pixels, by their names. Skips the test where there is no browser.

    folder: where the browser may write.
    """
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        pytest.skip(f"needs a browser, one of {', '.join(_NAMES)}")
    names = {page.resolve().as_uri(): page.name for page in pages}
    script = _MEASURE
    for word, value in (("PAGES", list(names)), ("WIDTH", width), ("LONG", _LONG), ("LEAST", _LEAST)):
        script = re.sub(rf"\b{word}\b", lambda _, value=value: json.dumps(value), script)
    frame = folder / "frame.html"
    frame.write_text(f"<body></body><script>{script}</script>")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=60000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    told = re.search(r"<body>(\{.*?)</body>", done.stdout, re.S)
    assert told, done.stderr[-2000:]
    return {names[url]: found for url, found in json.loads(html.unescape(told[1])).items()}
