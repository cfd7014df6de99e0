"""`make host` runs: every public op is called as it is called where there is a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_every_op_is_measured(tmp_path: Path):
    script = Path(__file__).with_name("host_time.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2] / ".import")
    quick = ["--rule", "gdn2", "--no-peer", "--rounds", "1", "--seconds", "0.001", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(script), *quick], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "host_time.json").read_text())["rows"]
    assert {"decode", "packed", "staged, forward and backward"} <= {row["op"] for row in rows}
    assert all(row["kernels"] for row in rows)
