"""The token of a launch configuration, `c64,variant=packed,states=64x4x2`, read as text.

Code that keeps, digests, traces or exports tokens needs no more; `kernels.configs.launch_config.LaunchConfig` makes objects of
them. All but `fault` take it for granted that a text is a token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

CHUNK_SIZES = (16, 32, 64, 128)
VARIANTS = ("split", "packed", "fused")
SOLVERS = ("ieee", "tf32x3", "tf32")
GROUPS = tuple(1 << power for power in range(11))
STAGES = ("scores", "maps", "states", "output", "score_grads", "state_grads", "input_grads")
"""Stages whose tile a token may name."""
LARGEST = 2**20
"""Of any number of a tile: none that a GPU could launch comes near it."""

_HEAD = ("variant", "group", "solver")
_CHUNK = re.compile(r"c([1-9]\d{0,3})", re.ASCII)
_GROUP = re.compile(r"[1-9]\d{0,3}", re.ASCII)
_TILE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,3})x([1-9]\d{0,3})", re.ASCII)


def fault(token: str) -> str | None:
    """Why a text is the token of no configuration that a kernel has, in a few words; None for a token."""
    chunk, *settings = token.split(",")
    if not (size := _CHUNK.fullmatch(chunk)):
        return "it begins with the chunk size, as c64"
    if int(size[1]) not in CHUNK_SIZES:
        return f"chunk_size={size[1]}; accepted: {', '.join(map(str, CHUNK_SIZES))}"
    values: dict[str, str] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name in values:
            return f"{name} is repeated"
        if wrong := _fault_of(name, value):
            return wrong
        values[name] = value
    if "group" in values and values.get("variant") != "packed":
        return f"group={values['group']} with variant={values.get('variant', 'split')}; accepted: of packed alone"
    return None


def _fault_of(name: str, value: str) -> str | None:
    if name in ("variant", "solver"):
        accepted = VARIANTS if name == "variant" else SOLVERS
        return None if value in accepted else f"{name}={value!a:.60}; accepted: {', '.join(accepted)}"
    setting = f"{name}={value}"
    if name == "group":
        if not _GROUP.fullmatch(value):
            return f"{setting!r} is not a number of chunks, as group=64"
        return None if int(value) in GROUPS else f"group={value}; accepted: {', '.join(map(str, GROUPS))}"
    if name not in STAGES:
        return f"no setting {name!r}"
    if not (tile := _TILE.fullmatch(value)):
        return f"{setting!r} is not block x warps x depth, as {name}=64x4x2"
    block, warps, _ = map(int, tile.groups())
    for what, number, least in (("block", block, 16), ("num_warps", warps, 1)):
        if number & (number - 1) or not least <= number <= LARGEST:
            return f"{what}={number} in {setting!r}; accepted: a power of two, at least {least}"
    return None


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
