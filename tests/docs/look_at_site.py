"""The built site in a browser without a network, as `make docs` runs it: at a desk and on a phone, nothing runs off a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.browser import faults

SITE = Path(__file__).resolve().parents[2] / "build" / "site"


@pytest.mark.parametrize("width", [1400, 390])
def test_no_page_runs_off_its_window(width: int, tmp_path: Path):
    pages = sorted(SITE.rglob("*.html"))
    assert pages, "make docs builds them"
    found = faults(pages, width, tmp_path)
    assert not {name: over for name, said in found.items() if (over := [one for one in said if "runs off" in one])}
