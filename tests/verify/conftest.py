"""Makes `wrong_kernels` importable, here and in the child processes of the runner."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
