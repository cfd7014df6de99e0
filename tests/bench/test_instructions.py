"""What our kernels issue does not grow unseen: `make instructions` writes down what this compares with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

from tests.kernels.compile_all import SHARED_LIMIT

HERE = Path(__file__).parent
KNOWN = HERE.parents[1] / "results" / "bench" / "instructions.json"
MOST = 1.03
PROGRAM = """
import json
from instructions import count
print(json.dumps(count({op!r}, "gdn2", "sm_90", {token!r})))
"""


def known() -> dict[tuple[str, str, str], list[float]]:
    """(rule, configuration, kernel) -> warp instructions per token and head of each of its launches."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in json.loads(KNOWN.read_text())["rows"]:
        if row["who"] == "deltaproof":
            found.setdefault((row["rule"], row["variant"], row["kernel"]), []).append(row["per_token_head"])
    return found


@pytest.mark.skipif(
    not triton.__version__.startswith(json.loads(KNOWN.read_text())["triton"]), reason="counted under another Triton"
)
@pytest.mark.parametrize(("op", "prefix"), [("chunk_fwd", ""), ("chunk_train", "training ")])
def test_the_defaults_fit_use_tensor_cores_and_issue_no_more_than_was_written_down(op: str, prefix: str):
    from deltaproof.results.schema.default import default_config

    token = default_config(op, "bf16", 128)
    around = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    around["PYTHONPATH"] = os.pathsep.join((str(HERE), str(HERE.parents[1] / ".import")))
    program = PROGRAM.format(op=op, token=token)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=around)
    rows = json.loads(done.stdout)
    assert rows
    before = known()
    for row in rows:
        most = max(before["gdn2", prefix + token, row["kernel"]])
        assert row["shared"] <= SHARED_LIMIT
        assert ("tensor core" in row["issued"]) == (row["kernel"] != "operands_kernel"), row["kernel"]
        assert row["per_token_head"] <= MOST * most, f"{row['kernel']}: {row['per_token_head']:.0f}, was {most:.0f}"
