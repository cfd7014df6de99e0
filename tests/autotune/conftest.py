"""Tests of the tuner that need no compiler use made-up compilations."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
