"""The compiler refuses code that the interpreter accepts: every kernel is compiled for GPUs that are not here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.kernels.launches.record import op_launches
from deltaproof.specs.rule import RULES

CELLS = {
    "a channel's gates": ("gdn2@90-inference", "kda@80-inference", "gdn2@100-inference"),
    "a head's": ("gdn@80", "linear@90-inference", "gdn@100-inference"),
}
"""Rule and architecture. gdn2's training on sm_90, a minute of compiling, is checked where its instructions are counted."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
def test_every_kernel_compiles_fits_and_uses_tensor_cores(cells: tuple[str, ...]):
    script = Path(__file__).with_name("compile_all.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2] / ".import")
    command = [sys.executable, str(script), *cells]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for cell in cells:
        assert f"{cell.partition('-')[0].replace('@', ' sm_')} states_kernel" in done.stdout


def test_interpreted_kernels_are_not_recorded():
    with pytest.raises(RuntimeError, match="without TRITON_INTERPRET"):
        op_launches("chunk_fwd", RULES["gdn2"], "bf16", 64, 64, LaunchConfig())
