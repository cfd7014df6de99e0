"""The version of the compiler, which every record carries. Asked of the installation once: that takes milliseconds."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def triton_version() -> str:
    return version("triton")
