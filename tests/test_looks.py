"""Every page that a command writes, in a browser: at a desk and on a phone nothing runs off it, and every column can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app as autotune
from deltaproof.verify.cli.app import app as verify
from tests.helpers.browser import faults

PEERS = Path(__file__).resolve().parents[1] / "results" / "peers"
DESK, PHONE = 1400, 390


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Reports of two released packages, and of the table of a GPU that ships."""
    folder = tmp_path_factory.mktemp("pages")
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        for report in sorted(PEERS.glob("*.json")):
            made.append(folder / f"{report.stem}.html")
            assert CliRunner().invoke(verify, ["report", str(report), "--html", str(made[-1])]).exit_code == 1
        made.append(folder / "h100.html")
        assert CliRunner().invoke(autotune, ["report", "--gpu", "H100", "--html", str(made[-1])]).exit_code == 0
    return made


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_reports_fit_and_can_be_read(pages: list[Path], width: int, tmp_path: Path):
    assert faults(pages, width, tmp_path) == {page: [] for page in pages}


def test_what_does_not_fit_is_seen(tmp_path: Path):
    (tmp_path / "wide.html").write_text('<p style="width: 500px">five hundred</p>')
    prose = "word " * 40
    (tmp_path / "narrow.html").write_text(f'<table><tr><td style="width: 100px"><p style="width:100px">{prose}</table>')
    (narrow,), (wide,) = faults(sorted(tmp_path.glob("*.html")), PHONE, tmp_path).values()
    assert narrow.startswith("is squeezed: td word")
    assert wide == "runs off the page: p five hundred"
