"""The flash-linear-attention that is installed: where it is, and processes that it takes for ones with a certain GPU.

Which configurations it offers depends on the GPU. Call `pretend` before the package is imported, in a process of its own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ...results.files.checkout import leave_path
from ...verify.compile import fake_device

PACKAGE = "fla"


def pretend(facts: fake_device.Facts, configs: str = "", site: str = "") -> None:
    """Pretend. configs: FLA's folder of configurations, which it then reads in its strict mode. site: where FLA is, if it is
    not installed.

    From here on every benchmark raises `fake_device.Benchmarked`.
    """
    if site:
        sys.path.append(site)
    if configs:
        os.environ |= {"FLA_CONFIG_DIR": configs, "FLA_CACHE_MODE": "strict"}
    leave_path()
    fake_device.install(facts)


def where() -> Path | None:
    """The folder of the package, if it is there to import."""
    from importlib.util import find_spec

    spec = find_spec(PACKAGE)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
