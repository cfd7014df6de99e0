"""The engine's operations and types by name, with the numbers that native/opcodes.h gives them."""

from __future__ import annotations

import re
from pathlib import Path

NATIVE = Path(__file__).parents[1] / "native"
_GROUPS = ("INTEGER", "FLOAT", "WARP", "MEMORY", "ORDER", "MATRIX", "CONTROL")


def _numbered() -> tuple[dict[str, int], dict[str, int]]:
    text = (NATIVE / "opcodes.h").read_text(encoding="utf-8")
    lists = {
        name: re.findall(r"X\((\w+)\)", body)
        for name, body in re.findall(r"#define (\w+)\(X\)((?:.*\\\n)*.*)", text)
    }  # fmt: skip
    operations: dict[str, int] = {}
    number = 0
    for group in _GROUPS:
        for name in lists[f"{group}_OPS"]:
            operations[name] = number
            number += 1
        # Each group but the last ends with a mark of its own.
        number += 1
    return operations, {name.lower(): index for index, name in enumerate(lists["TYPES"])}


OPERATIONS, _TYPES = _numbered()
TYPES = {**_TYPES, "b8": _TYPES["u8"], "b16": _TYPES["u16"], "b32": _TYPES["u32"], "b64": _TYPES["u64"]}
"""Numbers of the types of instructions; untyped bits are unsigned."""

BITS = {
    **{f"{kind}{bits}": bits for kind in "bus" for bits in (8, 16, 32, 64)},
    "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "f16x2": 32, "bf16x2": 32, "pred": 1, "tf32": 32, "e4m3": 8, "e5m2": 8,
}  # fmt: skip
