"""A device that is here and not known, as the lines of a `gpus.toml` that would make it known."""

from __future__ import annotations

import re

from .device import Device


def describe(device: Device) -> str:
    """Its table, with the facts that a device does not tell left to be filled in."""
    slug = re.sub(r"[^a-z0-9]+", "-", device.name.casefold().replace("nvidia", "")).strip("-") or "mine"
    alias = re.sub(r"[^A-Za-z0-9 -]+", " ", device.name).strip()
    lines = {
        "aliases": f'["{alias}"]',
        "arch": f'"{device.arch}"',
        "sm_count": str(device.sm_count),
        "memory_gib": str(round(device.memory_gib)),
        "bandwidth_gbs": "",
        "bf16_tflops": "",
        "fp32_tflops": "",
        "l2_mib": f"{device.l2_bytes / 2**20:g}" if device.l2_bytes else "",
        "clock_mhz": f"{device.clock_mhz:g}" if device.clock_mhz else "",
    }
    rows = [
        f"{name} = {value}".rstrip() + ("" if value else "  # from the vendor's datasheet")
        for name, value in lines.items()
    ]
    return "\n".join([f"[gpus.{slug}]", *rows])
