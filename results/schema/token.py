"""The token of a launch configuration, `c64,variant=packed,states=64x4x2`, read as text.

Code that keeps, digests, traces or exports tokens needs no more. `kernels.configs.launch_config.LaunchConfig` writes them, and
reads them strictly; here a text that is not a token is the fault of the caller.
"""

from __future__ import annotations

from collections.abc import Mapping

_HEAD = ("variant", "group", "solver")


def chunk_size_of(token: str) -> int:
    """The chunk size that a token names. Cheap, and nothing that a tracer cannot follow, as all calls ask it."""
    return int(token.partition(",")[0].removeprefix("c"))


def setting_of(token: str, name: str, default: str = "") -> str:
    """The value that a token gives a name; the default where it gives none. As cheap."""
    start = name + "="
    return next((part[len(start) :] for part in token.split(",") if part.startswith(start)), default)


def variant_of(token: str) -> str:
    """The variant that a token names. As cheap."""
    return setting_of(token, "variant", "split")


def head_of(token: str) -> str:
    """Variant, chunk size, groups and solver, which the interpreter can tell apart. Tiles do not change the arithmetic there."""
    chunk, settings = split(token)
    return ",".join([chunk, *(f"{name}={value}" for name, value in settings.items() if name in _HEAD)])


def split(token: str) -> tuple[str, Mapping[str, str]]:
    """The chunk size as it is written, "c64", and the settings by name, in their order."""
    chunk, *settings = token.split(",")
    return chunk, {name: value for name, _, value in (setting.partition("=") for setting in settings)}
