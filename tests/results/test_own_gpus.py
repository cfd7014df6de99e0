"""GPUs of a user's own: added or overridden in a file, looked up by architecture where nothing else is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app
from deltaproof.autotune.timing.describe import describe
from deltaproof.autotune.timing.device import Device
from deltaproof.results import forget, lookup
from deltaproof.results.files.user_folder import gpus_file
from deltaproof.results.schema.gpus import identify, known_gpus, resolve
from deltaproof.results.schema.strict import TableError
from deltaproof.specs.gpus import gpu, gpus

CALL = {"rule": "gdn2", "dtype": "bf16", "K": 128, "V": 128, "tokens": 8192, "heads": 64}
L40 = """
[gpus.l40]
aliases = ["L40", "NVIDIA L40"]
arch = "sm_89"
sm_count = 142
memory_gib = 47
bandwidth_gbs = 864
bf16_tflops = 181
fp32_tflops = 90.5
l2_mib = 96
clock_mhz = 2490
"""
SM_87 = """
[architectures.sm_87]
warp = 32
registers_per_sm = 65536
registers_per_block = 65536
registers_granule = 256
shared_per_sm = 167936
shared_per_block = 166912
shared_reserved = 1024
warps_per_sm = 48
blocks_per_sm = 16
families = ["mma"]
"""
ORIN = L40.replace("l40", "orin").replace("L40", "Orin").replace("sm_89", "sm_87")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DELTAPROOF_GPUS", str(tmp_path / "gpus.toml"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    forget()
    yield tmp_path / "gpus.toml"
    monkeypatch.undo()
    forget()


def test_a_gpu_is_added_and_another_overridden(file: Path):
    file.write_text(L40 + SM_87 + ORIN + L40.replace("l40", "b200").replace('"L40", "NVIDIA L40"', ""))
    assert resolve("NVIDIA L40").slug == gpu("nvidia l40").slug == "l40"
    assert resolve("nvidia orin").shared_per_block == gpu("orin").arch.shared_per_block == 166912
    assert resolve("b200").arch == gpu("b200").arch.name == "sm_89"
    found = identify("sm_87", 142, 46.5, "Orin")
    assert found is not None and found.slug == "orin"
    listed = CliRunner().invoke(app, ["gpus"])
    assert listed.exit_code == 0
    rows = {line.split()[0]: line for line in map(str.rstrip, listed.stdout.splitlines()) if line.strip()}
    assert rows["l40"].endswith("your file") and rows["b200"].endswith("overridden")
    assert rows["h100-sxm"].endswith("deltaproof") and str(file) in listed.stdout
    answer = lookup("chunk_fwd", gpu="L40", **CALL)
    assert "l40" in answer.reason


def test_both_folders_read_the_same_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file.write_text(L40)
    assert "l40" in known_gpus() and gpu("L40").slug == "l40"
    monkeypatch.delenv("DELTAPROOF_GPUS")
    forget()
    assert gpus_file() is None and "l40" not in known_gpus() and "l40" not in gpus()
    (tmp_path / "data" / "deltaproof").mkdir(parents=True)
    (tmp_path / "data" / "deltaproof" / "gpus.toml").write_text(L40)
    forget()
    assert "l40" in known_gpus() and gpu("L40").slug == "l40"


def test_the_example_that_is_shown_can_be_used_as_it_is(file: Path):
    file.write_text("")
    shown = CliRunner().invoke(app, ["gpus"]).stdout
    if "[gpus.l40]" not in shown:
        pytest.skip("there is a GPU here, which describes itself instead")
    file.write_text(shown[shown.index("[gpus.l40]") :])
    forget()
    assert resolve("NVIDIA L40").slug == gpu("l40").slug == "l40"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[gpus.l40", "not valid TOML"),
        ("a = " + "[" * 100_000, "not valid TOML"),
        ("gpus = 3", "[gpus]"),
        ("[gpu.l40]", "gpu"),
        (L40.replace("sm_count = 142\n", ""), "sm_count"),
        (L40.replace("142", "-1"), "sm_count"),
        (L40.replace("142", "true"), "sm_count"),
        (L40.replace("864", "nan"), "bandwidth_gbs"),
        (L40.replace("sm_89", "sm_75"), "sm_75"),
        (L40.replace("142", "142\nmemory = 3"), "memory"),
        (L40.replace("gpus.l40", 'gpus."../x"'), "slug"),
        (L40.replace("NVIDIA L40", "H100"), "h100-sxm"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_one_line_everywhere(file: Path, text: str | None, says: str):
    if text is not None:
        file.write_text(text)
    for command in (["gpus"], ["space", "--gpu", "L40"], ["report", "--gpu", "L40"]):
        done = CliRunner().invoke(app, command)
        if command == ["gpus"] or done.exit_code != 0:
            assert done.exit_code == 2
            assert len(done.stderr.strip().splitlines()) == 1
            assert says in done.stderr and "gpus.toml" in done.stderr


def test_a_look_up_says_what_is_wrong_with_the_file(file: Path):
    file.write_text(L40.replace("142", "-1"))
    with pytest.raises(TableError, match="sm_count"):
        lookup("chunk_fwd", gpu="L40", **CALL)


def test_an_unknown_gpu_gets_the_safe_default_and_is_told(file: Path):
    file.write_text("")
    answer = lookup("chunk_fwd", gpu="NVIDIA GeForce RTX 3090 Ti", **CALL)
    assert answer.source == "default" and answer.entry is None
    assert "no GPU of that name is known" in answer.reason and "autotune gpus" in answer.reason


def test_an_architecture_is_answered_for_the_least_of_its_gpus(file: Path):
    file.write_text("")
    answer = lookup("chunk_fwd", gpu="sm_90", min_gate="interpreter", **CALL)
    if answer.entry is not None:
        assert answer.source == "architecture" and ", of the same architecture, has " in answer.reason
        assert answer.entry.resources.shared <= min(
            g.shared_per_block for g in known_gpus().values() if g.arch == "sm_90"
        )
    assert lookup("chunk_fwd", gpu="sm_75", **CALL).source == "default"


def test_a_device_describes_itself(file: Path):
    device = Device(
        name="NVIDIA L40 (48 GB)", arch="sm_89", sm_count=142, memory_gib=44.4, driver="1", l2_bytes=96 << 20
    )
    text = describe(device)
    assert 'arch = "sm_89"' in text and "l2_mib = 96" in text
    file.write_text(re.sub(r"=( # .*| *)?  # .*", "= 1", text))
    assert gpu("nvidia l40 48 gb").slug == resolve("NVIDIA L40 (48 GB)").slug
